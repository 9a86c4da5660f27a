//! Go: which packages become binaries, and which of them is web.

use std::collections::BTreeSet;

use minijinja::context;

use super::draft::{Draft, exec};
use super::error::{DetectError, Place};
use super::pack::Offer;
use super::source::Files;
use super::version::{self, Wanted};
use crate::model::BuildPlan;

/// A module's file, as far as it matters here.
#[derive(Debug, Default)]
struct Module {
    /// `example.com/app`.
    path: String,
    /// The `toolchain` or `go` line.
    minimum: Option<Wanted>,
    /// Packages of `// +heroku install`.
    install: Vec<String>,
}

/// Makes the plan of a Go app.
pub(super) fn plan(mut draft: Draft<'_>) -> Result<BuildPlan, DetectError> {
    let text = draft.files.text("go.mod")?;
    let module = text.as_deref().map(module).unwrap_or_default();
    let offer = choose(&mut draft, module.minimum.as_ref())?;
    let loose = text.is_none() && !draft.files.has("go.work");
    if loose {
        draft.warn("there is no go.mod: the folder is built as one module (go mod init writes one)");
    }
    let sources = Sources::read(draft.files);
    let packages = packages(&module, &sources)?;
    draft.decide(format!("go build {}", packages.join(" ")));
    let vendored = draft.files.has("vendor/modules.txt");
    if vendored {
        draft.decide("vendored modules, from vendor/modules.txt");
    }
    let binaries: Vec<String> = packages.iter().map(|package| binary(package, &module)).collect();
    start(&mut draft, &binaries, &module)?;
    draft.finish(offer, context! { packages, vendored, cgo => sources.cgo, loose })
}

/// Reads the lines of `go.mod` that matter.
fn module(text: &str) -> Module {
    let mut module = Module::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let place = Place::line("go.mod", index + 1);
        if let Some(path) = line.strip_prefix("module ") {
            path.trim().trim_matches('"').clone_into(&mut module.path);
        } else if let Some(packages) = line.strip_prefix("// +heroku install ") {
            module.install =
                packages.split_whitespace().filter(|word| plain(word)).map(str::to_owned).collect();
        } else if let Some(found) = minimum(line, place) {
            let better = line.starts_with("toolchain") || line.starts_with("//") || module.minimum.is_none();
            module.minimum = if better { Some(found) } else { module.minimum };
        }
    }
    module
}

fn minimum(line: &str, place: Place) -> Option<Wanted> {
    let rest =
        ["toolchain ", "go ", "// +heroku goVersion "].iter().find_map(|prefix| line.strip_prefix(prefix))?;
    let word = rest.split_whitespace().next()?;
    Some(Wanted { text: word.strip_prefix("go").unwrap_or(word).to_owned(), place })
}

fn plain(word: &str) -> bool {
    word.starts_with("./") && word.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-/".contains(&c))
}

/// The first offer that is at least what is asked for.
fn choose(draft: &mut Draft<'_>, minimum: Option<&Wanted>) -> Result<&'static Offer, DetectError> {
    let named = match draft.version().as_ref().or(minimum) {
        Some(wanted) => Some(wanted.clone()),
        None => version::first_line(draft.files, ".go-version")?
            .or(version::tool_versions(draft.files, &["golang", "go"])?),
    };
    let offers = draft.offers();
    let Some(wanted) = named else {
        let offer = offers.first().ok_or_else(|| DetectError::Broken {
            pack: draft.pack.key.clone(),
            reason: "offers nothing".to_owned(),
        })?;
        draft.decide(format!("Go {}, the newest (no go line)", offer.version));
        return Ok(offer);
    };
    let least = number(&wanted.text).ok_or_else(|| wanted.malformed(draft.pack))?;
    let enough = |offer: &&Offer| version::numbers(&offer.release).is_some_and(|release| release >= least);
    let offer = offers.iter().find(enough).ok_or_else(|| wanted.missing(draft.pack, draft.catalog.source))?;
    let asked = version::shorten(&wanted.text);
    draft.decide(format!("Go {}, at least {asked} from {}", offer.version, wanted.place.file));
    Ok(offer)
}

/// Numbers of `1.21`, `1.21.3`, `go1.21rc2`.
fn number(text: &str) -> Option<Vec<u64>> {
    let text = text.strip_prefix("go").unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let suffix = &text[end..];
    (suffix.is_empty() || suffix.starts_with("rc") || suffix.starts_with("beta"))
        .then(|| version::numbers(&text[..end]))?
}

/// What the Go files say.
struct Sources {
    /// Folders with `package main`: `.`, `./cmd/web`.
    mains: BTreeSet<String>,
    /// Whether anything imports "C".
    cgo: bool,
}

impl Sources {
    fn read(files: Files<'_>) -> Self {
        let mut sources = Self { mains: BTreeSet::new(), cgo: false };
        let hidden = |path: &str| {
            path.split('/').any(|part| {
                ["vendor", "testdata", "node_modules"].contains(&part) || part.starts_with(['_', '.'])
            })
        };
        let built = |path: &&str| {
            path.rsplit_once('.').is_some_and(|(_, suffix)| suffix == "go")
                && !path.ends_with("_test.go")
                && !hidden(path)
        };
        for path in files.paths().filter(built) {
            let Some(text) = files.hint(path) else { continue };
            sources.cgo |= text.lines().any(|line| matches!(line.trim(), "import \"C\"" | "\"C\""));
            if is_main(&text) {
                let folder =
                    path.rsplit_once('/').map_or(".".to_owned(), |(folder, _)| format!("./{folder}"));
                sources.mains.insert(folder);
            }
        }
        sources
    }
}

/// Whether a file belongs to a program and is built by default.
fn is_main(text: &str) -> bool {
    let ignored = |line: &&str| ["//go:build ignore", "// +build ignore"].contains(line);
    let head: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("package ")).collect();
    let package = text.lines().map(str::trim).find_map(|line| line.strip_prefix("package "));
    let package = package.and_then(|rest| rest.split([' ', ';', '\t', '/']).next());
    package == Some("main") && !head.iter().any(ignored)
}

