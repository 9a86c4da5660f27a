//! `requirements.txt`, read as what it is: a list of requirements.

use std::collections::BTreeSet;

use super::super::error::{DetectError, Place};
use super::super::source::Files;

/// What a requirements file, with those that it includes, asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    /// Normalised names.
    pub names: BTreeSet<String>,
    /// The file and those included, by path.
    pub files: Vec<String>,
    /// Whether it names local paths, or files that cannot be copied alone.
    pub local: bool,
}

/// Deepest chain of `-r` that is followed.
const DEPTH: usize = 8;

/// Reads a file and the files that it includes.
pub(super) fn read(files: Files<'_>, path: &str) -> Result<Requirements, DetectError> {
    let mut found = Requirements::default();
    include(files, path, DEPTH, true, &mut found)?;
    Ok(found)
}

fn include(
    files: Files<'_>,
    path: &str,
    depth: usize,
    installs: bool,
    found: &mut Requirements,
) -> Result<(), DetectError> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._/-".contains(&c);
    if depth == 0 || found.files.iter().any(|known| known == path) {
        return Ok(());
    }
    let Some(text) = files.text(path)? else { return Ok(()) };
    found.local |= !path.bytes().all(plain);
    found.files.push(path.to_owned());
    for (line, text) in logical_lines(&text) {
        match classify(&text) {
            Line::Package(name) if installs => drop(found.names.insert(name)),
            Line::Nothing | Line::Package(_) => {}
            Line::Local => found.local = true,
            Line::Include(target, requires) => {
                let target = resolve(path, target);
                if !files.has(&target) {
                    return Err(DetectError::MissingFile { file: target, named_by: Place::line(path, line) });
                }
                include(files, &target, depth - 1, installs && requires, found)?;
            }
        }
    }
    Ok(())
}

/// Path of an included file, relative to the one that includes it.
fn resolve(from: &str, target: &str) -> String {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Lines without comments, continued ones joined, each with its number.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continued = false;
    for (index, raw) in text.lines().enumerate() {
        let line = raw.find(" #").map_or(raw, |at| &raw[..at]).trim();
        let (line, goes_on) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        match lines.last_mut().filter(|_| continued) {
            Some((_, before)) => {
                before.push(' ');
                before.push_str(line.trim());
            }
            None => lines.push((index + 1, line.trim().to_owned())),
        }
        continued = goes_on;
    }
    lines
}

/// What a line is.
enum Line<'a> {
    Nothing,
    Package(String),
    /// A file, and whether what it lists is installed (`-c` only constrains).
    Include(&'a str, bool),
    Local,
}

fn classify(line: &str) -> Line<'_> {
    if line.is_empty() || line.starts_with('#') {
        return Line::Nothing;
    }
    for option in ["-r", "--requirement", "-c", "--constraint"] {
        if let Some(rest) = line.strip_prefix(option)
            && let Some(target) = rest.strip_prefix([' ', '=', '\t']).map(str::trim)
            && !target.contains("://")
        {
            return Line::Include(target, matches!(option, "-r" | "--requirement"));
        }
    }
    let editable = line.strip_prefix("-e").or_else(|| line.strip_prefix("--editable"));
    let subject = editable.map_or(line, |rest| rest.trim_start_matches(['=', ' ', '\t']));
    if subject.starts_with(['.', '/']) || subject.starts_with("file:") {
        return Line::Local;
    }
    if subject.starts_with('-') {
        return Line::Nothing;
    }
    match egg(subject).or_else(|| name(subject)) {
        Some(name) => Line::Package(name),
        None => Line::Nothing,
    }
}

/// The name in `git+https://…#egg=name`.
fn egg(requirement: &str) -> Option<String> {
    if !requirement.contains("://") || requirement.contains(" @ ") {
        return None;
    }
    requirement
        .split_once("#egg=")
        .map_or(Some(String::new()), |(_, rest)| name(rest))
        .filter(|name| !name.is_empty())
}

/// The normalised name that a requirement begins with (PEP 503).
pub(super) fn name(requirement: &str) -> Option<String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let end = requirement.find(|c| !letter(c)).unwrap_or(requirement.len());
    let raw = requirement[..end].trim_end_matches(['.', '_', '-']);
    if raw.is_empty() || raw.contains("://") || requirement[end..].starts_with([':', '+', '/']) {
        return None;
    }
    let mut normal = String::new();
    for part in raw.to_ascii_lowercase().split(['.', '_', '-']).filter(|part| !part.is_empty()) {
        if !normal.is_empty() {
            normal.push('-');
        }
        normal.push_str(part);
    }
    Some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_and_never_found_inside_others() {
        assert_eq!(name("Flask_SQLAlchemy[x]>=2 ; python_version<'3'").as_deref(), Some("flask-sqlalchemy"));
        assert_eq!(name("django==4.2").as_deref(), Some("django"));
        assert_eq!(name("https://example.com/flask.whl"), None);
        assert_eq!(name("git+https://example.com/flask"), None);
    }

    #[test]
    fn options_comments_and_continuations_are_not_packages() {
        let text = "# flask\n--index-url https://flask.example\nDjango==4.2 \\\n  --hash=sha256:00 # x\n-e git+https://x/y#egg=My.Pkg\n";
        let names: Vec<String> = logical_lines(text)
            .iter()
            .filter_map(|(_, line)| if let Line::Package(name) = classify(line) { Some(name) } else { None })
            .collect();
        assert_eq!(names, ["django", "my-pkg"]);
    }

    #[test]
    fn includes_are_relative_to_their_file() {
        assert_eq!(resolve("requirements.txt", "requirements/base.txt"), "requirements/base.txt");
        assert_eq!(resolve("requirements/prod.txt", "base.txt"), "requirements/base.txt");
        assert_eq!(resolve("requirements/prod.txt", "../../../etc/passwd"), "etc/passwd");
    }
}
