//! The commands, and what each of them comes to if nothing goes wrong.

use super::apps::{Behaviour, Commit};
use super::script::Mishap;
use super::world::{Client, World, app_name};
use crate::deploy::config::Effect;
use crate::deploy::{Authorship, Hook};
use crate::deploy::{DeployError, Pipeline, Report};
use crate::git::{RefUpdate, repository};
use crate::model::{
    App, CheckChange, CommitId, EnvKey, Memory, ProcessName, ProcessType, Release, ReleaseState, Scale,
    Selection, SizeChange,
};
use crate::store;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Push(Commit),
    /// To the last one that served, or to one of those.
    Rollback(Option<u8>),
    Scale {
        web: u8,
        worker: u8,
    },
    Config(u8),
    /// `config:set --global`.
    ConfigOfAll(u8),
    /// `ps:resize web`, in units of 32 MiB.
    Resize(u8),
    /// `checks:set`, in seconds.
    Checks(u8),
    /// `rollback --keep-config`.
    RollbackKeeping,
    Restart,
    /// `ps:restart web`.
    RestartWeb,
    /// `ps:stop worker` and `ps:start worker`.
    StopSome,
    StartSome,
    Stop,
    Start,
    Destroy,
    /// It falls asleep, or stays awake.
    Sleep,
    /// Somebody asks for it, and waits for the answer.
    Request,
    /// A minute has passed: everything is compared.
    Minute,
    /// A process exits, and the engine starts it again.
    Dies(u8),
    /// Somebody removes a container.
    Removed(u8),
    /// A power failure loses the last move of the branch, or all but that.
    Astray(Commit),
    /// From now on processes take their time to boot and to stop.
    Sluggish,
    /// The clock is set so many hours ahead of the true time.
    Clock(i8),
}

/// A command, and what goes wrong after so many places.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub command: Command,
    pub mishap: Option<(Mishap, u8)>,
    /// And so many places later, what else.
    pub next: Option<(Mishap, u8)>,
    /// The server that follows a crash is killed too, after so many places.
    pub again: Option<u8>,
}

impl Step {
    /// Whether it is written down before it is done, and cannot be taken back.
    pub fn is_left_written(self) -> bool {
        let early = matches!(self.command, Command::Scale { .. } | Command::Start);
        let held = |mishap| matches!(mishap, Some((Mishap::StoreHeld, _)));
        // What is said of all apps stands, whatever one of them makes of it.
        let of_all = matches!(self.command, Command::ConfigOfAll(_));
        of_all || early && (held(self.mishap) || held(self.next))
    }
}

/// As it would be written in a test.
impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.command)?;
        if let Some((mishap, place)) = self.mishap {
            write!(f, ", {mishap:?} after {place} places")?;
        }
        if let Some((mishap, place)) = self.next {
            write!(f, ", and {mishap:?} {place} places later")?;
        }
        if let Some(place) = self.again {
            write!(f, ", and the next server crashes after {place}")?;
        }
        Ok(())
    }
}

/// The app as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub there: bool,
    pub commit: Option<String>,
    pub value: Option<String>,
    /// Of all apps.
    pub common: Option<String>,
    /// What web is given, in MiB.
    pub size: Option<u32>,
    /// Of the checks, in seconds.
    pub timeout: Option<u16>,
    pub web: u32,
    pub worker: u32,
    pub stopped: bool,
    pub asleep: bool,
}

/// What a command should lead to.
pub(super) enum Forecast {
    /// It makes no sense now, and is left out.
    LeftOut,
    /// It succeeds, and leads to this.
    Leads(Wanted),
    /// It is refused, and leads to this.
    Refused(Wanted),
}

/// How long a sluggish process boots, and a sluggish worker stops.
const SLUGGISH: Duration = Duration::from_millis(12);

const KEY: &str = "VALUE";
const COMMON: &str = "COMMON";

fn is_watched(world: &World) -> bool {
    let app = world.read(|db| store::apps::find(db, &app_name()));
    app.is_some_and(|app| world.read(move |db| store::windows::of(db, app.id)).is_some())
}

fn memory(units: u8) -> u32 {
    32 * (u32::from(units) + 1)
}

fn workers() -> [Selection; 1] {
    [Selection::Type(ProcessType::parse("worker").unwrap())]
}

/// That it was carried out is seen by the containers; here, that it was written down.
async fn expect_stopped(
    pipeline: &Pipeline,
    app: &App,
    which: &[ProcessName],
    stopped: bool,
) -> Result<(), DeployError> {
    let Some(current) = pipeline.current(app).await? else { return Err(DeployError::NoRelease) };
    let right = which.iter().all(|process| current.stopped.has(process) == stopped);
    if right { Ok(()) } else { Err(DeployError::Internal(format!("{:?}", current.stopped))) }
}