fn packages(module: &Module, sources: &Sources) -> Result<Vec<String>, DetectError> {
    if !module.install.is_empty() {
        return Ok(module.install.clone());
    }
    let usable = |folder: &&String| *folder == "." || plain(folder);
    let mains: Vec<String> = sources.mains.iter().filter(usable).cloned().collect();
    if mains.iter().any(|folder| folder == ".") {
        return Ok(vec![".".to_owned()]);
    }
    let commands: Vec<String> = mains.iter().filter(|folder| folder.starts_with("./cmd/")).cloned().collect();
    match (commands.is_empty(), mains.is_empty()) {
        (false, _) => Ok(commands),
        (true, false) => Ok(mains),
        (true, true) => Err(DetectError::NoMain),
    }
}

/// The name that `go build` gives to a package's binary.
fn binary(package: &str, module: &Module) -> String {
    if package != "." {
        return package.rsplit('/').next().unwrap_or(package).to_owned();
    }
    let mut parts = module.path.rsplit('/');
    let last = parts.next().filter(|last| !last.is_empty()).unwrap_or("app");
    let major = last
        .strip_prefix('v')
        .is_some_and(|rest| rest.bytes().all(|c| c.is_ascii_digit()) && !rest.is_empty());
    let name = if major { parts.next().unwrap_or(last) } else { last };
    name.to_owned()
}

fn start(draft: &mut Draft<'_>, binaries: &[String], module: &Module) -> Result<(), DetectError> {
    if draft.declared() {
        return Ok(());
    }
    let like_module = binary(".", module);
    let usual = ["web", "server", "api", like_module.as_str()];
    let obvious = match binaries {
        [only] => Some(only),
        several => usual.iter().find_map(|name| several.iter().find(|binary| binary == name)),
    };
    let Some(name) = obvious else { return Err(DetectError::SeveralBinaries(binaries.to_vec())) };
    draft.web(exec(&[&format!("bin/{name}")]), "the program built");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_toolchain_line_beats_the_go_line() {
        let text = "module example.com/shop/v2 // x\n\ngo 1.21\ntoolchain go1.22.3\n";
        let found = module(text.replace(" // x", "").as_str());
        assert_eq!(found.minimum.as_ref().unwrap().text, "1.22.3");
        assert_eq!(binary(".", &found), "shop");
        assert_eq!(binary("./cmd/web", &found), "web");
    }

    #[test]
    fn build_tags_and_comments_do_not_make_a_program() {
        assert!(is_main("// Command x\npackage main // y\n"));
        assert!(!is_main("//go:build ignore\n\npackage main\n"));
        assert!(!is_main("package mainly\n"));
    }

    #[test]
    fn words_for_the_shell_are_plain() {
        assert!(plain("./cmd/web") && !plain("./cmd/$(id)") && !plain("-o") && !plain("./a b"));
        assert_eq!(number("1.21; id"), None);
        assert_eq!(number("go1.23rc2"), Some(vec![1, 23]));
    }
}
