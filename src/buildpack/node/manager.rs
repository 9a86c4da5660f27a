//! Which package manager, in which version, and where it comes from.

use std::sync::LazyLock;

use nodejs_semver::{Range, Version};
use serde::Deserialize;

use super::manifest::{self, Manifest};
use super::release::Node;
use crate::buildpack::draft::Draft;
use crate::buildpack::error::{DetectError, Place};
use crate::buildpack::pack;
use crate::buildpack::source::Files;
use crate::buildpack::version::shorten;

/// A package manager; the two yarns have little but their name in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Npm,
    Pnpm,
    Yarn,
    Berry,
    Bun,
}

impl Tool {
    /// The program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn | Self::Berry => "yarn",
            Self::Bun => "bun",
        }
    }
}

/// Lock files, and whose they are.
const LOCKS: [(&str, &str); 6] = [
    ("pnpm-lock.yaml", "pnpm"),
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
    ("yarn.lock", "yarn"),
    ("npm-shrinkwrap.json", "npm"),
    ("package-lock.json", "npm"),
];

/// The chosen one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manager {
    /// Which.
    pub tool: Tool,
    /// Its lock file, if there is one.
    pub lock: Option<&'static str>,
    /// What is fetched; nothing where Node's own npm is used.
    pub package: Option<Package>,
    /// Whether the app itself says which version.
    pub named: bool,
}

/// A package of the npm registry that holds a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// `@yarnpkg/cli-dist`.
    pub name: String,
    /// `4.18.1`.
    pub version: String,
    /// What it must be, if that is known.
    pub checksum: Option<Checksum>,
}

/// What a manager must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checksum {
    /// Program that checks it: `sha512sum`.
    pub program: &'static str,
    /// In hex.
    pub digits: String,
}

/// A manager at a version with its checksum, from our own data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    name: String,
    version: String,
    package: String,
    #[serde(default)]
    locks: Vec<String>,
    sha512: String,
}

#[derive(Debug, Deserialize)]
struct Pins {
    manager: Vec<Pin>,
}

static PINS: LazyLock<Result<Pins, DetectError>> = LazyLock::new(|| {
    let broken = |error: toml::de::Error| DetectError::Broken {
        pack: "node".to_owned(),
        reason: format!("managers.toml: {error}"),
    };
    toml::from_str(pack::file("node", "managers.toml")?).map_err(broken)
});

fn pins(name: &str) -> Result<Vec<&'static Pin>, DetectError> {
    let pins = PINS.as_ref().map_err(Clone::clone)?;
    Ok(pins.manager.iter().filter(|pin| pin.name == name).collect())
}

impl Package {
    /// What its checksum is of, once it is installed under this prefix; nothing
    /// where it is of the package itself. Corepack's of yarn 2 and later are of
    /// the one program.
    pub fn checked_file(&self, prefix: &str) -> Option<String> {
        let pinned = pins("yarn").is_ok_and(|pins| pins.iter().any(|pin| pin.version == self.version));
        let program = self.name == "@yarnpkg/cli-dist" && !pinned;
        program.then(|| format!("{prefix}/lib/node_modules/{}/bin/yarn.js", self.name))
    }

    /// The file that `npm pack` writes.
    pub fn file(&self) -> String {
        format!("{}-{}.tgz", self.name.trim_start_matches('@').replace('/', "-"), self.version)
    }
}

impl Pin {
    fn package(&self) -> Package {
        let checksum = Checksum { program: "sha512sum", digits: self.sha512.clone() };
        Package { name: self.package.clone(), version: self.version.clone(), checksum: Some(checksum) }
    }

    fn fits(&self, range: &Range) -> bool {
        Version::parse(&self.version).is_ok_and(|version| version.satisfies(range))
    }

    /// How many characters of a lock's format this pin knows; the most wins.
    fn knows(&self, format: &str) -> Option<usize> {
        let known = |entry: &&String| {
            format
                .strip_prefix(entry.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ' ']))
        };
        self.locks.iter().filter(known).map(String::len).max()
    }
}

/// A manager as the app names it: `pnpm`, `9.15.0`, a hash.
struct Named {
    name: &'static str,
    version: Option<String>,
    hash: Option<String>,
    place: Place,
}