impl Command {
    /// What it should come to, from how things are.
    pub fn forecast(self, world: &World, now: &Wanted) -> Forecast {
        let runs = now.commit.is_some();
        match self {
            Self::Push(commit) => pushed(commit, world, now),
            Self::Minute | Self::Clock(_) | Self::Sluggish => Forecast::Leads(now.clone()),
            _ if !now.there => Forecast::LeftOut,
            Self::Destroy => Forecast::Leads(Wanted::default()),
            Self::Scale { web, worker } => {
                let counts = Wanted { web: web.into(), worker: worker.into(), ..now.clone() };
                Forecast::Leads(Wanted { asleep: false, ..counts })
            }
            Self::Stop => Forecast::Leads(Wanted { stopped: true, asleep: false, ..now.clone() }),
            Self::Config(value) => {
                // An app that is stopped stays so, and has it when it is started.
                let value = Some(value.to_string());
                let asleep = now.asleep && now.value == value;
                Forecast::Leads(Wanted { value, asleep, ..now.clone() })
            }
            Self::ConfigOfAll(value) => {
                let common = Some(value.to_string());
                let asleep = now.asleep && now.common == common;
                Forecast::Leads(Wanted { common, asleep, ..now.clone() })
            }
            Self::Checks(seconds) => {
                Forecast::Leads(Wanted { timeout: Some(u16::from(seconds) + 1), ..now.clone() })
            }
            _ if !runs => Forecast::LeftOut,
            Self::Resize(units) => {
                let size = Some(memory(units));
                let asleep = now.asleep && now.size == size;
                Forecast::Leads(Wanted { size, asleep, ..now.clone() })
            }
            Self::RollbackKeeping => match Self::Rollback(None).target(world) {
                Some(target) => {
                    let commit = Some(target.commit.to_string());
                    Forecast::Leads(Wanted { commit, stopped: false, asleep: false, ..now.clone() })
                }
                None => Forecast::LeftOut,
            },
            // There is none of them.
            Self::RestartWeb | Self::Sleep | Self::Request if now.stopped || now.web == 0 => {
                Forecast::LeftOut
            }
            Self::StopSome | Self::StartSome if now.stopped || now.worker == 0 => Forecast::LeftOut,
            Self::Rollback(_) => match self.target(world) {
                Some(target) => {
                    let commit = Some(target.commit.to_string());
                    let value = target.config.get(KEY).map(str::to_owned);
                    Forecast::Leads(Wanted { commit, value, stopped: false, asleep: false, ..now.clone() })
                }
                None => Forecast::LeftOut,
            },
            Self::Astray(commit) if Some(name_of(commit, world)) == now.commit => Forecast::LeftOut,
            Self::Restart | Self::Start => {
                Forecast::Leads(Wanted { stopped: false, asleep: false, ..now.clone() })
            }
            Self::Request if world.has_just_failed() => Forecast::LeftOut,
            Self::Sleep if !now.asleep && is_watched(world) => Forecast::Refused(now.clone()),
            Self::Sleep => Forecast::Leads(Wanted { asleep: true, ..now.clone() }),
            Self::Request | Self::StartSome | Self::RestartWeb => {
                Forecast::Leads(Wanted { asleep: false, ..now.clone() })
            }
            Self::Dies(_) | Self::Removed(_) if now.stopped || now.asleep || now.web + now.worker == 0 => {
                Forecast::LeftOut
            }
            Self::StopSome | Self::Dies(_) | Self::Removed(_) | Self::Astray(_) => {
                Forecast::Leads(now.clone())
            }
        }
    }

