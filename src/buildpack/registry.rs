//! Which buildpacks there are: those of this program, and the administrator's,
//! which add to them or stand in their place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use super::error::DetectError;
use super::pack::{self, Pack};
use super::render;
use crate::model::ImageSource;

/// Every file under `buildpacks/`, by path; listed by `build.rs`.
const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/buildpacks.rs"));

/// What makes a folder a buildpack.
const MANIFEST: &str = "buildpack.toml";

/// Largest file of a buildpack.
const LIMIT: u64 = 1 << 20;

/// Why a folder of buildpacks cannot be used; the words are an administrator's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct BrokenPack {
    /// The file, with its line where one is known.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

/// All buildpacks, in the order in which they are asked, and their files.
#[derive(Debug)]
pub(super) struct Registry {
    packs: Vec<Pack>,
    files: BTreeMap<String, String>,
}

static REGISTRY: OnceLock<Result<Registry, BrokenPack>> = OnceLock::new();

/// Lines about the administrator's.
static SAID: OnceLock<Vec<String>> = OnceLock::new();

/// The buildpacks of this process.
fn registry() -> Result<&'static Registry, DetectError> {
    let found = REGISTRY.get_or_init(|| Registry::of(embedded()));
    found
        .as_ref()
        .map_err(|broken| DetectError::Broken { pack: broken.file.clone(), reason: broken.reason.clone() })
}

fn embedded() -> BTreeMap<String, String> {
    EMBEDDED.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

/// Takes in the buildpacks of a folder, once and before anything is detected.
/// What it adds and what it replaces, one line each; nothing if the folder is
/// not there.
pub fn extend(folder: &Path) -> Result<Vec<String>, BrokenPack> {
    let own = read(folder)?;
    if own.is_empty() {
        return Ok(Vec::new());
    }
    let mut files = embedded();
    let mut said = Vec::new();
    for key in own.keys().filter_map(|path| path.split('/').next()).collect::<BTreeSet<_>>() {
        let known = files.contains_key(&format!("{key}/{MANIFEST}"));
        said.push(format!(
            "{key}: {} {}",
            if known { "changed by" } else { "added by" },
            folder.join(key).display()
        ));
    }
    files.extend(own);
    let named =
        |broken: BrokenPack| BrokenPack { file: folder.join(broken.file).display().to_string(), ..broken };
    let registry = Registry::of(files).map_err(named)?;
    registry.check().map_err(named)?;
    // Once: what has been asked already stays as it is.
    let _ = REGISTRY.set(Ok(registry));
    Ok(SAID.get_or_init(|| said).clone())
}

/// What [`extend`] has added and replaced.
pub fn extended() -> &'static [String] {
    SAID.get().map(Vec::as_slice).unwrap_or_default()
}

/// The files of a folder's folders.
fn read(folder: &Path) -> Result<BTreeMap<String, String>, BrokenPack> {
    let failed = |path: &Path| {
        let file = path.display().to_string();
        move |error: std::io::Error| BrokenPack { file, reason: error.to_string() }
    };
    let mut found = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let pack = entry.map_err(failed(folder))?.path();
        if !pack.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&pack).map_err(failed(&pack))? {
            let path = entry.map_err(failed(&pack))?.path();
            let size = path.metadata().map_err(failed(&path))?.len();
            if path.is_file() && size <= LIMIT {
                let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
                let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
                found.insert(name, text);
            }
        }
    }
    Ok(found)
}

impl Registry {
    fn of(files: BTreeMap<String, String>) -> Result<Self, BrokenPack> {
        let mut packs = Vec::new();
        for (path, text) in &files {
            let Some(key) = path.strip_suffix(MANIFEST).and_then(|rest| rest.strip_suffix('/')) else {
                continue;
            };
            packs.push(pack::parse(key, text).map_err(|(line, reason)| {
                let file = if line == 0 { path.clone() } else { format!("{path} line {line}") };
                BrokenPack { file, reason }
            })?);
        }
        packs.sort_by(|a, b| (a.order, &a.key).cmp(&(b.order, &b.key)));
        Ok(Self { packs, files })
    }

    /// Whether every template can be read, and every file that is named is there.
    fn check(&self) -> Result<(), BrokenPack> {
        for (path, text) in self.files.iter().filter(|(path, _)| path.ends_with(".j2")) {
            render::check(text)
                .map_err(|(line, reason)| BrokenPack { file: format!("{path} line {line}"), reason })?;
        }
        for pack in &self.packs {
            for source in [ImageSource::Registry, ImageSource::Debian] {
                let bases = pack.bases(source);
                for name in [&bases.run, &bases.build]
                    .into_iter()
                    .flat_map(|base| base.files.iter().chain(&base.template))
                {
                    if !self.files.contains_key(&format!("{}/{name}", pack.key)) {
                        let file = format!("{}/{MANIFEST}", pack.key);
                        return Err(BrokenPack { file, reason: format!("{name} is named and is not there") });
                    }
                }
            }
        }
        Ok(())
    }
}

/// The text of one file of a buildpack.
pub(super) fn file(pack: &str, name: &str) -> Result<&'static str, DetectError> {
    let missing = || DetectError::Broken { pack: pack.to_owned(), reason: format!("{name} is missing") };
    registry()?.files.get(&format!("{pack}/{name}")).map(String::as_str).ok_or_else(missing)
}

/// Whether a buildpack brings this file.
pub(super) fn has(pack: &str, name: &str) -> Result<bool, DetectError> {
    Ok(registry()?.files.contains_key(&format!("{pack}/{name}")))
}

/// All buildpacks, in the order in which they are asked.
pub(super) fn all() -> Result<&'static [Pack], DetectError> {
    registry().map(|registry| registry.packs.as_slice())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(path: &str, text: &str) -> Result<(), BrokenPack> {
        let mut files = embedded();
        files.insert(path.to_owned(), text.to_owned());
        Registry::of(files).and_then(|registry| registry.check())
    }

    #[test]
    fn those_that_come_with_us_are_in_order() {
        Registry::of(embedded()).unwrap().check().unwrap();
    }

    #[test]
    fn a_broken_one_is_named_with_its_line() {
        let php = EMBEDDED.iter().find(|(path, _)| *path == "php/buildpack.toml").unwrap().1;
        let told = [
            ("php/buildpack.toml", "key = \"php\"\nname = PHP\n".to_owned()),
            ("php/buildpack.toml", php.replace("detect =", "detects =")),
            ("php/buildpack.toml", php.replace("ranges = \"composer\"", "ranges = \"perl\"")),
            ("php/buildpack.toml", php.replace("\"serve-php\"]", "\"serve\"]")),
            ("php/buildpack.toml", php.replace("key = \"php\"", "key = \"cobol\"")),
            ("php/run.j2", "FROM {{ parent }}\nRUN {% if x %}\n".to_owned()),
            ("deno/buildpack.toml", php.replace("key = \"php\"", "key = \"deno\"")),
        ]
        .map(|(path, text)| with(path, &text).unwrap_err().to_string());
        insta::assert_snapshot!(told.join("\n"));
    }
}