/// Decides the manager, and says why.
pub(super) fn choose(
    draft: &mut Draft<'_>,
    manifest: &Manifest,
    node: &Node,
) -> Result<Manager, DetectError> {
    let files = draft.files;
    let named = named(manifest)?;
    let found: Vec<(&str, &str)> = LOCKS.into_iter().filter(|(lock, _)| files.has(lock)).collect();
    let name = match (&named, found.first()) {
        (Some(named), _) => named.name,
        (None, Some((first, name))) => {
            if let Some((second, _)) = found.iter().find(|(_, other)| other != name) {
                let (first, second) = ((*first).to_owned(), (*second).to_owned());
                return Err(DetectError::TwoManagers { first, second, name: (*name).to_owned() });
            }
            *name
        }
        (None, None) if is_for_bun(manifest) => {
            draft.decide("bun, which the scripts in package.json run");
            "bun"
        }
        (None, None) => "npm",
    };
    let lock = found.iter().find(|(_, of)| *of == name).map(|(lock, _)| *lock);
    if let Some((other, _)) = found.iter().find(|(_, of)| *of != name) {
        draft.warn(format!("{other} is passed over: packageManager in package.json names {name}"));
    }
    let (package, is_named) = version(draft, manifest, node, name, lock, named.as_ref())?;
    let berry = package.as_ref().is_some_and(|package| package.name.starts_with("@yarnpkg/"));
    let tool = match name {
        "pnpm" => Tool::Pnpm,
        "bun" => Tool::Bun,
        "yarn" if berry => Tool::Berry,
        "yarn" => Tool::Yarn,
        _ => Tool::Npm,
    };
    Ok(Manager { tool, lock, package, named: is_named })
}

/// Whether an app without a lock file is written for Bun: what starts it is run by
/// it, or nothing starts it and what develops it is.
fn is_for_bun(manifest: &Manifest) -> bool {
    let runs = |line: &str| {
        line.split("&&").any(|part| matches!(part.split_whitespace().next(), Some("bun" | "bunx")))
    };
    match manifest.script("start") {
        Some(line) => runs(line),
        None => manifest.script("dev").is_some_and(runs),
    }
}

/// What `packageManager` says, else `devEngines.packageManager`.
fn named(manifest: &Manifest) -> Result<Option<Named>, DetectError> {
    const KNOWN: [&str; 4] = ["npm", "pnpm", "yarn", "bun"];
    let place = manifest.place("packageManager");
    let (name, version) =
        match manifest.text(&["packageManager"]).map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => {
                let (name, version) = text.split_once('@').unwrap_or((text, ""));
                (name, Some(version).filter(|version| !version.is_empty()))
            }
            None => match manifest.text(&["devEngines", "packageManager", "name"]) {
                Some(name) => (name, manifest.text(&["devEngines", "packageManager", "version"])),
                None => return Ok(None),
            },
        };
    let Some(name) = KNOWN.into_iter().find(|known| *known == name) else {
        let possible = KNOWN.map(str::to_owned).to_vec();
        let (key, value) = ("packageManager".to_owned(), shorten(name));
        return Err(DetectError::BadValue { place, key, value, possible });
    };
    let (version, hash) = match version.and_then(|version| version.split_once('+')) {
        Some((version, hash)) => (Some(version), Some(hash.to_owned())),
        None => (version, None),
    };
    Ok(Some(Named { name, version: version.map(str::to_owned), hash, place }))
}

