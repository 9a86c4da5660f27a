//! Names that apps answer to.

use super::name::{HostName, NameError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// `www.example.com`, or `*.example.com` for every name one label below it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Domain {
    /// This name.
    Exact(HostName),
    /// Every name that has one label more.
    Below(HostName),
}

impl Domain {
    /// Reads what [`Display`](fmt::Display) writes: lower case, no port, no trailing dot.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("*.") {
            Some(parent) => HostName::parse(parent).map(Self::Below),
            None => HostName::parse(text).map(Self::Exact),
        }
    }

    /// Whether it has many names.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Below(_))
    }

    /// Whether every name of the other is one of this.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Below(parent), Self::Exact(name)) => {
                name.as_str().split_once('.').is_some_and(|(_, rest)| rest == parent.as_str())
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.pad(name.as_str()),
            Self::Below(parent) => f.pad(&format!("*.{parent}")),
        }
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl TryFrom<String> for Domain {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[test]
    fn a_wildcard_is_one_label_at_the_front() {
        for good in ["example.com", "*.example.com", "localhost", "*.localhost"] {
            assert_eq!(domain(good).to_string(), good);
        }
        for bad in ["*", "*.", "*.*.a", "a.*.b", "**.a", "*a.b", "*.a.", "A.b"] {
            assert!(Domain::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        for (name, other, covers) in [
            ("*.a.b", "x.a.b", true),
            ("*.a.b", "*.a.b", true),
            ("*.a.b", "a.b", false),
            ("*.a.b", "x.y.a.b", false),
            ("x.a.b", "*.a.b", false),
            ("*.b", "*.a.b", false),
            ("a.b", "a.b", true),
        ] {
            assert_eq!(domain(name).covers(&domain(other)), covers, "{name} {other}");
        }
    }
}
