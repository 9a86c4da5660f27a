//! The buildpacks' data, embedded in the binary.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::error::DetectError;
use crate::model::ImageSource;

/// Every file under `buildpacks/`, by path; listed by `build.rs`.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/buildpacks.rs"));

/// Buildpacks in the order in which they are asked.
const ORDER: [&str; 6] = ["go", "ruby", "python", "node", "static", "debian"];

/// One `buildpack.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pack {
    /// `python`.
    pub key: String,
    /// `Python`.
    pub name: String,
    /// What RUNTIME says; without it the name and the version.
    #[serde(default)]
    pub runtime: Option<String>,
    /// Official images of which ours are stand-ins: `python`.
    pub images: Vec<String>,
    /// Files of the root of which one is enough.
    pub detect: Vec<String>,
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
    offers: PerSource<Vec<Offer>>,
    bases: PerSource<Bases>,
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
#[derive(Debug, Deserialize)]
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

static PACKS: LazyLock<Result<Vec<Pack>, DetectError>> =
    LazyLock::new(|| ORDER.map(parse).into_iter().collect());

fn parse(key: &str) -> Result<Pack, DetectError> {
    let broken = |reason: String| DetectError::Broken { pack: key.to_owned(), reason };
    toml::from_str(file(key, "buildpack.toml")?).map_err(|error| broken(error.to_string()))
}

/// The text of one file of a buildpack.
pub(super) fn file(pack: &str, name: &str) -> Result<&'static str, DetectError> {
    let path = format!("{pack}/{name}");
    let found = FILES.iter().find(|(known, _)| *known == path);
    found
        .map(|(_, text)| *text)
        .ok_or_else(|| DetectError::Broken { pack: pack.to_owned(), reason: format!("{name} is missing") })
}

/// All buildpacks, in the order in which they are asked.
pub(super) fn all() -> Result<&'static [Pack], DetectError> {
    PACKS.as_deref().map_err(Clone::clone)
}

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
