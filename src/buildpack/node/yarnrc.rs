//! `.yarnrc`, the settings of yarn 1: what of the repository an install reads.

use super::site;
use crate::buildpack::error::{DetectError, Place};
use crate::buildpack::source::Files;

const FILE: &str = ".yarnrc";

/// A release of yarn, and packages that are kept beside the code.
const RELEASE: &str = "yarn-path";
const MIRROR: &str = "yarn-offline-mirror";

/// Files and folders of the repository that it names, and that are there.
pub(super) fn paths(files: Files<'_>) -> Vec<String> {
    let text = files.hint(FILE).unwrap_or_default();
    let named = [RELEASE, MIRROR].into_iter().filter_map(|key| setting(&text, key));
    let there = |path: &String| files.has(path) || files.has_folder(path);
    named.map(|(path, _)| path).filter(there).collect()
}

/// Refuses a release of yarn that is not there.
pub(super) fn check(files: Files<'_>) -> Result<(), DetectError> {
    let text = files.text(FILE)?.unwrap_or_default();
    match setting(&text, RELEASE).filter(|(path, _)| !files.has(path)) {
        Some((file, line)) => Err(DetectError::MissingFile { file, named_by: Place::line(FILE, line) }),
        None => Ok(()),
    }
}

/// The path that a key has, from the root, and its line: `yarn-path "./bin/yarn.js"`.
fn setting(text: &str, key: &str) -> Option<(String, usize)> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._/@-".contains(&c);
    text.lines().enumerate().find_map(|(index, line)| {
        let (name, value) = line.trim().split_once([' ', '\t'])?;
        let value = value.trim().trim_matches(['"', '\'']);
        let wanted = name.trim_matches('"') == key && !value.starts_with('/') && value.bytes().all(plain);
        Some((site::inside(value).filter(|_| wanted)?, index + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_repository_are_found() {
        let text =
            "# x\nyarn-path \".yarn/releases/yarn-1.22.19.cjs\"\n\"yarn-offline-mirror\" './npm-cache/'\n";
        assert_eq!(setting(text, RELEASE), Some((".yarn/releases/yarn-1.22.19.cjs".to_owned(), 2)));
        assert_eq!(setting(text, MIRROR), Some(("npm-cache".to_owned(), 3)));
        for other in
            ["yarn-path \"../x\"", "yarn-path /usr/x", "yarn-path $X", "yarn-path \"a*\"", "yarn-path"]
        {
            assert_eq!(setting(other, RELEASE), None, "{other}");
        }
    }
}
