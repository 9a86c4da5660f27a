//! `package.json`, read once.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::buildpack::error::{DetectError, Place};
use crate::buildpack::source::{self, Files};

/// Its name.
pub(super) const FILE: &str = "package.json";

/// Scripts of an app that belong to its install, in npm's order. They may need
/// the sources, so they run after the dependencies are there and cached.
const LIFECYCLE: [&str; 4] = ["preinstall", "install", "postinstall", "prepare"];

/// Sections that hold dependencies.
const SECTIONS: [&str; 3] = ["dependencies", "devDependencies", "optionalDependencies"];

/// `package.json`, or nothing.
pub(super) struct Manifest {
    value: Value,
    text: String,
    names: BTreeSet<String>,
}

impl Manifest {
    /// The one in the root.
    pub fn load(files: Files<'_>) -> Result<Self, DetectError> {
        Self::at(files, FILE)
    }

    /// One at a path; without the file, one that says nothing.
    pub fn at(files: Files<'_>, path: &str) -> Result<Self, DetectError> {
        let text = files.text(path)?.unwrap_or_default();
        let value =
            if text.is_empty() && !files.has(path) { Value::Null } else { source::json(path, &text)? };
        if !value.is_object() && !value.is_null() {
            let reason = "it must be an object, { … }".to_owned();
            return Err(DetectError::Malformed { place: Place::line(path, 1), format: "JSON", reason });
        }
        Ok(Self::read(value, text))
    }

    fn read(value: Value, text: String) -> Self {
        let mut manifest = Self { value, text, names: BTreeSet::new() };
        manifest.names = SECTIONS.iter().flat_map(|section| manifest.keys(section)).collect();
        manifest
    }

    /// One of a text.
    #[cfg(test)]
    pub fn of(text: &str) -> Option<Self> {
        Some(Self::read(serde_json::from_str(text).ok()?, text.to_owned()))
    }

    fn keys(&self, section: &str) -> Vec<String> {
        let map = self.value.get(section).and_then(Value::as_object);
        map.map(|map| map.keys().cloned().collect()).unwrap_or_default()
    }

    /// A text under these keys.
    pub fn text(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().try_fold(&self.value, |value, key| value.get(key))?.as_str()
    }

    /// Whether there is something under these keys.
    pub fn has(&self, keys: &[&str]) -> bool {
        keys.iter().try_fold(&self.value, |value, key| value.get(key)).is_some()
    }

    /// A script that is more than blanks.
    pub fn script(&self, name: &str) -> Option<&str> {
        self.text(&["scripts", name]).filter(|line| !line.trim().is_empty())
    }

    /// Names of all scripts.
    pub fn scripts(&self) -> Vec<String> {
        self.keys("scripts")
    }

    /// Every dependency with what is asked for.
    pub fn dependencies(&self) -> impl Iterator<Item = (&str, &str)> {
        let sections = SECTIONS.iter().filter_map(|section| self.value.get(section)?.as_object());
        sections.flatten().filter_map(|(name, spec)| Some((name.as_str(), spec.as_str()?)))
    }

    /// Whether a package is a dependency, of whatever kind.
    pub fn depends(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// What is asked for of a dependency.
    pub fn spec(&self, name: &str) -> Option<&str> {
        self.dependencies().find(|(depends, _)| *depends == name).map(|(_, spec)| spec)
    }

    /// Whether a package is there for development only.
    pub fn develops_with(&self, name: &str) -> bool {
        let section = |section: &str| self.value.get(section).and_then(|map| map.get(name)).is_some();
        section("devDependencies") && !section("dependencies") && !section("optionalDependencies")
    }

    /// Whether anything is there for development only.
    pub fn has_development(&self) -> bool {
        !self.keys("devDependencies").is_empty()
    }

    /// Whether a dependency is a file or a folder of the repository.
    pub fn has_local(&self) -> bool {
        const LOCAL: [&str; 6] = ["file:", "link:", "portal:", "workspace:", "./", "../"];
        self.dependencies().any(|(_, text)| LOCAL.iter().any(|prefix| text.starts_with(prefix)))
    }

    /// The app's own scripts that belong to an install.
    pub fn lifecycle(&self) -> Vec<&'static str> {
        LIFECYCLE.into_iter().filter(|name| self.script(name).is_some()).collect()
    }

    /// The line of a key in the root's file: the first that begins with it.
    pub fn place(&self, key: &str) -> Place {
        let quoted = format!("\"{key}\"");
        let line = self.text.lines().position(|line| line.trim_start().starts_with(&quoted));
        Place::line(FILE, line.map_or(0, |at| at + 1))
    }
}
