//! What the app starts.

use super::compiled;
use super::framework::{self, Program, Served};
use super::line;
use super::manager::Tool;
use super::manifest::{self, Manifest};
use super::member;
use super::page;
use super::site::Output;
use crate::buildpack::draft::{Draft, exec};
use crate::buildpack::error::DetectError;
use crate::buildpack::source::Files;
use crate::model::RunCommand;

/// Entry files without a `start` script, most usual first.
const ENTRIES: [&str; 14] = [
    "server.js",
    "index.js",
    "app.js",
    "main.js",
    "server.mjs",
    "index.mjs",
    "app.mjs",
    "server.cjs",
    "index.cjs",
    "src/index.js",
    "src/server.js",
    "src/app.js",
    "src/main.js",
    "dist/index.js",
];

/// The same in TypeScript, where something runs it as it is.
const TYPED: [&str; 8] = [
    "server.ts",
    "index.ts",
    "app.ts",
    "main.ts",
    "src/index.ts",
    "src/server.ts",
    "src/app.ts",
    "src/main.ts",
];

/// Packages that make a program a server.
const SERVERS: [&str; 14] = [
    "express",
    "fastify",
    "koa",
    "hono",
    "@hono/node-server",
    "@hapi/hapi",
    "restify",
    "polka",
    "ws",
    "socket.io",
    "h3",
    "connect",
    "@feathersjs/express",
    "elysia",
];

/// What there is to know for the start.
pub(super) struct Means {
    /// Who would run a script.
    pub tool: Tool,
    /// Whether programs are found by Plug'n'Play alone.
    pub plug_and_play: bool,
    /// Whether something is built.
    pub builds: bool,
    /// Whether this Node runs TypeScript by itself.
    pub strips_types: bool,
}

/// The decision.
#[derive(Default)]
pub(super) struct Start {
    /// A static site instead of a program.
    pub site: Option<Output>,
    /// The framework's server.
    pub program: Option<Program>,
}

/// Decides the web command unless the Procfile does.
pub(super) fn decide(
    draft: &mut Draft<'_>,
    manifest: &Manifest,
    means: &Means,
) -> Result<Start, DetectError> {
    if draft.declared() {
        return Ok(Start::default());
    }
    let named = draft.settings.site.as_ref().and_then(|site| site.root.as_ref());
    let named = named.map(|root| Served::Site(Output::new("the build", &root.value)));
    let served = named.or_else(|| framework::find(draft.files, manifest)).filter(|_| means.builds);
    let script = manifest.script("start");
    let program = script.map(|line| line::program(manifest, line)).unwrap_or_default();
    let develops = script.is_some() && framework::develops(manifest, &program);
    let built =
        served.as_ref().and_then(|served| if let Served::Site(site) = served { Some(site) } else { None });
    if let Some(site) = page::served(manifest, &program, built) {
        draft.decide(format!("scripts.start serves {} by {}: we do", site.folder, program[0]));
        return Ok(Start { site: Some(site), program: None });
    }
    match served {
        Some(Served::Site(site)) => {
            let unstarted = script.is_none() && !has_server(draft.files, manifest);
            if unstarted || develops || !starts(&program, &site) {
                return Ok(site_start(draft, site, &program));
            }
            own_start(draft, manifest, means).map(|()| Start::default())
        }
        Some(Served::Program(server)) if script.is_none() || develops || server.insists => {
            Ok(framework_start(draft, manifest, whole(draft, server), &program))
        }
        Some(Served::Program(server)) => {
            own_start(draft, manifest, means)?;
            Ok(Start { site: None, program: Some(Program { output: Vec::new(), ..server }) })
        }
        None => match own_start(draft, manifest, means) {
            Err(error @ DetectError::NoProcess { .. }) => {
                let member = if means.builds { member_site(draft, manifest) } else { None };
                let page = || page::built(draft.files, manifest).filter(|_| means.builds);
                let site = member.or_else(page).ok_or(error)?;
                Ok(site_start(draft, site, &[]))
            }
            other => other.map(|()| Start::default()),
        },
    }
}

/// The server in an image with everything, if the release command or the app's
/// own part in the build may need more than the server itself.
fn whole(draft: &Draft<'_>, server: Program) -> Program {
    if draft.release.is_none() && !draft.steps.changes_files() {
        return server;
    }
    let standalone = server.insists && server.name == "Next";
    let command = if standalone { exec(&["next", "start"]) } else { server.command };
    Program { command, output: Vec::new(), insists: server.insists && !standalone, ..server }
}

fn site_start(draft: &mut Draft<'_>, site: Output, script: &[String]) -> Start {
    let folder = if site.folder == "." { "the app's folder".to_owned() } else { format!("{}/", site.folder) };
    draft.decide(format!("{folder} is served, which {} builds", site.name));
    if let Some(program) = script.first() {
        let why = if starts(script, &site) { "is for development" } else { "serves no files" };
        draft.warn(format!("scripts.start runs {program}, which {why}: the built site is served instead"));
    }
    Start { site: Some(site), program: None }
}

