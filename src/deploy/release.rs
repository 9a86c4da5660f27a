//! Changes of what runs that are no push: restart, scale, stop, start,
//! and the beginning and end of an app.

use super::again::Again;
use super::asker::Asker;
use super::line::place;
use super::queue::{Activity, Roster, Turn};
use super::{DeployError, Pipeline, Report};
use crate::failpoint::reached;
use crate::git::repository;
use crate::model::{
    App, AppName, Formation, ProcessName, ProcessState, ProcessType, Release, Restart, RunCommand, Scale,
    Target, TypeSettings, Why,
};
use crate::store::{self, StoreError};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Pipeline {
    /// Creates an app with nothing deployed.
    pub async fn create_app(&self, name: &AppName) -> Result<App, DeployError> {
        let repository = self.new_repository().await?;
        let created = self.create(name, &repository).await;
        if created.is_err() {
            let _ = tokio::fs::remove_dir_all(self.repository(&repository)).await;
        }
        created
    }

    /// Removes an app and everything of it. What is cut off or fails is gone on
    /// with on the next start, or within a minute. From the beginning on whoever waits
    /// for a turn is refused.
    pub async fn destroy_app(&self, app: &App, who: &str) -> Result<(), DeployError> {
        let id = app.id;
        let begin = self.store().write(move |db| {
            if store::apps::get(db, id)?.is_none() {
                return Ok(None);
            }
            let is_first = !store::apps::is_ending(db, id)?;
            store::apps::set_ending(db, id).map(|()| Some(is_first))
        });
        let is_first = begin.await?.ok_or(DeployError::NoApp)?;
        self.queue.cancel_all(app.id, who);
        let (roster, turn) = self.both(app, "being destroyed", "").await;
        if self.store().read(move |db| store::apps::get(db, id)).await?.is_none() {
            return if is_first { Ok(()) } else { Err(DeployError::NoApp) };
        }
        let removed = self.take_apart(app, turn).await.map_err(|error| {
            tracing::error!(app = %app.name, %error, "it could not be removed completely; that is tried again");
            DeployError::HalfRemoved(app.name.clone())
        });
        drop(roster);
        removed
    }

    /// Routes first, state last.
    pub(super) async fn take_apart(&self, app: &App, turn: Turn) -> Result<(), DeployError> {
        let publishing = self.queue.publishing(app.id).await;
        let removed = self.routes.publish(&app.name, None).removed;
        drop(publishing);
        self.routes.drained(&removed, Duration::from_secs(2)).await;
        let states = self.states(app.id).await?;
        self.end_processes(app, &states, Duration::from_secs(10)).await;
        for state in self.states(app.id).await? {
            self.engine().remove(&state.container).await?;
        }
        self.engine().remove_network(app.id).await?;
        for image in self.engine().app_images(app.id, &app.name).await? {
            match self.engine().remove_image(&image.reference).await {
                // Somebody has made a container of it that is not ours.
                Err(error) if error.status() == Some(409) => {
                    tracing::warn!(app = %app.name, image = image.reference, %error, "an image stays");
                }
                other => other?,
            }
        }
        if let Err(error) = self.workers.logs.forget(app.id).await {
            tracing::warn!(app = %app.name, %error, "the app's log stays");
        }
        let repository = self.repository(&app.repository);
        if let Err(error) = tokio::fs::remove_dir_all(&repository).await {
            tracing::warn!(app = %app.name, %error, "the repository stays at {}", repository.display());
        }
        let id = app.id;
        let publishing = self.queue.publishing(app.id).await;
        let removed = self.store().write(move |db| {
            let mounted = store::mounts::mounted_below(db, id)?;
            store::apps::remove(db, id).map(|()| mounted)
        });
        let mounted = removed.await?;
        // An event of the last minute may have brought it back.
        self.routes.publish(&app.name, None);
        drop(publishing);
        drop(turn);
        self.queue.forget(app.id);
        // Their paths went with the names.
        for other in mounted {
            if let Err(error) = self.publish_running(other).await {
                tracing::warn!(app = %app.name, %error, "a path under its names stays for a minute at most");
            }
        }
        self.forget_sleeper(app.id);
        self.publish_certificates().await
    }

    /// Replaces all processes by new ones of the same image with today's config.
    pub async fn restart(
        self: &Arc<Self>,
        app: &App,
        who: &str,
        report: &Report,
    ) -> Result<u32, DeployError> {
        let (app, turn) = self.begin(app, "restarting", who).await?;
        let current = self.current(&app).await?.ok_or(DeployError::NoRelease)?;
        let id = app.id;
        let vars = self.store().read(move |db| store::config::load(db, id)).await?;
        let again = Again {
            source: current,
            config: vars,
            sizes: None,
            why: Why::Restart,
            who: who.to_owned(),
            evidence: None,
        };
        self.repeat(&app, again, turn, report).await
    }

    /// Changes counts per process type and starts or stops only the difference.
    pub async fn scale(
        &self,
        app: &App,
        changes: &BTreeMap<ProcessType, Scale>,
        who: &str,
        report: &Report,
    ) -> Result<BTreeMap<ProcessType, u32>, DeployError> {
        let (app, roster, turn) = self.begin_roster(app, "scaling", who).await?;
        let current = self.current(&app).await?;
        if let Some(current) = &current
            && let Some(unknown) = changes.keys().find(|kind| !current.processes.contains_key(kind))
        {
            let known = current.processes.keys().map(ToString::to_string).collect();
            return Err(DeployError::NoProcessType(unknown.to_string(), known));
        }
        let id = app.id;
        let before = self.store().read(move |db| store::apps::formation(db, id)).await?;
        let counts = before.scaled(changes);
        if let Some(current) = &current {
            let merged = before.0.iter().chain(&counts).map(|(kind, &count)| (kind.clone(), count));
            expect_addresses(&current.processes, &current.types, &Formation(merged.collect()))?;
        }
        let wanted = counts.clone();
        self.store()
            .write(move |db| {
                wanted.iter().try_for_each(|(kind, &count)| store::apps::scale(db, id, kind, count))
            })
            .await?;
        reached("committed");
        let Some(current) = current.filter(|_| !app.stopped) else { return Ok(counts) };
        let superfluous = match self.adjust(&app, current, report).await {
            Ok(superfluous) => superfluous,
            Err(error) => {
                let back = move |db: &_| store::apps::set_formation(db, id, &before);
                return Err(self.taken_back(error, back).await);
            }
        };
        drop(turn);
        self.retire_web_in_turn(&app, &superfluous).await;
        drop(roster);
        Ok(counts)
    }

    /// Stores the wish that nothing runs, and ends what does.
    pub async fn stop_app(&self, app: &App, who: &str) -> Result<(), DeployError> {
        let (app, roster, turn) = self.begin_roster(app, "stopping", who).await?;
        // First: once the wish is written down, nothing may refuse it.
        let states = self.not_retiring(self.states(app.id).await?);
        let id = app.id;
        let stop = self.store().write(move |db| {
            store::windows::close(db, id)?;
            store::apps::set_stopped(db, id, true)
        });
        stop.await?;
        match self.publish_running(id).await {
            Ok(published) => self.routes.acknowledged(published.version).await,
            Err(error) => {
                tracing::warn!(app = %app.name, %error, "it is stopped within a minute");
                return Ok(());
            }
        };
        self.mark_retiring(&states);
        drop(turn);
        self.retire_web_in_turn(&app, &states).await;
        drop(roster);
        Ok(())
    }

    /// Ends the wish that nothing runs. What was changed meanwhile takes effect by
    /// a new release, whose number is returned.
    pub async fn start_app(
        self: &Arc<Self>,
        app: &App,
        who: &str,
        report: &Report,
    ) -> Result<Option<u32>, DeployError> {
        let (app, roster, turn) = self.begin_roster(app, "starting", who).await?;
        let current = self.current(&app).await?.ok_or(DeployError::NoRelease)?;
        let id = app.id;
        let read = move |db: &_| {
            let (config, global) = (store::config::load(db, id)?, store::config::load_global(db)?);
            Ok((config, global, store::apps::sizes(db, id)?))
        };
        let (config, global, sizes) = self.store().read(read).await?;
        let same = current.config == config && current.global == global && current.sizes == sizes;
        let stopped = app.stopped;
        if stopped && !same {
            let (source, why, who) = (current, Why::Config, who.to_owned());
            let again = Again { source, config, sizes: None, why, who, evidence: None };
            drop(roster);
            return self.repeat(&app, again, turn, report).await.map(Some);
        }
        self.store().write(move |db| store::apps::set_stopped(db, id, false)).await?;
        let superfluous = match self.adjust(&app, current, report).await {
            Ok(superfluous) => superfluous,
            Err(error) if stopped => {
                let error = self.taken_back(error, move |db| store::apps::set_stopped(db, id, true)).await;
                if !matches!(error, DeployError::Stands(_)) {
                    let begun = self.not_retiring(self.states(id).await?);
                    self.end_processes(&app, &begun, Duration::ZERO).await;
                }
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        drop(turn);
        self.retire_web_in_turn(&app, &superfluous).await;
        drop(roster);
        Ok(None)
    }

    /// A wish that was written down and could not be carried out is taken back; what the
    /// user is told. If that is not possible either, it stands.
    pub(super) async fn taken_back(
        &self,
        error: DeployError,
        back: impl FnOnce(&rusqlite::Connection) -> Result<(), StoreError> + Send + 'static,
    ) -> DeployError {
        match self.store().write(move |db| back(db)).await {
            Ok(()) => error,
            Err(why) => {
                tracing::warn!(%why, "what was asked for could not be taken back; it is tried again");
                DeployError::Stands(Box::new(error))
            }
        }
    }

    /// Makes what runs of a release what the formation says: starts what is missing,
    /// and routes to it when it answers. What is too much gets no requests any more and
    /// is to be ended, for which nobody needs the turn. With the roster.
    pub(super) async fn adjust(
        &self,
        app: &App,
        release: Release,
        report: &Report,
    ) -> Result<Vec<ProcessState>, DeployError> {
        self.adjust_some(app, release, report, |_| true).await
    }

    /// The same for some types of processes. For web alone nobody needs the roster.
    pub(super) async fn adjust_some(
        &self,
        app: &App,
        release: Release,
        report: &Report,
        some: impl Fn(&ProcessType) -> bool,
    ) -> Result<Vec<ProcessState>, DeployError> {
        let mut wanted = self.wanted(app, &release).await?;
        wanted.retain(|process| some(&process.kind));
        let mut states = self.not_retiring(self.states(app.id).await?);
        states.retain(|state| some(&state.process.kind));
        if let Some(window) = self.window(app.id).await? {
            states.retain(|state| !window.keeps(state));
        }
        // One that has done its work is not begun again.
        let stays = |state: &ProcessState| {
            let done = release.restart(&state.process.kind) != Restart::Always && state.exit_code == Some(0);
            state.running || done && !state.process.kind.is_web()
        };
        let (keep, end): (Vec<ProcessState>, Vec<ProcessState>) = states.into_iter().partition(|state| {
            state.release == release.label() && wanted.contains(&state.process) && stays(state)
        });
        let missing: Vec<_> = wanted
            .into_iter()
            .filter(|process| !keep.iter().any(|state| state.process == *process))
            .collect();
        let started = self.start_missing(app, &release, &missing, report).await?;
        reached("web-healthy");
        if app.is_asleep()
            && let Err(error) = self.store().write(move |db| store::sleep::wake(db, release.app)).await
        {
            self.end_begun(app, &release, &missing).await;
            return Err(error.into());
        }
        let kept = keep
            .iter()
            .filter(|state| state.process.kind.is_web() && !self.takes_none(state))
            .filter_map(|state| target(state, release.port));
        let targets: Vec<Target> = kept.chain(started).collect();
        // A dead container that was replaced is gone; its address lives on.
        let end: Vec<ProcessState> = end
            .into_iter()
            .filter(|state| state.release != release.label() || !missing.contains(&state.process))
            .collect();
        self.mark_retiring(&end);
        let publishing = self.queue.publishing(app.id).await;
        let targets = self.still_running(app, targets).await;
        let outage = self.outage(app, &release).await;
        let app_now = self.as_it_is(app).await;
        let route = self.route(&app_now, Some(&release), targets, outage);
        let published = self.routes.publish(&app.name, Some(route));
        drop(publishing);
        reached("published");
        self.routes.acknowledged(published.version).await;
        Ok(end)
    }

    async fn start_missing(
        &self,
        app: &App,
        release: &Release,
        missing: &[ProcessName],
        report: &Report,
    ) -> Result<Vec<Target>, DeployError> {
        let steps = async {
            let mut started = Vec::new();
            for process in missing {
                report.detail(&format!("Starting {process}"));
                started.push((process.clone(), self.start_process(app, release, process).await?));
            }
            started.retain(|(process, _)| process.kind.is_web());
            self.check_all(app, release, &started, report).await?;
            Ok::<_, DeployError>(started)
        };
        let started = match steps.await {
            Ok(started) => started,
            Err(error) => {
                self.end_begun(app, release, missing).await;
                return Err(error);
            }
        };
        let target = |(process, running): (ProcessName, super::processes::Running)| Target {
            address: SocketAddr::from((running.address, release.port)),
            process: process.to_string(),
            release: release.label(),
        };
        Ok(started.into_iter().map(target).collect())
    }

    /// Ends what was begun of this release: others' processes may bear the same names.
    pub(super) async fn end_begun(&self, app: &App, release: &Release, begun: &[ProcessName]) {
        let mut states = self.states(app.id).await.unwrap_or_else(|error| {
            tracing::warn!(app = %app.name, %error, "what was begun could not be listed; it is ended later");
            Vec::new()
        });
        states.retain(|state| state.release == release.label() && begun.contains(&state.process));
        let states = self.not_retiring(states);
        // None of them has had a request; that they end is our doing.
        self.mark_retiring(&states);
        if !self.end_processes(app, &states, Duration::ZERO).await {
            self.unmark_retiring(&states);
        }
    }

    /// Ends the deploy, restart or config change that is being prepared, or else the push
    /// that is next, and waits until it is undone; the release that it would have been.
    pub async fn cancel(&self, app: &App, who: &str) -> Result<Option<u32>, DeployError> {
        let ending = self.queue.cancel(app.id, who).ok_or(DeployError::NothingToCancel)?;
        ending.over().await;
        Ok(ending.release())
    }

    pub(super) async fn turn(&self, app: &App, step: &'static str, who: &str) -> Turn {
        self.queue.take(app.id, activity(step, who)).await
    }

    /// The turn of an app, which is as it is then: whoever had it before may have
    /// changed the app, or removed it.
    pub(super) async fn begin(
        &self,
        app: &App,
        step: &'static str,
        who: &str,
    ) -> Result<(App, Turn), DeployError> {
        let turn = self.turn_of_asker(app, step, who).await?;
        Ok((self.refreshed(app).await?, turn))
    }

    /// The turn, for somebody who is told what they wait for, and may go meanwhile.
    async fn turn_of_asker(&self, app: &App, step: &'static str, who: &str) -> Result<Turn, DeployError> {
        let Asker { gone, report } = Asker::of_this_task();
        let said = |before| {
            if let Some(report) = &report {
                report.step(&place(&self.waited_for(app), before));
            }
        };
        tokio::select! {
            biased;
            () = gone.cancelled() => Err(DeployError::Cancelled),
            turn = self.queue.stand(app.id).turn(activity(step, who), said) => Ok(turn),
        }
    }

    /// What those who want an app's turn wait for.
    pub(super) fn waited_for(&self, app: &App) -> String {
        let Some(activity) = self.queue.activity(app.id) else { return "Waiting for the turn".to_owned() };
        let release = activity.release.map_or(String::new(), |number| format!(" v{number}"));
        let by = if activity.who.is_empty() { String::new() } else { format!(" by {}", activity.who) };
        match activity.commit {
            Some(_) => format!("Waiting for the deploy{release} of {}{by} to end", app.name),
            None => format!("Waiting: {} is {}{by}", app.name, activity.step),
        }
    }

    /// The same with the app's roster, for those who start or end processes of the
    /// release that serves. Who has that may have it for long, and is not waited for with
    /// the turn in hand.
    pub(super) async fn begin_roster(
        &self,
        app: &App,
        step: &'static str,
        who: &str,
    ) -> Result<(App, Roster, Turn), DeployError> {
        loop {
            let (app, turn) = self.begin(app, step, who).await?;
            if let Some(roster) = self.queue.try_roster(app.id) {
                return Ok((app, roster, turn));
            }
            drop(turn);
            let Asker { gone, report } = Asker::of_this_task();
            if let Some(report) = report {
                report.step("Waiting for processes of the release before to end");
            }
            tokio::select! {
                roster = self.queue.roster(app.id).taken() => drop(roster),
                () = gone.cancelled() => return Err(DeployError::Cancelled),
            }
        }
    }

    /// Turn and roster, whatever becomes of the one who asks.
    async fn both(&self, app: &App, step: &'static str, who: &str) -> (Roster, Turn) {
        loop {
            let turn = self.turn(app, step, who).await;
            if let Some(roster) = self.queue.try_roster(app.id) {
                return (roster, turn);
            }
            drop(turn);
            drop(self.queue.roster(app.id).taken().await);
        }
    }

    /// Makes `branch` the one whose push deploys. It must not exist, or name what
    /// runs; `false` if it names something else.
    pub async fn set_deploy_branch(&self, app: &App, branch: &str) -> Result<bool, DeployError> {
        let (app, turn) = self.begin(app, "changing the branch", "").await?;
        let path = self.repository(&app.repository);
        let current = self.current(&app).await?.map(|release| release.commit);
        let there = repository::branch(&path, branch)?;
        if there.is_some() && there != current {
            return Ok(false);
        }
        if let (None, Some(commit)) = (&there, &current) {
            repository::create_branch(&path, branch, commit)?;
        }
        repository::set_head(&path, branch)?;
        let (id, name) = (app.id, branch.to_owned());
        self.store().write(move |db| store::apps::set_deploy_branch(db, id, &name)).await?;
        drop(turn);
        Ok(true)
    }

    /// The release that serves.
    pub async fn current(&self, app: &App) -> Result<Option<Release>, DeployError> {
        let id = app.id;
        Ok(self.store().read(move |db| store::releases::current(db, id)).await?)
    }

    /// The app as it is stored now, unless it is gone, or going.
    pub(super) async fn refreshed(&self, app: &App) -> Result<App, DeployError> {
        let id = app.id;
        let read = move |db: &_| Ok((store::apps::get(db, id)?, store::apps::is_ending(db, id)?));
        match self.store().read(read).await? {
            (Some(app), false) => Ok(app),
            (Some(app), true) => Err(DeployError::BeingRemoved(app.name)),
            (None, _) => Err(DeployError::NoApp),
        }
    }
}

/// What somebody does to an app, as others are told of it.
fn activity(step: &'static str, who: &str) -> Activity {
    Activity { release: None, commit: None, step, who: who.to_owned(), since: Instant::now() }
}

/// Refuses counts with which no other release could be started beside this one: its
/// web processes and those that overlap, and one for the release command.
pub(super) fn expect_addresses(
    processes: &BTreeMap<ProcessType, RunCommand>,
    types: &BTreeMap<ProcessType, TypeSettings>,
    formation: &Formation,
) -> Result<(), DeployError> {
    let (mut web, mut others, mut needed) = (0, 0, 1);
    for kind in processes.keys() {
        let settings = types.get(kind).copied().unwrap_or_default();
        let first = settings.count.filter(|_| !formation.0.contains_key(kind));
        let count = first.unwrap_or_else(|| formation.count(kind));
        *(if kind.is_web() { &mut web } else { &mut others }) += count;
        needed += if kind.is_web() || settings.overlap { 2 * count } else { count };
    }
    if needed <= store::apps::ADDRESSES { Ok(()) } else { Err(DeployError::TooMany(web, others)) }
}

/// A process as a target, if it has an address.
pub(super) fn target(state: &ProcessState, port: u16) -> Option<Target> {
    Some(Target {
        address: SocketAddr::from((state.address?, port)),
        process: state.process.to_string(),
        release: state.release,
    })
}
