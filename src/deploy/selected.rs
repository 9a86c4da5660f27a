//! Stopping, starting and restarting some of an app's processes, within its release.

use super::processes::Running;
use super::{DeployError, Pipeline, Report};
use crate::failpoint::reached;
use crate::model::{App, AppId, ProcessName, ProcessState, Release, Selection, Stopped};
use crate::store;
use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

impl Pipeline {
    /// Ends these processes; they stay so until they are started or restarted, or
    /// there is another release. Returns which they are.
    pub async fn stop_some(
        &self,
        app: &App,
        which: &[Selection],
        who: &str,
    ) -> Result<Vec<ProcessName>, DeployError> {
        let (app, roster, turn) = self.begin_roster(app, "stopping", who).await?;
        let app = &app;
        let (release, chosen) = self.chosen(app, which).await?;
        // First: once the wish is written down, nothing may refuse it.
        let mut ended = self.not_retiring(self.states(app.id).await?);
        ended.retain(|state| state.release == release.label() && chosen.contains(&state.process));
        self.set_stopped(&release, release.stopped.with(which)).await?;
        reached("committed");
        match self.publish_running(app.id).await {
            Ok(published) => self.routes.acknowledged(published.version).await,
            Err(error) => {
                tracing::warn!(app = %app.name, %error, "they are stopped within a minute");
                return Ok(chosen);
            }
        };
        self.mark_retiring(&ended);
        drop(turn);
        self.retire_web_in_turn(app, &ended).await;
        drop(roster);
        Ok(chosen)
    }

    /// Starts these processes, if they are stopped or have crashed.
    pub async fn start_some(
        &self,
        app: &App,
        which: &[Selection],
        who: &str,
        report: &Report,
    ) -> Result<Vec<ProcessName>, DeployError> {
        let (app, roster, turn) = self.begin_roster(app, "starting", who).await?;
        let app = &app;
        let (release, chosen) = self.chosen(app, which).await?;
        let superfluous = self.start_chosen(app, &release, which, report).await?;
        drop(turn);
        self.retire_web_in_turn(app, &superfluous).await;
        drop(roster);
        Ok(chosen)
    }

    async fn start_chosen(
        &self,
        app: &App,
        release: &Release,
        which: &[Selection],
        report: &Report,
    ) -> Result<Vec<ProcessState>, DeployError> {
        let stopped = release.stopped.without(which, &self.formed(app, release).await?);
        self.set_stopped(release, stopped.clone()).await?;
        reached("committed");
        let running = Release { stopped, ..release.clone() };
        match self.adjust(app, running, report).await {
            Ok(superfluous) => Ok(superfluous),
            Err(error) => {
                let (id, before) = (release.id, release.stopped.clone());
                let back = move |db: &_| store::releases::set_stopped(db, id, &before);
                Err(self.taken_back(error, back).await)
            }
        }
    }

    /// Replaces these processes by new ones of the same release. Of web, a spare
    /// process is started first: if it does not come up nothing has changed, and
    /// until the others are back it takes their requests.
    pub async fn restart_some(
        &self,
        app: &App,
        which: &[Selection],
        who: &str,
        report: &Report,
    ) -> Result<Vec<ProcessName>, DeployError> {
        let (app, roster, mut turn) = self.begin_roster(app, "restarting", who).await?;
        let app = &app;
        let (release, chosen) = self.chosen(app, which).await?;
        let (web, others): (Vec<_>, Vec<_>) = chosen.iter().partition(|process| process.kind.is_web());
        let there = self.not_retiring(self.states(app.id).await?);
        let alive = |state: &&ProcessState| state.release == release.label() && state.running;
        // Those that do not run are only started.
        let of = |names: &[&ProcessName]| {
            let there = there.iter().filter(alive).filter(|state| names.contains(&&state.process));
            there.cloned().collect::<Vec<_>>()
        };
        if let [_, ..] = &of(&web)[..] {
            self.restart_web(app, &release, of(&web), report).await?;
        }
        let old = of(&others);
        if !old.is_empty() {
            // A worker may take its time, and nobody else is to wait for it.
            self.mark_retiring(&old);
            drop(turn);
            self.retire_web_in_turn(app, &old).await;
            turn = self.turn(app, "restarting", who).await;
            if self.current(app).await?.is_none_or(|current| current.id != release.id) {
                return Ok(chosen);
            }
        }
        let superfluous = self.start_chosen(app, &release, which, report).await?;
        drop(turn);
        self.retire_web_in_turn(app, &superfluous).await;
        drop(roster);
        Ok(chosen)
    }

    /// One after the other, while a spare one takes their requests.
    async fn restart_web(
        &self,
        app: &App,
        release: &Release,
        web: Vec<ProcessState>,
        report: &Report,
    ) -> Result<(), DeployError> {
        let all = self.formed(app, release).await?;
        let last = all.iter().filter(|name| name.kind.is_web()).map(|name| name.index).max().unwrap_or(0);
        let spare = ProcessName { kind: crate::model::ProcessType::web(), index: last + 1 };
        self.make_room(app, 1).await?;
        report.detail(&format!("Starting {spare}, which takes the requests meanwhile"));
        let (id, label, name) = (app.id, release.label(), spare.clone());
        let begun = self.store().write(move |db| {
            store::apps::address(db, id, label, &name)?;
            store::apps::set_fresh(db, id, label, &name, true)
        });
        begun.await?;
        self.start_and_route(app, release, &spare, report).await?;
        // Where one does not come back, the spare goes on: see `keep_spare`.
        for old in web {
            let process = old.process.clone();
            report.detail(&format!("Replacing {process}"));
            self.take_out(app, old).await?;
            self.start_and_route(app, release, &process, report).await?;
        }
        self.spares().remove(&app.id);
        let states = self.states(app.id).await?;
        let its = |state: &ProcessState| state.release == release.label() && state.process == spare;
        if let Some(state) = states.into_iter().find(its) {
            self.take_out(app, state).await?;
        }
        Ok(())
    }

