//! Makes what is there what the store says is wanted: on start, every minute,
//! and whenever the engine tells of a process that died or came back.

use super::collect::Origin;
use super::health::{self, Check};
use super::prepare::Prepared;
use super::processes::GRACE;
use super::release::target;
use super::{DeployError, Pipeline, Report};
use crate::engine::{Event, EventKind};
use crate::git::{Lease, repository};
use crate::model::{App, ProcessState, Release, ReleaseState, Target, Why};
use crate::store;
use futures_util::StreamExt;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often everything is compared.
const EVERY: Duration = Duration::from_secs(60);

/// How long the end of another server's git is waited for.
const HOLDERS: Duration = Duration::from_secs(5);

impl Pipeline {
    /// Before anything is accepted: ends what a killed server left half-done,
    /// then adopts what runs.
    pub async fn recover(self: &Arc<Self>) -> Result<(), DeployError> {
        self.isolate().await;
        let apps = self.store().read(store::apps::list).await?;
        self.recover_repositories(&apps).await?;
        for release in self.store().read(store::releases::unfinished).await? {
            if let Some(app) = apps.iter().find(|app| app.id == release.app) {
                self.finish_or_undo(app, release).await;
            }
        }
        self.remove_orphans(&apps).await;
        for app in &apps {
            if let Err(error) = self.adopt(app).await {
                tracing::error!(app = %app.name, %error, "the app could not be put in order");
            }
        }
        Ok(())
    }

