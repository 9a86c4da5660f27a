//! The four promises, and that nothing is left over.

use super::command::Wanted;
use super::containers::{Container, State};
use super::world::{World, app_name};
use crate::git::repository;
use crate::model::{App, ProcessName, ProcessType, Release, ReleaseState, Sleeps, Window};
use crate::store;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What is broken, in words.
pub(super) type Broken = String;

/// Checks everything that holds whenever nothing is being done.
pub(super) fn kept(world: &World, wanted: &Wanted) -> Result<(), Broken> {
    let noted = std::mem::take(&mut *world.notes().broken.lock().unwrap());
    if let Some(first) = noted.first() {
        return Err(first.clone());
    }
    let state = world.engine().state().clone();
    let Some(app) = world.read(|db| store::apps::find(db, &app_name())) else {
        return nothing(world, &state);
    };
    let id = app.id;
    let releases = world.read(move |db| store::releases::list(db, id));
    let current = one_is_current(&releases)?;
    the_branch_names_it(world, &app, current)?;
    names(world, &app, &releases)?;
    let window = world.read(move |db| store::windows::of(db, id));
    let runs = its_processes_run(&app, current, wanted, window.as_ref(), &state)?;
    let label = current.map_or(0, Release::label);
    they_take_the_requests(world, runs.iter().filter(|container| container.release == label))?;
    who_sleeps_is_woken_by_the_next(world, &app)?;
    addresses(world, &runs)?;
    images(&releases, &state)?;
    same("networks", &state.networks.keys().copied().filter(|of| *of != id).collect::<Vec<_>>(), &vec![])?;
    files(world, &[&app.repository])
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, there: &T, expected: &T) -> Result<(), Broken> {
    if there == expected { Ok(()) } else { Err(format!("{what}: {there:?}, expected {expected:?}")) }
}

/// After an app's end nothing is left of it.
fn nothing(world: &World, state: &State) -> Result<(), Broken> {
    let containers: Vec<&String> = state.containers.values().map(|container| &container.name).collect();
    same("containers without an app", &containers, &vec![])?;
    same("images without an app", &state.images.keys().collect::<Vec<_>>(), &vec![])?;
    same("networks without an app", &state.networks.len(), &0)?;
    same("routes without an app", &world.table().routes.len(), &0)?;
    same("addresses without an app", &stored_addresses(world), &BTreeSet::new())?;
    files(world, &[])
}

/// No release is unfinished, and at most one is current.
fn one_is_current(releases: &[Release]) -> Result<Option<&Release>, Broken> {
    use ReleaseState::{Current, Preparing, Ready};
    let of = |state| releases.iter().filter(move |release| release.state == state);
    if let Some(release) = of(Preparing).chain(of(Ready)).next() {
        return Err(format!("v{} is unfinished: {:?}", release.number, release.state));
    }
    let current: Vec<&Release> = of(Current).collect();
    if current.len() > 1 {
        return Err(format!("{} releases are current", current.len()));
    }
    Ok(current.first().copied())
}

fn the_branch_names_it(world: &World, app: &App, current: Option<&Release>) -> Result<(), Broken> {
    let path = world.pipeline.repository(&app.repository);
    let branch = repository::branch(&path, "main").map_err(|error| error.to_string())?;
    same("the branch", &branch.as_ref(), &current.map(|release| &release.commit))
}

/// Each release that served has its ref, and HEAD names the deploy branch.
fn names(world: &World, app: &App, releases: &[Release]) -> Result<(), Broken> {
    use ReleaseState::{Current, Retired, RolledBack};
    let repository = git2::Repository::open_bare(world.pipeline.repository(&app.repository)).unwrap();
    let served = releases.iter().filter(|release| matches!(release.state, Current | Retired | RolledBack));
    for release in served {
        let named = repository.refname_to_id(&format!("refs/releases/v{}", release.number));
        let named = named.map(|id| id.to_string()).ok();
        same(&format!("the ref of v{}", release.number), &named.as_deref(), &Some(release.commit.as_str()))?;
    }
    let Some(branch) = &app.deploy_branch else { return Ok(()) };
    let head = repository.find_reference("HEAD").unwrap();
    same("HEAD", &head.symbolic_target().unwrap(), &Some(format!("refs/heads/{branch}").as_str()))
}