    /// A web process beyond the formation stays, and takes requests, as long as one of
    /// the formation does not: a restart of that one was cut off, or failed.
    pub(super) async fn keep_spare(
        &self,
        app: &App,
        release: &Release,
        states: &[ProcessState],
    ) -> Result<(), DeployError> {
        let mut formed = self.formed(app, release).await?;
        formed.retain(|process| process.kind.is_web());
        let serving: Vec<&ProcessName> = states
            .iter()
            .filter(|state| state.release == release.label() && state.process.kind.is_web())
            .filter(|state| state.running && !self.takes_none(state))
            .map(|state| &state.process)
            .collect();
        let mut wanted = formed.iter().filter(|process| !release.stopped.has(process));
        let lacks = wanted.any(|process| !serving.contains(&process));
        let spare = serving.into_iter().find(|process| lacks && !formed.contains(process));
        match spare {
            Some(spare) => self.spares().insert(app.id, (release.label(), spare.clone())),
            None => self.spares().remove(&app.id),
        };
        Ok(())
    }

    /// The process beyond the formation that a release has, if it has one.
    pub(super) fn spare(&self, release: &Release) -> Option<ProcessName> {
        let spare = self.spares().get(&release.app).cloned();
        spare.filter(|(label, _)| *label == release.label()).map(|(_, process)| process)
    }

    pub(super) fn has_spare(&self, app: AppId) -> bool {
        self.spares().contains_key(&app)
    }

    fn spares(&self) -> std::sync::MutexGuard<'_, HashMap<AppId, (u32, ProcessName)>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a web process and sends requests to it when it answers.
    async fn start_and_route(
        &self,
        app: &App,
        release: &Release,
        process: &ProcessName,
        report: &Report,
    ) -> Result<(), DeployError> {
        let running: Running = match self.start_process(app, release, process).await {
            Ok(running) => running,
            Err(error) => {
                // Nobody else is to find it there, and that it never had a request.
                if !self.formed(app, release).await?.contains(process) {
                    self.give_up_address(app, release.label(), process).await;
                }
                return Err(error);
            }
        };
        let started = [(process.clone(), running)];
        if let Err(error) = self.check_all(app, release, &started, report).await {
            let states = self.states(app.id).await?;
            let its: Vec<ProcessState> =
                states.into_iter().filter(|state| state.container == started[0].1.container).collect();
            // It has never had a request.
            self.end_processes(app, &its, Duration::ZERO).await;
            return Err(error);
        }
        let formed = self.formed(app, release).await?;
        if !formed.contains(process) {
            let (id, label, name) = (app.id, release.label(), process.clone());
            self.store().write(move |db| store::apps::set_fresh(db, id, label, &name, false)).await?;
            self.spares().insert(app.id, (release.label(), process.clone()));
        }
        reached("web-healthy");
        let published = self.publish_running(app.id).await?;
        self.routes.acknowledged(published.version).await;
        Ok(())
    }

    /// Ends a web process that gets no new requests from now on.
    async fn take_out(&self, app: &App, state: ProcessState) -> Result<(), DeployError> {
        let state = [state];
        self.mark_retiring(&state);
        let published = match self.publish_running(app.id).await {
            Ok(published) => published,
            Err(error) => {
                // It takes requests still: nobody is to start another in its place.
                self.unmark_retiring(&state);
                return Err(error);
            }
        };
        self.routes.acknowledged(published.version).await;
        self.retire_web_soon(app, &state).await;
        Ok(())
    }

    /// The release that serves, and which of its processes these are.
    async fn chosen(
        &self,
        app: &App,
        which: &[Selection],
    ) -> Result<(Release, Vec<ProcessName>), DeployError> {
        let release = self.current(app).await?.ok_or(DeployError::NoRelease)?;
        if self.refreshed(app).await?.stopped {
            return Err(DeployError::AllStopped);
        }
        let all = self.formed(app, &release).await?;
        for selection in which {
            if !release.processes.contains_key(selection.kind()) {
                let known = release.processes.keys().map(ToString::to_string).collect();
                return Err(DeployError::NoProcessType(selection.kind().to_string(), known));
            }
            if !all.iter().any(|name| selection.covers(name)) {
                let known = all.iter().filter(|name| name.kind == *selection.kind());
                return Err(DeployError::NoProcess(selection.clone(), known.cloned().collect()));
            }
        }
        let chosen = all.into_iter().filter(|name| which.iter().any(|selection| selection.covers(name)));
        let chosen = chosen.collect();
        Ok((release, chosen))
    }

    async fn set_stopped(&self, release: &Release, stopped: Stopped) -> Result<(), DeployError> {
        let id = release.id;
        Ok(self.store().write(move |db| store::releases::set_stopped(db, id, &stopped)).await?)
    }
}
