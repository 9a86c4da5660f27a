//! How the dependencies get there, and how those for development leave again.

use super::manager::{Manager, Tool};
use super::manifest::{self, Manifest};
use super::yarnrc;
use crate::buildpack::draft::{CONTEXT_ROOT, Draft, copy};
use crate::buildpack::source::Files;

/// What the template is told about dependencies.
pub(super) struct Install {
    /// COPY lines before the install: sources and target.
    pub copies: Vec<Vec<String>>,
    /// Whether the install needs the whole tree.
    pub whole_tree: bool,
    /// Own scripts of the install that wait for the sources.
    pub deferred: Vec<&'static str>,
    /// Commands, one after another; none if there is no manifest.
    pub commands: Vec<Vec<String>>,
    /// Commands that leave only what runs; none if there is nothing to remove.
    pub prune: Vec<Vec<String>>,
    /// Whether the dependencies are files of Plug'n'Play, without node_modules.
    pub plug_and_play: bool,
}

/// What an install is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What runs, and nothing else.
    Run,
    /// A build, after which the rest is removed.
    Build,
    /// Everything, to the end.
    Everything,
}

/// Decides how the dependencies are installed. `purpose` is asked whether the
/// own scripts of the install make a build necessary.
pub(super) fn plan(
    draft: &Draft<'_>,
    manifest: &Manifest,
    manager: &Manager,
    purpose: impl FnOnce(bool) -> Purpose,
) -> Install {
    let files = draft.files;
    let own = draft.settings.build.install.is_some();
    let workspace = is_workspace(files, manifest);
    let whole_tree = own || files.has("bin/pre_compile") || needs_tree(files, manifest, workspace);
    let deferred = if whole_tree { Vec::new() } else { manifest.lifecycle() };
    let plug_and_play = plug_and_play(files, manager);
    let purpose = match purpose(whole_tree || !deferred.is_empty()) {
        Purpose::Run if plug_and_play => Purpose::Build,
        other => other,
    };
    let copies = if whole_tree {
        vec![vec![format!("{CONTEXT_ROOT}/"), "./".to_owned()]]
    } else {
        copies(files, manifest, manager)
    };
    let removable = !own && (manifest.has_development() || workspace);
    let prune =
        if purpose == Purpose::Build && removable { prune(files, manager, workspace) } else { Vec::new() };
    Install {
        copies,
        whole_tree,
        deferred,
        commands: commands(files, manager, purpose),
        prune,
        plug_and_play,
    }
}

/// Says what installs them, and from what.
pub(super) fn note(draft: &mut Draft<'_>, manager: &Manager) {
    let program = manager.tool.program();
    let Some(lock) = manager.lock else {
        draft.decide(format!("{program} install, from {}", manifest::FILE));
        let written = match manager.tool {
            Tool::Npm => "package-lock.json",
            Tool::Pnpm => "pnpm-lock.yaml",
            Tool::Yarn | Tool::Berry => "yarn.lock",
            Tool::Bun => "bun.lock",
        };
        draft.warn(format!("there is no {written}: versions may change between builds; commit the one that {program} install writes"));
        return;
    };
    draft.decide(format!("{}, from {lock}", verb(manager)));
}

/// What is said of an install by a lock file: `npm ci`.
pub(super) fn verb(manager: &Manager) -> String {
    let verb = if manager.tool == Tool::Npm { "ci" } else { "install" };
    format!("{} {verb}", manager.tool.program())
}

/// Whether there are packages of the repository beside the root's.
pub(super) fn is_workspace(files: Files<'_>, manifest: &Manifest) -> bool {
    let pnpm = files.hint("pnpm-workspace.yaml").unwrap_or_default();
    manifest.has(&["workspaces"]) || pnpm.lines().any(|line| line.starts_with("packages:"))
}

/// Whether the install needs the whole tree: packages of the repository,
/// patches outside the usual folder, or a script that asks to run before it.
fn needs_tree(files: Files<'_>, manifest: &Manifest, workspace: bool) -> bool {
    let patched = manifest.has(&["pnpm", "patchedDependencies"]) || manifest.has(&["patchedDependencies"]);
    workspace
        || manifest.has_local()
        || manifest.script("heroku-prebuild").is_some()
        || (patched && !files.has_folder("patches"))
}

/// Yarn's way from version 2 on, unless told otherwise.
pub(super) fn plug_and_play(files: Files<'_>, manager: &Manager) -> bool {
    if manager.tool != Tool::Berry {
        return false;
    }
    let text = files.hint(".yarnrc.yml").unwrap_or_default();
    let linker = text.lines().find_map(|line| line.strip_prefix("nodeLinker:"));
    linker.is_none_or(|linker| linker.trim().trim_matches(['"', '\'']) == "pnp")
}