    /// The place from which on a crash must not undo it.
    pub fn decided_at(self) -> Option<&'static str> {
        match self {
            Self::Push(_) => Some("after git has moved the branch"),
            Self::Rollback(_) | Self::RollbackKeeping => Some("branch-moved"),
            Self::Config(_) | Self::Resize(_) | Self::Restart => Some("ready"),
            Self::Scale { .. } => Some("committed"),
            _ => None,
        }
    }

    /// What it may lead to if it is cut off: the counts of an app that sleeps are written
    /// first.
    pub fn half_way(self, leads: Option<&Wanted>, before: &Wanted) -> Option<Wanted> {
        let leads = leads.filter(|_| before.asleep && matches!(self, Self::Scale { .. }))?;
        Some(Wanted { asleep: true, ..leads.clone() })
    }

    /// Whether the app may be off the air for a while.
    pub fn is_outage(self, now: &Wanted) -> bool {
        match self {
            Self::Stop | Self::Destroy | Self::Dies(_) | Self::Removed(_) => true,
            Self::Scale { web, .. } => web == 0,
            _ => now.stopped,
        }
    }

    fn target(self, world: &World) -> Option<Release> {
        let Self::Rollback(which) = self else { return None };
        let app = world.read(|db| store::apps::find(db, &app_name()))?;
        let releases = world.read(move |db| store::releases::list(db, app.id));
        let served: Vec<Release> =
            releases.into_iter().filter(|release| release.state == ReleaseState::Retired).collect();
        served.get(usize::from(which.unwrap_or(0)) % served.len().max(1)).cloned()
    }

    /// Carries it out.
    pub async fn run(self, call: Call) -> Result<(), DeployError> {
        let Call { pipeline, target, .. } = &call;
        let report = Report::channel().0;
        match self {
            Self::Push(commit) => return push(&call, commit).await,
            Self::Minute => {
                pipeline.adopt_all().await;
                return Ok(());
            }
            Self::Clock(hours) => {
                crate::clock::in_tests::set_ahead(i64::from(hours) * 3600);
                return Ok(());
            }
            Self::Sluggish => {
                let mut state = call.engine.state();
                (state.boot, state.slow) = (SLUGGISH, SLUGGISH);
                return Ok(());
            }
            _ => {}
        }
        let app = pipeline.find(&app_name()).await?.ok_or(DeployError::NoApp)?;
        match self {
            Self::Push(_) | Self::Minute | Self::Clock(_) | Self::Sluggish => Ok(()),
            Self::Astray(commit) => {
                let path = pipeline.repository(&app.repository);
                let zero = || CommitId::parse(&"0".repeat(40)).unwrap();
                let there = repository::branch(&path, "main")?.unwrap_or_else(zero);
                repository::move_branch(&path, "main", &there, &commit.write(&path))?;
                pipeline.adopt_all().await;
                Ok(())
            }
            Self::Rollback(_) => pipeline.rollback(&app, *target, false, "ada", &report).await.map(|_| ()),
            Self::Scale { web, worker } => {
                let changes = [("web", web), ("worker", worker)]
                    .map(|(kind, count)| (ProcessType::parse(kind).unwrap(), Scale::To(count.into())));
                pipeline.scale(&app, &changes.into(), "ada", &report).await.map(|_| ())
            }
            Self::Config(value) => {
                let set = move |vars: &mut crate::model::ConfigVars| {
                    vars.0.insert(EnvKey::parse(KEY).unwrap(), value.to_string());
                };
                pipeline.configure(&app, "ada", Effect::AtOnce, &report, set).await.map(|_| ())
            }
            Self::ConfigOfAll(value) => {
                let set = move |vars: &mut crate::model::ConfigVars| {
                    vars.0.insert(EnvKey::parse(COMMON).unwrap(), value.to_string());
                };
                let all = pipeline.configure_all("ada", Effect::AtOnce, &report, set).await?;
                all.refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
            }
            Self::Resize(units) => {
                let change = SizeChange { memory: Some(Some(Memory(memory(units)))), cpu: None };
                pipeline.resize(&app, &[ProcessType::web()], change, "ada", &report).await.map(|_| ())
            }
            Self::Checks(seconds) => {
                let change = |checks: &mut CheckChange| checks.timeout = Some(u16::from(seconds) + 1);
                pipeline.set_checks(&app, change, true, "ada").await
            }
            Self::RollbackKeeping => pipeline.rollback(&app, None, true, "ada", &report).await.map(|_| ()),
            Self::StopSome => {
                let workers = pipeline.stop_some(&app, &workers(), "ada").await?;
                expect_stopped(pipeline, &app, &workers, true).await
            }
            Self::StartSome => {
                let workers = pipeline.start_some(&app, &workers(), "ada", &report).await?;
                expect_stopped(pipeline, &app, &workers, false).await
            }
            Self::Restart => pipeline.restart(&app, "ada", &report).await.map(|_| ()),
            Self::RestartWeb => {
                let web = [Selection::Type(ProcessType::web())];
                pipeline.restart_some(&app, &web, "ada", &report).await.map(|_| ())
            }
            Self::Stop => pipeline.stop_app(&app, "ada").await,
            Self::Start => pipeline.start_app(&app, "ada", &report).await.map(|_| ()),
            Self::Destroy => pipeline.destroy_app(&app, "ada").await,
            Self::Sleep => pipeline.sleep_now(&app, "ada").await,
            Self::Request if call.client.ask().await => Ok(()),
            Self::Request => Err(DeployError::Internal("it has crashed".to_owned())),
            Self::Dies(which) => {
                if let Some(id) = call.container(which) {
                    call.engine.die(&id);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    call.engine.comes_back(&id).await;
                }
                Ok(())
            }
            Self::Removed(which) => {
                if let Some(id) = call.container(which) {
                    call.engine.removed_by_hand(&id);
                }
                Ok(())
            }
        }
    }
}

