//! Names that arrive from outside, each with one constructor.
//!
//! "Parse, don't sanitise": a value of these types is proof that the text was
//! checked, so nothing further down has to check, quote or escape it again.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What was wrong with a name; the words come ready for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?`.
    #[error(
        "{0:?} is not an app name: use 1 to 30 lower-case letters, digits and inner dashes, such as my-app"
    )]
    App(String),
    /// Not `[A-Za-z0-9_-]{1,63}`.
    #[error("{0:?} is not a process type: use 1 to 63 letters, digits, - and _, such as web")]
    ProcessType(String),
    /// Not `[A-Za-z_][A-Za-z0-9_]{0,255}`.
    #[error(
        "{0:?} is not a config var name: use letters, digits and _, not starting with a digit, such as API_KEY"
    )]
    EnvKey(String),
    /// Not a DNS name of at most 253 characters.
    #[error("{0:?} is not a host name: use letters, digits, dashes and dots, such as www.example.com")]
    Host(String),
    /// Not `[A-Za-z0-9._@-]{1,64}`.
    #[error("{0:?} is not a key name: use 1 to 64 letters, digits, and . _ @ -, such as ada@laptop")]
    Key(String),
}

/// Longest part of a refused name that is repeated to the user, in characters.
const ECHO_LIMIT: usize = 60;

fn echo(text: &str) -> String {
    let mut shown: String = text.chars().take(ECHO_LIMIT).collect();
    if text.chars().count() > ECHO_LIMIT {
        shown.push('…');
    }
    shown
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $error:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The only constructor.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $check;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError::$error(echo(text)))
                }
            }

            /// The checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name_type!(
    /// An app's name: a DNS label, a directory-safe word, and a repository path.
    AppName, App, |text| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let bytes = text.as_bytes();
        (1..=30).contains(&bytes.len())
            && bytes.iter().all(|&c| inner(c) || c == b'-')
            && bytes.first().copied().is_some_and(inner)
            && bytes.last().copied().is_some_and(inner)
    }
);

name_type!(
    /// A process type of a Procfile: `web`, `worker`, `release`.
    ProcessType, ProcessType, |text| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
    }
);

name_type!(
    /// The name of a config var.
    EnvKey, EnvKey, |text| {
        (1..=256).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
            && !text.as_bytes()[0].is_ascii_digit()
    }
);

impl EnvKey {
    /// Whether the platform sets it for every process, so that nobody else may.
    pub fn is_platforms(&self) -> bool {
        self.0.starts_with("PAAS_") || matches!(self.0.as_str(), "DYNO" | "GIT_REV" | "SOURCE_VERSION")
    }
}

name_type!(
    /// A DNS name in lower case, without port and without trailing dot.
    HostName, Host, |text| {
        !text.is_empty()
            && text.len() <= 253
            && text.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            })
    }
);

impl HostName {
    /// Whether it is a name of this machine, for which no authority vouches.
    pub fn is_local(&self) -> bool {
        self.0 == "localhost" || self.0.ends_with(".localhost")
    }
}

name_type!(
    /// What a person calls one of their public keys.
    KeyName, Key, |text| {
        (1..=64).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._@-".contains(&c))
    }
);

impl ProcessType {
    /// The type that gets traffic and a `PORT`.
    pub fn web() -> Self {
        Self("web".to_owned())
    }

    /// Whether this is the type that gets traffic.
    pub fn is_web(&self) -> bool {
        self.0 == "web"
    }

    /// Whether this is the command that runs once before traffic.
    pub fn is_release(&self) -> bool {
        self.0 == "release"
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn app_names_are_dns_labels_of_at_most_thirty() {
        for good in ["a", "my-app", "0x", &"a".repeat(30)] {
            assert!(AppName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "../etc", "a/b", "а", "a b", "a\n", &"a".repeat(31)] {
            assert!(AppName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refused_name_is_not_repeated_at_length() {
        let message = AppName::parse(&"x".repeat(1_000_000)).unwrap_err().to_string();
        assert!(message.len() < 300);
    }

    #[test]
    fn host_names_have_no_case_port_or_empty_label() {
        for good in ["localhost", "www.example.com", "my-app.localhost", "xn--e1afmkfd.example"] {
            assert!(HostName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", "A.b", "a:80", "a.", "-a.b", "*.a"] {
            assert!(HostName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
