//! Which Python.

use std::collections::BTreeMap;
use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};

use super::super::draft::Draft;
use super::super::error::{DetectError, Place};
use super::super::pack::{self, Offer, Pack};
use super::super::source::{self, Files};
use super::super::version::{self, Wanted};
use super::dependencies::Dependencies;
use super::poetry;
use super::project::{self, Project};

/// The offer that fits what the app asks for.
pub(super) fn choose(
    draft: &mut Draft<'_>,
    dependencies: &Dependencies,
) -> Result<&'static Offer, DetectError> {
    let requires = requires_python(draft.files)?;
    let fits = Fits::load(draft.pack)?;
    let given = draft.version();
    let wanted = given.map_or_else(|| named(draft.files), |given| Ok(Some(given)))?;
    // mise and uv write that for the newest there is.
    let Some(wanted) = wanted.filter(|wanted| wanted.text != "latest") else {
        return match requires {
            Some(range) => by_range(draft, &range, &fits, dependencies),
            None => newest(draft, &fits, dependencies),
        };
    };
    if parse(&wanted).is_none() {
        return Err(wanted.malformed(draft.pack));
    }
    match in_range(draft.offers(), &wanted, |_| true) {
        Some(offer) => {
            draft.decide(format!("Python {}, from {}", offer.version, wanted.place.file));
            Ok(offer)
        }
        None => nearby(draft, &wanted, requires.as_ref()),
    }
}

/// The newest in a range on which the app's fixed releases work, if there is
/// one, else the newest in it.
fn by_range(
    draft: &mut Draft<'_>,
    range: &Wanted,
    fits: &Fits,
    dependencies: &Dependencies,
) -> Result<&'static Offer, DetectError> {
    let offers = draft.offers();
    let fitting = in_range(offers, range, |offer| fits.misfit(offer, dependencies).is_none());
    let offer = fitting.or_else(|| in_range(offers, range, |_| true)).ok_or_else(|| refusal(draft, range))?;
    draft.decide(format!("Python {}, from {}", offer.version, range.place.file));
    Ok(offer)
}

/// Another patch of the same line, or what `requires-python` allows.
fn nearby(
    draft: &mut Draft<'_>,
    wanted: &Wanted,
    requires: Option<&Wanted>,
) -> Result<&'static Offer, DetectError> {
    let exact = version::numbers(plain(&wanted.text));
    let offers = draft.offers();
    let same_line =
        exact.as_deref().filter(|parts| parts.len() == 3).and_then(|parts| version::same_line(offers, parts));
    let allowed = requires.filter(|_| exact.is_some()).and_then(|range| in_range(offers, range, |_| true));
    let Some(offer) = same_line.or(allowed) else { return Err(refusal(draft, wanted)) };
    draft.decide(format!("Python {}, from {}", offer.version, wanted.place.file));
    let asked = version::shorten(&wanted.text);
    draft.warn(format!("{} asks for {asked}; {} is used", wanted.place.file, offer.release));
    Ok(offer)
}

fn refusal(draft: &Draft<'_>, wanted: &Wanted) -> DetectError {
    if parse(wanted).is_none() {
        return wanted.malformed(draft.pack);
    }
    let text = plain(&wanted.text).to_owned();
    Wanted { text, ..wanted.clone() }.missing(draft.pack, draft.catalog.source)
}

/// The newest on which the releases that the app fixes work.
fn newest(
    draft: &mut Draft<'_>,
    fits: &Fits,
    dependencies: &Dependencies,
) -> Result<&'static Offer, DetectError> {
    let offers = draft.offers();
    let first = draft.newest()?;
    let Some((package, pinned)) = fits.misfit(first, dependencies) else {
        draft.decide(format!("Python {}, the default (no .python-version)", first.version));
        return Ok(first);
    };
    let older = offers.iter().find(|offer| fits.misfit(offer, dependencies).is_none()).unwrap_or(first);
    draft.decide(format!(
        "Python {}: {package} {pinned} is older than Python {}",
        older.version, first.version
    ));
    Ok(older)
}

/// The first releases of packages that work on a Python: `fits.toml`.
struct Fits(BTreeMap<String, BTreeMap<String, String>>);

impl Fits {
    fn load(pack: &Pack) -> Result<Self, DetectError> {
        let broken = |error: toml::de::Error| DetectError::Broken {
            pack: pack.key.clone(),
            reason: format!("fits.toml: {error}"),
        };
        toml::from_str(pack::file(&pack.key, "fits.toml")?).map(Self).map_err(broken)
    }

    /// A dependency whose fixed release is too old for a Python.
    fn misfit(&self, offer: &Offer, dependencies: &Dependencies) -> Option<(String, Version)> {
        let version = Version::from_str(&offer.version).ok()?;
        let upto = |line: &str| Version::from_str(line).is_ok_and(|line| line <= version);
        let tables = self.0.iter().filter(|(line, _)| upto(line)).map(|(_, first)| first);
        tables.flatten().find_map(|(name, first)| older(dependencies, name, first))
    }
}

