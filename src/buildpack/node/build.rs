//! What builds the app.

use super::framework;
use super::line;
use super::manager::Tool;
use super::manifest::Manifest;
use super::member;
use crate::buildpack::source::Files;

/// Scripts that build, most usual first. The rest is asked for only where a
/// framework is known, since its result is what is started.
const SCRIPTS: [&str; 2] = ["heroku-postbuild", "build"];

/// What build scripts of frameworks' starters are called besides.
const MORE_SCRIPTS: [&str; 4] = ["docs:build", "build:prod", "build:production", "generate"];

/// What frameworks are built by where no script says it: the dependency, and
/// the command.
const TOOLS: [(&str, &[&str]); 10] = [
    ("next", &["next", "build"]),
    ("nuxt", &["nuxt", "build"]),
    ("astro", &["astro", "build"]),
    ("@sveltejs/kit", &["vite", "build"]),
    ("@react-router/dev", &["react-router", "build"]),
    ("react-scripts", &["react-scripts", "build"]),
    ("@docusaurus/core", &["docusaurus", "build"]),
    ("gatsby", &["gatsby", "build"]),
    ("@11ty/eleventy", &["eleventy"]),
    ("vite", &["vite", "build"]),
];

/// The command of the build; none if there is nothing to build.
pub(super) fn command(files: Files<'_>, manifest: &Manifest, tool: Tool) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    if let Some(name) = script(files, manifest) {
        return words(&[tool.program(), "run", name]);
    }
    if let Some(command) = member::build(files, manifest, tool) {
        return command;
    }
    if compiles(files, manifest) {
        return dependency(tool, &["tsc"]);
    }
    unscripted(files, manifest).map(|command| dependency(tool, command)).unwrap_or_default()
}

/// The script that says that there is something to build.
pub(super) fn own_script(manifest: &Manifest) -> Option<&'static str> {
    SCRIPTS.into_iter().find(|name| manifest.script(name).is_some())
}

/// The script that builds.
pub(super) fn script(files: Files<'_>, manifest: &Manifest) -> Option<&'static str> {
    own_script(manifest)
        .or_else(|| script_of_site(manifest).filter(|_| framework::find(files, manifest).is_some()))
}

/// The same where a framework is known.
pub(super) fn script_of_site(manifest: &Manifest) -> Option<&'static str> {
    let there = |name: &&str| manifest.script(name).is_some();
    own_script(manifest).or_else(|| MORE_SCRIPTS.into_iter().find(there))
}

/// A program of a dependency as each manager runs it.
fn dependency(tool: Tool, command: &[&str]) -> Vec<String> {
    let before: &[&str] = match tool {
        Tool::Npm | Tool::Yarn | Tool::Pnpm => &[],
        Tool::Berry => &["yarn"],
        Tool::Bun => &["bun", "run"],
    };
    before.iter().chain(command).map(|&word| word.to_owned()).collect()
}

/// Whether TypeScript has no script for it, and a start that needs the result.
fn compiles(files: Files<'_>, manifest: &Manifest) -> bool {
    let started = manifest.script("start").or(manifest.text(&["main"])).unwrap_or_default();
    let compiled = |word: &str| {
        let word = word.strip_prefix("./").unwrap_or(word);
        ["dist/", "build/", "out/", "lib/"].iter().any(|folder| word.starts_with(folder) && !files.has(word))
    };
    let typed = manifest.depends("typescript") && files.has("tsconfig.json");
    typed && started.split_whitespace().any(compiled) && !started.contains("tsc")
}

/// The build of a framework without a script for it, unless what is started
/// does it or has nothing to do with it.
fn unscripted(files: Files<'_>, manifest: &Manifest) -> Option<&'static [&'static str]> {
    let (package, command) = TOOLS.into_iter().find(|(package, _)| manifest.depends(package))?;
    if package == "vite" && !files.has("index.html") {
        return None;
    }
    let start = manifest.script("start").unwrap_or_default();
    let program = line::program(manifest, start);
    let own = program.first().is_some_and(|word| word == command[0]) || start.is_empty();
    let builds = line::words_of(manifest, start).iter().any(|word| word == "build");
    (own && !builds).then_some(command)
}
