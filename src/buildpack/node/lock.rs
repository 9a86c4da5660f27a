//! Lock files that are behind their manifest, found before anything is built:
//! npm hides the reason in front of a page of its options, and yarn and bun name
//! none.

use std::collections::BTreeSet;

use nodejs_semver::{Range, Version};
use serde_json::Value;

use super::manager::{Manager, Tool};
use super::manifest::Manifest;
use super::member;
use crate::buildpack::error::DetectError;
use crate::buildpack::source::Files;

/// Refuses a lock that lacks a dependency of the root. What cannot be told is
/// left to the manager.
pub(super) fn check(files: Files<'_>, manifest: &Manifest, manager: &Manager) -> Result<(), DetectError> {
    let Some((lock, text)) = manager.lock.and_then(|lock| Some((lock, files.hint(lock)?))) else {
        return Ok(());
    };
    let parsed = || serde_json::from_str::<Value>(&text).unwrap_or_default();
    let missing = match (manager.tool, lock) {
        (Tool::Npm, _) => npm(manifest, &parsed()),
        (Tool::Yarn, _) if !manifest.has(&["resolutions"]) => {
            yarn(manifest, &text, &member::names(files, manifest))
        }
        (Tool::Bun, "bun.lock") => bun(manifest, &text),
        _ => None,
    };
    let Some((name, spec)) = missing else { return Ok(()) };
    Err(DetectError::LockBehind {
        place: manifest.place(name),
        lock: lock.to_owned(),
        package: format!("{name} {spec}"),
        command: format!("{} install", manager.tool.program()),
    })
}

/// A dependency that the lock has no package for, or one of a version that does
/// not fit. Locks before version 2 do not tell.
fn npm<'m>(manifest: &'m Manifest, lock: &Value) -> Option<(&'m str, &'m str)> {
    let packages = lock.get("packages")?.as_object()?;
    let optional = |name: &str| manifest.has(&["optionalDependencies", name]);
    manifest.dependencies().find(|(name, spec)| {
        let Some(package) = packages.get(&format!("node_modules/{name}")) else { return !optional(name) };
        let version =
            package.get("version").and_then(Value::as_str).and_then(|text| Version::parse(text).ok());
        // That of npm takes releases before the first, too.
        let any = ["", "*"].contains(&spec.trim());
        let range = Range::parse(spec).ok().filter(|_| !any && !manifest.has(&["overrides"]));
        let fits = version.zip(range).is_none_or(|(version, range)| version.satisfies(&range));
        !fits && package.get("name").is_none() && package.get("link").is_none()
    })
}

/// A dependency without an entry under what the manifest asks for.
fn yarn<'m>(manifest: &'m Manifest, lock: &str, members: &BTreeSet<String>) -> Option<(&'m str, &'m str)> {
    let entry = |line: &&str| !line.starts_with([' ', '#']) && line.ends_with(':');
    let keys = lock.lines().filter(entry).flat_map(|line| line.trim_end_matches(':').split(", "));
    let keys: BTreeSet<&str> = keys.map(|key| key.trim_matches('"')).collect();
    let plain = |spec: &str| Range::parse(spec).is_ok();
    // Yarn 1 writes down no packages of the repository itself.
    manifest
        .dependencies()
        .filter(|(name, _)| !members.contains(*name))
        .find(|(name, spec)| plain(spec) && !keys.contains(format!("{name}@{spec}").as_str()))
}

/// The same in bun's own words, which repeat the manifest's.
fn bun<'m>(manifest: &'m Manifest, lock: &str) -> Option<(&'m str, &'m str)> {
    // Each is looked for in the whole lock; nobody has as many.
    manifest.dependencies().take(1000).find(|(name, spec)| {
        let plain = Range::parse(spec).is_ok();
        plain && !lock.contains(&format!("\"{name}\": \"{spec}\""))
    })
}