/// Whether the script serves what the build makes: the servers of Next and of
/// React Router don't serve what these write as files.
fn starts(program: &[String], site: &Output) -> bool {
    let word = program.first().map(String::as_str).unwrap_or_default();
    !matches!((site.name, word), ("Next", "next") | ("React Router", "react-router-serve"))
}

/// Whether a package that serves is a dependency.
pub(super) fn serves(manifest: &Manifest) -> bool {
    SERVERS.iter().any(|package| manifest.depends(package))
}

/// Whether a package that serves is a dependency, and something may be using it.
pub(super) fn has_server(files: Files<'_>, manifest: &Manifest) -> bool {
    let serves = serves(manifest);
    let main = manifest.text(&["main"]).and_then(|main| entry(files, main)).is_some();
    let mut entries = ENTRIES.into_iter().filter(|file| !file.contains('/') || file.ends_with("/server.js"));
    serves && (main || entries.any(|file| files.has(file)))
}

fn framework_start(draft: &mut Draft<'_>, manifest: &Manifest, server: Program, script: &[String]) -> Start {
    let production =
        ["start:prod", "start:production"].into_iter().find(|name| manifest.script(name).is_some());
    let own = production
        .filter(|_| !server.insists)
        .and_then(|name| Some((name, line::direct(manifest.script(name)?)?)));
    match (own, script.first()) {
        (Some((name, command)), _) => {
            draft.web(command, &format!("from scripts.{name}, since scripts.start is for development"));
        }
        (None, None) => draft.web(server.command.clone(), &format!("as {} is started", server.name)),
        (None, Some(_)) => {
            draft.web(
                server.command.clone(),
                &format!("as {} is started, instead of scripts.start", server.name),
            );
        }
    }
    Start { site: None, program: Some(server) }
}

/// The start script, the file of `main`, or a file that is usually the entry.
fn own_start(draft: &mut Draft<'_>, manifest: &Manifest, means: &Means) -> Result<(), DetectError> {
    if let Some(command) = line::start(manifest, means.tool, means.plug_and_play) {
        let command = attached(draft, by_node(draft.files, command));
        draft.web(command, "from scripts.start");
        return Ok(());
    }
    let runner = runner(manifest, means);
    if let Some(production) = manifest.script("start:prod").and_then(line::direct) {
        draft.web(production, "from scripts.start:prod");
        return Ok(());
    }
    for key in ["main", "module"] {
        let main = manifest.text(&[key]);
        if let Some(main) = main.and_then(|main| entry(draft.files, main).or_else(|| built(main, means))) {
            let typed = main.ends_with(".ts") || main.ends_with(".tsx");
            if let Some(runner) = if typed { runner } else { Some(program(means)) } {
                draft.web(exec(&[runner, &main]), &format!("from {key} in {}", manifest::FILE));
                return Ok(());
            }
        }
    }
    let typed = runner.and_then(|runner| Some((runner, draft.files.first_of(&TYPED)?)));
    let plain = draft.files.first_of(&ENTRIES).map(|file| (program(means), file));
    let source = draft.files.first_of(&TYPED).filter(|_| means.builds && plain.is_none());
    if let Some((source, file)) =
        source.and_then(|file| Some((file, compiled::of(draft.files, manifest, file)?)))
    {
        draft.web(exec(&[program(means), &file]), &format!("what tsc makes of {source}"));
        return Ok(());
    }
    match plain.or(typed) {
        Some((runner, file)) => {
            draft.web(exec(&[runner, file]), file);
            Ok(())
        }
        None => member_start(draft, manifest, means),
    }
}

/// A program that would go to the background, and the container with it, in the
/// foreground.
fn attached(draft: &mut Draft<'_>, command: RunCommand) -> RunCommand {
    const LEAVING: [(&str, &str); 2] = [("pm2 start ", "pm2-runtime start "), ("forever start ", "forever ")];
    let line = command.to_string();
    let leaves = |(leaving, _): &&(&str, &str)| {
        line.strip_prefix(leaving).is_some() || line.contains(&format!("exec {leaving}"))
    };
    let Some((leaving, staying)) = LEAVING.iter().find(leaves).filter(|_| !line.contains("--no-daemon"))
    else {
        return command;
    };
    draft.warn(format!(
        "scripts.start runs {leaving}in the background, where it would end at once: {staying}runs instead"
    ));
    match command {
        RunCommand::Exec(_) => {
            RunCommand::Exec(line.replacen(leaving, staying, 1).split(' ').map(str::to_owned).collect())
        }
        RunCommand::Shell(line) => RunCommand::Shell(line.replacen(leaving, staying, 1)),
        RunCommand::Image => command,
    }
}

/// A script of the repository by the node that its first line asks for: those
/// who write on Windows have no executable files, and a CR behind the name.
fn by_node(files: Files<'_>, command: RunCommand) -> RunCommand {
    let RunCommand::Exec(words) = &command else { return command };
    let script = words.first().and_then(|word| word.strip_prefix("./"));
    let first = script.and_then(|path| Some(files.hint(path)?.lines().next()?.trim_end().to_owned()));
    match first.as_deref() {
        Some("#!/usr/bin/env node" | "#!/usr/bin/node" | "#!/usr/local/bin/node") => {
            RunCommand::Exec([vec!["node".to_owned()], words.clone()].concat())
        }
        _ => command,
    }
}

