//! What the Go files say.

use std::collections::BTreeSet;

use super::constraint::is_built;
use super::module::{Module, OF_C};
use crate::buildpack::source::Files;

/// Largest file that is looked at: what is larger was written by a program.
const LARGEST: u64 = 512 << 10;

/// What the Go files say.
pub(super) struct Sources {
    /// Folders with `package main`: `.`, `./cmd/web`.
    pub mains: BTreeSet<String>,
    /// Whether anything imports "C".
    pub cgo: bool,
    /// A module that needs C, which a file imports: for folders without a go.mod.
    pub of_c: Option<&'static str>,
}

impl Sources {
    /// Reads those of the modules that are built, and of no other.
    pub fn read(files: Files<'_>, modules: &[Module]) -> Self {
        let mut sources = Self { mains: BTreeSet::new(), cgo: false, of_c: None };
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
        let others = others(files, modules);
        let of_others = |path: &str| path.match_indices('/').any(|(at, _)| others.contains(&path[..at]));
        for path in files.paths().filter(built).filter(|path| !of_others(path)) {
            let Some(text) = files.hint_below(path, LARGEST) else { continue };
            if !is_built(path, &text) {
                continue;
            }
            sources.cgo |= text.lines().any(|line| matches!(line.trim(), "import \"C\"" | "\"C\""));
            let imports = |module: &&str| text.contains(&format!("\"{module}"));
            sources.of_c = sources.of_c.or_else(|| OF_C.into_iter().find(imports));
            if is_main(&text) {
                let folder =
                    path.rsplit_once('/').map_or(".".to_owned(), |(folder, _)| format!("./{folder}"));
                sources.mains.insert(folder);
            }
        }
        sources
    }
}

/// Folders with a go.mod of their own that are not built: `tools`.
fn others<'f>(files: Files<'f>, modules: &[Module]) -> BTreeSet<&'f str> {
    let known: BTreeSet<&str> = modules.iter().map(|module| module.folder.as_str()).collect();
    let folders = files.paths().filter_map(|path| path.strip_suffix("/go.mod"));
    folders.filter(|folder| !known.contains(folder)).collect()
}

/// Whether a file belongs to a program.
fn is_main(text: &str) -> bool {
    let package = text.lines().map(str::trim).find_map(|line| line.strip_prefix("package "));
    package.and_then(|rest| rest.split([' ', ';', '\t', '/']).next()) == Some("main")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_do_not_make_a_program() {
        assert!(is_main("// Command x\npackage main // y\n"));
        assert!(!is_main("package mainly\n"));
    }

    #[test]
    fn a_folder_of_go_files_is_enough() {
        let said = crate::buildpack::sketch::said(&[(
            "wiki.go",
            "package main\n\nimport (\n\t_ \"github.com/mattn/go-sqlite3\"\n)\n",
        )]);
        assert!(said.contains("Go, because of *.go"), "{said}");
        assert!(said.contains("with cgo, for github.com/mattn/go-sqlite3"), "{said}");
    }

    #[test]
    fn what_is_not_built_is_no_program() {
        let web = crate::buildpack::sketch::web(&[
            ("go.mod", "module example.com/shop\n\ngo 1.21\n"),
            ("magefile.go", "//go:build mage\n\npackage main\n"),
            ("cmd/server/main.go", "package main\n"),
            ("cmd/page/main.go", "//go:build js && wasm\n\npackage main\n"),
            ("cmd/tray/main_windows.go", "package main\n"),
        ]);
        assert_eq!(web, "bin/server");
    }
}
