//! What a repository seems to be that nothing here builds: so that the refusal
//! names the true cause.

use super::error::DetectError;
use super::source::Files;
use crate::model::EntryKind;

/// Names that are looked for, to the letter.
const WANTED: [&str; 9] = [
    "Procfile",
    "Dockerfile",
    "requirements.txt",
    "pyproject.toml",
    "package.json",
    "go.mod",
    "Gemfile",
    "Pipfile",
    "paas.toml",
];

/// Other files that decide what is built, and with what.
const DECIDING: [&str; 22] = [
    "Aptfile",
    "Gemfile.lock",
    "Pipfile.lock",
    "Staticfile",
    "app.json",
    "bun.lock",
    "composer.json",
    "composer.lock",
    "go.sum",
    "go.work",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "pdm.lock",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "poetry.lock",
    "runtime.txt",
    "setup.cfg",
    "setup.py",
    "uv.lock",
    "yarn.lock",
    ".python-version",
];

/// Names that others use, or that are easily mistaken.
const MISTAKEN: [(&str, &str); 6] = [
    ("Containerfile", "Dockerfile"),
    ("Dockerfile.txt", "Dockerfile"),
    ("Procfile.txt", "Procfile"),
    ("requirement.txt", "requirements.txt"),
    ("requirements.text", "requirements.txt"),
    ("reqs.txt", "requirements.txt"),
];

/// Several containers in one file.
const COMPOSE: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// Files, or endings of files, of what no buildpack builds.
const FOREIGN: [(&str, &str); 17] = [
    ("pom.xml", "Java (Maven)"),
    ("build.gradle", "Java (Gradle)"),
    ("build.gradle.kts", "Kotlin (Gradle)"),
    ("Cargo.toml", "Rust"),
    ("mix.exs", "Elixir"),
    ("deno.json", "Deno"),
    ("Package.swift", "Swift"),
    ("build.sbt", "Scala"),
    ("project.clj", "Clojure"),
    ("shard.yml", "Crystal"),
    ("stack.yaml", "Haskell"),
    ("CMakeLists.txt", "C or C++"),
    ("environment.yml", "conda"),
    ("environment.yaml", "conda"),
    (".csproj", ".NET"),
    (".sln", ".NET"),
    (".ipynb", "Jupyter"),
];

/// Tools that build a site and need no manifest of a language: the file, and what
/// must be there besides.
const GENERATORS: [(&str, &str, &str); 6] = [
    ("hugo.toml", "", "Hugo"),
    ("hugo.yaml", "", "Hugo"),
    ("config/_default/hugo.toml", "", "Hugo"),
    ("config.toml", "content", "Hugo"),
    ("_config.yml", "", "Jekyll"),
    ("mkdocs.yml", "", "MkDocs"),
];

/// The tool that builds a site here, where nothing is started.
pub(super) fn generator(files: Files<'_>) -> Option<DetectError> {
    let there = |(file, folder, _): &&(&str, &str, &str)| {
        files.has(file) && (folder.is_empty() || files.has_folder(folder))
    };
    let (file, _, what) = GENERATORS.iter().find(there)?;
    Some(DetectError::Foreign { file: (*file).to_owned(), what })
}

/// Refuses a manifest that is a link, which would be as if it were not there.
pub(super) fn refuse_linked(files: Files<'_>) -> Result<(), DetectError> {
    let linked = |name: &&str| files.tree.entry(name).is_some_and(|entry| entry.kind == EntryKind::Symlink);
    match WANTED.iter().chain(&DECIDING).find(|name| linked(name)) {
        Some(name) => Err(DetectError::Symlink((*name).to_owned())),
        None => Ok(()),
    }
}

/// A file of the root that stands for one of these names.
pub(super) fn misnamed(files: Files<'_>, wanted: &[&str]) -> Option<DetectError> {
    let fits = |found: &str| {
        let mistaken =
            MISTAKEN.iter().find(|(name, _)| name.eq_ignore_ascii_case(found)).map(|(_, name)| *name);
        let cased = || WANTED.into_iter().find(|name| *name != found && name.eq_ignore_ascii_case(found));
        mistaken.or_else(cased).filter(|name| wanted.contains(name) && !files.has(name))
    };
    let mut root = files.paths().filter(|path| !path.contains('/'));
    root.find_map(|found| {
        Some(DetectError::Misnamed { found: found.to_owned(), wanted: fits(found)?.to_owned() })
    })
}

/// What else would say why nothing matched; `folders` are those that could be
/// apps.
pub(super) fn reason(files: Files<'_>, folders: &[String]) -> Option<DetectError> {
    if let Some(error) = misnamed(files, &WANTED) {
        return Some(error);
    }
    if let Some(file) = files.first_of(&COMPOSE) {
        return Some(DetectError::Compose { file: file.to_owned(), folders: folders.to_vec() });
    }
    if let Some(error) = generator(files) {
        return Some(error);
    }
    if !folders.is_empty() {
        return None;
    }
    let foreign = |path: &str| {
        let fits = |name: &str| path == name || (name.starts_with('.') && path.ends_with(name));
        FOREIGN.iter().find(|(name, _)| fits(name)).map(|(_, what)| *what)
    };
    let mut root = files.paths().filter(|path| !path.contains('/'));
    root.find_map(|path| Some(DetectError::Foreign { file: path.to_owned(), what: foreign(path)? }))
}
