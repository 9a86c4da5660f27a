//! What can be told about apps: the store's wishes beside the engine's facts.

use super::{Activity, DeployError, Pipeline};
use crate::engine::Usage;
use crate::model::{
    App, AppStatus, Formation, ProcessName, ProcessState, Release, ReleaseState, Restart, TakenBack, Window,
};
use crate::store;

/// All that is shown of an app.
#[derive(Debug, Clone)]
pub struct Account {
    /// The app.
    pub app: App,
    /// Its one status.
    pub status: AppStatus,
    /// The release that serves.
    pub current: Option<Release>,
    /// Its counts, as far as set.
    pub formation: Formation,
    /// Its processes, those that shall run and those that do.
    pub processes: Vec<ProcessLine>,
    /// Web processes of the release before, which stand by while this one is watched.
    pub standby: Vec<ProcessLine>,
    /// The watch of the release that serves.
    pub window: Option<Window>,
    /// Releases that were taken back, and no push since has been told.
    pub taken_back: Vec<TakenBack>,
    /// Somebody is waking it.
    pub waking: bool,
    /// It is asleep, and did not wake when it was asked for last: why.
    pub not_woken: Option<String>,
    /// What is being done to it.
    pub activity: Option<Activity>,
}

/// One process as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessLine {
    /// `web.1`
    pub name: ProcessName,
    /// `3` for `v3`.
    pub release: u32,
    /// The engine's id; empty if it has no such container.
    pub container: String,
    /// How it is.
    pub condition: Condition,
    /// Exit code of its last run, if that has ended.
    pub exit_code: Option<i64>,
    /// The kernel ended its last run for want of memory.
    pub out_of_memory: bool,
    /// How often the engine restarted it.
    pub restarts: i64,
    /// Start of the present or last run, seconds since the epoch, UTC.
    pub started_at: i64,
    /// Bytes and billionths of a CPU that it may take.
    pub size: (i64, i64),
}

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The engine has no such container.
    Missing,
    /// `ps:stop` has stopped it.
    Stopped,
    /// It has not run yet.
    Starting,
    /// It runs.
    Running,
    /// It runs and takes no requests: its check fails.
    Unwell,
    /// It has ended, and the engine waits to start it again.
    Restarting,
    /// It has ended and is not started again.
    Crashed,
    /// It has ended with 0 and has no more to do.
    Done,
}

impl Condition {
    /// Whether it runs.
    pub fn runs(self) -> bool {
        matches!(self, Self::Running | Self::Unwell)
    }

    fn of(state: &ProcessState, restart: Restart, out: bool) -> Self {
        match state.exit_code {
            _ if state.running && out => Self::Unwell,
            _ if state.running => Self::Running,
            None => Self::Starting,
            Some(_) if state.restarting => Self::Restarting,
            Some(0) if restart != Restart::Always => Self::Done,
            Some(_) => Self::Crashed,
        }
    }
}

impl ProcessLine {
    fn new(state: ProcessState, restart: Restart, out: bool) -> Self {
        Self {
            condition: Condition::of(&state, restart, out),
            container: state.container,
            name: state.process,
            release: state.release,
            exit_code: state.exit_code,
            out_of_memory: state.oom_killed,
            restarts: state.restarts,
            started_at: state.started_at,
            size: state.size,
        }
    }

    /// One that is not there.
    fn absent(name: ProcessName, release: u32, condition: Condition) -> Self {
        Self {
            name,
            release,
            container: String::new(),
            condition,
            exit_code: None,
            out_of_memory: false,
            restarts: 0,
            started_at: 0,
            size: (0, 0),
        }
    }
}

impl Pipeline {
    /// All apps by name.
    pub async fn accounts(&self) -> Result<Vec<Account>, DeployError> {
        let apps = self.store().read(store::apps::list).await?;
        let states = self.engine().processes(None).await?;
        let mut accounts = Vec::with_capacity(apps.len());
        for app in apps {
            let its = states.iter().filter(|state| state.app == app.id).cloned().collect();
            accounts.push(self.account_of(app, its).await?);
        }
        Ok(accounts)
    }

    /// One app.
    pub async fn account(&self, app: &App) -> Result<Account, DeployError> {
        let states = self.states(app.id).await?;
        self.account_of(app.clone(), states).await
    }

    /// What processes take, each looked at for a second or two, all at the same time;
    /// `None` for those that do not run.
    pub async fn usages(&self, processes: &[ProcessLine]) -> Vec<Option<Usage>> {
        let usages = processes.iter().map(|process| async move {
            if !process.condition.runs() {
                return None;
            }
            let usage = self.engine().usage(&process.container).await;
            usage
                .inspect_err(
                    |error| tracing::debug!(%error, process = %process.name, "what it takes is not known"),
                )
                .ok()?
        });
        futures_util::future::join_all(usages).await
    }

