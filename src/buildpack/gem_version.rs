//! RubyGems' requirements.

use super::version::numbers;

/// One of RubyGems' requirements: `~> 3.1`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Requirement {
    /// `~>`.
    pub operator: &'static str,
    /// Its numbers.
    pub version: Vec<u64>,
}

impl Requirement {
    /// Whether a release is among those wanted.
    pub fn allows(&self, release: &[u64]) -> bool {
        let padded =
            |version: &[u64]| (0..3).map(|at| version.get(at).copied().unwrap_or(0)).collect::<Vec<_>>();
        let (ours, theirs) = (padded(release), padded(&self.version));
        match self.operator {
            "=" => ours == theirs || (self.version.len() < 3 && release.starts_with(&self.version)),
            "!=" => ours != theirs,
            ">" => ours > theirs,
            "<" => ours < theirs,
            ">=" => ours >= theirs,
            "<=" => ours <= theirs,
            _ => {
                let kept = self.version.len().saturating_sub(1).max(1);
                ours >= theirs && release.starts_with(&self.version[..kept])
            }
        }
    }
}

/// A list of them, as in `~> 3.1, != 3.1.4`.
pub(super) fn requirements(text: &str) -> Option<Vec<Requirement>> {
    text.split(',').map(|one| requirement(one.trim())).collect()
}

fn requirement(text: &str) -> Option<Requirement> {
    let text = text.strip_prefix("ruby-").unwrap_or(text);
    let operators = ["~>", ">=", "<=", "!=", ">", "<", "="];
    let operator = operators.into_iter().find(|operator| text.starts_with(operator));
    let rest = operator.map_or(text, |operator| &text[operator.len()..]).trim();
    let rest = rest.split_once("-p").map_or(rest, |(version, _)| version);
    Some(Requirement { operator: operator.unwrap_or("="), version: numbers(rest)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requirements_are_rubygems() {
        let allows =
            |text, release: [u64; 3]| requirements(text).unwrap().iter().all(|one| one.allows(&release));
        assert!(allows("~> 3.1", [3, 4, 0]) && !allows("~> 3.1", [4, 0, 0]));
        assert!(allows("~> 3.1.0", [3, 1, 9]) && !allows("~> 3.1.0", [3, 2, 0]));
        assert!(allows(">= 3.0, < 3.2", [3, 1, 2]) && !allows(">= 3.0, < 3.2", [3, 2, 0]));
        assert!(allows("3.1", [3, 1, 2]) && !allows("3.1.4", [3, 1, 2]));
        assert!(requirements("3.1; id").is_none());
    }
}
