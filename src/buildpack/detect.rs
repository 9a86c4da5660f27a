//! Which builder an app gets.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::app_json::{self, AppJson};
use super::attempt::{Attempt, SUFFIXES};
use super::catalog::Catalog;
use super::draft::folded;
use super::error::{DetectError, Place};
use super::paas_toml::{self, Given, PaasToml};
use super::pack::{self, Pack};
use super::procfile::{self, Procfile};
use super::source::Files;
use super::subfolder::Subfolder;
use super::{hint, line_ends, node, own};
use crate::model::dockerignore::Patterns;
use crate::model::{BuildPlan, ProcessType, RunCommand, SourceEntry, SourceTree};

/// The builder that is a repository's own Dockerfile.
const OWN: &str = "dockerfile";

/// Decides how an app is built and what it runs. Pure: reads the tree only.
pub fn plan(tree: &dyn SourceTree, catalog: &Catalog) -> Result<BuildPlan, DetectError> {
    refuse_reserved(tree)?;
    let settings = paas_toml::load(Files { tree }, &pack::builders()?)?;
    let Some(root) = settings.build.root.as_ref().filter(|root| root.value != ".") else {
        return of_app(Files { tree }, catalog, &settings);
    };
    let missing = || DetectError::MissingFile { file: root.value.clone(), named_by: root.place() };
    let app = Subfolder::of(tree, &root.value).ok_or_else(missing)?;
    refuse_reserved(&app)?;
    let mut plan = of_app(Files { tree: &app }, catalog, &settings)?;
    plan.decisions
        .insert(0, format!("the app in {}/, from {} line {}", root.value, paas_toml::FILE, root.line));
    plan.root = root.value.clone();
    Ok(plan)
}

/// The plan of a tree that is the app and nothing else.
fn of_app(files: Files<'_>, catalog: &Catalog, settings: &PaasToml) -> Result<BuildPlan, DetectError> {
    let app_json = files.text(app_json::FILE)?.map(|text| app_json::parse(&text)).transpose()?;
    let procfile = files.text("Procfile")?.map(|text| procfile::parse(&text)).transpose()?;
    let (declared, releases) = (
        procfile.is_some(),
        procfile.as_ref().is_some_and(|procfile| procfile.commands.keys().any(ProcessType::is_release)),
    );
    let mut plan =
        with_procfile(files, catalog, settings, procfile).map_err(|error| match error.cause() {
            DetectError::NoProcess { .. } | DetectError::SeveralBinaries(_) => {
                hint::misnamed(files, &["Procfile"]).or_else(|| hint::generator(files)).unwrap_or(error)
            }
            DetectError::NoMain | DetectError::MissingLock { .. } => hint::generator(files).unwrap_or(error),
            _ => error,
        })?;
    if let Some(DetectError::Misnamed { found, wanted }) = hint::misnamed(files, &["Procfile", "paas.toml"]) {
        plan.notices.push(format!("{found} is passed over: it must be called {wanted}"));
    }
    let (checks, watch) = (settings.checks.clone().unwrap_or_default(), settings.deploy.watch);
    let release_time = settings.deploy.release_time.unwrap_or(plan.release_time);
    let unix_lines = line_ends::to_mend(files);
    plan.notices.extend(line_ends::notice(&unix_lines).iter().flat_map(|notice| folded(notice)));
    let canary = settings.deploy.canary;
    let mut plan = BuildPlan { procfile: declared, canary, checks, watch, release_time, unix_lines, ..plan };
    paas_toml::apply(&mut plan, &settings.types)?;
    if let Some(http) = &settings.http {
        paas_toml::apply_http(&mut plan, http);
    }
    let app_json = app_json.unwrap_or_default();
    add_scripts(&mut plan, &app_json, releases);
    add_app_json(&mut plan, app_json, settings.checks.is_some());
    Ok(plan)
}

fn with_procfile(
    files: Files<'_>,
    catalog: &Catalog,
    settings: &PaasToml,
    procfile: Option<Procfile>,
) -> Result<BuildPlan, DetectError> {
    let mut passed_over = None;
    if let Some(dockerfile) = dockerfile_path(files, settings)? {
        if catalog.allows(OWN) {
            // The build asks the same of every file.
            Visible::of(files, &ignore_file(files.tree, &dockerfile))?;
            return own::plan(files, catalog, &dockerfile, settings, procfile);
        }
        passed_over = Some((OWN, Place::file(&dockerfile)));
    }
    hint::refuse_linked(files)?;
    let visible = Visible::of(files, IGNORE)?;
    let ignored = files.tree.entries().len() - visible.entries.len();
    let files = Files { tree: &visible };
    let mut matches = matching(files, settings)?;
    let told = settings.build.builder.as_ref().map(|given| (given.value.as_str(), given.place()));
    let first = matches.first().map(|(pack, file)| (pack.key.as_str(), Place::file(file)));
    matches.retain(|(pack, _)| catalog.allows(&pack.key));
    let wanted = told.or_else(|| matches.is_empty().then(|| passed_over.clone().or(first))?);
    if let Some((builder, place)) = wanted.filter(|(builder, _)| !catalog.allows(builder)) {
        let allowed = catalog.allow.clone().unwrap_or_default();
        return Err(DetectError::NotAllowed { builder: builder.to_owned(), place, allowed });
    }
    let passed_over = passed_over.map(|(_, place)| place.file);
    let attempt = Attempt { files, catalog, settings, procfile, matches, passed_over };
    match attempt.plan()? {
        Some(plan) => Ok(plan),
        None => Err(nothing(files, ignored)?),
    }
}

