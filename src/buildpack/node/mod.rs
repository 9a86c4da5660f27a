//! Node: manager, installs, builds, and what it starts.

mod assets;
mod build;
mod compiled;
mod fits;
mod framework;
mod install;
mod keep;
mod line;
mod lock;
mod manager;
mod manifest;
mod member;
mod page;
mod release;
mod script;
mod site;
mod start;
mod token;
mod yarnrc;

use minijinja::{Value, context};
use nodejs_semver::Version;

use super::draft::{CONTEXT_ROOT, Draft};
use super::error::{DetectError, Place};
use super::loopback;
use super::site::Site;
use crate::model::BuildPlan;
pub(super) use assets::assets;
use install::{Install, Purpose};
use keep::Run;
use manager::{Manager, Tool};
use manifest::Manifest;
pub(super) use page::is_page;
use site::Output;
use start::{Means, Start};

/// Where a manager that Node lacks is installed.
const PREFIX: &str = "/opt/manager";

/// Where an npm goes that takes the place of the first.
const OTHER_PREFIX: &str = "/opt/npm";

/// How its sources end.
const SOURCES: [&str; 4] = [".js", ".mjs", ".cjs", ".ts"];

/// The first Node that runs TypeScript by leaving out its types.
const STRIPS_TYPES: (u64, u64) = (22, 18);

/// Makes the plan of a Node app.
pub(super) fn plan(mut draft: Draft<'_>) -> Result<BuildPlan, DetectError> {
    let manifest = Manifest::load(draft.files)?;
    token::take(&mut draft);
    let node = release::choose(&mut draft, &manifest)?;
    let has_manifest = draft.files.has(manifest::FILE);
    let manager = manager::choose(&mut draft, &manifest, &node)?;
    check_yarn_path(&draft, &manager)?;
    lock::check(draft.files, &manifest, &manager)?;
    let own_build = draft.settings.build.build.is_some();
    let build = if own_build { Vec::new() } else { build::command(draft.files, &manifest, manager.tool) };
    if has_manifest && draft.settings.build.install.is_none() {
        install::note(&mut draft, &manager);
    }
    if !build.is_empty() {
        draft.decide(format!("{}, from package.json", build.join(" ")));
    }
    let means = Means {
        tool: manager.tool,
        plug_and_play: install::plug_and_play(draft.files, &manager),
        builds: own_build || !build.is_empty(),
        strips_types: strips_types(&node.release),
    };
    if !draft.declared() && means.builds && draft.settings.site.is_none() {
        framework::check(draft.files, &manifest)?;
    }
    let start = start::decide(&mut draft, &manifest, &means)?;
    script::check(&draft, &manifest)?;
    draft.loopback = loopback::advice(draft.files, &SOURCES, manifest.depends("fastify"));
    let run = Run::of(&draft, &manifest);
    let (development, kept) = (run.development(&start), run.needs_manager());
    if let Some(output) = start.site.clone() {
        serve(&mut draft, output);
    }
    let changes = draft.steps.changes_files();
    let purpose = |own_scripts: bool| match &development {
        Some(_) => Purpose::Everything,
        None if own_scripts || changes || !build.is_empty() => Purpose::Build,
        None => Purpose::Run,
    };
    let install = has_manifest.then(|| install::plan(&draft, &manifest, &manager, purpose));
    if let Some(needed) = &development {
        draft.warn(format!("{needed} but is a development dependency: these stay in the image"));
    }
    let other_npm = manager::other_npm(&manager, &node)?.filter(|_| install.is_some());
    let values = values(&draft, &manifest, &manager, install.as_ref(), &build, &start, kept);
    let values = context! { other_npm => other_npm.as_ref().map(refetch), ..values };
    let mut plan = draft.finish(&node.offer, values)?;
    let env = start.program.map(|program| program.env).unwrap_or_default();
    plan.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Ok(plan)
}

/// Has a folder that the build writes served, as `[static]` says if it does.
fn serve(draft: &mut Draft<'_>, output: Output) {
    let settings = draft.settings.site.clone().unwrap_or_default();
    let fallback = settings.fallback.as_ref().map(|given| given.value.clone()).or(output.fallback);
    let folder = settings.root.as_ref().map_or(output.folder, |given| given.value.clone());
    let whole_repository = folder == ".";
    let folder =
        if whole_repository { format!("/{CONTEXT_ROOT}/") } else { format!("/{CONTEXT_ROOT}/{folder}/") };
    draft.serve(Site { stage: Some("build"), folder, whole_repository, fallback, settings });
}

fn strips_types(release: &Version) -> bool {
    (release.major(), release.minor()) >= STRIPS_TYPES && release.major() != 23
}

/// A release of yarn that the repository says it has.
fn check_yarn_path(draft: &Draft<'_>, manager: &Manager) -> Result<(), DetectError> {
    const FILE: &str = ".yarnrc.yml";
    if manager.tool == Tool::Yarn {
        return yarnrc::check(draft.files);
    }
    if manager.tool != Tool::Berry {
        return Ok(());
    }
    let text = draft.files.text(FILE)?.unwrap_or_default();
    for (index, line) in text.lines().enumerate() {
        let Some(path) = line.strip_prefix("yarnPath:") else { continue };
        let path = path.trim().trim_matches(['"', '\'']);
        if !draft.files.has(path.strip_prefix("./").unwrap_or(path)) {
            let named_by = Place::line(FILE, index + 1);
            return Err(DetectError::MissingFile { file: path.to_owned(), named_by });
        }
    }
    Ok(())
}

