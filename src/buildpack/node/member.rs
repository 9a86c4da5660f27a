//! Packages of a workspace beside the root's.

use std::collections::BTreeSet;

use super::framework::{self, Program, Served};
use super::install;
use super::line;
use super::manager::Tool;
use super::manifest::{self, Manifest};
use super::site::Output;
use crate::buildpack::draft::exec;
use crate::buildpack::source::Files;
use crate::buildpack::subfolder::Subfolder;
use crate::model::RunCommand;

/// Most packages that are looked at.
const MOST: usize = 200;

/// Largest manifest of theirs that is read.
const LARGEST: u64 = 128 << 10;

/// Parts of a repository that are not what it is for.
const BESIDE: [&str; 7] = ["docs", "storybook", "playground", "example", "examples", "e2e", "demo"];

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

/// Names of the packages of a workspace.
pub(super) fn names(files: Files<'_>, manifest: &Manifest) -> BTreeSet<String> {
    let members = all(files, manifest);
    members.iter().filter_map(|member| Some(member.manifest.text(&["name"])?.to_owned())).collect()
}

fn manifest_of(files: Files<'_>, folder: &str) -> Option<Manifest> {
    let path = format!("{folder}/{}", manifest::FILE);
    files.tree.entry(&path).filter(|entry| entry.size <= LARGEST)?;
    Manifest::at(files, &path).ok()
}

/// Folders of packages that have a script, if this is a workspace.
pub(super) fn with_script(files: Files<'_>, manifest: &Manifest, script: &str) -> Vec<String> {
    let has = |folder: &String| {
        let Some(member) = manifest_of(files, folder) else { return false };
        let develops = |line: &str| framework::develops(&member, &line::program(manifest, line));
        member.script(script).is_some_and(|line| script != "start" || !develops(line))
    };
    folders(files, manifest).into_iter().filter(has).collect()
}

/// A package of the workspace that a process is of.
pub(super) struct Member {
    pub folder: String,
    pub manifest: Manifest,
}

/// Every package beside the root's.
pub(super) fn all(files: Files<'_>, manifest: &Manifest) -> Vec<Member> {
    let member = |folder: String| Some(Member { manifest: manifest_of(files, &folder)?, folder });
    folders(files, manifest).into_iter().filter_map(member).collect()
}

/// What a package's framework starts, where no start script does.
pub(super) struct Framework {
    pub folder: String,
    pub name: &'static str,
    pub command: RunCommand,
    pub env: &'static [(&'static str, &'static str)],
}

/// Packages that a framework makes servers of.
pub(super) fn programs(files: Files<'_>, manifest: &Manifest) -> Vec<Framework> {
    let program = |Member { folder, manifest }: Member| {
        let below = Subfolder::of(files.tree, &folder)?;
        let Some(Served::Program(program)) = framework::find(Files { tree: &below }, &manifest) else {
            return None;
        };
        let (name, env) = (program.name, program.env);
        let command = RunCommand::Shell(below_root(&folder, &of_program(&manifest, program)?));
        Some(Framework { folder, name, command, env })
    };
    let mut found: Vec<_> = all(files, manifest).into_iter().filter_map(program).collect();
    if found.len() > 1 {
        found.retain(|program| !beside(&program.folder));
    }
    found
}

/// The command of a framework's server, or the app's own for production. What
/// the build traces for an image of its own is not where it is in a lone app.
fn of_program(manifest: &Manifest, program: Program) -> Option<String> {
    let own = ["start:prod", "start:production"].into_iter().find_map(|name| manifest.script(name));
    let command = match own.and_then(line::direct) {
        Some(RunCommand::Exec(words)) => words.join(" "),
        Some(RunCommand::Shell(line)) if !line.contains("exec ") => line,
        _ if program.insists => "next start".to_owned(),
        _ => program.command.to_string(),
    };
    (!command.is_empty()).then_some(command)
}

/// A command in the folder of a package, where its own programs are found.
fn below_root(folder: &str, command: &str) -> String {
    format!("cd {folder} && PATH=$PWD/node_modules/.bin:$PATH && exec {command}")
}

fn beside(folder: &str) -> bool {
    folder.split('/').any(|part| BESIDE.contains(&part))
}

/// Packages whose build ends in a site, where no package starts anything: the folder
/// that is written, from the root.
pub(super) fn sites(files: Files<'_>, manifest: &Manifest) -> Vec<(String, Output)> {
    let site = |folder: String| {
        let member = manifest_of(files, &folder)?;
        let below = Subfolder::of(files.tree, &folder)?;
        let Some(Served::Site(site)) = framework::find(Files { tree: &below }, &member) else { return None };
        let written = format!("{folder}/{}", site.folder);
        Some((folder, Output { folder: written, ..site }))
    };
    let mut found: Vec<_> = folders(files, manifest).into_iter().filter_map(site).collect();
    if found.len() > 1 {
        found.retain(|(folder, _)| !beside(folder));
    }
    found
}

/// Names of packages that are the web process, where several start.
pub(super) const STARTED: [&str; 4] = ["web", "server", "api", "app"];

/// Names of packages that are the site, where several build one.
pub(super) const SERVED: [&str; 7] = ["web", "app", "frontend", "client", "site", "website", "www"];

/// Of several packages, the one whose name says that it is what people see.
pub(super) fn obvious<'f>(folders: &'f [String], names: &[&str]) -> Option<&'f String> {
    let named = |name: &&str| folders.iter().find(|folder| folder.rsplit('/').next() == Some(name));
    names.iter().find_map(named)
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
        Tool::Bun => &["bun", "run", "--filter", "*", "build"],
        // Yarn 1 stops at the first package without the script.
        Tool::Yarn => &["yarn", "workspaces", "run", "build"],
    };
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let builders = with_script(files, manifest, "build");
    match builders.as_slice() {
        [] => None,
        [folder] if tool == Tool::Yarn => Some(owned(&["yarn", "--cwd", folder, "run", "build"])),
        some if tool == Tool::Yarn && some.len() < folders(files, manifest).len() => None,
        _ => Some(owned(words)),
    }
}
