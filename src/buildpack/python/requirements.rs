//! `requirements.txt`, read as what it is: a list of requirements.

use super::super::error::{DetectError, Place};
use super::super::source::Files;
use super::dependencies::{Dependencies, name};
use crate::model::source::beside;

/// What a requirements file, with those that it includes, asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    /// What they name.
    pub dependencies: Dependencies,
    /// The file and those included, by path.
    pub files: Vec<String>,
    /// Whether it names local paths, or files that cannot be copied alone.
    pub local: bool,
    /// The first line that pip knows and uv refuses.
    pub only_pip: Option<Place>,
    /// Whether packages come from more than one index.
    pub extra_index: bool,
}

/// Options of one requirement that only pip knows.
const PIP_OPTIONS: [&str; 4] =
    [" --config-settings", " --config-setting", " --global-option", " --install-option"];

/// Deepest chain of `-r` that is followed.
const DEPTH: usize = 8;

/// Most files that are read; an app with more has them all copied.
const MOST: usize = 100;

/// Reads a file and the files that it includes.
pub(super) fn read(files: Files<'_>, path: &str) -> Result<Requirements, DetectError> {
    let mut found = Requirements::default();
    include(files, path, DEPTH, true, &mut found)?;
    found.local |= found.files.len() == MOST;
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
    if depth == 0 || found.files.len() == MOST || found.files.iter().any(|known| known == path) {
        return Ok(());
    }
    let Some(text) = files.text(path)? else { return Ok(()) };
    found.local |= !path.bytes().all(plain);
    found.files.push(path.to_owned());
    for (line, text) in logical_lines(&text) {
        found.extra_index |= text.starts_with("--extra-index-url");
        if found.only_pip.is_none() && is_only_pips(&text) {
            found.only_pip = Some(Place::line(path, line));
        }
        match classify(&text) {
            Line::Package(requirement) if installs => found.dependencies.require(&requirement),
            Line::Nothing | Line::Package(_) => {}
            Line::Local => found.local = true,
            Line::Include(target, requires) => {
                let target = beside(path, target);
                if !files.has(&target) {
                    return Err(DetectError::MissingFile { file: target, named_by: Place::line(path, line) });
                }
                include(files, &target, depth - 1, installs && requires, found)?;
            }
        }
    }
    Ok(())
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

/// Whether pip reads a line that uv refuses.
fn is_only_pips(line: &str) -> bool {
    let editable = line.strip_prefix("-e").or_else(|| line.strip_prefix("--editable"));
    if let Some(subject) = editable {
        return subject.contains("://") && !subject.trim_start_matches([' ', '=']).starts_with("file:");
    }
    PIP_OPTIONS.iter().any(|option| line.contains(option))
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
    for (names, requires) in [(["-r", "--requirement"], true), (["-c", "--constraint"], false)] {
        if let Some(target) = option(line, &names).filter(|target| !target.contains("://")) {
            return Line::Include(target, requires);
        }
    }
    let editable = line.strip_prefix("-e").or_else(|| line.strip_prefix("--editable"));
    let subject = editable.map_or(line, |rest| rest.trim_start_matches(['=', ' ', '\t']));
    let place = subject.split_once(" @ ").map_or(subject, |(_, place)| place.trim_start());
    if place.starts_with(['.', '/']) || place.starts_with("file:") || is_archive(subject) {
        return Line::Local;
    }
    if let Some(place) = option(line, &["--find-links", "-f"]) {
        return if place.contains("://") && !place.starts_with("file:") {
            Line::Nothing
        } else {
            Line::Local
        };
    }
    if subject.starts_with('-') {
        return Line::Nothing;
    }
    match egg(subject).or_else(|| name(subject).map(|_| subject.to_owned())) {
        Some(requirement) => Line::Package(requirement),
        None => Line::Nothing,
    }
}

/// A package beside the requirements, by its path: `wheels/foo-1.0-py3-none-any.whl`.
fn is_archive(subject: &str) -> bool {
    let path = subject.split([' ', '\t', ';']).next().unwrap_or_default();
    let path = path.split('[').next().unwrap_or_default();
    let ends = [".whl", ".tar.gz", ".zip", ".tgz", ".tar.bz2"];
    !path.contains("://") && ends.iter().any(|end| path.ends_with(end)) && !subject.contains(" @ ")
}

/// The value of one of these options, however it is written.
fn option<'t>(line: &'t str, names: &[&str]) -> Option<&'t str> {
    names.iter().find_map(|name| {
        let rest = line.strip_prefix(name)?;
        rest.strip_prefix([' ', '=', '\t']).map(str::trim).or_else(|| joined(name, rest))
    })
}

/// The value of `-rbase.txt`.
fn joined<'t>(option: &str, rest: &'t str) -> Option<&'t str> {
    (option.len() == 2 && !rest.is_empty()).then_some(rest)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_comments_and_continuations_are_not_packages() {
        let text = "# flask\n--index-url https://flask.example\nDjango==4.2 \\\n  --hash=sha256:00 # x\n-e git+https://x/y#egg=My.Pkg\n";
        let names: Vec<String> = logical_lines(text)
            .iter()
            .filter_map(|(_, line)| if let Line::Package(name) = classify(line) { Some(name) } else { None })
            .collect();
        assert_eq!(names, ["Django==4.2 --hash=sha256:00", "my-pkg"]);
    }

    #[test]
    fn packages_of_the_repository_are_local() {
        for local in [
            "--find-links ./wheels",
            "--find-links=wheels",
            "-f wheels",
            "-fwheels",
            "wheels/foo-1.0-py3-none-any.whl",
            "wheels/foo-1.0-py3-none-any.whl ; python_version > '3'",
            "vendor/foo-1.0.tar.gz --hash=sha256:00",
            "foo.zip[extra]",
            "foo @ file:./wheels/foo-1.0-py3-none-any.whl",
            "./lib",
            "-e .",
        ] {
            assert!(matches!(classify(local), Line::Local), "{local}");
        }
        for other in [
            "--find-links https://x/y.html",
            "--no-index",
            "flask",
            "foo @ https://x/foo-1.0-py3-none-any.whl",
            "https://x/foo-1.0-py3-none-any.whl",
            "--format x",
        ] {
            assert!(!matches!(classify(other), Line::Local), "{other}");
        }
    }

    #[test]
    fn what_only_pip_reads_is_known() {
        for pips in ["-e git+https://x/y#egg=z", "six --global-option=x"] {
            assert!(is_only_pips(pips), "{pips}");
        }
        let shared = [
            "-e .",
            "-e ./lib",
            "-r base.txt",
            "-rbase.txt",
            "--index-url=https://x",
            "six==1 --hash=sha256:0",
            "-i x",
            "",
        ];
        for both in shared {
            assert!(!is_only_pips(both), "{both}");
        }
    }

    #[test]
    fn includes_are_relative_to_their_file() {
        assert_eq!(beside("requirements.txt", "requirements/base.txt"), "requirements/base.txt");
        assert_eq!(beside("requirements/prod.txt", "base.txt"), "requirements/base.txt");
        assert_eq!(beside("requirements/prod.txt", "../../../etc/passwd"), "etc/passwd");
    }
}
