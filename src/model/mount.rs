//! Parts of names: `example.com/api` may be another app's than `example.com`.

use super::domain::{Domain, DomainFault};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Paths under names that an app may have.
pub const MOST_MOUNTS: u32 = 100;

/// Longest path, in bytes.
const LONGEST: usize = 200;

/// What begins a path, at the border of a segment: `/api`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPrefix(String);

/// A path under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The name, a single one, which is some app's.
    pub host: Domain,
    /// The path.
    pub path: PathPrefix,
    /// The app is not to see the path: it sees what follows.
    pub strip: bool,
}

/// Why a name with a path is none; the words come ready for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountFault {
    /// The name.
    #[error(transparent)]
    Name(#[from] DomainFault),
    /// Many names.
    #[error("{0} is many names: give a path under a single one")]
    Many(Domain),
    /// The path.
    #[error(
        "{0:?} is no path such as /api: letters, digits and . _ - ~ between single slashes, none at the end"
    )]
    Path(String),
}

impl PathPrefix {
    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let segments = text.strip_prefix('/')?.split('/');
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~".contains(&byte);
        let good = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed);
        let fits = text.len() <= LONGEST && segments.clone().all(good);
        fits.then(|| Self(text.to_owned()))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows it in a path that it begins, with the slash if there is one.
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.0.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

impl Mount {
    /// Reads what a person typed: `example.com/api`.
    pub fn given(text: &str, strip: bool) -> Result<Self, MountFault> {
        let split = text.find('/').unwrap_or(text.len());
        let (host, path) = text.split_at(split);
        let host = Domain::given(host)?;
        if host.is_wildcard() {
            return Err(MountFault::Many(host));
        }
        let path =
            PathPrefix::parse(path).ok_or_else(|| MountFault::Path(path.chars().take(60).collect()))?;
        Ok(Self { host, path, strip })
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}", self.host, self.path.0))
    }
}

impl TryFrom<String> for PathPrefix {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no path"))
    }
}

impl From<PathPrefix> for String {
    fn from(path: PathPrefix) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_prefix_ends_at_the_border_of_a_segment() {
        let api = PathPrefix::parse("/api").unwrap();
        let rests =
            ["/api", "/api/", "/api/v1?", "/apis", "/API", "/", "/x/api", "//api"].map(|path| api.rest(path));
        assert_eq!(rests, [Some(""), Some("/"), Some("/v1?"), None, None, None, None, None]);
    }

    #[test]
    fn what_people_type_is_read_or_refused_in_one_line() {
        let good = Mount::given("WWW.Example.com./a/b-c.d", true).unwrap();
        assert_eq!((good.to_string().as_str(), good.strip), ("www.example.com/a/b-c.d", true));
        let bad = [
            "example.com/",
            "example.com//a",
            "example.com/a/",
            "example.com/a/../b",
            "example.com/%61",
            "example.com/a?b",
            "https://example.com/a",
            "example/a",
            "/a",
            "*.example.com/a",
        ];
        let said = bad.map(|text| Mount::given(text, false).unwrap_err().to_string());
        insta::assert_snapshot!(said.join("\n"));
    }
}
