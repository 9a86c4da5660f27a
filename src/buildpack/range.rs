//! Ranges of versions, each ecosystem's by its own grammar.

use nodejs_semver::{Range, Version};
use pep440_rs::VersionSpecifiers;
use serde::Deserialize;
use std::str::FromStr;

use super::version::numbers;

/// A way to write ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ranges {
    /// `3`, `3.11`, `3.11.4`: whatever begins so.
    #[default]
    Prefix,
    /// At least this: Go's.
    Minimum,
    /// `^20.1.0 || 18.x`.
    Npm,
    /// `^8.1|~8.3.0`, with a tilde that means less than npm's.
    Composer,
    /// `>=3.9,<4`.
    Python,
    /// `~> 3.1, != 3.1.4`.
    Ruby,
}

impl Ranges {
    /// Whether a release is in a range; `None` if that is none.
    pub fn contain(self, text: &str, release: &str) -> Option<bool> {
        let found = numbers(release)?;
        if let Some(wanted) = numbers(text) {
            return Some(match self {
                Self::Minimum => found >= wanted,
                _ => found.starts_with(&wanted),
            });
        }
        match self {
            Self::Prefix | Self::Minimum => None,
            Self::Npm => npm(text, release),
            Self::Composer => npm(&composer(text), release),
            Self::Python => {
                let release = pep440_rs::Version::from_str(release).ok()?;
                VersionSpecifiers::from_str(text).ok().map(|range| range.contains(&release))
            }
            Self::Ruby => {
                let all = super::gem_version::requirements(text)?;
                Some(all.iter().all(|one| one.allows(&found)))
            }
        }
    }
}

fn npm(text: &str, release: &str) -> Option<bool> {
    let range = Range::parse(text).ok()?;
    Version::parse(release).ok().map(|release| release.satisfies(&range))
}

/// Composer's range as npm writes it: `~8.1` is below 9, `,` is and, `|` is or.
fn composer(text: &str) -> String {
    let word = |word: &str| match word.strip_prefix('~') {
        Some(rest) if rest.split('.').count() <= 2 => format!("^{rest}"),
        _ => word.to_owned(),
    };
    let and = |part: &str| part.replace(',', " ").split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.split('|').filter(|part| !part.trim().is_empty()).map(and).collect::<Vec<_>>().join(" || ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grammar_is_its_own() {
        use Ranges::{Composer, Minimum, Npm, Prefix, Python, Ruby};
        for (ranges, text, release, expected) in [
            (Prefix, "8.2", "8.2.7", Some(true)),
            (Prefix, ">=8", "8.2.7", None),
            (Minimum, "1.21", "1.27.4", Some(true)),
            (Minimum, "1.28", "1.27.4", Some(false)),
            (Npm, "^20 || 18.x", "18.20.8", Some(true)),
            (Npm, "~8.1", "8.2.0", Some(false)),
            (Composer, "~8.1", "8.2.0", Some(true)),
            (Composer, "~8.1.0", "8.2.0", Some(false)),
            (Composer, "^7.4|^8.0", "8.2.0", Some(true)),
            (Composer, "^7.4 || ^8.3", "8.2.0", Some(false)),
            (Composer, ">=8.1,<8.3", "8.2.0", Some(true)),
            (Composer, "8.2.*", "8.2.7", Some(true)),
            (Python, ">=3.9,<4", "3.11.2", Some(true)),
            (Python, "~=3.9.0", "3.11.2", Some(false)),
            (Ruby, "~> 3.1", "3.4.7", Some(true)),
            (Ruby, "~> 3.1.0", "3.4.7", Some(false)),
            (Npm, "18; id", "18.1.0", None),
            (Composer, "$(id)", "8.2.0", None),
        ] {
            assert_eq!(ranges.contain(text, release), expected, "{ranges:?} {text} {release}");
        }
    }
}