/// The manifest, its lock, and what else an install reads.
fn copies(files: Files<'_>, manifest: &Manifest, manager: &Manager) -> Vec<Vec<String>> {
    let (settings, folders): (&[&str], &[&str]) = match manager.tool {
        Tool::Npm => (&[".npmrc"], &[]),
        Tool::Pnpm => (&[".npmrc", "pnpm-workspace.yaml", ".pnpmfile.cjs"], &["patches"]),
        Tool::Yarn => (&[".npmrc", ".yarnrc"], &[]),
        Tool::Berry => (&[".yarnrc.yml"], &[".yarn", "patches"]),
        Tool::Bun => (&[".npmrc", "bunfig.toml"], &["patches"]),
    };
    let mut together = vec![manifest::FILE];
    together.extend(manager.lock);
    together.extend(settings.iter().filter(|file| files.has(file)));
    // Prisma's client is generated by its own install, from the schema.
    let prisma = manifest.depends("@prisma/client").then_some("prisma");
    let folders = folders.iter().copied().chain(prisma).filter(|folder| files.has_folder(folder));
    let folders: Vec<_> = folders.map(|folder| copy(&[folder], &format!("./{folder}"))).collect();
    let named = if manager.tool == Tool::Yarn { yarnrc::paths(files) } else { Vec::new() };
    let named: Vec<_> = named.iter().map(|path| copy(&[path], &format!("./{path}"))).collect();
    [vec![copy(&together, "./")], folders, named].concat()
}

fn commands(files: Files<'_>, manager: &Manager, purpose: Purpose) -> Vec<Vec<String>> {
    let locked = manager.lock.is_some();
    let run = purpose == Purpose::Run;
    let words: &[&str] = match (manager.tool, locked) {
        (Tool::Npm, true) if run => &["npm", "ci", "--omit=dev"],
        (Tool::Npm, true) => &["npm", "ci", "--include=dev"],
        (Tool::Npm, false) if run => &["npm", "install", "--omit=dev"],
        (Tool::Npm, false) => &["npm", "install", "--include=dev"],
        (Tool::Pnpm, true) if run => &["pnpm", "install", "--frozen-lockfile", "--prod"],
        (Tool::Pnpm, true) => &["pnpm", "install", "--frozen-lockfile"],
        (Tool::Pnpm, false) if run => &["pnpm", "install", "--no-frozen-lockfile", "--prod"],
        (Tool::Pnpm, false) => &["pnpm", "install", "--no-frozen-lockfile"],
        (Tool::Yarn, true) if run => {
            &["yarn", "install", "--frozen-lockfile", "--non-interactive", "--ignore-engines", "--production"]
        }
        (Tool::Yarn, true) => {
            &["yarn", "install", "--frozen-lockfile", "--non-interactive", "--ignore-engines"]
        }
        (Tool::Yarn, false) if run => {
            &["yarn", "install", "--non-interactive", "--ignore-engines", "--production"]
        }
        (Tool::Yarn, false) => &["yarn", "install", "--non-interactive", "--ignore-engines"],
        (Tool::Berry, true) => &["yarn", "install", "--immutable"],
        (Tool::Berry, false) => &["yarn", "install", "--no-immutable"],
        (Tool::Bun, true) if run => &["bun", "install", "--frozen-lockfile", "--production"],
        (Tool::Bun, true) => &["bun", "install", "--frozen-lockfile"],
        (Tool::Bun, false) if run => &["bun", "install", "--production"],
        (Tool::Bun, false) => &["bun", "install"],
    };
    let focus = run && manager.tool == Tool::Berry;
    let pruned = if focus { prune(files, manager, false) } else { Vec::new() };
    [vec![owned(words)], pruned].concat()
}

/// What removes development dependencies. Scripts do not run again: they have,
/// and may need what is removed.
fn prune(files: Files<'_>, manager: &Manager, workspace: bool) -> Vec<Vec<String>> {
    let locked = manager.lock.is_some();
    let words: &[&str] = match manager.tool {
        Tool::Npm => &["npm", "prune", "--omit=dev", "--ignore-scripts"],
        Tool::Pnpm if workspace => &["pnpm", "install", "--prod", "--offline", "--ignore-scripts"],
        Tool::Pnpm => &["pnpm", "prune", "--prod", "--ignore-scripts"],
        Tool::Yarn if locked => &[
            "yarn",
            "install",
            "--frozen-lockfile",
            "--non-interactive",
            "--ignore-engines",
            "--production",
            "--ignore-scripts",
            "--prefer-offline",
        ],
        Tool::Yarn => &[
            "yarn",
            "install",
            "--non-interactive",
            "--ignore-engines",
            "--production",
            "--ignore-scripts",
            "--prefer-offline",
        ],
        Tool::Berry if can_focus(files, manager) => {
            &["env", "YARN_ENABLE_SCRIPTS=false", "yarn", "workspaces", "focus", "--all", "--production"]
        }
        Tool::Berry => return Vec::new(),
        Tool::Bun if locked => &["bun", "install", "--frozen-lockfile", "--production"],
        Tool::Bun => &["bun", "install", "--production"],
    };
    vec![owned(words)]
}

/// Yarn 4 can by itself, yarn 2 and 3 with a plugin.
fn can_focus(files: Files<'_>, manager: &Manager) -> bool {
    let major =
        manager.package.as_ref().and_then(|package| package.version.split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major >= 4) || files.has(".yarn/plugins/@yarnpkg/plugin-workspace-tools.cjs")
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