/// The package to fetch, and whether the app names its version.
fn version(
    draft: &mut Draft<'_>,
    manifest: &Manifest,
    node: &Node,
    name: &'static str,
    lock: Option<&str>,
    named: Option<&Named>,
) -> Result<(Option<Package>, bool), DetectError> {
    let own_npm = node.offer.more.get("npm").filter(|_| name == "npm").map(String::as_str);
    let volta = manifest.text(&["volta", name]);
    let asked = named.and_then(|named| named.version.as_deref()).or(volta);
    if let Some((text, exact)) = asked.and_then(|text| Some((text, exact(text)?))) {
        if own_npm == Some(exact.as_str()) {
            return Ok((None, true));
        }
        let hash = named.and_then(|named| named.hash.as_deref());
        let from = if volta == Some(text) && hash.is_none() { "volta" } else { "packageManager" };
        draft.decide(format!("{name} {exact}, from {from} in package.json"));
        return Ok((Some(package(name, &exact, hash)?), true));
    }
    let range = asked.or_else(|| manifest.text(&["engines", name]));
    let place =
        named.filter(|_| asked.is_some()).map_or_else(|| manifest.place(name), |named| named.place.clone());
    let range = range.map(|text| parse_range(text, name, &place)).transpose()?;
    if name == "npm" && npm_fits(own_npm, range.as_ref()) {
        return Ok((None, range.is_some()));
    }
    let pins = pins(name)?;
    let by_lock = by_lock(&pins, &lock_format(draft.files, lock));
    let fits = |pin: &&&Pin| range.as_ref().is_none_or(|range| pin.fits(range));
    let pin = by_lock.iter().chain(&pins).find(fits);
    let Some(pin) = pin else {
        let have: Vec<String> = pins.iter().map(|pin| pin.version.clone()).collect();
        let text = shorten(asked.or_else(|| manifest.text(&["engines", name])).unwrap_or_default());
        if name == "npm" {
            draft.warn(format!("engines asks for npm {text}, which cannot be had: Node's own is used"));
            return Ok((None, false));
        }
        return Err(DetectError::NoSuchVersion { place, language: name.to_owned(), text, have });
    };
    let because = match (&range, lock) {
        (Some(_), _) => manifest::FILE,
        (None, Some(lock)) => lock,
        (None, None) => "the default",
    };
    draft.decide(format!(
        "{name} {}, {}",
        pin.version,
        if because == "the default" { because.to_owned() } else { format!("from {because}") }
    ));
    Ok((Some(pin.package()), range.is_some()))
}

/// The npm that is tried where the chosen one refuses a lock file: what npm 11
/// writes lacks what npm 10 asks for (optional peers), and the other way round
/// (optional packages of other systems).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OtherNpm {
    /// That of Node.
    Own,
    /// A newer one.
    Fetched(Package),
}

/// That for a manager; none where there is nothing to refuse, or no other.
pub(super) fn other_npm(manager: &Manager, node: &Node) -> Result<Option<OtherNpm>, DetectError> {
    const LAST_OLD: u64 = 10;
    if manager.tool != Tool::Npm || manager.lock.is_none() {
        return Ok(None);
    }
    let new =
        |package: &Package| Version::parse(&package.version).is_ok_and(|version| version.major() > LAST_OLD);
    if manager.package.as_ref().is_some_and(new) {
        return Ok(node.offer.more.contains_key("npm").then_some(OtherNpm::Own));
    }
    let (major, minor) = (node.release.major(), node.release.minor());
    let runs = matches!((major, minor), (20, 17..) | (22, 9..)) || major > 22;
    let newest = pins("npm")?.into_iter().find(|pin| new(&pin.package()));
    Ok(newest.filter(|_| runs).map(|pin| OtherNpm::Fetched(pin.package())))
}

fn npm_fits(own: Option<&str>, range: Option<&Range>) -> bool {
    match (range, own) {
        (None, _) | (_, None) => true,
        (Some(range), Some(own)) => Version::parse(own).is_ok_and(|own| own.satisfies(range)),
    }
}

fn parse_range(text: &str, name: &str, place: &Place) -> Result<Range, DetectError> {
    Range::parse(text).map_err(|_| DetectError::BadVersion {
        place: place.clone(),
        language: name.to_owned(),
        text: shorten(text),
    })
}

/// Three numbers and perhaps a pre-release, as registries write them.
fn exact(text: &str) -> Option<String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'.' || c == b'-';
    let version = Version::parse(text).ok().filter(|_| text.bytes().all(plain))?;
    Some(version.to_string()).filter(|exact| exact == text)
}

