//! `go.mod`, `go.work`, and what was vendored. The hashes of `go.sum` are of Go's
//! own listing of a module, not of a file that anybody could check.

use super::SbomError;
use super::component::{Component, Ecosystem};
use super::source::Files;
use nodejs_semver::Version;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most folders of a workspace.
const MOST: usize = 200;

/// All modules of an app.
pub(super) fn read(files: Files<'_>) -> Result<Vec<Component>, SbomError> {
    if let Some(text) = files.text("vendor/modules.txt")? {
        return Ok(vendored(&text).into_iter().map(|(path, version)| component(&path, &version)).collect());
    }
    let mut modules = Modules::default();
    match files.text("go.work")? {
        Some(text) => {
            let folders =
                directives(&text).filter(|(verb, ..)| *verb == "use").filter_map(|(_, words, _)| {
                    words
                        .first()
                        .map(|folder| folder.trim_start_matches("./").trim_end_matches('/').to_owned())
                });
            for folder in folders.take(MOST) {
                let folder = if folder == "." { String::new() } else { format!("{}{folder}/", files.folder) };
                modules.read(Files { folder: &folder, ..files })?;
            }
            modules.replace(&text);
        }
        None => modules.read(files)?,
    }
    Ok(modules.finish())
}

fn component(path: &str, version: &str) -> Component {
    Component::new(Ecosystem::Golang, path, Some(version))
}

/// Path and version.
type Module = (String, String);

/// What the modules of an app ask for together.
#[derive(Default)]
struct Modules {
    /// The app's own.
    own: BTreeSet<String>,
    /// Path → the highest version that is asked for.
    required: BTreeMap<String, String>,
    /// Path and version (or none for all) → what takes its place.
    replaced: HashMap<(String, Option<String>), Option<Module>>,
}

impl Modules {
    fn read(&mut self, files: Files<'_>) -> Result<(), SbomError> {
        const FILE: &str = "go.mod";
        let Some(text) = files.text(FILE)? else { return Ok(()) };
        let mut complete = false;
        for (verb, words, line) in directives(&text) {
            match (verb, words.as_slice()) {
                ("module", [path]) => drop(self.own.insert(unquoted(path))),
                ("go", [version]) => complete = lists_all(version),
                ("require", [path, version]) => self.require(&unquoted(path), version),
                ("require", _) => {
                    let (file, reason) = (files.path(FILE), "not a module and its version".to_owned());
                    return Err(SbomError::Malformed { file, line, format: "go.mod", reason });
                }
                _ => {}
            }
        }
        self.replace(&text);
        if !complete {
            self.summed(&files.text("go.sum")?.unwrap_or_default());
        }
        Ok(())
    }

    fn require(&mut self, path: &str, version: &str) {
        let known = self.required.entry(path.to_owned()).or_insert_with(|| version.to_owned());
        if newer(version, known) {
            version.clone_into(known);
        }
    }

    /// Before Go 1.17 go.mod lists direct requirements alone; of the others
    /// go.sum has the content of those that were chosen.
    fn summed(&mut self, text: &str) {
        for line in text.lines() {
            if let [path, version, _] = line.split_whitespace().collect::<Vec<_>>()[..]
                && !version.ends_with("/go.mod")
            {
                self.require(path, version);
            }
        }
    }

    fn replace(&mut self, text: &str) {
        for (_, words, _) in directives(text).filter(|(verb, ..)| *verb == "replace") {
            let Some(arrow) = words.iter().position(|word| *word == "=>") else { continue };
            let (from, to) = (&words[..arrow], &words[arrow + 1..]);
            let Some(path) = from.first() else { continue };
            let key = (unquoted(path), from.get(1).map(|&version| version.to_owned()));
            // Without a version it is a folder of the app.
            let to = to.first().zip(to.get(1)).map(|(path, version)| (unquoted(path), (*version).to_owned()));
            self.replaced.insert(key, to);
        }
    }

    fn finish(self) -> Vec<Component> {
        let Self { own, required, replaced } = self;
        let mut found = Vec::new();
        for (path, version) in required.into_iter().filter(|(path, _)| !own.contains(path)) {
            let by_version = replaced.get(&(path.clone(), Some(version.clone())));
            match by_version.or_else(|| replaced.get(&(path.clone(), None))) {
                None => found.push(component(&path, &version)),
                Some(Some((path, version))) => found.push(component(path, version)),
                Some(None) => {}
            }
        }
        found
    }
}

/// Directives with their words and line; blocks in brackets are taken apart.
fn directives(text: &str) -> impl Iterator<Item = (&str, Vec<&str>, usize)> {
    let mut block: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.split("//").next().unwrap_or_default();
        let mut words: Vec<&str> = line.split_whitespace().take(8).collect();
        match (block, words.as_slice()) {
            (_, []) => None,
            (Some(_), [")"]) => {
                block = None;
                None
            }
            (Some(verb), _) => Some((verb, words, index + 1)),
            (None, [verb, "("]) => {
                block = Some(verb);
                None
            }
            (None, _) => {
                let verb = words.remove(0);
                Some((verb, words, index + 1))
            }
        }
    })
}

fn unquoted(path: &str) -> String {
    path.trim_matches(['"', '`']).to_owned()
}

/// Whether a go.mod of this Go version lists every module of the build.
fn lists_all(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= (1, 17)
}

fn newer(version: &str, than: &str) -> bool {
    let parse =
        |text: &str| Version::parse(text.trim_start_matches('v').trim_end_matches("+incompatible")).ok();
    match (parse(version), parse(than)) {
        (Some(version), Some(than)) => version > than,
        _ => false,
    }
}

/// `# path version [=> path version]` lines.
fn vendored(text: &str) -> Vec<Module> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# "));
    lines
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let arrow = words.iter().position(|word| *word == "=>");
            match (&words[..], arrow) {
                ([path, version], None) => Some(((*path).to_owned(), (*version).to_owned())),
                (_, Some(at)) => match &words[at + 1..] {
                    [path, version] => Some(((*path).to_owned(), (*version).to_owned())),
                    _ => None,
                },
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendored_modules_and_their_stand_ins() {
        let text = "# a.b/c v1.2.3\n## explicit; go 1.21\na.b/c\n# d v1.0.0 => e v1.1.0\n# f v1 => ./g\n# h => ./i\n";
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(vendored(text), [pair("a.b/c", "v1.2.3"), pair("e", "v1.1.0")]);
    }

    #[test]
    fn the_highest_version_is_chosen_and_what_is_replaced_goes() {
        let mut modules = Modules::default();
        modules.require("a", "v1.9.0");
        modules.require("a", "v1.10.0");
        modules.require("a", "v1.10.0-rc.1");
        modules.require("b", "v2.0.0+incompatible");
        modules.require("c", "v1.0.0");
        modules.replace("replace b => d v1.0.0\nreplace (\n\tc v1.0.0 => ../c // here\n)\n");
        let found: Vec<String> = modules.finish().iter().map(Component::purl).collect();
        assert_eq!(found, ["pkg:golang/a@v1.10.0", "pkg:golang/d@v1.0.0"]);
    }
}
