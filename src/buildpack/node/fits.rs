//! Packages that work on no newer Node than one of long ago.

use std::collections::BTreeMap;

use nodejs_semver::{Range, Version};

use super::manifest::Manifest;
use crate::buildpack::error::DetectError;
use crate::buildpack::pack::{self, Offer};
use crate::buildpack::source::{self, Files};
use crate::buildpack::version;

/// By the last Node, the first releases that work on later ones, too.
const FILE: &str = "fits.toml";

/// Packages whose program has another name.
const PROGRAMS: [(&str, &str); 4] = [
    ("@angular-devkit/build-angular", "ng"),
    ("@vue/cli-service", "vue-cli-service"),
    ("laravel-mix", "mix"),
    ("preact-cli", "preact"),
];

/// An old package and the Node that it needs.
pub(super) struct Misfit {
    pub offer: Offer,
    /// `react-scripts 4.0.3`.
    pub package: String,
}

/// The dependency that needs the oldest Node of those that can be had, if any
/// needs one.
pub(super) fn find(
    files: Files<'_>,
    manifest: &Manifest,
    offers: &[Offer],
) -> Result<Option<Misfit>, DetectError> {
    // An app that has helped itself: older Nodes do not know the option.
    let helped = manifest
        .scripts()
        .iter()
        .any(|name| manifest.script(name).is_some_and(|line| line.contains("openssl-legacy-provider")));
    if helped {
        return Ok(None);
    }
    let broken = |reason: String| DetectError::Broken { pack: "node".to_owned(), reason };
    let tables: BTreeMap<String, BTreeMap<String, String>> =
        toml::from_str(pack::file("node", FILE)?).map_err(|error| broken(format!("{FILE}: {error}")))?;
    let offer = |line: &str| offers.iter().find(|offer| offer.version == line);
    let mut found = tables.iter().filter_map(|(line, first)| Some((offer(line)?, first)));
    Ok(found.find_map(|(offer, first)| {
        let mut needed = first.iter().filter(|(name, _)| is_run(manifest, name));
        let package = needed.find_map(|(name, first)| older(files, manifest, name, first))?;
        Some(Misfit { offer: offer.clone(), package })
    }))
}

/// Whether the app's build or start runs it: a tool that only its developers use says
/// nothing of the server. What is built by being installed runs always.
fn is_run(manifest: &Manifest, name: &str) -> bool {
    let counts = |script: &String| script.contains("build") || script == "start";
    let runs = |script: &String| manifest.script(script).is_some_and(|line| calls(line, name));
    name == "node-sass" || manifest.scripts().iter().any(|script| counts(script) && runs(script))
}

/// Whether a line of the shell has the program that a package is known by.
fn calls(line: &str, package: &str) -> bool {
    let Some((_, program)) = PROGRAMS.into_iter().find(|(named, _)| *named == package) else {
        return line.contains(package);
    };
    let last = |word: &str| word.rsplit('/').next() == Some(program);
    line.split(|c: char| c.is_whitespace() || ";&|()".contains(c)).any(last)
}

/// A dependency that is older than a release: by the lock, or else by all that its
/// range allows.
fn older(files: Files<'_>, manifest: &Manifest, name: &str, first: &str) -> Option<String> {
    let spec = manifest.spec(name)?;
    let first_release = Version::parse(first).ok()?;
    if let Some(locked) = locked(files, name) {
        return (locked < first_release).then(|| format!("{name} {locked}"));
    }
    let range = Range::parse(spec).ok()?;
    let later = Range::parse(format!(">={first}")).ok()?;
    (!range.allows_any(&later)).then(|| format!("{name} {}", version::shorten(spec)))
}

