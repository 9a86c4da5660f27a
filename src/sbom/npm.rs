//! `package-lock.json` and `npm-shrinkwrap.json`, versions 1 to 3; and what a
//! `package.json` alone asks for.

use super::SbomError;
use super::component::{Archive, Component, Ecosystem, Hash, address};
use super::source::{Files, Loose};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Lock {
    /// Of versions 2 and 3: by path.
    #[serde(default)]
    packages: BTreeMap<String, Package>,
    /// Of version 1.
    #[serde(default)]
    dependencies: BTreeMap<String, Nested>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    name: Loose,
    #[serde(default)]
    version: Loose,
    #[serde(default)]
    resolved: Loose,
    #[serde(default)]
    integrity: Loose,
    #[serde(default)]
    license: Loose,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    link: bool,
}

/// A package with those that are installed below it.
#[derive(Deserialize)]
struct Nested {
    #[serde(default)]
    version: Loose,
    #[serde(default)]
    resolved: Loose,
    #[serde(default)]
    integrity: Loose,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    dependencies: BTreeMap<String, Self>,
}

/// All packages of a lock.
pub(super) fn read(files: Files<'_>, name: &str, text: &str) -> Result<Vec<Component>, SbomError> {
    let lock: Lock = files.json(name, text)?;
    let mut found = Vec::new();
    if lock.packages.is_empty() {
        nested(lock.dependencies, &mut found);
        return Ok(found);
    }
    for (path, package) in &lock.packages {
        // What is not below node_modules is the app itself, or a workspace of it.
        if let Some((_, name)) = path.rsplit_once("node_modules/").filter(|_| !package.link) {
            found.push(component(package.name.0.as_deref().unwrap_or(name), package));
        }
    }
    Ok(found)
}

fn nested(packages: BTreeMap<String, Nested>, found: &mut Vec<Component>) {
    for (name, package) in packages {
        let Nested { version, resolved, integrity, dev, dependencies } = package;
        if !version.0.as_deref().unwrap_or_default().starts_with("file:") {
            let (license, link) = (Loose::default(), false);
            let package =
                Package { name: Loose::default(), version, resolved, integrity, license, dev, link };
            found.push(component(&name, &package));
        }
        nested(dependencies, found);
    }
}

fn component(name: &str, package: &Package) -> Component {
    let version = package.version.0.as_deref().unwrap_or_default();
    // Version 1 writes aliases and repositories where the version stands.
    let alias = version.strip_prefix("npm:").and_then(|real| real.rsplit_once('@'));
    let (name, version) = alias.unwrap_or((name, version));
    let elsewhere = version.contains("://") || version.contains("github:");
    let version = if elsewhere { None } else { Some(version) };
    let place = package.resolved.0.as_deref().and_then(address);
    let (repository, archives) = split(place);
    Component {
        hashes: package.integrity.0.as_deref().map(Hash::integrity).unwrap_or_default(),
        archives,
        repository,
        development: package.dev,
        licences: package.license.0.iter().cloned().collect(),
        ..Component::new(Ecosystem::Npm, name, version)
    }
}

/// An address is that of a repository, or of an archive.
pub(super) fn split(place: Option<String>) -> (Option<String>, Vec<Archive>) {
    match place {
        None => (None, Vec::new()),
        Some(place) if place.starts_with("git") => (Some(place), Vec::new()),
        Some(place) => (None, vec![Archive { place, hash: None }]),
    }
}

/// What the app itself says in `package.json`.
#[derive(Default, Deserialize)]
pub(super) struct Manifest {
    /// `pnpm@9.0.0`.
    #[serde(default, rename = "packageManager")]
    pub manager: Loose,
    /// Name → what is asked for.
    #[serde(default)]
    pub dependencies: BTreeMap<String, Loose>,
    /// Likewise.
    #[serde(default, rename = "devDependencies")]
    pub development: BTreeMap<String, Loose>,
    /// Likewise.
    #[serde(default, rename = "optionalDependencies")]
    pub optional: BTreeMap<String, Loose>,
}

impl Manifest {
    /// That of a folder; an empty one if there is none.
    pub fn of(files: Files<'_>) -> Result<Self, SbomError> {
        match files.text(FILE)? {
            Some(text) => files.json(FILE, &text),
            None => Ok(Self::default()),
        }
    }

    /// What runs: name and what is asked for.
    pub fn wanted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.dependencies.iter().chain(&self.optional).map(pair)
    }
}

fn pair<'m>((name, asked): (&'m String, &'m Loose)) -> (&'m str, &'m str) {
    (name, asked.0.as_deref().unwrap_or_default())
}

/// The manifest.
pub(super) const FILE: &str = "package.json";

/// Packages that are asked for where no lock says which version.
pub(super) fn unlocked(manifest: &Manifest) -> Vec<Component> {
    let component = |(name, asked): (&str, &str), development| Component {
        asked: Some(super::component::plain(&format!("{name}@{asked}"))),
        development,
        ..Component::new(Ecosystem::Npm, name, None)
    };
    let wanted = manifest.wanted().map(|pair| component(pair, false));
    wanted.chain(manifest.development.iter().map(|entry| component(pair(entry), true))).collect()
}
