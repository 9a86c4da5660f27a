//! Go: which packages become binaries, and which of them is web.

mod constraint;
mod module;
mod release;
mod sources;

use minijinja::context;

use super::draft::{Draft, exec};
use super::error::{DetectError, Place};
use super::loopback;
use super::paas_toml::go_package;
use crate::model::{BuildPlan, RunCommand};
use module::{Module, binary};
use release::Choice;
use sources::Sources;

/// Makes the plan of a Go app.
pub(super) fn plan(mut draft: Draft<'_>) -> Result<BuildPlan, DetectError> {
    let modules = module::all(draft.files)?;
    let Choice { offer, toolchain } = release::choose(&mut draft, &modules)?;
    let loose = modules.is_empty() && !draft.files.has("go.work");
    if loose {
        draft.warn("there is no go.mod: the folder is built as one module (go mod init writes one)");
    }
    let sources = Sources::read(draft.files, &modules);
    let own_build = draft.settings.build.build.is_some();
    let packages = if own_build { Vec::new() } else { packages(&draft, &modules, &sources)? };
    if !own_build {
        draft.decide(format!("go build {}", packages.join(" ")));
    }
    let vendored = draft.files.has("vendor/modules.txt");
    if vendored {
        draft.decide("vendored modules, from vendor/modules.txt");
    }
    let of_c = modules.iter().find_map(|module| module.of_c).or(sources.of_c.filter(|_| loose));
    if sources.cgo || of_c.is_some() {
        draft.decide(format!("with cgo, for {}", of_c.unwrap_or("import \"C\"")));
    }
    let binaries: Vec<String> = packages.iter().map(|package| binary(package, &modules)).collect();
    start(&mut draft, &binaries, &modules)?;
    draft.loopback = loopback::advice(draft.files, &[".go"], false);
    let cgo = sources.cgo || of_c.is_some();
    draft.finish(offer, context! { packages, vendored, cgo, loose, toolchain })
}

/// What is built: what is asked for, else the root's program, else those under
/// cmd/, else all; and whatever a Procfile names.
fn packages(draft: &Draft<'_>, modules: &[Module], sources: &Sources) -> Result<Vec<String>, DetectError> {
    let usable = |folder: &&String| go_package(folder);
    let mains: Vec<String> = sources.mains.iter().filter(usable).cloned().collect();
    if let Some((asked, place)) = asked_for(draft, modules) {
        return named(&asked, &mains, &place);
    }
    let root = mains.iter().filter(|folder| *folder == ".");
    let commands = mains.iter().filter(|folder| folder.starts_with("./cmd/"));
    let mut chosen: Vec<String> = root.cloned().collect();
    if chosen.is_empty() {
        chosen = commands.cloned().collect();
    }
    if chosen.is_empty() {
        chosen.clone_from(&mains);
    }
    if chosen.is_empty() {
        return Err(DetectError::NoMain);
    }
    let named: Vec<String> = draft.processes.values().chain(&draft.release).filter_map(program).collect();
    for folder in mains {
        if named.contains(&binary(&folder, modules)) && !chosen.contains(&folder) {
            chosen.push(folder);
        }
    }
    Ok(chosen)
}

/// The packages that the app itself names, and where.
fn asked_for(draft: &Draft<'_>, modules: &[Module]) -> Option<(Vec<String>, Place)> {
    let install: Vec<String> = modules.iter().flat_map(|module| module.install.iter().cloned()).collect();
    if !install.is_empty() {
        return Some((install, Place::file("go.mod")));
    }
    let given = draft.settings.build.packages.as_ref()?;
    Some((given.value.clone(), given.place()))
}

/// The programs that these packages and patterns (`./cmd/...`) mean.
fn named(asked: &[String], mains: &[String], place: &Place) -> Result<Vec<String>, DetectError> {
    let mut chosen: Vec<String> = Vec::new();
    for word in asked {
        let word = if word == "." { "." } else { word.trim_end_matches('/') };
        let below = word.strip_suffix("...").map(|folder| folder.trim_end_matches('/'));
        let means = |main: &&String| match below {
            Some(folder) => folder == "." || *main == folder || main.starts_with(&format!("{folder}/")),
            None => *main == word,
        };
        let found: Vec<&String> = mains.iter().filter(means).collect();
        if found.is_empty() {
            let possible = mains.to_vec();
            let (key, value) = ("a package".to_owned(), word.to_owned());
            return Err(DetectError::BadValue { place: place.clone(), key, value, possible });
        }
        for main in found {
            if !chosen.contains(main) {
                chosen.push(main.clone());
            }
        }
    }
    Ok(chosen)
}

/// The program that a command names: `bin/web --port 1` → `web`.
fn program(command: &RunCommand) -> Option<String> {
    let RunCommand::Shell(line) = command else { return None };
    let word = line.split_whitespace().find(|word| !word.contains('='))?;
    Some(word.rsplit('/').next().unwrap_or(word).to_owned())
}

fn start(draft: &mut Draft<'_>, binaries: &[String], modules: &[Module]) -> Result<(), DetectError> {
    if draft.declared() {
        for command in draft.processes.clone().values() {
            note_misplaced(draft, command, binaries);
        }
        return Ok(());
    }
    let like_module = binary(".", modules);
    let usual = ["web", "server", "api", like_module.as_str()];
    let obvious = match binaries {
        [only] => Some(only),
        several => usual.iter().find_map(|name| several.iter().find(|binary| binary == name)),
    };
    let Some(name) = obvious else { return Err(DetectError::SeveralBinaries(binaries.to_vec())) };
    draft.web(exec(&[&format!("bin/{name}")]), "the program built");
    Ok(())
}

/// A Procfile that looks for a program where it was built on a laptop.
fn note_misplaced(draft: &mut Draft<'_>, command: &RunCommand, binaries: &[String]) {
    let RunCommand::Shell(line) = command else { return };
    let word = line.split_whitespace().next().unwrap_or_default();
    let Some(name) = word.strip_prefix("./").filter(|name| binaries.iter().any(|binary| binary == name))
    else {
        return;
    };
    if !draft.files.has(name) {
        draft.warn(format!("{word} will not be there: the program is bin/{name}, and {name} alone finds it"));
    }
}