/// The release that a lock of npm or yarn has.
fn locked(files: Files<'_>, name: &str) -> Option<Version> {
    for lock in ["npm-shrinkwrap.json", "package-lock.json"] {
        let Some(text) = files.hint(lock) else { continue };
        let value = source::json(lock, &text).ok()?;
        let at = |keys: [&str; 2]| value.get(keys[0])?.get(keys[1])?.get("version")?.as_str();
        let path = format!("node_modules/{name}");
        return Version::parse(at(["packages", &path]).or_else(|| at(["dependencies", name]))?).ok();
    }
    let text = files.hint("yarn.lock")?;
    let begins = format!("{name}@");
    let mut lines = text.lines().skip_while(|line| !line.trim_start_matches('"').starts_with(&begins));
    let line = lines.nth(1)?.trim().strip_prefix("version")?;
    Version::parse(line.trim_matches([':', ' ', '"'])).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::buildpack::sketch::said;

    const BUILD: &str = "react-scripts build && nuxt build && webpack";

    fn app(depends: &str, more: &[(&str, &str)]) -> String {
        let manifest = format!(
            r#"{{"scripts": {{"start": "node a.js", "build": "{BUILD}"}}, "dependencies": {{{depends}}}}}"#
        );
        said(&[&[("package.json", manifest.as_str())], more].concat())
    }

    #[test]
    fn what_openssl_3_ended_gets_the_node_before_it() {
        let text = app(r#""react-scripts": "^4.0.3""#, &[]);
        assert!(text.contains("Node 16, for react-scripts ^4.0.3"), "{text}");
        assert!(text.contains("works on no later Node"), "{text}");
        for fits in [
            r#""react-scripts": "5.0.1""#,
            r#""webpack": "^5.0.0""#,
            r#""webpack": "latest""#,
            r#""nuxt": ">=2""#,
            r#""express": "4""#,
        ] {
            assert!(app(fits, &[]).contains("Node 24, the default"), "{fits}");
        }
        for old in [r#""nuxt": "~2.15.0""#, r#""webpack": "4""#, r#""node-sass": "^6.0.1""#] {
            assert!(app(old, &[]).contains("Node 16, for"), "{old}");
        }
    }

    #[test]
    fn a_program_may_be_called_otherwise_than_its_package() {
        let node = |line: &str, package: &str, version: &str| {
            let manifest = format!(
                r#"{{"scripts": {{"start": "node a.js", "build": "{line}"}}, "devDependencies": {{"{package}": "{version}"}}}}"#
            );
            said(&[("package.json", manifest.as_str())])
        };
        const ANGULAR: &str = "@angular-devkit/build-angular";
        for line in ["ng build", "node_modules/.bin/ng build --prod", "npx ng build; cp a b"] {
            assert!(node(line, ANGULAR, "~12.2.0").contains("Node 16, for @angular-devkit/"), "{line}");
        }
        assert!(node("ng build", ANGULAR, "^17.0.0").contains("Node 24, the default"));
        assert!(node("node hosting.js", ANGULAR, "~12.2.0").contains("Node 24, the default"));
        assert!(node("mix --production", "laravel-mix", "^5.0.1").contains("Node 16, for laravel-mix"));
    }

    #[test]
    fn a_tool_that_nothing_runs_decides_no_node() {
        let manifest = r#"{"scripts": {"start": "node a.js", "lint": "webpack --version"}, "devDependencies": {"webpack": "4"}}"#;
        assert!(said(&[("package.json", manifest)]).contains("Node 24, the default"));
    }

    #[test]
    fn a_lock_says_which_release_it_is() {
        let webpack = r#""webpack": "^5.0.0""#;
        let npm = |version: &str| {
            format!(r#"{{"packages": {{"node_modules/webpack": {{"version": "{version}"}}}}}}"#)
        };
        assert!(
            app(webpack, &[("package-lock.json", &npm("5.50.0"))]).contains("Node 16, for webpack 5.50.0")
        );
        assert!(app(webpack, &[("package-lock.json", &npm("5.90.0"))]).contains("Node 24"));
        let yarn = "# yarn lockfile v1\n\nwebpack@^5.0.0:\n  version \"5.11.0\"\n";
        assert!(app(webpack, &[("yarn.lock", yarn)]).contains("Node 16, for webpack 5.11.0"));
    }

    #[test]
    fn an_app_that_says_more_is_left_alone() {
        let depends = r#""react-scripts": "4.0.3""#;
        assert!(app(depends, &[(".nvmrc", "22\n")]).contains("Node 22, from .nvmrc"));
        let helped = r#"{"scripts": {"start": "node a.js", "build": "NODE_OPTIONS=--openssl-legacy-provider react-scripts build"}, "dependencies": {"react-scripts": "4.0.3"}}"#;
        assert!(said(&[("package.json", helped)]).contains("Node 24, the default"));
    }

    #[test]
    fn every_release_can_be_read() {
        let tables: BTreeMap<String, BTreeMap<String, String>> =
            toml::from_str(pack::file("node", FILE).unwrap()).unwrap();
        for first in tables.values().flat_map(BTreeMap::values) {
            assert!(Version::parse(first).is_ok(), "{first}");
        }
    }
}
