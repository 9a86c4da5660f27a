//! `paas.toml`: settings of an app that are ours.

use toml::de::{DeTable, DeValue};

use super::error::{DetectError, Place};
use super::source::{Files, line_of, toml_error};

/// Its name in the root of an app.
pub(super) const FILE: &str = "paas.toml";

/// What can be chosen as `[build] builder`.
const BUILDERS: [&str; 5] = ["dockerfile", "python", "node", "go", "ruby"];

/// An app's settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PaasToml {
    /// `[build] builder`, and the line of it.
    pub builder: Option<(String, usize)>,
    /// `[build] dockerfile`, and the line of it.
    pub dockerfile: Option<(String, usize)>,
}

/// The settings of a tree; none are all defaults.
pub(super) fn load(files: Files<'_>) -> Result<PaasToml, DetectError> {
    match files.text(FILE)? {
        Some(text) => parse(&text),
        None => Ok(PaasToml::default()),
    }
}

fn parse(text: &str) -> Result<PaasToml, DetectError> {
    let document = DeTable::parse(text).map_err(|error| toml_error(FILE, text, &error))?;
    let line = |span: std::ops::Range<usize>| line_of(&text.as_bytes()[..span.start.min(text.len())]);
    let mut settings = PaasToml::default();
    for (key, value) in document.get_ref() {
        let at = line(key.span());
        let ("build", DeValue::Table(build)) = (key.get_ref().as_ref(), value.get_ref()) else {
            return Err(unknown(at, key.get_ref(), &["build"]));
        };
        for (key, value) in build {
            let at = line(key.span());
            let target = match key.get_ref().as_ref() {
                "builder" => &mut settings.builder,
                "dockerfile" => &mut settings.dockerfile,
                other => return Err(unknown(at, other, &["builder", "dockerfile"])),
            };
            *target = Some((string(key.get_ref(), value.get_ref(), at)?, at));
        }
    }
    check_builder(settings)
}

fn check_builder(settings: PaasToml) -> Result<PaasToml, DetectError> {
    match &settings.builder {
        Some((name, at)) if !BUILDERS.contains(&name.as_str()) => Err(bad_value(*at, "builder", name, &BUILDERS)),
        _ => Ok(settings),
    }
}

fn string(key: &str, value: &DeValue<'_>, line: usize) -> Result<String, DetectError> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        other => Err(bad_value(line, key, other.type_str(), &["a text in quotes"])),
    }
}

fn bad_value(line: usize, key: &str, value: &str, possible: &[&str]) -> DetectError {
    DetectError::BadValue {
        place: Place::line(FILE, line),
        key: key.to_owned(),
        value: value.to_owned(),
        possible: possible.iter().map(|&text| text.to_owned()).collect(),
    }
}

fn unknown(line: usize, key: &str, known: &[&str]) -> DetectError {
    let nearest = known.iter().min_by_key(|candidate| strsim::damerau_levenshtein(key, candidate));
    DetectError::UnknownKey {
        place: Place::line(FILE, line),
        key: key.to_owned(),
        nearest: nearest.map(|&text| text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn builder_and_dockerfile_are_read() {
        let settings = parse("[build]\nbuilder = \"dockerfile\"\ndockerfile = \"deploy/Dockerfile\"\n").unwrap();
        assert_eq!(settings.builder, Some(("dockerfile".to_owned(), 2)));
        assert_eq!(settings.dockerfile, Some(("deploy/Dockerfile".to_owned(), 3)));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let nearest = |text| match parse(text).unwrap_err() {
            DetectError::UnknownKey { place, nearest, .. } => (place.line, nearest.unwrap()),
            other => panic!("{other:?}"),
        };
        assert_eq!(nearest("[build]\nbilder = 'go'"), (2, "builder".to_owned()));
        assert_eq!(nearest("[biuld]"), (1, "build".to_owned()));
    }
}
