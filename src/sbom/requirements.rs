//! `requirements.txt` and what it includes. What is not pinned has no version.

use super::SbomError;
use super::component::{Archive, Component, Ecosystem, address, plain};
use super::python::hashed;
use super::source::Files;
use crate::model::source::beside;
use std::collections::HashMap;

/// Deepest chain of includes, and most files.
const DEPTH: usize = 8;
const MOST: usize = 50;

/// What has been read so far.
#[derive(Default)]
struct Found {
    files: Vec<String>,
    components: Vec<Component>,
    /// What `-c` files pin, for those that are listed without a version.
    constraints: HashMap<String, String>,
}

/// All requirements of a file and of those that it includes.
pub(super) fn read(files: Files<'_>, name: &str) -> Result<Vec<Component>, SbomError> {
    let mut found = Found::default();
    include(files, name, DEPTH, false, &mut found)?;
    for component in &mut found.components {
        if component.version.is_none()
            && let Some(version) = found.constraints.get(&component.name.to_lowercase())
        {
            (component.version, component.asked) = (Some(version.clone()), None);
        }
    }
    Ok(found.components)
}

/// Requirement lines that stand in another file than one of requirements.
pub(super) fn of_lines<'l>(lines: impl Iterator<Item = &'l str>) -> Vec<Component> {
    lines.filter_map(requirement).collect()
}

fn include(
    files: Files<'_>,
    name: &str,
    depth: usize,
    constrains: bool,
    found: &mut Found,
) -> Result<(), SbomError> {
    if depth == 0 || found.files.len() >= MOST || found.files.iter().any(|known| known == name) {
        return Ok(());
    }
    let Some(text) = files.text(name)? else { return Ok(()) };
    found.files.push(name.to_owned());
    for line in logical_lines(&text) {
        if let Some((target, constrains_too)) = included(&line) {
            include(files, &beside(name, target), depth - 1, constrains || constrains_too, found)?;
        } else if let Some(component) = requirement(&line) {
            match component.version {
                Some(version) if constrains => {
                    found.constraints.insert(component.name.to_lowercase(), version);
                }
                _ if constrains => {}
                _ => found.components.push(Component { file: files.path(name), ..component }),
            }
        }
    }
    Ok(())
}

/// The file of `-r` or `-c`, and whether it only constrains.
fn included(line: &str) -> Option<(&str, bool)> {
    for (option, constrains) in
        [("--requirement", false), ("--constraint", true), ("-r", false), ("-c", true)]
    {
        if let Some(rest) = line.strip_prefix(option) {
            let target = rest.trim_start_matches([' ', '=', '\t']);
            return (!target.is_empty() && !target.contains("://")).then_some((target, constrains));
        }
    }
    None
}

/// Lines without comments, continued ones joined.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut continued = false;
    for raw in text.lines() {
        let line = if raw.trim_start().starts_with('#') { "" } else { raw };
        let line = line.find(" #").map_or(line, |at| &line[..at]).trim();
        let (line, goes_on) = line.strip_suffix('\\').map_or((line, false), |line| (line.trim_end(), true));
        match lines.last_mut().filter(|_| continued) {
            Some(before) => {
                before.push(' ');
                before.push_str(line);
            }
            None => lines.push(line.to_owned()),
        }
        continued = goes_on;
    }
    lines
}

/// `name[extra]==1.0 ; marker --hash=sha256:…`, `name @ address`,
/// `-e git+https://…#egg=name`.
fn requirement(line: &str) -> Option<Component> {
    let editable = line.strip_prefix("-e").or_else(|| line.strip_prefix("--editable"));
    let line = editable.map_or(line, |rest| rest.trim_start_matches(['=', ' ', '\t']));
    if line.is_empty() || line.starts_with(['-', '.', '/']) {
        return None;
    }
    if let Some((place, egg)) = line.split_once("#egg=").filter(|(place, _)| place.contains("://")) {
        return Some(from_place(name_of(egg)?.0, place));
    }
    let (name, rest) = name_of(line)?;
    if let Some(place) = rest.trim_start().strip_prefix('@') {
        return Some(from_place(name, place.trim()));
    }
    let hashes = rest.split_ascii_whitespace().filter_map(|word| word.strip_prefix("--hash="));
    let asked: String =
        rest.split(" --").next().unwrap_or_default().split(';').next()?.split_whitespace().collect();
    let pinned = asked.strip_prefix("===").or_else(|| asked.strip_prefix("=="));
    let version = pinned.filter(|version| !version.contains(['*', ',', '<', '>', '!', '~']));
    Some(Component {
        archives: hashed(name, hashes, None),
        asked: version.is_none().then(|| plain(&format!("{name}{asked}"))),
        ..Component::new(Ecosystem::Pypi, name, version)
    })
}

fn from_place(name: &str, place: &str) -> Component {
    let place = place.split_whitespace().next().unwrap_or_default();
    let git = place.strip_prefix("git+");
    let component = Component::new(Ecosystem::Pypi, name, None);
    let place = address(git.unwrap_or(place));
    let asked = Some(plain(&format!("{name} @ {}", place.as_deref().unwrap_or_default())));
    if git.is_some() {
        return Component { repository: place, asked, ..component };
    }
    let archives = place.into_iter().map(|place| Archive { place, hash: None });
    Component { archives: archives.collect(), asked, ..component }
}

/// A name, and what follows it and its extras.
fn name_of(text: &str) -> Option<(&str, &str)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let end = text.find(|c| !plain(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(rest, |(_, rest)| rest);
    let follows =
        rest.is_empty() || rest.trim_start().starts_with(['=', '<', '>', '!', '~', '@', ';', '-', '&']);
    let follows = follows
        || rest.trim_start().starts_with(['*', '^', '('])
        || rest.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let named = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (named && follows).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_an_exact_pin_is_a_version() {
        let version = |line| requirement(line).and_then(|found| found.version);
        assert_eq!(version("Flask==3.0.1"), Some("3.0.1".to_owned()));
        assert_eq!(version("uvicorn[standard] == 0.30 ; python_version > '3'"), Some("0.30".to_owned()));
        assert_eq!(version("a===1.0+local"), Some("1.0+local".to_owned()));
        for line in ["flask", "flask>=3", "flask==3.*", "flask==3,!=3.1", "flask @ https://x/y.whl"] {
            assert_eq!(version(line), None, "{line}");
            assert!(requirement(line).unwrap().asked.is_some(), "{line}");
        }
        for line in ["", "-i https://x", "--no-binary :all:", "./lib", "-e .", "file.whl x"] {
            assert_eq!(requirement(line), None, "{line}");
        }
    }

    #[test]
    fn hashes_and_repositories_are_kept() {
        let digits = "0".repeat(64);
        let line = format!("six==1.17.0 --hash=sha256:{digits} --hash=sha256:{digits}");
        assert_eq!(requirement(&line).unwrap().archives.len(), 2);
        let git = requirement("-e git+https://u:p@github.com/a/b.git@main#egg=My_Pkg").unwrap();
        assert_eq!(
            (git.name.as_str(), git.repository.as_deref()),
            ("My_Pkg", Some("https://github.com/a/b.git@main"))
        );
        assert_eq!(git.asked.as_deref(), Some("My_Pkg @ https://github.com/a/b.git@main"));
    }

    #[test]
    fn continued_lines_are_one() {
        let lines = logical_lines("six==1 \\\n    --hash=sha256:0 \\\n    --hash=sha256:1\n# x\nflask # y\n");
        assert_eq!(lines, ["six==1 --hash=sha256:0 --hash=sha256:1", "", "flask"]);
    }
}
