//! One package of a lock file.

use std::fmt::Write;

/// Where packages come from, as purl names it.
/// <https://github.com/package-url/purl-spec/blob/main/PURL-TYPES.rst>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ecosystem {
    /// Python.
    Pypi,
    /// Node.
    Npm,
    /// Go.
    Golang,
    /// Ruby.
    Gem,
    /// PHP.
    Composer,
}

impl Ecosystem {
    /// The type of a purl.
    pub fn purl_type(self) -> &'static str {
        match self {
            Self::Pypi => "pypi",
            Self::Npm => "npm",
            Self::Golang => "golang",
            Self::Gem => "gem",
            Self::Composer => "composer",
        }
    }
}

/// A checksum, under CycloneDX's name of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hash {
    /// `SHA-256`.
    pub kind: &'static str,
    /// In hex.
    pub digits: String,
}

/// Kinds of checksums: as lock files write them, as CycloneDX does, hex digits.
const KINDS: [(&str, &str, usize); 5] = [
    ("md5", "MD5", 32),
    ("sha1", "SHA-1", 40),
    ("sha256", "SHA-256", 64),
    ("sha384", "SHA-384", 96),
    ("sha512", "SHA-512", 128),
];

impl Hash {
    /// From `sha256` and its hex digits; `None` if they are none.
    pub fn hex(name: &str, digits: &str) -> Option<Self> {
        let (_, kind, length) = KINDS.into_iter().find(|(known, ..)| *known == name)?;
        let valid = digits.len() == length && digits.bytes().all(|c| c.is_ascii_hexdigit());
        valid.then(|| Self { kind, digits: digits.to_ascii_lowercase() })
    }

    /// From `sha256:<hex>`, as Python's lock files have it.
    pub fn colon(text: &str) -> Option<Self> {
        let (name, digits) = text.split_once(':')?;
        Self::hex(name, digits)
    }

    /// From npm's integrity: `sha512-<base64>`, several with blanks between.
    pub fn integrity(text: &str) -> Vec<Self> {
        text.split_ascii_whitespace()
            .take(KINDS.len())
            .filter_map(|one| {
                let (name, digits) = one.split_once('-')?;
                let digits = digits.split('?').next()?;
                let bytes = base64(digits)?;
                Self::hex(
                    name,
                    &bytes.iter().fold(String::new(), |mut hex, byte| {
                        let _ = write!(hex, "{byte:02x}");
                        hex
                    }),
                )
            })
            .collect()
    }
}