/// A dependency that is fixed at a release before another.
fn older(dependencies: &Dependencies, name: &str, first: &str) -> Option<(String, Version)> {
    let pinned = dependencies.pins.get(name)?;
    let before = Version::from_str(first).is_ok_and(|first| *pinned < first);
    before.then(|| (name.to_owned(), pinned.clone()))
}

/// A dependency that imports what setuptools has no more, unless the app says
/// which setuptools it wants.
pub(super) fn needs_pkg_resources(
    pack: &Pack,
    dependencies: &Dependencies,
) -> Result<Option<(String, Version)>, DetectError> {
    if dependencies.pins.contains_key("setuptools") {
        return Ok(None);
    }
    let fits = Fits::load(pack)?;
    let table = fits.0.get("pkg_resources").into_iter().flatten();
    Ok(table.into_iter().find_map(|(name, first)| older(dependencies, name, first)))
}

/// The version that a file names, in the order of precedence.
fn named(files: Files<'_>) -> Result<Option<Wanted>, DetectError> {
    if let Some(found) = version::first_line(files, ".python-version")? {
        return Ok(Some(found));
    }
    if let Some(found) = version::first_line(files, "runtime.txt")? {
        return Ok(Some(found));
    }
    if let Some(found) = version::tool_versions(files, &["python"])? {
        return Ok(Some(found));
    }
    if let Some(found) = version::mise(files, &["python"])? {
        return Ok(Some(found));
    }
    pipfile(files)
}

fn pipfile(files: Files<'_>) -> Result<Option<Wanted>, DetectError> {
    const KEYS: [&str; 2] = ["python_full_version", "python_version"];
    let wanted = |file: &str, text: &str, found: Option<(&str, &str)>| {
        found.map(|(key, value)| Wanted {
            text: value.to_owned(),
            place: Place::line(file, project::line_of_key(text, key)),
        })
    };
    if let Some(text) = files.text("Pipfile")? {
        let table = source::toml("Pipfile", &text)?;
        let requires = table.get("requires");
        let found = KEYS.into_iter().find_map(|key| Some((key, requires?.get(key)?.as_str()?)));
        if found.is_some() {
            return Ok(wanted("Pipfile", &text, found));
        }
    }
    let Some(text) = files.text("Pipfile.lock")? else { return Ok(None) };
    let value = source::json("Pipfile.lock", &text)?;
    let requires = value.get("_meta").and_then(|meta| meta.get("requires"));
    let found = KEYS.into_iter().find_map(|key| Some((key, requires?.get(key)?.as_str()?)));
    Ok(wanted("Pipfile.lock", &text, found))
}

fn requires_python(files: Files<'_>) -> Result<Option<Wanted>, DetectError> {
    let stated = Project::read(files)?.and_then(|project| project.requires_python());
    Ok(stated.or_else(|| project::setup_requires_python(files)))
}

fn in_range(
    offers: &'static [Offer],
    wanted: &Wanted,
    fits: impl Fn(&Offer) -> bool,
) -> Option<&'static Offer> {
    let range = parse(wanted)?;
    let contained =
        |offer: &&Offer| Version::from_str(&offer.release).is_ok_and(|release| range.contains(&release));
    offers.iter().filter(contained).find(|offer| fits(offer))
}

fn plain(text: &str) -> &str {
    let text = text.trim();
    ["cpython-", "cpython@", "python-", "python"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text)
}

/// What a version means: `3`, `3.11` and `3.11.4` everything that begins so,
/// PEP 440's ranges, and Poetry's.
fn parse(wanted: &Wanted) -> Option<VersionSpecifiers> {
    let text = plain(&wanted.text);
    let range = match version::numbers(text) {
        Some(parts) if parts.len() == 3 => format!("=={text}"),
        Some(_) => format!("=={text}.*"),
        None => text.to_owned(),
    };
    // Alternatives of Poetry's: the last is the newest.
    let last = range.rsplit("||").next().unwrap_or(&range).trim();
    VersionSpecifiers::from_str(last).ok().or_else(|| VersionSpecifiers::from_str(&poetry::range(last)?).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ways_of_writing_a_version() {
        let holds = |text: &str, version: &str| {
            let wanted = Wanted { text: text.to_owned(), place: Place::file("x") };
            parse(&wanted).unwrap().contains(&Version::from_str(version).unwrap())
        };
        for text in [
            "3",
            "3.11",
            "3.11.4",
            "python-3.11.4",
            "cpython-3.11",
            "~=3.11",
            ">=3.9,<3.12",
            "^3.11",
            "==3.11.*",
        ] {
            assert!(holds(text, "3.11.4"), "{text}");
        }
        for text in ["3.1", "3.12", "<3.11", "~3.10", "!=3.11.4", "^2.7 || ^3.12"] {
            assert!(!holds(text, "3.11.4"), "{text}");
        }
        let wanted = Wanted { text: "three".to_owned(), place: Place::file("x") };
        assert_eq!(parse(&wanted), None);
    }
}
