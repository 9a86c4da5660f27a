//! Packages of a workspace beside the root's.

use std::collections::BTreeSet;

use super::framework;
use super::install;
use super::line;
use super::manager::Tool;
use super::manifest::{self, Manifest};
use crate::buildpack::draft::exec;
use crate::buildpack::source::Files;
use crate::model::RunCommand;

/// Most packages that are looked at.
const MOST: usize = 200;

/// Folders of packages beside the root's, if this is a workspace.
fn folders(files: Files<'_>, manifest: &Manifest) -> Vec<String> {
    if !install::is_workspace(files, manifest) {
        return Vec::new();
    }
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-/@".contains(&c);
    let folders = files.paths().filter_map(|path| path.strip_suffix(&format!("/{}", manifest::FILE)));
    let folders = folders.filter(|folder| {
        let vendored = folder.split('/').any(|part| part == "node_modules" || part.starts_with(['.', '-']));
        !vendored && folder.matches('/').count() < 3 && folder.bytes().all(plain)
    });
    folders.take(MOST).map(str::to_owned).collect()
}

/// Folders of packages that have a script, if this is a workspace.
pub(super) fn with_script(files: Files<'_>, manifest: &Manifest, script: &str) -> Vec<String> {
    let has = |folder: &String| {
        let member = Manifest::at(files, &format!("{folder}/{}", manifest::FILE));
        let develops = |line: &str| {
            script == "start" && framework::serves_for_development(&line::program(manifest, line))
        };
        member.is_ok_and(|member| member.script(script).is_some_and(|line| !develops(line)))
    };
    folders(files, manifest).into_iter().filter(has).collect()
}

/// Names of the packages of a workspace.
pub(super) fn names(files: Files<'_>, manifest: &Manifest) -> BTreeSet<String> {
    let member = |folder: &String| Manifest::at(files, &format!("{folder}/{}", manifest::FILE)).ok();
    let members = folders(files, manifest);
    members.iter().filter_map(|folder| Some(member(folder)?.text(&["name"])?.to_owned())).collect()
}

/// Of several packages that start, the one whose name says that it is the web
/// process.
pub(super) fn obvious(folders: &[String]) -> Option<&String> {
    const NAMES: [&str; 4] = ["web", "server", "api", "app"];
    let named = |name: &&str| folders.iter().find(|folder| folder.rsplit('/').next() == Some(name));
    NAMES.iter().find_map(named)
}

/// What runs the start script of one package.
pub(super) fn start(tool: Tool, folder: &str) -> RunCommand {
    match tool {
        Tool::Npm => exec(&["npm", "start", &format!("--workspace={folder}")]),
        Tool::Pnpm => exec(&["pnpm", "--dir", folder, "start"]),
        Tool::Yarn | Tool::Berry => exec(&["yarn", "--cwd", folder, "start"]),
        Tool::Bun => exec(&["bun", "run", "--cwd", folder, "start"]),
    }
}

/// What builds all packages, where the root has no build and they have.
pub(super) fn build(files: Files<'_>, manifest: &Manifest, tool: Tool) -> Option<Vec<String>> {
    let words: &[&str] = match tool {
        Tool::Npm => &["npm", "run", "build", "--workspaces", "--if-present"],
        Tool::Pnpm => &["pnpm", "--recursive", "run", "build"],
        Tool::Berry => &["yarn", "workspaces", "foreach", "--all", "--topological", "run", "build"],
        Tool::Yarn | Tool::Bun => return None,
    };
    let builds = !with_script(files, manifest, "build").is_empty();
    builds.then(|| words.iter().map(|&word| word.to_owned()).collect())
}
