//! Versions: what an app asks for, and what the image source offers.

use super::error::{DetectError, Place};
use super::pack::{Offer, Pack};
use super::source::Files;
use crate::model::ImageSource;

/// A version that an app asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// As it is written.
    pub text: String,
    /// Where.
    pub place: Place,
}

impl Wanted {
    /// The refusal of a version that cannot be had.
    pub fn missing(&self, pack: &Pack, source: ImageSource) -> DetectError {
        DetectError::NoSuchVersion {
            place: self.place.clone(),
            language: pack.name.clone(),
            text: shorten(&self.text),
            have: pack.offers(source).iter().map(|offer| offer.version.clone()).collect(),
        }
    }

    /// The refusal of a text that is no version.
    pub fn malformed(&self, pack: &Pack) -> DetectError {
        DetectError::BadVersion {
            place: self.place.clone(),
            language: pack.name.clone(),
            text: shorten(&self.text),
        }
    }
}

/// At most 40 characters of a user's text, for messages.
pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= 40 { text.to_owned() } else { text.chars().take(39).chain(['…']).collect() }
}

/// The first line of a file that is neither empty nor a comment.
pub(super) fn first_line(files: Files<'_>, file: &str) -> Result<Option<Wanted>, DetectError> {
    let Some(text) = files.text(file)? else { return Ok(None) };
    let meaningful = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let numbered = text.lines().map(str::trim).enumerate();
    let found = numbered.filter(|(_, line)| meaningful(line)).map(|(index, line)| Wanted {
        text: line.split(" #").next().unwrap_or(line).trim().to_owned(),
        place: Place::line(file, index + 1),
    });
    Ok(found.into_iter().next())
}

/// The version that `.tool-versions` gives for a tool under one of its names.
pub(super) fn tool_versions(files: Files<'_>, tools: &[&str]) -> Result<Option<Wanted>, DetectError> {
    const FILE: &str = ".tool-versions";
    let Some(text) = files.text(FILE)? else { return Ok(None) };
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        if let (Some(tool), Some(version)) = (words.next(), words.next())
            && tools.contains(&tool)
        {
            return Ok(Some(Wanted { text: version.to_owned(), place: Place::line(FILE, index + 1) }));
        }
    }
    Ok(None)
}

/// The version that `mise.toml` gives for a tool under one of its names.
pub(super) fn mise(files: Files<'_>, tools: &[&str]) -> Result<Option<Wanted>, DetectError> {
    let Some(file) = files.first_of(&["mise.toml", ".mise.toml"]) else { return Ok(None) };
    let text = files.text(file)?.unwrap_or_default();
    let table = super::source::toml(file, &text)?;
    let Some(section) = table.get("tools").and_then(toml::Value::as_table) else { return Ok(None) };
    let Some((tool, value)) = tools.iter().find_map(|tool| section.get_key_value(*tool)) else {
        return Ok(None);
    };
    // One, several of which the first counts, or one with options.
    let value = value.get(0).unwrap_or(value);
    let version = value.as_str().or_else(|| value.get("version").and_then(toml::Value::as_str));
    let line =
        text.lines().position(|line| line.trim_start().trim_start_matches('"').starts_with(tool.as_str()));
    let place = Place::line(file, line.map_or(0, |at| at + 1));
    Ok(version.map(|version| Wanted { text: version.to_owned(), place }))
}

/// Numbers of `3`, `3.11` or `3.11.4`; `None` for anything else.
pub(super) fn numbers(text: &str) -> Option<Vec<u64>> {
    let number = |part: &str| {
        (!part.is_empty() && part.bytes().all(|c| c.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let parts: Option<Vec<u64>> = text.split('.').map(number).collect();
    parts.filter(|parts| (1..=3).contains(&parts.len()))
}

/// The offer whose release begins with these numbers.
pub(super) fn by_prefix<'o>(offers: &'o [Offer], wanted: &[u64]) -> Option<&'o Offer> {
    offers.iter().find(|offer| numbers(&offer.release).is_some_and(|release| release.starts_with(wanted)))
}

/// The offer of the same line as an exact version: as many leading numbers as
/// the offer's own name has.
pub(super) fn same_line<'o>(offers: &'o [Offer], wanted: &[u64]) -> Option<&'o Offer> {
    offers.iter().find(|offer| numbers(&offer.version).is_some_and(|line| wanted.starts_with(&line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_one_to_three_decimal_parts() {
        assert_eq!(numbers("3.11.4"), Some(vec![3, 11, 4]));
        assert_eq!(numbers("20"), Some(vec![20]));
        for bad in ["", "3.", "3.x", "v3", "1.2.3.4", "18; id", "99999999999999999999"] {
            assert_eq!(numbers(bad), None, "{bad}");
        }
    }
}