/// The one package of the workspace that has a start script.
fn member_start(draft: &mut Draft<'_>, manifest: &Manifest, means: &Means) -> Result<(), DetectError> {
    let members = member::with_script(draft.files, manifest, "start");
    match members.as_slice() {
        [] => member_program(draft, manifest, means),
        [folder] => {
            draft.web(
                member::start(means.tool, folder),
                &format!("from scripts.start in {folder}/{}", manifest::FILE),
            );
            Ok(())
        }
        [first, ..] => {
            let line = |folder: &str| format!("web: {}", member::start(means.tool, folder));
            let Some(folder) = member::obvious(&members, &member::STARTED) else {
                return Err(nothing(&line(first)));
            };
            draft.warn(format!(
                "{} packages have a start script; {folder} is started, for its name: a Procfile chooses another",
                members.len()
            ));
            draft.web(
                member::start(means.tool, folder),
                &format!("from scripts.start in {folder}/{}", manifest::FILE),
            );
            Ok(())
        }
    }
}

/// The server of the framework that a package of the workspace is made with.
fn member_program(draft: &mut Draft<'_>, manifest: &Manifest, means: &Means) -> Result<(), DetectError> {
    let mut programs = if means.builds { member::programs(draft.files, manifest) } else { Vec::new() };
    let folders: Vec<String> = programs.iter().map(|program| program.folder.clone()).collect();
    if let [first, _, ..] = folders.as_slice() {
        let line = || programs.first().map(|program| format!("web: {}", program.command));
        let Some(chosen) = member::obvious(&folders, &member::STARTED) else {
            return Err(nothing(&line().unwrap_or_else(|| format!("web: cd {first} && node server.js"))));
        };
        draft.warn(format!(
            "{} packages are made with a framework; {chosen} is started, for its name: a Procfile chooses another",
            folders.len()
        ));
        programs.retain(|program| program.folder == *chosen);
    }
    let program = programs.pop().ok_or_else(|| nothing("web: node myserver.js"))?;
    draft.web(program.command, &format!("as {} is started, in {}/", program.name, program.folder));
    draft.env.extend(program.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Ok(())
}

/// The one site that a package of the workspace builds, or the one whose name says so.
fn member_site(draft: &mut Draft<'_>, manifest: &Manifest) -> Option<Output> {
    let mut sites = member::sites(draft.files, manifest);
    if sites.len() > 1 {
        let folders: Vec<String> = sites.iter().map(|(folder, _)| folder.clone()).collect();
        let chosen = member::obvious(&folders, &member::SERVED)?;
        draft.warn(format!(
            "{} packages build a site; that of {chosen} is served, for its name: root under [static] in paas.toml chooses another",
            sites.len()
        ));
        sites.retain(|(folder, _)| folder == chosen);
    }
    sites.pop().map(|(_, site)| site)
}

/// What runs a program without types.
fn program(means: &Means) -> &'static str {
    if means.tool == Tool::Bun { "bun" } else { "node" }
}

/// What runs TypeScript as it is.
fn runner(manifest: &Manifest, means: &Means) -> Option<&'static str> {
    match means.tool {
        Tool::Bun => Some("bun"),
        _ if manifest.depends("tsx") => Some("tsx"),
        _ if manifest.depends("ts-node") => Some("ts-node"),
        _ => means.strips_types.then_some("node"),
    }
}

fn nothing(suggestion: &str) -> DetectError {
    let sources = ["Procfile", "scripts.start in package.json", "main in package.json"];
    DetectError::NoProcess {
        language: "Node".to_owned(),
        looked_for: sources.iter().chain(&ENTRIES[..8]).map(|&source| source.to_owned()).collect(),
        suggestion: suggestion.to_owned(),
    }
}

/// The file that would be started where no script says it.
pub(super) fn guessed(files: Files<'_>, manifest: &Manifest) -> Option<String> {
    let main = manifest.text(&["main"]).and_then(|main| entry(files, main));
    main.or_else(|| files.first_of(&ENTRIES).map(str::to_owned))
}

/// The file that `main` means.
fn entry(files: Files<'_>, main: &str) -> Option<String> {
    let main = main.strip_prefix("./").unwrap_or(main).trim_end_matches('/');
    let candidates = [main.to_owned(), format!("{main}.js"), format!("{main}/index.js")];
    candidates.into_iter().find(|path| files.has(path) && !path.starts_with('-'))
}

/// A `main` in a folder that only the build writes.
fn built(main: &str, means: &Means) -> Option<String> {
    const FOLDERS: [&str; 4] = ["dist/", "build/", "lib/", "out/"];
    let main = main.strip_prefix("./").unwrap_or(main);
    let ends = [".js", ".mjs", ".cjs"].iter().any(|end| main.ends_with(end));
    (means.builds && ends && FOLDERS.iter().any(|folder| main.starts_with(folder))).then(|| main.to_owned())
}