    async fn account_of(&self, app: App, states: Vec<ProcessState>) -> Result<Account, DeployError> {
        let id = app.id;
        let (current, latest, formation, window, taken_back) = self
            .store()
            .read(move |db| {
                let current = store::releases::current(db, id)?;
                let (latest, formation) = (store::releases::latest(db, id)?, store::apps::formation(db, id)?);
                let taken_back = store::releases::untold(db, id)?;
                Ok((current, latest, formation, store::windows::of(db, id)?, taken_back))
            })
            .await?;
        let activity = self.queue.activity(app.id);
        let wanted = match &current {
            Some(release) if !app.rests() => self.wanted(&app, release).await?,
            _ => Vec::new(),
        };
        let stopped = match &current {
            Some(release) if !app.rests() => {
                let mut formed = self.formed(&app, release).await?;
                formed.retain(|process| release.stopped.has(process));
                formed
            }
            _ => Vec::new(),
        };
        let (standby, states): (Vec<_>, Vec<_>) =
            states.into_iter().partition(|state| window.as_ref().is_some_and(|window| window.keeps(state)));
        let standby = standby_lines(standby, window.as_ref());
        let is_out = |container: &str| self.is_out(container);
        let processes = current.as_ref().map(|release| lines(&wanted, states, release, is_out));
        let mut processes = processes.unwrap_or_default();
        let failed = latest.is_some_and(|release| release.state == ReleaseState::Failed);
        let status =
            match status(activity.as_ref(), current.is_some(), failed, app.stopped, &wanted, &processes) {
                AppStatus::Stopped if app.is_asleep() => AppStatus::Sleeping,
                other => other,
            };
        let number = current.as_ref().map_or(0, |release| release.number);
        processes
            .extend(stopped.into_iter().map(|name| ProcessLine::absent(name, number, Condition::Stopped)));
        processes.sort_by(|a, b| a.name.cmp(&b.name));
        let (waking, not_woken) = (self.is_waking(id), self.why_not_woken(&app));
        Ok(Account {
            app,
            status,
            current,
            formation,
            processes,
            standby,
            window,
            taken_back,
            waking,
            not_woken,
            activity,
        })
    }
}

fn standby_lines(states: Vec<ProcessState>, window: Option<&Window>) -> Vec<ProcessLine> {
    let before = window.map_or(0, |window| window.before);
    states
        .into_iter()
        .map(|state| ProcessLine { release: before, ..ProcessLine::new(state, Restart::default(), false) })
        .collect()
}

/// What there is of the current release, and what is missing of it.
fn lines(
    wanted: &[ProcessName],
    states: Vec<ProcessState>,
    current: &Release,
    is_out: impl Fn(&str) -> bool,
) -> Vec<ProcessLine> {
    let mut lines: Vec<ProcessLine> = states
        .into_iter()
        .filter(|state| state.release == current.label())
        .map(|state| ProcessState { release: current.number, ..state })
        .map(|state| {
            let out = is_out(&state.container);
            let restart = current.restart(&state.process.kind);
            ProcessLine::new(state, restart, out)
        })
        .collect();
    for name in wanted {
        if !lines.iter().any(|line| line.name == *name) {
            lines.push(ProcessLine::absent(name.clone(), current.number, Condition::Missing));
        }
    }
    lines
}

fn status(
    activity: Option<&Activity>,
    released: bool,
    failed: bool,
    stopped: bool,
    wanted: &[ProcessName],
    processes: &[ProcessLine],
) -> AppStatus {
    if activity.is_some_and(|activity| activity.commit.is_some()) {
        return AppStatus::Building;
    }
    match (released, failed) {
        (false, true) => return AppStatus::Failed,
        (false, false) => return AppStatus::Stopped,
        (true, _) => {}
    }
    if stopped || wanted.is_empty() {
        return AppStatus::Stopped;
    }
    // An app is what its web processes are; without any, what the others are.
    let web: Vec<&ProcessLine> = processes.iter().filter(|line| line.name.kind.is_web()).collect();
    let judged = if web.is_empty() { processes.iter().collect() } else { web };
    match judged.iter().any(|line| line.condition.runs()) {
        true => AppStatus::Running,
        false if judged.iter().all(|line| line.condition == Condition::Done) => AppStatus::Stopped,
        false => AppStatus::Crashed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn line(name: &str, running: bool) -> ProcessLine {
        let condition = if running { Condition::Running } else { Condition::Crashed };
        ProcessLine::absent(ProcessName::parse(name).unwrap(), 1, condition)
    }

    #[test]
    fn one_status_from_wishes_and_facts() {
        let web = [ProcessName::parse("web.1").unwrap()];
        let of = |stopped, lines: &[ProcessLine]| status(None, true, false, stopped, &web, lines);
        assert_eq!(of(false, &[line("web.1", true), line("worker.1", false)]), AppStatus::Running);
        assert_eq!(of(false, &[line("web.1", false), line("worker.1", true)]), AppStatus::Crashed);
        assert_eq!(of(true, &[]), AppStatus::Stopped);
        let done = ProcessLine { condition: Condition::Done, ..line("worker.1", false) };
        assert_eq!(of(false, std::slice::from_ref(&done)), AppStatus::Stopped, "it has done its work");
        assert_eq!(of(false, &[done, line("worker.2", true)]), AppStatus::Running);
        assert_eq!(status(None, false, true, false, &[], &[]), AppStatus::Failed);
        assert_eq!(status(None, false, false, false, &[], &[]), AppStatus::Stopped);
    }
}
