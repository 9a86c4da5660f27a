//! `Gemfile.lock`. Which gems only development needs stands in the Gemfile, which
//! is a program: they all count as needed.

use super::SbomError;
use super::component::{Component, Ecosystem, Hash, address};
use super::source::Files;
use std::collections::HashMap;

/// All gems of a lock but those that are folders of the app.
pub(super) fn read(files: Files<'_>, name: &str, text: &str) -> Result<Vec<Component>, SbomError> {
    let mut found: Vec<Component> = Vec::new();
    let (mut section, mut remote, mut in_specs) = ("", None, false);
    let mut checksums: HashMap<(String, String), Hash> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.starts_with(['<', '>', '=']) {
            let (file, reason) = (files.path(name), "a conflict of a merge".to_owned());
            return Err(SbomError::Malformed { file, line: index + 1, format: "lock of Bundler", reason });
        }
        if !line.starts_with(' ') {
            (section, remote, in_specs) = (line, None, false);
        } else if let Some(place) = line.strip_prefix("  remote: ") {
            remote = address(place);
        } else if line == "  specs:" {
            in_specs = true;
        } else if section == "CHECKSUMS" {
            checksums.extend(checksum(line));
        } else if in_specs && matches!(section, "GEM" | "GIT") && is_spec(line) {
            let Some((name, version)) = spec(line) else { continue };
            let repository = remote.clone().filter(|_| section == "GIT");
            found.push(Component { repository, ..gem(name, version) });
        }
    }
    for component in &mut found {
        let version = component.version.clone().unwrap_or_default();
        let version =
            component.platform.as_ref().map_or(version.clone(), |platform| format!("{version}-{platform}"));
        component.hashes.extend(checksums.remove(&(component.name.clone(), version)));
    }
    Ok(found)
}

/// Four blanks and no more: what a gem itself asks for has six.
fn is_spec(line: &str) -> bool {
    line.starts_with("    ") && !line.starts_with("     ")
}

/// `    nokogiri (1.15.4-x86_64-linux)`.
fn spec(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.trim().split_once(" (")?;
    Some((name, rest.strip_suffix(')')?))
}

fn gem(name: &str, version: &str) -> Component {
    // A gem's version has no dash; what follows one is a platform.
    let (version, platform) =
        version.split_once('-').map_or((version, None), |(v, p)| (v, Some(p.to_owned())));
    Component { platform, ..Component::new(Ecosystem::Gem, name, Some(version)) }
}

/// `  rack (2.2.22) sha256=…`.
fn checksum(line: &str) -> Option<((String, String), Hash)> {
    let (gem, rest) = line.trim().split_once(") ")?;
    let (name, version) = gem.split_once(" (")?;
    let (kind, digits) = rest.split(',').next()?.split_once('=')?;
    Some(((name.to_owned(), version.to_owned()), Hash::hex(kind, digits)?))
}
