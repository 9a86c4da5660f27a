//! Python: manager, installs, and what it starts.

mod dependencies;
mod django;
mod install;
mod locks;
mod loopback;
mod poetry;
mod project;
mod release;
mod requirements;
mod search;
mod start;
#[cfg(test)]
mod tests;

use minijinja::{Value, context};

use super::draft::Draft;
use super::error::DetectError;
use super::pack;
use crate::model::{BuildPlan, EnvKey, WantedVar};
use dependencies::Dependencies;
use django::Django;
use project::Project;
use start::Server;

/// A server that is added unless the app's own dependencies bring it.
struct Added {
    name: &'static str,
    version: String,
    /// What it needs for WebSockets, which it brings by an extra alone.
    sockets: Option<String>,
}

/// Makes the plan of a Python app.
pub(super) fn plan(mut draft: Draft<'_>) -> Result<BuildPlan, DetectError> {
    // The version may depend on what is installed, and is said before it.
    let before = draft.decisions.len();
    let install = install::decide(&mut draft)?;
    let installs = draft.decisions.split_off(before);
    let offer = release::choose(&mut draft, &install.dependencies)?;
    draft.decisions.extend(installs);
    let install = install::with_setuptools(&mut draft, install)?;
    let django = django::find(draft.files);
    let scripts = installed_scripts(&draft, &install)?;
    let server = start::start(&mut draft, &install.dependencies, django.as_ref(), &scripts)?;
    draft.loopback = loopback::advice(&draft, &search::sources(draft.files));
    let servers = server.into_iter().chain(start::declared_servers(&draft));
    let servers: Vec<Added> =
        servers.filter_map(|server| added(&mut draft, &install.dependencies, server)).collect();
    let collectstatic = django.as_ref().filter(|django| django.static_root);
    if let Some(django) = collectstatic {
        let whether = if django.on_condition { "if the settings have a" } else { "because of" };
        draft.decide(format!("python manage.py collectstatic, {whether} STATIC_ROOT"));
    }
    use_served_settings(&mut draft, django.as_ref());
    if let Some(key) = django.as_ref().and_then(|django| EnvKey::parse(django.secret.as_ref()?).ok()) {
        draft.decide(format!("{key} is made up and kept, unless the config has it"));
        draft.config.insert(key, WantedVar::Secret);
    }
    if let Some(tool) = install.tool {
        let pinned = pack::file(&draft.pack.key, &format!("{tool}.txt"))?;
        draft.context.insert(format!(".paas/{tool}.txt"), pinned.as_bytes().to_vec());
    }
    // An installed project is found without it.
    let installed = !install.with_sources.is_empty();
    let src = !installed && draft.files.has_folder("src") && !draft.files.has("src/__init__.py");
    let values = context! {
        tool => install.tool,
        manifests => install.manifests,
        installs => values(&install.steps),
        with_sources => values(&install.with_sources),
        whole => install.whole,
        any_index => install.any_index,
        servers => servers.iter().map(|added| context! { name => added.name, version => added.version.as_str(), sockets => added.sockets.as_deref() }).collect::<Vec<_>>(),
        collectstatic => collectstatic.map(collect),
        python_path => if src { " PYTHONPATH=/app/src" } else { "" },
    };
    draft.finish(offer, values)
}

fn values(steps: &[install::Step]) -> Vec<Value> {
    steps.iter().map(install::Step::value).collect()
}

/// Console scripts, if the project is going to be installed.
fn installed_scripts(draft: &Draft<'_>, install: &install::Install) -> Result<Vec<String>, DetectError> {
    let project = Project::read(draft.files)?.filter(|_| !install.with_sources.is_empty() || install.whole);
    Ok(project.map(|project| project.scripts()).unwrap_or_default())
}

/// A server that the app needs, at our pinned version, with a notice unless it
/// is listed.
fn added(draft: &mut Draft<'_>, dependencies: &Dependencies, server: Server) -> Option<Added> {
    let name = server.package();
    let version = draft.pack.tools.get(name)?.clone();
    if dependencies.has(name) {
        return None;
    }
    draft.warn(format!("{name} is not among the dependencies: {name} {version} was added"));
    let speaks = ["websockets", "wsproto"].iter().any(|library| dependencies.has(library));
    let sockets = draft.pack.tools.get("websockets").filter(|_| server == Server::Uvicorn && !speaks);
    Some(Added { name, version, sockets: sockets.cloned() })
}

/// The release command and the build use the settings that the server uses.
fn use_served_settings(draft: &mut Draft<'_>, django: Option<&Django>) {
    if let Some(module) = django.and_then(|django| django.settings.as_ref()) {
        draft.decide(format!("DJANGO_SETTINGS_MODULE={module}, as in wsgi.py"));
        draft.env.insert("DJANGO_SETTINGS_MODULE".to_owned(), module.clone());
    }
}

/// Words of the environment and the folder in which static files are collected.
fn collect(django: &Django) -> Value {
    const USUAL: [&str; 2] = ["SECRET_KEY", "DJANGO_SECRET_KEY"];
    let settings = django.settings.iter().map(|module| format!("DJANGO_SETTINGS_MODULE={module}"));
    let folder = Some(vec![django.root.clone()]).filter(|_| !django.root.is_empty());
    // Its name is capitals, digits and underlines.
    let own = django.secret.as_deref().filter(|name| !USUAL.contains(name));
    let secrets: Vec<String> = USUAL.into_iter().chain(own).map(str::to_owned).collect();
    context! { environment => settings.collect::<Vec<_>>(), folder, secrets, asks => django.on_condition }
}
