//! Python: manager, installs, and what it starts.

mod framework;
mod release;
mod requirements;
mod settings;

use std::collections::BTreeSet;

use minijinja::context;

use super::draft::{Draft, copy};
use super::error::{DetectError, Place};
use super::source::{self, Files};
use crate::model::BuildPlan;
use framework::Server;
use requirements::Requirements;

/// What is installed and how.
#[derive(Debug, Default)]
struct Install {
    /// COPY lines before the install: sources and target.
    manifests: Vec<Vec<String>>,
    /// Arguments of uv, one command each.
    commands: Vec<Vec<String>>,
    /// Normalised names of the dependencies.
    names: BTreeSet<String>,
}

/// Makes the plan of a Python app.
pub(super) fn plan(mut draft: Draft<'_>) -> Result<BuildPlan, DetectError> {
    let offer = release::choose(&mut draft)?;
    let mut install = install(&mut draft)?;
    let django = settings::find(draft.files, &install.names);
    let server = framework::start(&mut draft, &install.names, django.as_ref())?;
    let servers: Vec<Server> = server.into_iter().chain(framework::declared_servers(&draft)).collect();
    for server in servers {
        add_server(&mut draft, &mut install, server);
    }
    let collectstatic = django.as_ref().is_some_and(|django| django.static_root);
    if collectstatic {
        draft.decide("python manage.py collectstatic, because of STATIC_ROOT");
    }
    let python_path = if draft.files.has_folder("src") { " PYTHONPATH=/app/src" } else { "" };
    let values = context! {
        manifests => install.manifests,
        installs => install.commands,
        collectstatic,
        python_path,
    };
    draft.finish(offer, values)
}

/// Adds a server that the app needs and does not list, at our pinned version.
fn add_server(draft: &mut Draft<'_>, install: &mut Install, server: Server) {
    let name = server.package();
    let Some(version) = draft.pack.tools.get(name).filter(|_| !install.names.contains(name)) else { return };
    draft.warn(format!("{name} is not among the dependencies: {name} {version} was added"));
    install.commands.push(words(&["pip", "install", &format!("{name}=={version}")]));
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Decides the manager by the lock file.
fn install(draft: &mut Draft<'_>) -> Result<Install, DetectError> {
    let files = draft.files;
    let locks = ["uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"];
    let found: Vec<&str> = locks.into_iter().filter(|lock| files.has(lock)).collect();
    match found.as_slice() {
        [first, second, ..] => Err(DetectError::TwoLocks((*first).to_owned(), (*second).to_owned())),
        ["uv.lock"] => from_uv_lock(draft),
        [lock] => from_foreign_lock(draft, lock),
        [] if files.has("requirements.txt") => from_requirements(draft),
        [] if files.has("pyproject.toml") => from_pyproject(draft),
        [] if files.has("Pipfile") => Err(unlocked_pipfile()),
        [] => {
            draft.decide("nothing to install: there is no requirements.txt");
            Ok(Install::default())
        }
    }
}

fn unlocked_pipfile() -> DetectError {
    DetectError::MissingLock {
        manifest: "Pipfile".to_owned(),
        lock: "Pipfile.lock".to_owned(),
        command: "pipenv lock".to_owned(),
    }
}

/// Poetry's, PDM's and Pipenv's locks are not read yet; what they export is.
fn from_foreign_lock(draft: &mut Draft<'_>, lock: &str) -> Result<Install, DetectError> {
    if draft.files.has("requirements.txt") {
        draft.warn(format!("{lock} is passed over: requirements.txt is installed"));
        return from_requirements(draft);
    }
    let export = match lock {
        "poetry.lock" => "poetry export -o requirements.txt",
        "pdm.lock" => "pdm export -o requirements.txt",
        _ => "pipenv requirements > requirements.txt",
    };
    Err(DetectError::Unsupported {
        place: Place::file(lock),
        what: format!("installing from {lock}"),
        instead: format!("Export it and commit the result:\n  {export}"),
    })
}

fn from_uv_lock(draft: &mut Draft<'_>) -> Result<Install, DetectError> {
    if !draft.files.has("pyproject.toml") {
        return Err(DetectError::MissingFile {
            file: "pyproject.toml".to_owned(),
            named_by: Place::file("uv.lock"),
        });
    }
    let names = project_names(draft.files)?;
    draft.decide("uv sync --locked, from uv.lock");
    Ok(Install {
        manifests: vec![copy(&["pyproject.toml", "uv.lock"], "./")],
        commands: vec![words(&[
            "sync",
            "--locked",
            "--no-dev",
            "--no-install-project",
            "--no-install-workspace",
        ])],
        names,
    })
}

fn from_pyproject(draft: &mut Draft<'_>) -> Result<Install, DetectError> {
    let names = project_names(draft.files)?;
    if names.is_empty() {
        draft.decide("nothing to install: pyproject.toml has no dependencies");
        return Ok(Install::default());
    }
    draft.decide("uv pip install, from pyproject.toml");
    Ok(Install {
        manifests: vec![copy(&["pyproject.toml"], "./")],
        commands: vec![words(&["pip", "install", "-r", "pyproject.toml"])],
        names,
    })
}

fn from_requirements(draft: &mut Draft<'_>) -> Result<Install, DetectError> {
    let Requirements { names, files, local } = requirements::read(draft.files, "requirements.txt")?;
    draft.decide("uv pip install, from requirements.txt");
    let manifests = if local {
        draft.warn("requirements.txt names local paths: every change reinstalls");
        vec![words(&["app/", "./"])]
    } else {
        files.iter().map(|file| copy(&[file], &format!("./{file}"))).collect()
    };
    Ok(Install { manifests, commands: vec![words(&["pip", "install", "-r", "requirements.txt"])], names })
}

/// Normalised names of `[project] dependencies`.
fn project_names(files: Files<'_>) -> Result<BTreeSet<String>, DetectError> {
    const FILE: &str = "pyproject.toml";
    let Some(text) = files.text(FILE)? else { return Ok(BTreeSet::new()) };
    let table = source::toml(FILE, &text)?;
    let list =
        table.get("project").and_then(|project| project.get("dependencies")).and_then(toml::Value::as_array);
    let strings = list.into_iter().flatten().filter_map(toml::Value::as_str);
    Ok(strings.filter_map(requirements::name).collect())
}
