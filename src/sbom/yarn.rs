//! `yarn.lock` of yarn 1, and of yarn 2 and later, which have little in common
//! but their name.

use super::SbomError;
use super::component::{Component, Ecosystem, Hash, address};
use super::graph::reached;
use super::npm::{self, Manifest};
use super::outline::{Dialect, Entry, read as outline};
use super::source::Files;
use std::collections::HashMap;

/// All packages of a lock.
pub(super) fn read(files: Files<'_>, name: &str, text: &str) -> Result<Vec<Component>, SbomError> {
    let path = files.path(name);
    let manifest = Manifest::of(files)?;
    if text.contains("\n__metadata:") || text.starts_with("__metadata:") {
        return Ok(berry(&outline(&path, text, Dialect::Yaml)?, &manifest));
    }
    Ok(classic(&outline(&path, text, Dialect::Yarn)?, &manifest))
}

/// `name@range` → name and range; the name may begin with `@`.
fn descriptor(text: &str) -> Option<(&str, &str)> {
    let at = text.char_indices().skip(1).find(|(_, c)| *c == '@')?.0;
    Some((&text[..at], &text[at + 1..]))
}

fn classic(entries: &[Entry<'_>], manifest: &Manifest) -> Vec<Component> {
    let keys = |entry: &Entry<'_>| -> Vec<String> {
        entry.key.split(", ").map(|key| key.trim_matches('"').to_owned()).collect()
    };
    let by_key = index(entries, keys);
    let edges = |entry: &Entry<'_>| {
        let below = ["dependencies", "optionalDependencies"].into_iter().flat_map(|key| entry.below(key));
        below.filter_map(|one| by_key.get(&format!("{}@{}", one.key, one.text)).copied()).collect()
    };
    let needed =
        needed(entries, manifest, &edges, &|name, asked| by_key.get(&format!("{name}@{asked}")).copied());
    let mut found = Vec::new();
    for (entry, needed) in entries.iter().zip(needed) {
        let first = keys(entry).into_iter().next().unwrap_or_default();
        let Some((name, range)) = descriptor(&first) else { continue };
        // `alias@npm:real@^1`
        let real = range.strip_prefix("npm:").and_then(descriptor).map_or(name, |(real, _)| real);
        let (repository, archives) = npm::split(entry.text("resolved").and_then(address));
        found.push(Component {
            hashes: entry.text("integrity").map(Hash::integrity).unwrap_or_default(),
            archives,
            repository,
            development: !needed,
            ..Component::new(Ecosystem::Npm, real, entry.text("version"))
        });
    }
    found
}

/// Its checksums are of archives that yarn itself makes, so they are of no use here.
fn berry(entries: &[Entry<'_>], manifest: &Manifest) -> Vec<Component> {
    let keys = |entry: &Entry<'_>| -> Vec<String> { entry.key.split(", ").map(str::to_owned).collect() };
    let by_key = index(entries, keys);
    let lookup = |name: &str, asked: &str| {
        let with = |protocol: &str| by_key.get(&format!("{name}@{protocol}{asked}")).copied();
        with("npm:").or_else(|| with("")).or_else(|| with("workspace:"))
    };
    let is_own = |entry: &Entry<'_>| entry.text("linkType") == Some("soft");
    let root = entries.iter().position(|entry| {
        entry.text("resolution").is_some_and(|resolution| resolution.ends_with("@workspace:."))
    });
    let edges = |entry: &Entry<'_>| {
        // A workspace lists what only its development needs, too, and does not say which.
        let of_root = root.is_some_and(|root| std::ptr::eq(entry, &raw const entries[root]));
        let below = entry.below("dependencies").iter().filter(|_| !of_root);
        below.filter_map(|one| lookup(&one.key, &one.text)).collect()
    };
    let needed = needed(entries, manifest, &edges, &lookup);
    let packages = entries.iter().zip(needed).filter(|(entry, _)| !is_own(entry));
    packages
        .filter_map(|(entry, needed)| {
            let (name, reference) = descriptor(entry.text("resolution")?)?;
            let repository = reference.contains("#commit=").then(|| address(reference)).flatten();
            let component = Component::new(Ecosystem::Npm, name, entry.text("version"));
            Some(Component { repository, development: !needed, ..component })
        })
        .collect()
}

/// Entries by each of their keys.
fn index(entries: &[Entry<'_>], keys: impl Fn(&Entry<'_>) -> Vec<String>) -> HashMap<String, usize> {
    let all = entries.iter().enumerate();
    all.flat_map(|(index, entry)| keys(entry).into_iter().map(move |key| (key, index))).collect()
}

/// Which entries the app needs to run; all, if its manifest names none of them.
fn needed(
    entries: &[Entry<'_>],
    manifest: &Manifest,
    edges: &dyn Fn(&Entry<'_>) -> Vec<usize>,
    lookup: &dyn Fn(&str, &str) -> Option<usize>,
) -> Vec<bool> {
    let known = |(name, asked): (&str, &str)| lookup(name, asked);
    let development = manifest
        .development
        .iter()
        .filter_map(|(name, asked)| lookup(name, asked.0.as_deref().unwrap_or_default()));
    let workspaces = entries.iter().enumerate().filter(|(_, entry)| {
        let resolution = entry.text("resolution").unwrap_or_default();
        resolution.contains("@workspace:") && !resolution.ends_with("@workspace:.")
    });
    let development: Vec<usize> = development.collect();
    if development.is_empty() {
        return vec![true; entries.len()];
    }
    let edges: Vec<Vec<usize>> = entries.iter().map(edges).collect();
    let runs = reached(manifest.wanted().filter_map(known).chain(workspaces.map(|(index, _)| index)), &edges);
    let develops = reached(development, &edges);
    // What neither leads to is some workspace's.
    runs.into_iter().zip(develops).map(|(runs, develops)| runs || !develops).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_begin_with_an_at() {
        assert_eq!(descriptor("@a/b@npm:^1"), Some(("@a/b", "npm:^1")));
        assert_eq!(descriptor("a@1"), Some(("a", "1")));
        assert_eq!(descriptor("é@1"), Some(("é", "1")));
        assert_eq!(descriptor(""), None);
    }
}
