//! One `buildpack.toml`: what can be said of a language as data.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::DetectError;
use super::range::Ranges;
use super::source::line_of;
use crate::model::ImageSource;

/// One `buildpack.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pack {
    /// `python`.
    pub key: String,
    /// `Python`.
    pub name: String,
    /// Place among those that are asked: the lowest first.
    #[serde(default = "middle")]
    pub order: u8,
    /// What RUNTIME says; without it the name and the version.
    #[serde(default)]
    pub runtime: Option<String>,
    /// Official images of which ours are stand-ins: `python`.
    pub images: Vec<String>,
    /// Whether any version stands in for any other, older ones too.
    #[serde(default)]
    pub alike: bool,
    /// Lines after the FROM of a stand-in: what else the official image has.
    #[serde(default)]
    pub stand_in: String,
    /// Who runs in a stand-in, if it is not root.
    #[serde(default)]
    pub user: Option<String>,
    /// Files of the root of which one is enough.
    pub detect: Vec<String>,
    /// Programs that only apps in it begin a command with.
    #[serde(default)]
    pub programs: Vec<String>,
    /// `PORT` of web.
    pub port: u16,
    /// Memory of one worker, in MiB.
    #[serde(default)]
    pub worker_mib: Option<u32>,
    /// Run-time environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Pinned versions of tools.
    #[serde(default)]
    pub tools: BTreeMap<String, String>,
    /// How the language writes ranges of versions.
    #[serde(default)]
    pub ranges: Ranges,
    /// Where an app says which version it wants, the first that does counts.
    #[serde(default)]
    pub versions: Vec<VersionSource>,
    /// Installs, of which the first that fits is done.
    #[serde(default)]
    pub install: Vec<Step>,
    /// Builds, likewise.
    #[serde(default)]
    pub build: Vec<Step>,
    /// Commands of web, likewise.
    #[serde(default)]
    pub start: Vec<Start>,
    /// What a refusal suggests.
    #[serde(default)]
    pub suggest: Suggest,
    /// Versions beyond those that are listed, in words: `any by …`.
    #[serde(default)]
    pub further: Option<String>,
    /// Whether a build script of package.json is run beside it.
    #[serde(default)]
    pub assets: bool,
    /// What asks the image's processes to end, if it is not SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<String>,
    offers: PerSource<Vec<Offer>>,
    bases: PerSource<Bases>,
}

fn middle() -> u8 {
    50
}

/// A file that names a version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VersionSource {
    /// `.php-version`.
    pub file: String,
    /// Path of keys in JSON and TOML, the tool's name in `.tool-versions`;
    /// without it the first line counts.
    #[serde(default)]
    pub key: Option<String>,
}

/// Something that a build does, under a condition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// Files that must all be there.
    #[serde(default)]
    pub when: Vec<String>,
    /// Files that it needs; without them it is given all.
    #[serde(default)]
    pub copy: Vec<String>,
    /// A line for the shell of the build.
    pub run: String,
    /// Folders that are kept from build to build.
    #[serde(default)]
    pub cache: Vec<String>,
    /// What is printed of it.
    #[serde(default)]
    pub says: Option<String>,
    /// What the user should know.
    #[serde(default)]
    pub warns: Option<String>,
}

/// A command of web, under a condition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    /// Files that must all be there.
    #[serde(default)]
    pub when: Vec<String>,
    /// Its words; with one word that has spaces, a line for the shell.
    pub run: Vec<String>,
}

/// Words for refusals.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suggest {
    /// A line of a Procfile.
    #[serde(default)]
    pub start: Option<String>,
}

/// One value per image source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PerSource<T> {
    registry: T,
    debian: T,
}

impl<T> PerSource<T> {
    fn of(&self, source: ImageSource) -> &T {
        match source {
            ImageSource::Registry => &self.registry,
            ImageSource::Debian => &self.debian,
        }
    }
}

/// A version that can be had.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Offer {
    /// What people call it: `3.11`.
    pub version: String,
    /// Its full number: `3.11.2`.
    pub release: String,
    /// Other names: `krypton`.
    #[serde(default)]
    pub names: Vec<String>,
    /// Checksums and the like, for the recipes.
    #[serde(flatten)]
    pub more: BTreeMap<String, String>,
}

/// The two bases of a language.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bases {
    /// With compilers and package managers.
    pub build: BaseData,
    /// What final images stand on.
    pub run: BaseData,
}

/// How one base is made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BaseData {
    /// `run` (the same language's), `debian` (our plain one, in the version that
    /// the offer names as `debian`), `debootstrap` (of the offer's `suite`), or an
    /// image to pull, `{version}` and the offer's other keys filled in.
    pub parent: String,
    /// The recipe; without one the parent is taken as it is.
    #[serde(default)]
    pub template: Option<String>,
    /// Files of the buildpack that the recipe copies.
    #[serde(default)]
    pub files: Vec<String>,
}

impl Pack {
    /// What can be had from a source, the default first.
    pub fn offers(&self, source: ImageSource) -> &[Offer] {
        self.offers.of(source)
    }

    /// How its bases are made in a source.
    pub fn bases(&self, source: ImageSource) -> &Bases {
        self.bases.of(source)
    }
}

/// The folder of what buildpacks share.
pub(super) const COMMON: &str = "common";

/// Languages about which more must be reasoned than data can say.
const REASONED: [&str; 5] = ["go", "ruby", "python", "node", "static"];

/// Reads a `buildpack.toml`; what is wrong with it, with its line if that is known.
pub(super) fn parse(key: &str, text: &str) -> Result<Pack, (usize, String)> {
    let pack: Pack = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        (before.map_or(0, |before| line_of(before.as_bytes())), error.message().to_owned())
    })?;
    let whole = |reason: &str| Err((0, reason.to_owned()));
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if pack.key != key {
        return whole(&format!("key is {:?} in a folder called {key:?}", pack.key));
    }
    if key.is_empty() || !key.bytes().all(plain) {
        return whole("a buildpack's name has lower-case letters, digits and dashes");
    }
    if pack.offers.registry.is_empty() || pack.offers.debian.is_empty() {
        return whole("it offers no version in one of the image sources");
    }
    let builds = !pack.detect.is_empty();
    if builds && pack.start.is_empty() && !REASONED.contains(&key) {
        return whole("there is no [[start]]");
    }
    Ok(pack)
}

pub(super) use super::registry::{all, file};

/// Keys of those that build apps.
pub(super) fn builders() -> Result<Vec<&'static str>, DetectError> {
    Ok(all()?.iter().filter(|pack| !pack.detect.is_empty()).map(|pack| pack.key.as_str()).collect())
}

/// One buildpack.
pub(super) fn get(key: &str) -> Result<&'static Pack, DetectError> {
    all()?.iter().find(|pack| pack.key == key).ok_or_else(|| DetectError::Broken {
        pack: key.to_owned(),
        reason: "there is no such buildpack".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_buildpack_offers_something_from_both_sources() {
        for pack in all().unwrap() {
            for source in [ImageSource::Registry, ImageSource::Debian] {
                assert!(!pack.offers(source).is_empty(), "{}", pack.key);
            }
        }
    }
}
