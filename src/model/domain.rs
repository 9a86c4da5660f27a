//! Names that apps answer to.

use super::name::{AppName, HostName, NameError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names of its own that an app may have.
pub const MOST_DOMAINS: usize = 500;

/// Longest part of a refused name that is repeated to the user, in characters.
const ECHO: usize = 60;

/// Why an app can't have a name; the words come ready for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainFault {
    /// No DNS name.
    #[error("{0:?} is not a name such as www.example.com or *.example.com")]
    Form(String),
    /// A URL, a port, a path.
    #[error("{0:?} is more than a name: give the name alone, without https://, port and path")]
    More(String),
    /// Letters that DNS does not have.
    #[error("{0:?} has letters that DNS does not: give its form that begins with xn--")]
    Letters(String),
    /// An IP address.
    #[error("{0:?} is an address: apps answer to names")]
    Address(String),
    /// One label, or a wildcard over a whole top level.
    #[error("{0:?} is too short: a name has a dot in it, as www.example.com does")]
    Short(String),
    /// A name of this machine.
    #[error("{0:?} is a name of every machine")]
    Local(String),
    /// A name that the server gives out.
    #[error("{name} is below {base}, where each app answers at its own name ({app}.{base})")]
    Servers {
        /// The name.
        name: String,
        /// The server's domain.
        base: String,
        /// The app that asks.
        app: AppName,
    },
}

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

    /// Reads what a person typed: case and one trailing dot do not matter.
    pub fn given(text: &str) -> Result<Self, DomainFault> {
        let text = text.trim();
        let echo = || text.chars().take(ECHO).collect::<String>();
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if !name.is_ascii() {
            return Err(DomainFault::Letters(echo()));
        }
        if name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() {
            return Err(DomainFault::Address(echo()));
        }
        if name.contains(['/', ':', '@', '?', '#']) {
            return Err(DomainFault::More(echo()));
        }
        let domain = Self::parse(&name).map_err(|_| DomainFault::Form(echo()))?;
        let (host, labels) = (domain.host(), domain.host().as_str().split('.').count());
        if host.is_local() {
            return Err(DomainFault::Local(echo()));
        }
        // What ends in a number, browsers take for an address.
        let last = host.as_str().rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DomainFault::Address(echo()));
        }
        if labels < 2 { Err(DomainFault::Short(echo())) } else { Ok(domain) }
    }

    /// The names below the server's own domain are its to give: to each app its own, and
    /// to that app what is below it.
    pub fn expect_free(&self, app: &AppName, base: &HostName) -> Result<(), DomainFault> {
        let below = match self.host().as_str().strip_suffix(base.as_str()) {
            Some("") if self.is_wildcard() => "",
            Some(rest) => match rest.strip_suffix('.') {
                Some(below) => below,
                // The domain itself, or one that only ends alike.
                None => return Ok(()),
            },
            None => return Ok(()),
        };
        let label = below.rsplit('.').next().unwrap_or_default();
        if label == app.as_str() && (self.is_wildcard() || label != below) {
            return Ok(());
        }
        Err(DomainFault::Servers { name: self.to_string(), base: base.to_string(), app: app.clone() })
    }

    /// The name, or that below which it has all.
    pub fn host(&self) -> &HostName {
        let (Self::Exact(host) | Self::Below(host)) = self;
        host
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
    fn what_people_type_is_read_or_refused_in_one_line() {
        for (text, name) in [
            ("WWW.Example.COM.", "www.example.com"),
            (" *.example.com", "*.example.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("3com.example", "3com.example"),
        ] {
            assert_eq!(Domain::given(text).unwrap().to_string(), name);
        }
        let long = "a.".repeat(200);
        let bad = [
            "",
            ".",
            "example",
            "*.com",
            "*",
            "a..b",
            "-a.example",
            "a_b.example",
            "example.com:443",
            "https://example.com/",
            "user@example.com",
            "192.0.2.1",
            "[2001:db8::1]",
            "1.2",
            "0x7f.1",
            "bücher.example",
            "localhost",
            "a.localhost",
            "*.*.example.com",
            "a.*.example.com",
            "a b.example",
            "example.com\n",
            "$(id).example",
            "../etc",
            &long,
        ];
        let said = bad.map(|text| match Domain::given(text) {
            Ok(domain) => format!("{domain} is taken"),
            Err(fault) => fault.to_string(),
        });
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn names_below_the_server_s_domain_belong_to_the_app_of_that_name() {
        let (app, base) = (AppName::parse("shop").unwrap(), HostName::parse("apps.example").unwrap());
        for free in
            ["apps.example", "www.shop.apps.example", "*.shop.apps.example", "xapps.example", "a.example"]
        {
            assert_eq!(domain(free).expect_free(&app, &base), Ok(()), "{free}");
        }
        for refused in [
            "shop.apps.example",
            "other.apps.example",
            "www.other.apps.example",
            "*.apps.example",
            "*.other.apps.example",
        ] {
            assert!(domain(refused).expect_free(&app, &base).is_err(), "{refused}");
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
