//! What TypeScript's compiler writes.

use super::build;
use super::line;
use super::manifest::Manifest;
use super::site::{inside, literal};
use crate::buildpack::source::Files;

/// Settings of the compiler, unless the build names others.
const SETTINGS: &str = "tsconfig.json";

/// The file that the build's `tsc` makes of this one: `src/index.ts` is
/// `dist/index.js`, as the settings say. `None`: nothing compiles it.
pub(super) fn of(files: Files<'_>, manifest: &Manifest, source: &str) -> Option<String> {
    let script = manifest.script(build::script(files, manifest)?)?;
    let words = line::words_of(manifest, script);
    if !words.iter().any(|word| word == "tsc") || words.iter().any(|word| word == "--noEmit") {
        return None;
    }
    let after = |names: &[&str]| {
        let at = words.iter().position(|word| names.contains(&word.as_str()))?;
        words.get(at + 1).cloned()
    };
    let named = after(&["-p", "--project"]).and_then(|path| inside(&path)).filter(|path| files.has(path));
    let texts: Vec<String> =
        named.iter().map(String::as_str).chain([SETTINGS]).filter_map(|path| files.hint(path)).collect();
    let said = |key: &str| texts.iter().find_map(|text| literal(text, key));
    let emits = |text: &&String| !text.replace(char::is_whitespace, "").contains("\"noEmit\":true");
    texts.iter().find(|text| text.contains("\"noEmit\"")).is_none_or(|text| emits(&text)).then_some(())?;
    let to = after(&["--outDir"]).or_else(|| said("outDir"));
    let stem = source.strip_suffix(".ts")?;
    let Some(to) = to else { return Some(format!("{stem}.js")) };
    let root = match after(&["--rootDir"]).or_else(|| said("rootDir")) {
        Some(root) => inside(&root).unwrap_or_default(),
        None => common_root(files, &texts, &to),
    };
    let below = if root.is_empty() { stem } else { stem.strip_prefix(&root)?.strip_prefix('/')? };
    inside(&format!("{to}/{below}.js"))
}

/// The folder of all sources, which the compiler leaves out of what it writes.
fn common_root(files: Files<'_>, texts: &[String], to: &str) -> String {
    const FOLDER: &str = "src";
    let only = texts.iter().any(|text| {
        let list = text.split_once("\"include\"").and_then(|(_, rest)| rest.split(']').next());
        let mut named = list.into_iter().flat_map(|list| list.split('"').skip(1).step_by(2));
        list.is_some() && named.all(|path| path.trim_start_matches("./").split('/').next() == Some(FOLDER))
    });
    let to = to.trim_start_matches("./");
    let source = |path: &&str| path.ends_with(".ts") && !path.ends_with(".d.ts");
    let elsewhere = |path: &str| {
        let top = path.split('/').next().unwrap_or_default();
        ![FOLDER, "node_modules", to].contains(&top)
    };
    let outside = files.paths().filter(source).any(elsewhere);
    if only || !outside { FOLDER.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::buildpack::sketch::web;

    fn started(build: &str, settings: &str, more: &[(&str, &str)]) -> String {
        let manifest = format!(
            r#"{{"main": "index.js", "scripts": {{"build": "{build}"}}, "devDependencies": {{"typescript": "5"}}}}"#
        );
        let own = [("package.json", manifest.as_str()), ("tsconfig.json", settings), ("src/index.ts", "")];
        web(&[&own[..], more].concat())
    }

    #[test]
    fn what_the_compiler_writes_is_started() {
        let dist = r#"{"compilerOptions": {"outDir": "./dist"}}"#;
        assert_eq!(started("tsc", dist, &[]), "node dist/index.js");
        assert_eq!(started("tsc -b", dist, &[("vite.config.ts", "")]), "node dist/src/index.js");
        let only = r#"{"compilerOptions": {"outDir": "build"}, "include": ["src/**/*"]}"#;
        assert_eq!(started("rimraf x && tsc", only, &[("vite.config.ts", "")]), "node build/index.js");
        let rooted = r#"{"compilerOptions": {"rootDir": ".", "outDir": "out"}}"#;
        assert_eq!(started("tsc", rooted, &[]), "node out/src/index.js");
        assert_eq!(started("tsc --outDir lib", "{}", &[]), "node lib/index.js");
        assert_eq!(started("tsc", "{}", &[]), "node src/index.js");
        let other = (
            "tsconfig.build.json",
            r#"{"extends": "./tsconfig.json", "compilerOptions": {"noEmit": false}}"#,
        );
        let checks = r#"{"compilerOptions": {"noEmit": true, "outDir": "dist"}}"#;
        assert_eq!(started("tsc -p tsconfig.build.json", checks, &[other]), "node dist/index.js");
        for (build, settings) in [("tsc --noEmit", dist), ("tsc", checks), ("esbuild x", dist)] {
            assert_eq!(started(build, settings, &[]), "node src/index.ts", "{build}");
        }
        assert_eq!(started("tsc", dist, &[("server.js", "")]), "node server.js");
    }
}