/// What the template is filled in with.
fn values(
    draft: &Draft<'_>,
    manifest: &Manifest,
    manager: &Manager,
    install: Option<&Install>,
    build: &[String],
    start: &Start,
    kept: bool,
) -> Value {
    let run = |name: &&str| vec![manager.tool.program().to_owned(), "run".to_owned(), (*name).to_owned()];
    let deferred: Vec<_> =
        install.map(|install| install.deferred.iter().map(run).collect()).unwrap_or_default();
    let whole_tree = install.is_some_and(|install| install.whole_tree);
    let prune = install.map(|install| install.prune.clone()).unwrap_or_default();
    let from_build =
        start.site.is_some() || !build.is_empty() || whole_tree || !deferred.is_empty() || !prune.is_empty();
    let output = start.program.as_ref().map(|program| program.output.clone()).unwrap_or_default();
    let output: Vec<_> =
        output.into_iter().map(|(from, to)| vec![format!("/app/{from}"), to.to_owned()]).collect();
    let plug_and_play = install.is_some_and(|install| install.plug_and_play);
    // What a build leaves where it was installed: sources between packages,
    // archives in place of node_modules, a copy that the repository brings,
    // packages that own scripts or frameworks write into.
    let together = whole_tree
        || manager.tool != Tool::Npm
        || !deferred.is_empty()
        || manifest.depends("next")
        || manifest.depends("@prisma/client")
        || draft.steps.changes_files()
        || draft.files.has_folder("node_modules");
    let apart = install.is_some() && from_build && start.site.is_none() && output.is_empty() && !together;
    context! {
        tool => tool_key(manager.tool),
        fetch => manager.package.as_ref().map(fetch),
        copies => install.map(|install| install.copies.clone()).unwrap_or_default(),
        installs => install.map(|install| install.commands.clone()).unwrap_or_default(),
        build => build.to_vec(), whole_tree, from_build, deferred, prune, output, plug_and_play,
        esm => plug_and_play && manifest.text(&["type"]) == Some("module"),
        prebuild => manifest.script("heroku-prebuild").map(|_| run(&"heroku-prebuild")),
        more_builds => Vec::<Vec<String>>::new(),
        all_builds => manager.tool == Tool::Pnpm && !manager.named && !chooses_builds(draft, manifest),
        frozen => manager.lock.is_some(),
        kept => kept && manager.package.is_some(),
        apart,
        next => next_caches(draft, manifest),
        adapts => member::all(draft.files, manifest)
            .iter()
            .map(|member| &member.manifest)
            .chain([manifest])
            .any(|manifest| manifest.depends("@sveltejs/adapter-auto")),
        whole_site => start.site.as_ref().is_some_and(|site| site.folder == "."),
    }
}

/// Caches of what Next builds, one per package: where they are, and what they are
/// called.
fn next_caches(draft: &Draft<'_>, manifest: &Manifest) -> Vec<(String, String)> {
    const MOST: usize = 8;
    let members = member::all(draft.files, manifest).into_iter();
    let members = members.filter(|member| member.manifest.depends("next")).map(|member| member.folder);
    let named =
        |folder: String| (format!("/app/{folder}/.next/cache"), format!("next-{}", folder.replace('/', "-")));
    let root = manifest.depends("next").then(|| ("/app/.next/cache".to_owned(), "next".to_owned()));
    root.into_iter().chain(members.map(named)).take(MOST).collect()
}

fn tool_key(tool: Tool) -> &'static str {
    match tool {
        Tool::Npm => "npm",
        Tool::Pnpm => "pnpm",
        Tool::Yarn => "yarn",
        Tool::Berry => "berry",
        Tool::Bun => "bun",
    }
}

/// Whether the app says which dependencies may run scripts when they are
/// installed; pnpm runs none from version 10 on unless told to.
fn chooses_builds(draft: &Draft<'_>, manifest: &Manifest) -> bool {
    const KEYS: [&str; 5] = [
        "onlyBuiltDependencies",
        "ignoredBuiltDependencies",
        "neverBuiltDependencies",
        "allowBuilds",
        "dangerouslyAllowAllBuilds",
    ];
    let settings = draft.files.hint("pnpm-workspace.yaml").unwrap_or_default();
    KEYS.iter().any(|key| {
        manifest.has(&["pnpm", key]) || settings.lines().any(|line| line.starts_with(&format!("{key}:")))
    })
}

/// The npm that is tried where the first refuses the lock file.
fn refetch(other: &manager::OtherNpm) -> Value {
    match other {
        manager::OtherNpm::Own => context! { prefix => OTHER_PREFIX },
        manager::OtherNpm::Fetched(package) => context! {
            prefix => OTHER_PREFIX, file => package.file(),
            spec => format!("{}@{}", package.name, package.version),
            digits => package.checksum.as_ref().map(|checksum| checksum.digits.as_str()),
        },
    }
}

/// The manager's package, as the template fetches it.
fn fetch(package: &manager::Package) -> Value {
    let file = package.file();
    let checked = package.checked_file(PREFIX);
    let installed = checked.is_some();
    let checksum = package.checksum.as_ref().map(|checksum| {
        context! {
            program => checksum.program, digits => checksum.digits.as_str(), installed,
            file => checked.unwrap_or_else(|| file.clone()),
        }
    });
    context! {
        spec => format!("{}@{}", package.name, package.version),
        prefix => PREFIX,
        bun => package.name.starts_with("@oven/").then(|| format!("{PREFIX}/lib/node_modules/{}/bin/bun", package.name)),
        file, checksum,
    }
}

#[cfg(test)]
mod tests;
