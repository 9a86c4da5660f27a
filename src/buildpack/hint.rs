//! What a repository seems to be that nothing here builds: so that the refusal
//! names the true cause.

use super::error::DetectError;
use super::source::Files;

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
