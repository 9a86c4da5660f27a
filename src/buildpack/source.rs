//! Reading an app's own files: bounded, as text, never through links.

use super::error::{DetectError, Place};
use crate::model::source::utf16;
use crate::model::{EntryKind, SourceTree};

/// Largest file of an app that is read for detection.
pub(super) const READ_LIMIT: u64 = 4 << 20;

/// Largest `.dockerignore`.
pub const IGNORE_LIMIT: u64 = 1 << 20;

/// Largest file in which each line means work: nobody writes as much by hand.
const BY_HAND: u64 = 64 << 10;

/// How much of a file is read at most.
fn limit_of(path: &str) -> u64 {
    match path.rsplit('/').next().unwrap_or(path) {
        "paas.toml" | "Procfile" | "app.json" | "go.work" => BY_HAND,
        name if name.ends_with(".dockerignore") => IGNORE_LIMIT,
        _ => READ_LIMIT,
    }
}

/// An app's files as detection sees them.
#[derive(Clone, Copy)]
pub(super) struct Files<'a> {
    /// The tree.
    pub tree: &'a dyn SourceTree,
}

impl<'a> Files<'a> {
    /// Whether a regular file is there.
    pub fn has(&self, path: &str) -> bool {
        self.tree.has_file(path)
    }

    /// The text of a file, without BOM; `None` if there is none. A link, a
    /// submodule, an oversized or a binary file is refused.
    pub fn text(&self, path: &str) -> Result<Option<String>, DetectError> {
        match self.tree.entry(path).map(|entry| entry.kind) {
            None | Some(EntryKind::Submodule) => return Ok(None),
            Some(EntryKind::Symlink) => return Err(DetectError::Symlink(path.to_owned())),
            Some(EntryKind::File { .. }) => {}
        }
        let limit = limit_of(path);
        let too_large = || DetectError::TooLarge { file: path.to_owned(), limit };
        let bytes = self.tree.read(path, limit).ok_or_else(too_large)?;
        decode(path, bytes).map(Some)
    }

    /// The text of a file that merely helps to guess: nothing if it is a link,
    /// too large or no text.
    pub fn hint(&self, path: &str) -> Option<String> {
        self.text(path).ok().flatten()
    }

    /// The same of a file that is not larger than this.
    pub fn hint_below(&self, path: &str, limit: u64) -> Option<String> {
        self.tree.entry(path).filter(|entry| entry.size <= limit).and_then(|_| self.hint(path))
    }

    /// All regular files, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let tree: &'a dyn SourceTree = self.tree;
        let regular = |kind| matches!(kind, EntryKind::File { .. });
        tree.entries().iter().filter(move |entry| regular(entry.kind)).map(|entry| entry.path.as_str())
    }

    /// Whether anything is below this folder (without trailing slash).
    pub fn has_folder(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        let entries = self.tree.entries();
        let first = entries.partition_point(|entry| entry.path < prefix);
        entries.get(first).is_some_and(|entry| entry.path.starts_with(&prefix))
    }

    /// The first of these files that is there.
    pub fn first_of<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.has(name))
    }
}

fn decode(path: &str, bytes: Vec<u8>) -> Result<String, DetectError> {
    if let Some(text) = utf16(&bytes).filter(|_| path.ends_with(".txt")) {
        return Ok(text);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        DetectError::Malformed {
            place: Place::line(path, line_of(valid)),
            format: "UTF-8 text",
            reason: "a byte here belongs to no character".to_owned(),
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// The line, from 1, that follows these bytes.
pub(super) fn line_of(before: &[u8]) -> usize {
    1 + before.split(|byte| *byte == b'\n').count().saturating_sub(1)
}

/// Parses JSON, naming file and line where it is broken.
pub(super) fn json(path: &str, text: &str) -> Result<serde_json::Value, DetectError> {
    serde_json::from_str(text).map_err(|error| DetectError::Malformed {
        place: Place::line(path, error.line()),
        format: "JSON",
        reason: error.to_string(),
    })
}

/// Parses TOML, naming file and line where it is broken.
pub(super) fn toml(path: &str, text: &str) -> Result<toml::Table, DetectError> {
    text.parse::<toml::Table>().map_err(|error| toml_error(path, text, &error))
}

/// The error of the TOML parser with file and line.
pub(super) fn toml_error(path: &str, text: &str, error: &toml::de::Error) -> DetectError {
    let line =
        error.span().and_then(|span| text.get(..span.start)).map_or(0, |before| line_of(before.as_bytes()));
    DetectError::Malformed {
        place: Place::line(path, line),
        format: "TOML",
        reason: error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requirements_of_a_powershell_are_text() {
        let wide = |text: &str| {
            let units = text.encode_utf16().flat_map(u16::to_le_bytes);
            [0xff, 0xfe].into_iter().chain(units).collect::<Vec<u8>>()
        };
        assert_eq!(decode("requirements.txt", wide("flask\r\n")).unwrap(), "flask\r\n");
        assert!(decode("package.json", wide("{}")).is_err());
        assert!(decode("requirements.txt", vec![0xff, 0xfe, 0x00, 0xd8]).is_err());
    }
}