/// The processes of the current release, as many as are wanted and not stopped, run, and
/// no others but the web processes that stand by while it is watched.
fn its_processes_run(
    app: &App,
    current: Option<&Release>,
    wanted: &Wanted,
    window: Option<&Window>,
    state: &State,
) -> Result<Vec<Container>, Broken> {
    let mut expected = Vec::new();
    if let Some(release) = current.filter(|_| !app.rests()) {
        for (kind, count) in [("web", wanted.web), ("worker", wanted.worker)] {
            let number = release.label();
            let kind = ProcessType::parse(kind).unwrap();
            let names = (1..=count).map(|index| ProcessName { kind: kind.clone(), index });
            let names = names.filter(|name| !release.stopped.has(name));
            expected.extend(names.map(|name| format!("paas-{}-{kind}-{number}-{}", app.name, name.index)));
        }
    }
    let containers: Vec<Container> = state.containers.values().cloned().collect();
    let stands_by = |container: &&Container| {
        let (release, is_web) = (container.release, container.process.kind.is_web());
        window.is_some_and(|window| window.standby == release && is_web)
    };
    let there = containers.iter().filter(|container| !stands_by(container));
    let mut there: Vec<String> = there.map(|container| container.name.clone()).collect();
    there.sort();
    expected.sort();
    same("containers", &there, &expected)?;
    match containers.iter().find(|container| !container.running && !stands_by(container)) {
        Some(container) => Err(format!("{} does not run", container.name)),
        None => Ok(containers),
    }
}

fn they_take_the_requests<'a>(
    world: &World,
    runs: impl Iterator<Item = &'a Container>,
) -> Result<(), Broken> {
    let web = runs.filter(|container| container.process.kind.is_web());
    let expected: BTreeSet<SocketAddr> = web.map(Container::at).collect();
    let targets = |table: &crate::model::RouteTable| -> BTreeSet<SocketAddr> {
        let route = table.routes.get(&app_name());
        route.into_iter().flat_map(|route| &route.targets).map(|target| target.address).collect()
    };
    same("the proxy's targets", &targets(&world.table()), &expected)?;
    same("the table's targets", &targets(&world.pipeline.routes.table()), &expected)?;
    if let Some(at) = expected.iter().find(|at| !world.engine().serves(**at)) {
        return Err(format!("nobody answers at {at}"));
    }
    Ok(())
}

/// Requests to an app wait for it while it is asleep, and at no other time.
fn who_sleeps_is_woken_by_the_next(world: &World, app: &App) -> Result<(), Broken> {
    let holds = |table: &crate::model::RouteTable| {
        table.routes.get(&app.name).is_some_and(|route| route.traffic.sleeps == Sleeps::Asleep)
    };
    same("whether requests wait", &holds(&world.table()), &(app.is_asleep() && !world.has_just_failed()))?;
    same("the last request", &world.client().is_waiting(), &false)
}

fn addresses(world: &World, runs: &[Container]) -> Result<(), Broken> {
    let expected = runs.iter().map(|container| container.address.to_string()).collect();
    same("addresses", &stored_addresses(world), &expected)
}

fn stored_addresses(world: &World) -> BTreeSet<String> {
    world.read(|db| {
        let mut statement = db.prepare("SELECT address FROM addresses")?;
        Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    })
}

/// Every image is of a release that served, and what served has its image.
fn images(releases: &[Release], state: &State) -> Result<(), Broken> {
    use ReleaseState::{Current, Retired, RolledBack};
    let served = releases.iter().filter(|release| matches!(release.state, Current | Retired | RolledBack));
    let expected: BTreeSet<&String> = served.map(|release| &release.image).collect();
    same("images", &state.images.keys().collect(), &expected)
}

/// No lock, no quarantine, no temporary file, no repository of nobody.
fn files(world: &World, repositories: &[&str]) -> Result<(), Broken> {
    let root = world.home().join("repos");
    let there: Vec<PathBuf> = entries(&root);
    let expected: Vec<PathBuf> = repositories.iter().map(|name| root.join(name)).collect();
    same("repositories", &there, &expected)?;
    let mut left = all_files(&world.home().join("tmp"));
    left.extend(all_files(&root).into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.ends_with(".lock") || name == "paas.new" || path.to_string_lossy().contains("tmp_objdir")
    }));
    same("files left over", &left, &Vec::new())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    entries(folder)
        .into_iter()
        .flat_map(|path| if path.is_dir() { all_files(&path) } else { vec![path] })
        .collect()
}