/// The usual file of patterns.
const IGNORE: &str = ".dockerignore";

/// The file of patterns that holds for a Dockerfile: one of its own beats the usual one.
/// <https://docs.docker.com/build/concepts/context/#filename-and-location>
pub fn ignore_file(tree: &dyn SourceTree, dockerfile: &str) -> String {
    let own = format!("{dockerfile}{IGNORE}");
    if tree.has_file(&own) { own } else { IGNORE.to_owned() }
}

/// Longest that `.dockerignore` may take: ten thousand patterns and a hundred
/// thousand files can be made to take hours.
const LONGEST: Duration = Duration::from_secs(5);

/// A tree without what `.dockerignore` keeps out of the build: detection must
/// not count on a file that the build will not find.
struct Visible<'a> {
    tree: &'a dyn SourceTree,
    entries: Vec<SourceEntry>,
}

impl<'a> Visible<'a> {
    fn of(files: Files<'a>, ignore: &str) -> Result<Self, DetectError> {
        let patterns = files.text(ignore)?.map(|text| Patterns::parse(&text)).unwrap_or_default();
        let begin = Instant::now();
        let mut entries = Vec::new();
        for entry in files.tree.entries() {
            if begin.elapsed() > LONGEST {
                return Err(DetectError::Endless(ignore.to_owned()));
            }
            if !patterns.excludes(&entry.path) {
                entries.push(entry.clone());
            }
        }
        Ok(Self { tree: files.tree, entries })
    }
}

impl SourceTree for Visible<'_> {
    fn entries(&self) -> &[SourceEntry] {
        &self.entries
    }

    fn read(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        self.entry(path).and_then(|_| self.tree.read(path, limit))
    }
}

fn refuse_reserved(tree: &dyn SourceTree) -> Result<(), DetectError> {
    let reserved = |path: &str| path == ".paas" || path.starts_with(".paas/");
    match tree.entries().iter().find(|entry| reserved(&entry.path)) {
        Some(entry) => Err(DetectError::ReservedPath(entry.path.clone())),
        None if tree.entries().is_empty() => Err(DetectError::Empty),
        None => Ok(()),
    }
}

/// The commands of app.json that are run before a release serves.
fn add_scripts(plan: &mut BuildPlan, app_json: &AppJson, releases: bool) {
    let file = app_json::FILE;
    if let Some(line) = &app_json.predeploy {
        if releases {
            let notice =
                format!("scripts.dokku.predeploy in {file} is passed over: the Procfile has a release line");
            plan.notices.extend(folded(&notice));
        } else {
            let before = match plan.release.take() {
                Some(RunCommand::Shell(line)) => Some(line),
                Some(RunCommand::Exec(words)) => Some(shell_words::join(words)),
                Some(RunCommand::Image) | None => None,
            };
            // In a shell of its own: what it passes over (`|| true`) is its own failure alone.
            let own = || format!("/bin/sh -c {}", shell_words::quote(line));
            let both = before.map_or_else(|| line.clone(), |before| format!("{before} && {}", own()));
            plan.release = Some(RunCommand::Shell(both));
            plan.decisions
                .extend(folded(&format!("release: {line}, from scripts.dokku.predeploy in {file}")));
        }
    }
    if let Some(line) = &app_json.postdeploy {
        plan.first = Some(RunCommand::Shell(line.clone()));
        plan.decisions
            .extend(folded(&format!("at the first deploy: {line}, from scripts.postdeploy in {file}")));
    }
}

/// What app.json says, where paas.toml says nothing else; counts of process types
/// that are not there are passed over.
fn add_app_json(plan: &mut BuildPlan, app_json: AppJson, asked: bool) {
    plan.notices.extend(app_json.notices.iter().flat_map(|notice| folded(notice)));
    plan.config.extend(app_json.env);
    if let Some(checks) = app_json.checks.filter(|_| !asked) {
        plan.checks = checks;
        plan.decisions.push(format!("web is asked as {} says", app_json::FILE));
    }
    for (kind, count) in app_json.formation {
        if plan.processes.contains_key(&kind) {
            plan.types.entry(kind).or_default().count.get_or_insert(count);
        } else {
            let file = app_json::FILE;
            plan.notices
                .extend(folded(&format!("{kind} in {file} is passed over: there is no such process type")));
        }
    }
}