/// Standard base64 with padding, of a checksum's length.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len() > 100 || text.len() - digits.len() > 2 {
        return None;
    }
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for c in digits.bytes() {
        bits = (bits << 6 | u32::from(value(c)?)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// A file that a package is distributed as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Where it is, or its name.
    pub place: String,
    /// Its checksum.
    pub hash: Option<Hash>,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Where it comes from.
    pub ecosystem: Ecosystem,
    /// As the lock file writes it: `@babel/core`.
    pub name: String,
    /// None where the file does not fix one.
    pub version: Option<String>,
    /// What was asked for, where no version is fixed: `flask>=2`.
    pub asked: Option<String>,
    /// Checksums of the package.
    pub hashes: Vec<Hash>,
    /// What it is distributed as.
    pub archives: Vec<Archive>,
    /// Repository that it comes from.
    pub repository: Option<String>,
    /// Whether only development needs it.
    pub development: bool,
    /// As the lock file writes them.
    pub licences: Vec<String>,
    /// For which platform: `x86_64-linux`.
    pub platform: Option<String>,
    /// The file that names it.
    pub file: String,
}

/// Longest name and version: registries allow less.
const LONGEST: usize = 300;

impl Component {
    /// A package without anything else known.
    pub fn new(ecosystem: Ecosystem, name: &str, version: Option<&str>) -> Self {
        let version = version.map(plain).filter(|version| !version.is_empty());
        Self {
            ecosystem,
            name: plain(name),
            version,
            asked: None,
            hashes: Vec::new(),
            archives: Vec::new(),
            repository: None,
            development: false,
            licences: Vec::new(),
            platform: None,
            file: String::new(),
        }
    }

    /// Its package URL.
    pub fn purl(&self) -> String {
        let name = match self.ecosystem {
            Ecosystem::Pypi => self.name.to_lowercase().replace('_', "-"),
            Ecosystem::Golang | Ecosystem::Composer | Ecosystem::Npm => self.name.to_lowercase(),
            Ecosystem::Gem => self.name.clone(),
        };
        let parts: Vec<String> = name.split('/').filter(|part| !part.is_empty()).map(encoded).collect();
        let mut purl = format!("pkg:{}/{}", self.ecosystem.purl_type(), parts.join("/"));
        if let Some(version) = &self.version {
            purl.push('@');
            purl.push_str(&encoded(version));
        }
        if let Some(platform) = &self.platform {
            purl.push_str("?platform=");
            purl.push_str(&encoded(platform));
        }
        purl
    }
}

/// A word of a lock file, of one line and of a length that makes sense.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

/// Percent-encoded as purl wants it.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// An address that may be shown: without the password and query that some lock
/// files have in it, and of characters that an address has.
pub(super) fn address(text: &str) -> Option<String> {
    let text = text.split(['?', '#']).next()?;
    let (scheme, rest) = text.split_once("://")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next()?;
    let clean = format!("{scheme}://{host}{path}");
    let fine = |c: u8| c.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&c);
    (!host.is_empty() && clean.len() <= 1000 && clean.bytes().all(fine)).then_some(clean)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn purls_are_as_each_ecosystem_writes_them() {
        let purl = |ecosystem, name, version| Component::new(ecosystem, name, Some(version)).purl();
        assert_eq!(purl(Ecosystem::Pypi, "Flask_SQLAlchemy", "3.0"), "pkg:pypi/flask-sqlalchemy@3.0");
        assert_eq!(purl(Ecosystem::Npm, "@babel/core", "7.0.0"), "pkg:npm/%40babel/core@7.0.0");
        assert_eq!(
            purl(Ecosystem::Golang, "github.com/BurntSushi/toml", "v1.0.0+incompatible"),
            "pkg:golang/github.com/burntsushi/toml@v1.0.0%2Bincompatible"
        );
        assert_eq!(purl(Ecosystem::Composer, "Laravel/Framework", "v1"), "pkg:composer/laravel/framework@v1");
        let gem = Component {
            platform: Some("x86_64-linux".to_owned()),
            ..Component::new(Ecosystem::Gem, "nokogiri", Some("1.15.4"))
        };
        assert_eq!(gem.purl(), "pkg:gem/nokogiri@1.15.4?platform=x86_64-linux");
    }

    #[test]
    fn checksums_are_hex_of_the_right_length_or_nothing() {
        let sha1 = Hash::integrity("sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=");
        assert_eq!(sha1[0].kind, "SHA-1");
        assert_eq!(sha1[0].digits, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(Hash::integrity("sha512-AAAA md5-!!!! x"), []);
        assert_eq!(Hash::colon("sha256:xyz"), None);
        assert_eq!(Hash::colon(&format!("sha256:{}", "AB".repeat(32))).unwrap().digits, "ab".repeat(32));
    }

    #[test]
    fn no_address_has_a_password() {
        assert_eq!(
            address("https://u:s3cret@npm.example/x.tgz?token=1#a").unwrap(),
            "https://npm.example/x.tgz"
        );
        assert_eq!(address("git+ssh://git@github.com/a/b.git").unwrap(), "git+ssh://github.com/a/b.git");
        for none in ["../x", "https://", "https://a/ b", "https://a/\"b", "git@github.com:a/b"] {
            assert_eq!(address(none), None, "{none}");
        }
    }
}
