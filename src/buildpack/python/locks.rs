//! Lock files: what they fix, read without the tools that wrote them.

use std::collections::BTreeMap;
use std::str::FromStr;

use pep440_rs::Version;
use serde_json::Value as Json;
use toml::Value as Toml;

use super::super::error::DetectError;
use super::super::source::{self, Files};
use super::dependencies::{Dependencies, name};

/// What a lock file holds.
#[derive(Debug, Default)]
pub(super) struct Lock {
    /// Names and releases.
    pub dependencies: Dependencies,
    /// Whether something comes from the repository itself.
    pub local: bool,
    /// Whether something comes from where no hash can be given, as git does.
    pub unhashed: bool,
    /// PDM's: whether it says for which systems a package is.
    pub markers: bool,
    /// Poetry's: every package with its release and hashes, as constraints.
    pub constraints: String,
}

/// Sources of a package that are folders or files of the repository.
const LOCAL: [&str; 5] = ["editable", "directory", "path", "file", "develop"];

/// Reads a lock of uv, Poetry or PDM, which are all lists of packages in TOML.
pub(super) fn toml_lock(files: Files<'_>, file: &str) -> Result<Lock, DetectError> {
    let text = files.text(file)?.unwrap_or_default();
    let table = source::toml(file, &text)?;
    let strategy = table.get("metadata").and_then(|metadata| metadata.get("strategy"));
    let inherits = |list: &Vec<Toml>| list.iter().any(|word| word.as_str() == Some("inherit_metadata"));
    let markers = strategy.and_then(Toml::as_array).is_none_or(inherits);
    let mut lock = Lock { markers, ..Lock::default() };
    for package in table.get("package").and_then(Toml::as_array).into_iter().flatten() {
        let key = |name: &str| package.get(name).and_then(Toml::as_str);
        if let Some(name) = key("name") {
            lock.dependencies.lock(name, key("version").unwrap_or_default());
        }
        // uv's and Poetry's table of the source, PDM's own keys.
        let source = package.get("source").and_then(Toml::as_table);
        let kind = source.and_then(|source| source.get("type")).and_then(Toml::as_str);
        let has =
            |name: &str| package.get(name).is_some() || source.is_some_and(|table| table.contains_key(name));
        lock.local |= LOCAL.iter().any(|name| has(name) || kind == Some(*name));
        lock.unhashed |= has("git") || matches!(kind, Some("git" | "url"));
    }
    lock.unhashed |= lock.local;
    lock.constraints = constraints(&table);
    Ok(lock)
}

/// What an export may lack: Poetry loses some that only an extra brings (uvloop
/// of `uvicorn[standard]`). Packages with several releases are left out.
fn constraints(table: &toml::Table) -> String {
    let packages = || table.get("package").and_then(Toml::as_array).into_iter().flatten();
    let named = |package: &Toml| package.get("name").and_then(Toml::as_str).and_then(name);
    let mut releases: BTreeMap<String, usize> = BTreeMap::new();
    packages().filter_map(named).for_each(|name| *releases.entry(name).or_default() += 1);
    let mut lines: Vec<String> = Vec::new();
    for package in packages() {
        let Some(name) = named(package) else { continue };
        let version =
            package.get("version").and_then(Toml::as_str).and_then(|text| Version::from_str(text).ok());
        let files = package.get("files").and_then(Toml::as_array).into_iter().flatten();
        let hashes =
            files.filter_map(|file| file.get("hash").and_then(Toml::as_str)).filter(|hash| is_sha256(hash));
        let hashes: String = hashes.map(|hash| format!(" --hash={hash}")).collect();
        let only = releases.get(&name) == Some(&1);
        if let Some(version) = version.filter(|_| only && !hashes.is_empty()) {
            lines.push(format!("{name}=={version}{hashes}\n"));
        }
    }
    lines.concat()
}

fn is_sha256(hash: &str) -> bool {
    hash.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit()))
}

/// Reads `Pipfile.lock`.
pub(super) fn pipfile_lock(files: Files<'_>) -> Result<Lock, DetectError> {
    const FILE: &str = "Pipfile.lock";
    let text = files.text(FILE)?.unwrap_or_default();
    let value = source::json(FILE, &text)?;
    let mut lock = Lock::default();
    for (name, package) in value.get("default").and_then(Json::as_object).into_iter().flatten() {
        let version = package.get("version").and_then(Json::as_str).unwrap_or_default();
        lock.dependencies.lock(name, version.trim_start_matches('='));
        lock.local |= LOCAL.iter().any(|key| package.get(key).is_some());
        lock.unhashed |= package.get("hashes").is_none();
    }
    Ok(lock)
}

/// Whether every index that `Pipfile.lock` names is the public one, so that the
/// server's own setting may stand in for it.
pub(super) fn public_index_only(files: Files<'_>) -> bool {
    let Some(text) = files.hint("Pipfile.lock").or_else(|| files.hint("Pipfile")) else { return true };
    text.lines().filter(|line| line.contains("\"url\"") || line.trim_start().starts_with("url")).all(|line| {
        line.contains("https://pypi.org/simple") || line.contains("https://pypi.python.org/simple")
    })
}

/// The names in `Pipfile`.
pub(super) fn pipfile(files: Files<'_>) -> Result<Dependencies, DetectError> {
    const FILE: &str = "Pipfile";
    let table = source::toml(FILE, &files.text(FILE)?.unwrap_or_default())?;
    let mut found = Dependencies::default();
    for (name, value) in table.get("packages").and_then(Toml::as_table).into_iter().flatten() {
        let version = value.as_str().or_else(|| value.get("version").and_then(Toml::as_str));
        found.require(&format!("{name}{}", version.filter(|text| *text != "*").unwrap_or_default()));
    }
    Ok(found)
}