/// What a command works with.
pub(super) struct Call {
    pub pipeline: Arc<Pipeline>,
    pub engine: super::engine::FakeEngine,
    pub gone: CancellationToken,
    client: Client,
    target: Option<u32>,
}

impl Call {
    pub fn new(world: &World, command: Command) -> Self {
        // Without a number: the last that served.
        let target = match command {
            Command::Rollback(Some(_)) => command.target(world).map(|release| release.number),
            _ => None,
        };
        let (pipeline, engine, gone) = (world.pipeline.clone(), world.engine(), world.gone.clone());
        Self { pipeline, engine, gone, target, client: world.client() }
    }

    fn container(&self, which: u8) -> Option<String> {
        let state = self.engine.state();
        let ids: Vec<&String> = state.containers.keys().collect();
        ids.get(usize::from(which) % ids.len().max(1)).map(|id| (*id).clone())
    }
}

fn common(world: &World) -> Option<String> {
    world.read(store::config::load_global).get(COMMON).map(str::to_owned)
}

fn pushed(commit: Commit, world: &World, now: &Wanted) -> Forecast {
    // What is said of all apps outlives each of them.
    let first = Wanted { there: true, web: 1, common: common(world), ..Wanted::default() };
    let new = if now.there { now.clone() } else { first };
    let name = Some(name_of(commit, world));
    match commit.behaviour {
        _ if name == now.commit => Forecast::LeftOut,
        Behaviour::Good | Behaviour::Tried => {
            Forecast::Leads(Wanted { commit: name, stopped: false, asleep: false, ..new })
        }
        // Nobody would notice.
        Behaviour::Exits | Behaviour::Answers500 if new.web == 0 => Forecast::LeftOut,
        _ => Forecast::Refused(new),
    }
}

/// A commit's name, which the repository need not have.
fn name_of(commit: Commit, world: &World) -> String {
    let elsewhere = world.home().join("commits.git");
    if !elsewhere.exists() {
        repository::create(&elsewhere).unwrap();
    }
    commit.write(&elsewhere).to_string()
}

/// A push as git does it: objects, hook, branch, hook.
async fn push(call: &Call, commit: Commit) -> Result<(), DeployError> {
    let pipeline = &call.pipeline;
    let name = app_name();
    let app = pipeline.find(&name).await?;
    let by = Authorship { who: "ada".to_owned() };
    let (id, push, _lease) = pipeline.open_push(&name, by, app.as_ref(), call.gone.clone()).await?;
    let path = pipeline.repository(&push.repository);
    let new = commit.write(&path);
    let zero = || CommitId::parse(&"0".repeat(40)).unwrap();
    let old = repository::branch(&path, "main")?.unwrap_or_else(zero);
    let update = RefUpdate { old: old.clone(), new: new.clone(), name: "refs/heads/main".to_owned() };
    let hook = Hook::PreReceive { updates: vec![update], quarantine: None };
    let hook_gone = CancellationToken::new();
    let agreed = pipeline.hook(&id, hook, Report::channel().0, hook_gone.clone()).await;
    let mut moved = false;
    if agreed && !call.gone.is_cancelled() {
        super::script::pass("before git moves the branch");
        moved = repository::move_branch(&path, "main", &old, &new).is_ok();
        super::script::pass("after git has moved the branch");
        tokio::task::yield_now().await;
    }
    if moved {
        pipeline.hook(&id, Hook::PostReceive, Report::channel().0, hook_gone).await;
    }
    let promoted = pipeline.close_push(&id, &push).await?;
    if moved && promoted { Ok(()) } else { Err(DeployError::Internal("the push was refused".to_owned())) }
}

/// How things are, by the store.
pub(super) fn observed(world: &World) -> Wanted {
    let Some(app) = world.read(|db| store::apps::find(db, &app_name())) else { return Wanted::default() };
    let App { id, stopped, checks, sleep, .. } = app;
    let (current, config, formation) = world.read(move |db| {
        Ok((store::releases::current(db, id)?, store::config::load(db, id)?, store::apps::formation(db, id)?))
    });
    let (common, sizes) =
        world.read(move |db| Ok((store::config::load_global(db)?, store::apps::sizes(db, id)?)));
    let count = |kind: &str| formation.count(&ProcessType::parse(kind).unwrap());
    Wanted {
        there: true,
        commit: current.map(|release| release.commit.to_string()),
        value: config.get(KEY).map(str::to_owned),
        common: common.get(COMMON).map(str::to_owned),
        size: sizes.get(&ProcessType::web()).and_then(|size| size.memory).map(|Memory(mib)| mib),
        timeout: checks.timeout,
        web: count("web"),
        worker: count("worker"),
        stopped,
        asleep: sleep.since.is_some(),
    }
}
