//! What an app depends on: names, and the releases that it fixes.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};

/// Extras that bring a server along: package, extra, server.
const BROUGHT: [(&str, &str, &str); 6] = [
    ("fastapi", "standard", "uvicorn"),
    ("fastapi", "all", "uvicorn"),
    ("litestar", "standard", "uvicorn"),
    ("litestar", "full", "uvicorn"),
    ("connexion", "uvicorn", "uvicorn"),
    ("channels", "daphne", "daphne"),
];

/// Dependencies as far as files tell them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dependencies {
    /// Normalised names.
    pub names: BTreeSet<String>,
    /// Releases fixed by `==` or by a lock file.
    pub pins: BTreeMap<String, Version>,
    /// The releases that requirements allow, of those that say.
    pub ranges: BTreeMap<String, VersionSpecifiers>,
    /// Whether there may be more that no file states.
    pub open: bool,
}

impl Dependencies {
    /// Whether nothing is needed at all.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.open
    }

    /// Whether a package, by its normalised name, is or may be among them.
    pub fn may_have(&self, name: &str) -> bool {
        self.open || self.names.contains(name)
    }

    /// Whether a package is surely among them.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether the newest release of a package that may be had is before a major one.
    pub fn is_before(&self, name: &str, major: u64) -> bool {
        let last = Version::new([major, 9999]);
        match self.pins.get(name) {
            Some(pin) => pin.release().first().is_some_and(|&first| first < major),
            None => self
                .ranges
                .get(name)
                .is_some_and(|range| !range.contains(&last) && !range.contains(&Version::new([major, 0]))),
        }
    }

    /// Adds a requirement as PEP 508 writes it: `Flask[async]==3.0.1; …`.
    pub fn require(&mut self, requirement: &str) {
        let Some(name) = name(requirement) else { return };
        let plain = requirement.split(';').next().unwrap_or_default();
        let extras = plain.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        let extras = extras.map(|(list, _)| list).unwrap_or_default();
        let brings = |(of, extra, _): &&(&str, &str, &str)| *of == name && extras.contains(extra);
        self.names.extend(BROUGHT.iter().filter(brings).map(|(_, _, server)| (*server).to_owned()));
        if let Some((_, version)) = plain.split_once("==") {
            self.pin(&name, version.trim_start_matches('='));
        }
        let range = plain.find(['<', '>', '~', '=', '!']).map(|at| &plain[at..]);
        if let Some(Ok(range)) =
            range.map(|range| VersionSpecifiers::from_str(range.trim().trim_end_matches(')')))
        {
            self.ranges.insert(name.clone(), range);
        }
        self.names.insert(name);
    }

    /// Adds a package of a lock file.
    pub fn lock(&mut self, package: &str, version: &str) {
        if let Some(name) = name(package) {
            self.pin(&name, version);
            self.names.insert(name);
        }
    }

    fn pin(&mut self, name: &str, version: &str) {
        let end = version.find([',', ' ', '\\']).unwrap_or(version.len());
        if let Ok(version) = Version::from_str(version[..end].trim()) {
            self.pins.insert(name.to_owned(), version);
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: Self) {
        self.names.extend(other.names);
        self.pins.extend(other.pins);
        self.ranges.extend(other.ranges);
        self.open |= other.open;
    }
}

/// The normalised name that a requirement begins with (PEP 503).
pub(super) fn name(requirement: &str) -> Option<String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let end = requirement.find(|c| !letter(c)).unwrap_or(requirement.len());
    let raw = requirement[..end].trim_end_matches(['.', '_', '-']);
    if raw.is_empty() || raw.contains("://") || requirement[end..].starts_with([':', '+', '/']) {
        return None;
    }
    let mut normal = String::new();
    for part in raw.to_ascii_lowercase().split(['.', '_', '-']).filter(|part| !part.is_empty()) {
        if !normal.is_empty() {
            normal.push('-');
        }
        normal.push_str(part);
    }
    Some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_and_never_found_inside_others() {
        assert_eq!(name("Flask_SQLAlchemy[x]>=2 ; python_version<'3'").as_deref(), Some("flask-sqlalchemy"));
        assert_eq!(name("django==4.2").as_deref(), Some("django"));
        assert_eq!(name("https://example.com/flask.whl"), None);
        assert_eq!(name("git+https://example.com/flask"), None);
    }

    #[test]
    fn a_range_says_which_major_releases_there_may_be() {
        let before = |requirement: &str| {
            let mut found = Dependencies::default();
            found.require(requirement);
            found.is_before("connexion", 3)
        };
        for old in [
            "connexion[swagger-ui]>=2.14,<3",
            "connexion~=2.14",
            "connexion (<=2.14.2)",
            "connexion==2.14.1 ; a > 3",
        ] {
            assert!(before(old), "{old}");
        }
        for new in [
            "connexion",
            "connexion>=2",
            "connexion[flask]>=3,<4",
            "connexion==3.0.5",
            "connexion<3.1",
            "connexion @ git+https://a.example/b",
        ] {
            assert!(!before(new), "{new}");
        }
    }

    #[test]
    fn only_exact_releases_are_pins() {
        let mut found = Dependencies::default();
        for line in [
            "A==1.2 ; python_version > '3'",
            "b>=1",
            "c==1.*",
            "d===2.0",
            "e[x]==3.0 --hash=sha256:00",
            "f==1,<2",
        ] {
            found.require(line);
        }
        let pins: Vec<String> =
            found.pins.iter().map(|(name, version)| format!("{name} {version}")).collect();
        assert_eq!(pins, ["a 1.2", "d 2.0", "e 3.0", "f 1"]);
        assert!(found.has("b") && found.has("c"));
    }

    #[test]
    fn an_extra_may_bring_the_server() {
        let mut found = Dependencies::default();
        found.require("fastapi[standard]>=0.115");
        assert!(found.has("uvicorn"));
    }
}
