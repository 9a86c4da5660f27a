//! Where in the settings file a mistake is, and what may have been meant.

use super::SettingsError;
use std::path::Path;

/// The parser's words on an unknown key, with what may have been meant in place
/// of a long list.
pub(super) fn nearest(said: &str) -> String {
    // "unknown field `data_dri`, expected one of `data_dir`, …"
    let mut names = said.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next().filter(|_| said.starts_with("unknown field")) else {
        return said.to_owned();
    };
    let known: Vec<&str> = names.collect();
    let meant = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .min();
    match meant {
        Some((_, name)) => format!("there is no setting {unknown}; did you mean {name}?"),
        None => format!("there is no setting {unknown}; there are: {}", known.join(", ")),
    }
}

/// The line, from 1, that sets `logs.keep` or `domain`.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let (section, key) = name.split_once('.').unwrap_or(("", name));
    let mut inside = "";
    let found = text.lines().position(|line| {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            inside = header.split(']').next().unwrap_or_default().trim();
        }
        inside == section && line.split_once('=').is_some_and(|(left, _)| left.trim() == key)
    });
    found.map(|index| index + 1)
}

/// Names the line of the file by which a setting came to be wrong.
pub(super) fn placed(error: SettingsError, path: &Path, text: &str) -> SettingsError {
    match error {
        SettingsError::Value { name, value, expected, .. } => {
            let said = |line: &usize| text.lines().nth(line - 1).is_some_and(|line| line.contains(&value));
            let line = line_of(text, name).filter(said);
            let place = line.map(|line| format!("{}:{line}: ", path.display()));
            SettingsError::Value { place, name, value, expected }
        }
        other => other,
    }
}
