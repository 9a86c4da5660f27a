//! Which Python.

use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};

use super::super::draft::Draft;
use super::super::error::{DetectError, Place};
use super::super::pack::Offer;
use super::super::source::{self, Files};
use super::super::version::{self, Wanted};

/// The offer that fits what the app asks for.
pub(super) fn choose(draft: &mut Draft<'_>) -> Result<&'static Offer, DetectError> {
    let offers = draft.offers();
    let requires = requires_python(draft.files)?;
    let Some(wanted) = named(draft.files)? else {
        return match requires {
            Some(range) => {
                let offer = in_range(offers, &range).ok_or_else(|| refusal(draft, &range))?;
                draft.decide(format!("Python {}, from {}", offer.version, range.place.file));
                Ok(offer)
            }
            None => newest(draft),
        };
    };
    if specifiers(&wanted.text).is_none() && loose(&wanted.text).is_none() {
        return Err(wanted.malformed(draft.pack));
    }
    match in_range(offers, &wanted) {
        Some(offer) => {
            draft.decide(format!("Python {}, from {}", offer.version, wanted.place.file));
            Ok(offer)
        }
        None => nearby(draft, &wanted, requires.as_ref()),
    }
}

/// Another patch of the same line, or what `requires-python` allows.
fn nearby(draft: &mut Draft<'_>, wanted: &Wanted, requires: Option<&Wanted>) -> Result<&'static Offer, DetectError> {
    let exact = version::numbers(plain(&wanted.text));
    let offers = draft.offers();
    let same_line = exact.as_deref().filter(|parts| parts.len() == 3).and_then(|parts| version::same_line(offers, parts));
    let allowed = requires.filter(|_| exact.is_some()).and_then(|range| in_range(offers, range));
    let Some(offer) = same_line.or(allowed) else { return Err(refusal(draft, wanted)) };
    draft.decide(format!("Python {}, from {}", offer.version, wanted.place.file));
    let asked = version::shorten(&wanted.text);
    draft.notices.push(format!("{} asks for {asked}; {} is used", wanted.place.file, offer.release));
    Ok(offer)
}

fn refusal(draft: &Draft<'_>, wanted: &Wanted) -> DetectError {
    if specifiers(&wanted.text).is_none() && loose(&wanted.text).is_none() {
        return wanted.malformed(draft.pack);
    }
    wanted.missing(draft.pack, draft.catalog.source)
}

fn newest(draft: &mut Draft<'_>) -> Result<&'static Offer, DetectError> {
    let offer = draft.offers().first().ok_or_else(|| DetectError::Broken {
        pack: draft.pack.key.clone(),
        reason: "offers nothing".to_owned(),
    })?;
    draft.decide(format!("Python {}, the default (no .python-version)", offer.version));
    Ok(offer)
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
    let Some(text) = files.text("Pipfile")? else { return Ok(None) };
    let table = source::toml("Pipfile", &text)?;
    let requires = table.get("requires").and_then(toml::Value::as_table);
    let key = |name| requires.and_then(|section| section.get(name)).and_then(toml::Value::as_str);
    let text = key("python_full_version").or_else(|| key("python_version"));
    Ok(text.map(|text| Wanted { text: text.to_owned(), place: Place::file("Pipfile") }))
}

fn requires_python(files: Files<'_>) -> Result<Option<Wanted>, DetectError> {
    const FILE: &str = "pyproject.toml";
    let Some(text) = files.text(FILE)? else { return Ok(None) };
    let table = source::toml(FILE, &text)?;
    let range = table.get("project").and_then(|project| project.get("requires-python")).and_then(toml::Value::as_str);
    let line = text.lines().position(|line| line.trim_start().starts_with("requires-python")).map_or(0, |at| at + 1);
    Ok(range.map(|range| Wanted { text: range.to_owned(), place: Place::line(FILE, line) }))
}

fn in_range(offers: &'static [Offer], wanted: &Wanted) -> Option<&'static Offer> {
    let range = loose(&wanted.text).or_else(|| specifiers(&wanted.text))?;
    let fits = |offer: &&Offer| Version::from_str(&offer.release).is_ok_and(|release| range.contains(&release));
    offers.iter().find(fits)
}

fn plain(text: &str) -> &str {
    text.strip_prefix("python-").or_else(|| text.strip_prefix("python")).unwrap_or(text)
}

/// `3`, `3.11` and `3.11.4`: everything that begins so.
fn loose(text: &str) -> Option<VersionSpecifiers> {
    let text = plain(text);
    let parts = version::numbers(text)?;
    let range = if parts.len() == 3 { format!("=={text}") } else { format!("=={text}.*") };
    VersionSpecifiers::from_str(&range).ok()
}

fn specifiers(text: &str) -> Option<VersionSpecifiers> {
    VersionSpecifiers::from_str(plain(text)).ok()
}