/// The registry's package of a manager at a version that the app names.
fn package(name: &str, version: &str, hash: Option<&str>) -> Result<Package, DetectError> {
    if let Some(pin) = pins(name)?.into_iter().find(|pin| pin.version == version) {
        return Ok(pin.package());
    }
    let modern = Version::parse(version).is_ok_and(|version| version.major() > 1);
    let package = match name {
        "yarn" if modern => "@yarnpkg/cli-dist",
        "bun" => "@oven/bun-linux-x64-baseline",
        other => other,
    };
    let checksum = hash.filter(|_| name != "bun").and_then(checksum);
    Ok(Package { name: package.to_owned(), version: version.to_owned(), checksum })
}

/// Corepack's `sha512.<hex>`.
fn checksum(text: &str) -> Option<Checksum> {
    const PROGRAMS: [(&str, &str, usize); 5] = [
        ("sha1", "sha1sum", 40),
        ("sha224", "sha224sum", 56),
        ("sha256", "sha256sum", 64),
        ("sha384", "sha384sum", 96),
        ("sha512", "sha512sum", 128),
    ];
    let (name, digits) = text.split_once('.')?;
    let (_, program, length) = PROGRAMS.into_iter().find(|(known, _, _)| *known == name)?;
    let valid = digits.len() == length && digits.bytes().all(|c| c.is_ascii_hexdigit());
    valid.then(|| Checksum { program, digits: digits.to_ascii_lowercase() })
}

fn by_lock(pins: &[&'static Pin], format: &str) -> Option<&'static Pin> {
    pins.iter().copied().filter(|pin| pin.knows(format).is_some()).max_by_key(|pin| pin.knows(format))
}

/// The format of a lock file, as `managers.toml` names it.
fn lock_format(files: Files<'_>, lock: Option<&str>) -> String {
    let text = || lock.and_then(|lock| files.hint(lock)).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line =
            text.lines().take(40).find_map(|line| line.trim_start().strip_prefix(key).map(str::to_owned));
        line.map(|value| value.trim().trim_matches(['\'', '"']).to_owned()).unwrap_or_default()
    };
    match lock {
        Some("pnpm-lock.yaml") => value(&text(), "lockfileVersion:"),
        Some("yarn.lock") => {
            let text = text();
            if text.contains("__metadata:") {
                format!("berry {}", value(&text, "version:"))
            } else if !text.contains("# yarn lockfile v1") && files.has(".yarnrc.yml") {
                "berry".to_owned()
            } else {
                "1".to_owned()
            }
        }
        None if files.has(".yarnrc.yml") => "berry".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn locks_name_their_managers_version() {
        let chosen = |name, format| by_lock(&pins(name).unwrap(), format).map(|pin| pin.version.as_str());
        assert_eq!(chosen("pnpm", "9.0"), Some("10.34.9"));
        assert_eq!(chosen("pnpm", "6.1"), Some("8.15.9"));
        assert_eq!(chosen("pnpm", "5.4"), Some("7.33.7"));
        assert_eq!(chosen("pnpm", "5.3"), Some("6.35.1"));
        assert_eq!(chosen("pnpm", "90.0"), None);
        assert_eq!(chosen("yarn", "1"), Some("1.22.22"));
        assert_eq!(chosen("yarn", "berry 6"), Some("3.8.7"));
        assert_eq!(chosen("yarn", "berry 8"), Some("4.12.0"));
        assert_eq!(chosen("yarn", "berry 10"), Some("4.18.1"));
        assert_eq!(chosen("yarn", "berry 61"), Some("4.18.1"));
    }

    #[test]
    fn only_a_whole_version_is_exact() {
        assert_eq!(exact("9.15.0").unwrap(), "9.15.0");
        assert_eq!(exact("v4.0.0-rc.40").unwrap(), "4.0.0-rc.40");
        for text in ["9", "9.15", "^9.1.0", "latest", "1.2.3 id", "1.2.3;id", ""] {
            assert_eq!(exact(text), None, "{text}");
        }
    }

    #[test]
    fn hashes_are_corepacks() {
        let digits = "ab".repeat(64);
        assert_eq!(checksum(&format!("sha512.{digits}")).unwrap().program, "sha512sum");
        for text in ["", "sha512.", "sha512.zz", "md5.abcd", &format!("sha256.{digits}")] {
            assert_eq!(checksum(text), None, "{text}");
        }
    }
}