/// The repository's own Dockerfile, if it is to be used.
fn dockerfile_path(files: Files<'_>, settings: &PaasToml) -> Result<Option<String>, DetectError> {
    if settings.build.builder.as_ref().is_some_and(|builder| builder.value != "dockerfile") {
        return Ok(None);
    }
    let place = settings.build.dockerfile.as_ref().or(settings.build.builder.as_ref()).map(Given::place);
    let path = settings.build.dockerfile.as_ref().map_or("Dockerfile", |given| given.value.as_str());
    match (files.text(path)?, place) {
        (Some(_), _) => Ok(Some(path.to_owned())),
        (None, Some(named_by)) => Err(DetectError::MissingFile { file: path.to_owned(), named_by }),
        (None, None) => Ok(None),
    }
}

/// Buildpacks that match the root, in order, each with the file that says so.
fn matching(
    files: Files<'_>,
    settings: &PaasToml,
) -> Result<Vec<(&'static Pack, &'static str)>, DetectError> {
    let sign = |pack: &'static Pack| {
        let found = pack.detect.iter().map(String::as_str).find(|file| files.has(file));
        let told = pack.key == "static" && settings.site.is_some();
        found.or(told.then_some(paas_toml::FILE))
    };
    let page = node::is_page(files, settings);
    let packs = pack::all()?.iter().filter(|pack| pack.key != "node" || !page);
    let found: Vec<_> = packs.filter_map(|pack| sign(pack).map(|file| (pack, file))).collect();
    if found.is_empty() && settings.build.builder.is_none() {
        return by_suffix(files);
    }
    let is_page = settings.site.is_none() && found.iter().all(|(pack, _)| pack.key == "static");
    if is_page && serves_by_go(files) {
        return Ok([by_suffix(files)?, found].concat());
    }
    Ok(found)
}

/// Whether a Go file of the root is a program that listens: pages beside it are its own.
fn serves_by_go(files: Files<'_>) -> bool {
    const LISTENS: [&str; 4] = ["ListenAndServe", ".Listen(", ".Start(", ".Run("];
    // Anything may be started or run.
    const HTTP: [&str; 6] = ["\"net/http\"", "/gin\"", "/echo", "/fiber", "/chi", "/iris"];
    let mut root = files.paths().filter(|path| path.ends_with(".go") && !path.contains('/'));
    root.any(|path| {
        let text = files.hint(path).unwrap_or_default();
        let program = text.lines().any(|line| line.trim_end() == "package main");
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        program && has(&LISTENS) && has(&HTTP)
    })
}

fn by_suffix(files: Files<'_>) -> Result<Vec<(&'static Pack, &'static str)>, DetectError> {
    let script = |suffix: &str| {
        let named = |path: &str| {
            path.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty() && !stem.contains('/'))
        };
        files.paths().any(named)
    };
    let fitting = SUFFIXES.into_iter().filter(|(_, suffix)| script(suffix));
    fitting.map(|(key, suffix)| Ok((pack::get(key)?, suffix))).collect()
}

/// The refusal where no buildpack matches.
fn nothing(files: Files<'_>, ignored: usize) -> Result<DetectError, DetectError> {
    let mut seen: Vec<String> = Vec::new();
    for entry in files.tree.entries() {
        let name = match entry.path.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => entry.path.clone(),
        };
        if seen.last() != Some(&name) {
            seen.push(name);
        }
    }
    let folders = fitting(files)?;
    Ok(hint::reason(files, &folders).unwrap_or(DetectError::NothingMatched { seen, folders, ignored }))
}

/// Folders that could be apps, those first whose names say that they are: of the
/// root, or else of its folders.
fn fitting(files: Files<'_>) -> Result<Vec<String>, DetectError> {
    const OBVIOUS: [&str; 7] = ["server", "api", "backend", "app", "web", "client", "frontend"];
    const BESIDE: [&str; 10] =
        ["docs", "doc", "example", "examples", "sample", "samples", "test", "tests", "e2e", "node_modules"];
    let signs = pack::all()?.iter().flat_map(|pack| &pack.detect).map(String::as_str);
    let signs: BTreeSet<&str> = signs.chain(["Dockerfile"]).collect();
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for path in files.paths() {
        let Some((folder, _)) = path.rsplit_once('/').filter(|(_, name)| signs.contains(name)) else {
            continue;
        };
        let beside = |part: &str| part.starts_with('.') || BESIDE.contains(&part);
        if folder.matches('/').count() < 2 && !folder.split('/').any(beside) {
            found.insert(folder);
        }
    }
    let near = found.iter().any(|folder| !folder.contains('/'));
    let rank = |folder: &&str| {
        let last = folder.rsplit('/').next().unwrap_or_default();
        OBVIOUS.iter().position(|name| *name == last).unwrap_or(OBVIOUS.len())
    };
    let mut found: Vec<&str> = found.into_iter().filter(|folder| !near || !folder.contains('/')).collect();
    found.sort_by_key(rank);
    Ok(found.into_iter().map(str::to_owned).collect())
}
