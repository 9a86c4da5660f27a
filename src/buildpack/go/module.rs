//! `go.mod` and `go.work`, as far as they matter here.

use crate::buildpack::error::{DetectError, Place};
use crate::buildpack::paas_toml::go_package;
use crate::buildpack::source::Files;
use crate::buildpack::version::Wanted;

/// Modules that are no use without a C compiler, though the app's own code may
/// know nothing of C.
pub(super) const OF_C: [&str; 7] = [
    "github.com/mattn/go-sqlite3",
    "github.com/confluentinc/confluent-kafka-go",
    "github.com/h2non/bimg",
    "github.com/davidbyttow/govips",
    "github.com/chai2010/webp",
    "github.com/libgit2/git2go",
    "gopkg.in/gographics/imagick",
];

/// One module.
#[derive(Debug, Default, Clone)]
pub(super) struct Module {
    /// Its folder: empty for the root, else `services/web`.
    pub folder: String,
    /// `example.com/app`.
    pub path: String,
    /// The `toolchain` or `go` line: no older one will do.
    pub minimum: Option<Wanted>,
    /// The line `// +heroku goVersion`: this one.
    pub pinned: Option<Wanted>,
    /// Packages of `// +heroku install`.
    pub install: Vec<String>,
    /// A module that needs C.
    pub of_c: Option<&'static str>,
}

/// The modules that are built: the root's, or those that `go.work` uses.
pub(super) fn all(files: Files<'_>) -> Result<Vec<Module>, DetectError> {
    let Some(work) = files.text("go.work")? else {
        return Ok(files.text("go.mod")?.map(|text| read("", "go.mod", &text)).into_iter().collect());
    };
    let mut found = Vec::new();
    for folder in used(&work) {
        let file = if folder.is_empty() { "go.mod".to_owned() } else { format!("{folder}/go.mod") };
        let missing = || DetectError::MissingFile { file: file.clone(), named_by: Place::file("go.work") };
        found.push(read(&folder, &file, &files.text(&file)?.ok_or_else(missing)?));
    }
    // What the workspace says of versions counts for all of it.
    let workspace = read("", "go.work", &work);
    if let Some(first) = found.first_mut().filter(|_| workspace.minimum.is_some()) {
        first.minimum = workspace.minimum;
    }
    Ok(found)
}

/// Folders that a `go.work` uses, without `./`.
fn used(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or(line).trim();
        let folder = match (inside, line.strip_prefix("use")) {
            (true, _) if line == ")" => {
                inside = false;
                continue;
            }
            (true, _) => line,
            (false, Some(rest)) if rest.trim() == "(" => {
                inside = true;
                continue;
            }
            (false, Some(rest)) if rest.starts_with([' ', '\t']) => rest.trim(),
            _ => continue,
        };
        let folder = folder.trim_matches('"').trim_start_matches("./").trim_end_matches('/');
        if !line.is_empty() {
            found.push(if folder == "." { String::new() } else { folder.to_owned() });
        }
    }
    found
}

/// The lines that matter.
pub(super) fn read(folder: &str, file: &str, text: &str) -> Module {
    let mut module = Module { folder: folder.to_owned(), ..Module::default() };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let wanted = |rest: &str| {
            let word = rest.split_whitespace().next()?;
            let text = word.strip_prefix("go").unwrap_or(word).to_owned();
            Some(Wanted { text, place: Place::line(file, index + 1) })
        };
        if let Some(path) = line.strip_prefix("module ") {
            let path = path.split("//").next().unwrap_or(path);
            path.trim().trim_matches('"').clone_into(&mut module.path);
        } else if let Some(packages) = line.strip_prefix("// +heroku install ") {
            module.install =
                packages.split_whitespace().filter(|word| go_package(word)).map(str::to_owned).collect();
        } else if let Some(rest) = line.strip_prefix("// +heroku goVersion ") {
            module.pinned = wanted(rest);
        } else if let Some(rest) = line.strip_prefix("toolchain ") {
            module.minimum = wanted(rest);
        } else if let Some(rest) = line.strip_prefix("go ").filter(|_| module.minimum.is_none()) {
            module.minimum = wanted(rest);
        }
        let required =
            line.strip_prefix("require ").unwrap_or(line).split_whitespace().next().unwrap_or_default();
        let known = |path: &&&str| {
            required == **path || required.strip_prefix(**path).is_some_and(|rest| rest.starts_with("/v"))
        };
        module.of_c = module.of_c.or_else(|| OF_C.iter().find(known).copied());
    }
    module
}

/// The name that `go build` gives to the binary of a package (`.`, `./cmd/web`):
/// the last part of its import path that is no major version.
pub(super) fn binary(package: &str, modules: &[Module]) -> String {
    let folder = package.trim_start_matches('.').trim_start_matches('/');
    let below = |module: &&Module| {
        module.folder.is_empty()
            || folder == module.folder
            || folder.strip_prefix(&module.folder).is_some_and(|rest| rest.starts_with('/'))
    };
    let module = modules.iter().filter(below).max_by_key(|module| module.folder.len());
    let (path, inside) = module.map_or(("", folder), |module| {
        (module.path.as_str(), folder[module.folder.len()..].trim_start_matches('/'))
    });
    let import = format!("{path}/{inside}");
    let mut parts = import.rsplit('/').filter(|part| !part.is_empty());
    let last = parts.next().unwrap_or("app");
    let digits = last.strip_prefix('v').unwrap_or_default();
    let major = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    let name = if major { parts.next().unwrap_or(last) } else { last };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_toolchain_line_beats_the_go_line() {
        let text = "module example.com/shop/v2 // x\n\ngo 1.21\ntoolchain go1.22.3\n\nrequire (\n\tgithub.com/mattn/go-sqlite3 v1.14.22\n)\n";
        let found = read("", "go.mod", text);
        assert_eq!(found.minimum.as_ref().unwrap().text, "1.22.3");
        assert_eq!(found.of_c, Some("github.com/mattn/go-sqlite3"));
        let modules = [found];
        assert_eq!(binary(".", &modules), "shop");
        assert_eq!(binary("./cmd/web", &modules), "web");
    }

    #[test]
    fn a_workspace_names_its_folders() {
        assert_eq!(
            used("go 1.22\n\nuse (\n\t./api // x\n\t\"./b/c/\"\n)\nuse ./d\nuse .\n"),
            ["api", "b/c", "d", ""]
        );
        let modules =
            [read("api", "api/go.mod", "module example.com/shop-api\n"), read("", "go.mod", "module x\n")];
        assert_eq!(binary("./api", &modules), "shop-api");
        assert_eq!(binary("./api/cmd/tool", &modules), "tool");
    }

    #[test]
    fn words_for_the_shell_are_plain() {
        let plain = ["./cmd/web", ".", "./cmd/...", "./..."];
        assert!(plain.into_iter().all(go_package));
        let hostile = ["./cmd/$(id)", "-o", "./a b", "../x", "./a/../../x", "", "/etc", "x"];
        assert!(!hostile.into_iter().any(go_package));
    }
}