    /// Ends gits that outlived their server, and what they left.
    async fn recover_repositories(&self, apps: &[App]) -> Result<(), DeployError> {
        let known: HashSet<String> = apps.iter().map(|app| app.repository.clone()).collect();
        let root = self.workers.settings.repositories();
        super::prepare::blocking(move || {
            for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                free_lease(&entry.path())?;
                if known.contains(&name) {
                    repository::sweep(&entry.path())
                        .map_err(|error| crate::git::GitError::Io("sweep", error))?;
                } else {
                    let _ = std::fs::remove_dir_all(entry.path());
                }
            }
            Ok(())
        })
        .await
    }

    /// A release that was ready is promoted: a push if the branch has moved to
    /// its commit, other kinds by the store alone. Every other one is undone.
    async fn finish_or_undo(self: &Arc<Self>, app: &App, release: Release) {
        let branch = app.deploy_branch.clone().or_else(|| self.moved_branch(app, &release));
        let at = branch
            .as_ref()
            .and_then(|branch| repository::branch(&self.repository(&app.repository), branch).ok().flatten());
        let moved = release.why != Why::Push || at.as_ref() == Some(&release.commit);
        if release.state == ReleaseState::Ready && moved {
            tracing::info!(app = %app.name, release = release.number, "finishing a deploy that was interrupted");
            match self.finish(app, release.clone(), branch.as_deref()).await {
                Ok(()) => return,
                Err(error) => tracing::error!(app = %app.name, %error, "it could not be finished"),
            }
        } else {
            tracing::info!(app = %app.name, release = release.number, "undoing a deploy that was interrupted");
        }
        self.discard(app, &release).await;
    }

    /// The branch of a first push, which is not stored before promotion.
    fn moved_branch(&self, app: &App, release: &Release) -> Option<String> {
        let path = self.repository(&app.repository);
        ["main", "master"]
            .into_iter()
            .find(|branch| repository::branch(&path, branch).ok().flatten().as_ref() == Some(&release.commit))
            .map(str::to_owned)
    }

    async fn finish(
        self: &Arc<Self>,
        app: &App,
        release: Release,
        branch: Option<&str>,
    ) -> Result<(), DeployError> {
        let turn = self.turn(app, "recovering", "").await;
        let states = self.states(app.id).await?;
        let its = states.iter().filter(|state| state.release == release.number && state.running);
        let targets: Vec<Target> = its
            .filter(|state| state.process.kind.is_web())
            .filter_map(|state| target(state, release.port))
            .collect();
        let (lines, _) = tokio::sync::mpsc::unbounded_channel();
        if let Some(branch) = branch {
            repository::set_head(&self.repository(&app.repository), branch)?;
        }
        let prepared = Prepared { app: app.clone(), release, targets, turn };
        self.promote(prepared, branch, &Report::new(lines)).await
    }

    /// Containers and networks of apps that are gone.
    async fn remove_orphans(&self, apps: &[App]) {
        let known = |id| apps.iter().any(|app| app.id == id);
        let states = self.engine().processes(None).await.unwrap_or_default();
        for state in states.iter().filter(|state| !known(state.app)) {
            let id = state.app;
            if !self.store().read(move |db| store::apps::is_own(db, id)).await.unwrap_or(false) {
                continue;
            }
            tracing::info!(container = state.container, "removing a container of an app that is gone");
            let _ = self.engine().stop(&state.container, Duration::ZERO).await;
            let _ = self.engine().remove(&state.container).await;
            let _ = self.engine().remove_network(state.app).await;
        }
    }

    /// Makes the app's processes those that are wanted, collects their output
    /// and publishes its route.
    pub(super) async fn adopt(self: &Arc<Self>, app: &App) -> Result<(), DeployError> {
        let _turn = self.turn(app, "being put in order", "").await;
        let id = app.id;
        let Some(app) = self.store().read(move |db| store::apps::get(db, id)).await? else { return Ok(()) };
        let current = self.current(&app).await?.filter(|_| !app.stopped);
        let wanted = match &current {
            Some(release) => self.wanted(&app, release).await?,
            None => Vec::new(),
        };
        let number = current.as_ref().map_or(0, |release| release.number);
        let states = self.states(app.id).await?;
        let (keep, end): (Vec<ProcessState>, Vec<ProcessState>) =
            states.into_iter().partition(|state| state.release == number && wanted.contains(&state.process));
        keep.iter().for_each(|state| self.collector.follow(Origin::from(state)));
        if let Some(release) = &current {
            for process in
                wanted.iter().filter(|process| !keep.iter().any(|state| state.process == **process))
            {
                tracing::info!(app = %app.name, %process, "starting a process that is missing");
                self.start_process(&app, release, process).await?;
            }
        }
        self.publish_running(&app).await?;
        if !end.is_empty() {
            let (pipeline, app) = (self.clone(), app.clone());
            self.background.spawn(async move { pipeline.end_processes(&app, &end, GRACE).await });
        }
        Ok(())
    }

    /// Publishes the route to those web processes that run now.
    pub(super) async fn publish_running(&self, app: &App) -> Result<(), DeployError> {
        let current = self.current(app).await?.filter(|_| !app.stopped);
        let Some(release) = current else {
            self.routes.publish(&app.name, Some(self.route(app, Vec::new(), "H14")));
            return Ok(());
        };
        let wanted = self.wanted(app, &release).await?;
        let outage = if wanted.iter().any(|process| process.kind.is_web()) { "H10" } else { "H14" };
        let states = self.states(app.id).await?;
        let running = states.iter().filter(|state| {
            state.release == release.number && state.running && wanted.contains(&state.process)
        });
        let targets = running
            .filter(|state| state.process.kind.is_web())
            .filter_map(|state| target(state, release.port))
            .collect();
        self.routes.publish(&app.name, Some(self.route(app, targets, outage)));
        Ok(())
    }

    /// Compares everything once a minute, until the server stops.
    pub async fn keep_in_order(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.stop.cancelled() => return,
            }
            self.isolate().await;
            self.adopt_all().await;
        }
    }

    /// Keeps apps from the host; said once if that is not possible.
    async fn isolate(&self) {
        let http = self.workers.settings.http_listen;
        let public = (!http.ip().is_loopback()).then_some(http.port());
        let outcome = crate::engine::isolate(public).await.err();
        let mut exposed = self.exposed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (Some(why), None) = (&outcome, &*exposed) {
            tracing::warn!(why, "apps can reach this host's ports: the firewall rules could not be set");
        }
        *exposed = outcome;
    }

    /// Puts every app in order to which nothing is being done.
    async fn adopt_all(self: &Arc<Self>) {
        let apps = self.store().read(store::apps::list).await.unwrap_or_default();
        for app in apps.iter().filter(|app| self.queue.activity(app.id).is_none()) {
            if let Err(error) = self.adopt(app).await {
                tracing::warn!(app = %app.name, %error, "the app could not be put in order");
            }
        }
    }

    /// Follows what the engine tells, until the server stops.
    pub async fn follow_events(self: Arc<Self>) {
        let mut events = Box::pin(self.engine().events(None));
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.stop.cancelled() => return,
            };
            match event {
                Some(Ok(event)) => {
                    let pipeline = self.clone();
                    self.background.spawn(async move { pipeline.react(event).await });
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "looking at all apps again");
                    self.adopt_all().await;
                }
                None => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    events = Box::pin(self.engine().events(None));
                }
            }
        }
    }

    /// A process of ours died or came back by the engine's restart policy.
    async fn react(self: Arc<Self>, event: Event) {
        let id = event.app;
        let Ok(Some(app)) = self.store().read(move |db| store::apps::get(db, id)).await else { return };
        let Ok(Some(release)) = self.current(&app).await else { return };
        if release.number != event.release || app.stopped {
            return;
        }
        match event.kind {
            EventKind::Died { exit_code } => {
                let process = &event.process;
                self.platform_line(app.id, &format!("{process} exited with status {exit_code}"));
                if self.queue.activity(app.id).is_none() {
                    let _ = self.publish_running(&app).await;
                }
            }
            EventKind::Started => self.welcome_back(&app, &release, &event).await,
            EventKind::Oom => {
                self.platform_line(app.id, &format!("{} ran out of memory (R14)", event.process));
            }
            EventKind::Destroyed => {}
        }
    }

    /// Routes to a restarted process once it answers.
    async fn welcome_back(self: &Arc<Self>, app: &App, release: &Release, event: &Event) {
        self.collector.follow(Origin {
            container: event.container.clone(),
            app: app.id,
            release: event.release,
            process: event.process.clone(),
        });
        if !event.process.kind.is_web() || self.queue.activity(app.id).is_some() {
            return;
        }
        let Ok(state) = self.engine().inspect(&event.container).await else { return };
        let Some(address) = state.address else { return };
        let host = format!("{}.{}", app.name, self.workers.settings.domain);
        let check = Check {
            engine: self.engine(),
            container: &event.container,
            address,
            port: release.port,
            host: &host,
        };
        if health::wait_again(&check, &self.stop).await {
            let _ = self.publish_running(app).await;
        }
    }
}

/// Takes and gives back the lease, ending whoever holds it from a former life.
fn free_lease(path: &Path) -> Result<(), DeployError> {
    let mut lease = Lease::open(path)?;
    let begin = std::time::Instant::now();
    while !lease.lock()? {
        if let Some(group) = lease.holder() {
            crate::spawn::kill_group(group);
        }
        if begin.elapsed() > HOLDERS {
            return Err(DeployError::Internal(format!("{} is held by another process", path.display())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    lease.unlock();
    Ok(())
}
