//! `pnpm-lock.yaml`, versions 5 to 9.

use super::SbomError;
use super::component::{Archive, Component, Ecosystem, Hash, address};
use super::graph::reached;
use super::outline::{Dialect, Entry, find, read as outline};
use super::source::Files;
use std::collections::HashMap;

/// All packages of a lock.
pub(super) fn read(files: Files<'_>, name: &str, text: &str) -> Result<Vec<Component>, SbomError> {
    let path = files.path(name);
    let entries = outline(&path, text, Dialect::Yaml)?;
    let packages = find(&entries, "packages").map_or(&[][..], |entry| &entry.entries);
    let needed = Needed::of(&entries);
    Ok(packages.iter().filter_map(|entry| component(entry, &needed)).collect())
}

fn component(entry: &Entry<'_>, needed: &Needed<'_>) -> Option<Component> {
    let resolution = entry.get("resolution");
    let said = |key| resolution.and_then(|resolution| resolution.text(key));
    if said("directory").is_some() {
        return None;
    }
    let (name, version) = identity(&entry.key)?;
    let (name, version) = (entry.text("name").unwrap_or(name), entry.text("version").unwrap_or(version));
    let elsewhere = version.contains("://") || version.contains('/');
    let tarball = said("tarball").and_then(address);
    Some(Component {
        hashes: said("integrity").map(Hash::integrity).unwrap_or_default(),
        archives: tarball.into_iter().map(|place| Archive { place, hash: None }).collect(),
        repository: said("repo").and_then(address),
        development: entry.text("dev").map_or_else(|| needed.is_not(&entry.key), |dev| dev == "true"),
        ..Component::new(Ecosystem::Npm, name, Some(version).filter(|_| !elsewhere))
    })
}

/// Name and version of `/name/1.0.0_peer` (5), `/name@1.0.0(peer)` (6) and
/// `name@1.0.0` (9).
fn identity(key: &str) -> Option<(&str, &str)> {
    let plain = key.split('(').next()?;
    let path = plain.strip_prefix('/');
    let text = path.unwrap_or(plain);
    if let Some((at, _)) = text.char_indices().skip(1).find(|(_, c)| *c == '@') {
        // `/a/1.0.0_@b+c@2` has its `@` behind the version.
        let old = path.is_some() && text[..at].matches('/').count() > usize::from(text.starts_with('@'));
        if !old {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    let names = if text.starts_with('@') { 2 } else { 1 };
    let (end, _) = text.match_indices('/').nth(names - 1)?;
    let version = text[end + 1..].split('_').next()?;
    Some((&text[..end], version))
}

/// Which packages the app runs with, as version 9 tells it: by its snapshots.
#[derive(Default)]
struct Needed<'t> {
    /// Package key → whether one of its snapshots is needed.
    packages: HashMap<&'t str, bool>,
}

impl<'t> Needed<'t> {
    fn of(entries: &'t [Entry<'t>]) -> Self {
        let Some(snapshots) = find(entries, "snapshots").map(|entry| &entry.entries) else {
            return Self::default();
        };
        let keys: HashMap<&str, usize> =
            snapshots.iter().enumerate().map(|(index, entry)| (entry.key.as_ref(), index)).collect();
        let known = |name: &str, version: &str| {
            let short = format!("{name}@{version}");
            keys.get(short.as_str()).or_else(|| keys.get(version)).copied()
        };
        let below = |entry: &Entry<'_>| {
            let parts = ["dependencies", "optionalDependencies"].into_iter().flat_map(|key| entry.below(key));
            parts.filter_map(|one| known(&one.key, &one.text)).collect()
        };
        let edges: Vec<Vec<usize>> = snapshots.iter().map(below).collect();
        let importers = find(entries, "importers").map_or(&[][..], |entry| &entry.entries);
        let direct = importers.iter().flat_map(|importer| {
            ["dependencies", "optionalDependencies"].into_iter().flat_map(|key| importer.below(key))
        });
        let roots = direct.filter_map(|one| known(&one.key, one.text("version")?));
        let reached = reached(roots, &edges);
        let mut packages = HashMap::new();
        for (entry, needed) in snapshots.iter().zip(reached) {
            let key = entry.key.split('(').next().unwrap_or_default();
            *packages.entry(key).or_insert(false) |= needed;
        }
        Self { packages }
    }

    fn is_not(&self, key: &str) -> bool {
        self.packages.get(key) == Some(&false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_versions_keys_are_read() {
        assert_eq!(identity("/is-odd/3.0.1"), Some(("is-odd", "3.0.1")));
        assert_eq!(identity("/@babel/core/7.0.0_supports-color@5.5.0"), Some(("@babel/core", "7.0.0")));
        assert_eq!(identity("/a/1.0.0_@b+c@2.0.0"), Some(("a", "1.0.0")));
        assert_eq!(identity("/@babel/core@7.0.0(supports-color@5.5.0)"), Some(("@babel/core", "7.0.0")));
        assert_eq!(identity("@babel/core@7.0.0"), Some(("@babel/core", "7.0.0")));
        assert_eq!(identity("is-odd@3.0.1"), Some(("is-odd", "3.0.1")));
        assert_eq!(identity(""), None);
        assert_eq!(identity("/"), None);
    }
}
