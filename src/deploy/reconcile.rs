//! Makes what is there what the store says is wanted: on start, every minute,
//! and whenever the engine tells of a process that died or came back.

use super::branch::{Moved, nothing};
use super::collect::Origin;
use super::crashes::{ABANDONED, is_dead};
use super::prepare::Prepared;
use super::processes::GRACE;
use super::promote::in_the_way;
use super::queue::{Activity, Roster, Turn};
use super::release::target;
use super::routes::Published;
use super::watch::its_web;
use super::{DeployError, Pipeline, Report};
use crate::engine::{Event, EventKind};
use crate::git::{Lease, repository};
use crate::model::{App, AppId, ProcessName, ProcessState, Release, ReleaseState, Target, Why};
use crate::store;
use futures_util::StreamExt;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often everything is compared.
const EVERY: Duration = Duration::from_secs(60);

/// How soon everything is compared again after an engine has come back.
const AGAIN: Duration = Duration::from_secs(ABANDONED.unsigned_abs() + 1);

/// How long processes that have answered before may take to do so again.
const STILL: Duration = Duration::from_secs(10);

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
        self.forget_routes(&apps);
        for app in &apps {
            if let Err(error) = self.doubt_unrouted(app).await {
                tracing::warn!(app = %app.name, %error, "it is not known which of its processes were well");
            }
            // One that was just promoted may take its time to exchange its processes, and
            // no other app is to wait for that.
            let Some(turn) = self.queue.try_take(app.id, order_activity()) else {
                let (pipeline, app) = (self.clone(), app.clone());
                self.background.spawn(async move { pipeline.adopt(&app).await });
                continue;
            };
            let roster = self.queue.try_roster(app.id);
            if let Err(error) = self.put_in_order(app, turn, roster).await {
                tracing::error!(app = %app.name, %error, "the app could not be put in order");
            }
        }
        self.resume_windows().await
    }

    /// Ends gits that outlived their server, and what they left.
    async fn recover_repositories(&self, apps: &[App]) -> Result<(), DeployError> {
        let known: HashSet<String> = apps.iter().map(|app| app.repository.clone()).collect();
        let root = self.workers.settings.repositories();
        super::prepare::blocking(move || {
            for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
                let path = entry.path();
                let known = known.contains(&*entry.file_name().to_string_lossy());
                // One bad repository must not keep all apps from coming up.
                if let Err(error) = recover_repository(&path, known) {
                    tracing::error!(%error, "{} could not be put in order", path.display());
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
        let moves = matches!(release.why, Why::Push | Why::Rollback | Why::Automatic);
        let moved =
            !moves || at.as_ref() == Some(&release.commit) || self.take_back_after_all(app, &release).await;
        if release.state == ReleaseState::Ready && moved {
            tracing::info!(app = %app.name, release = release.number, "finishing a deploy that was interrupted");
            if let Err(error) = self.finish(app, release, branch.filter(|_| moves)).await {
                tracing::error!(app = %app.name, %error, "it could not be finished");
            }
        } else {
            tracing::info!(app = %app.name, release = release.number, "undoing a deploy that was interrupted");
            if self.is_tried(app, &release) {
                self.undo_canary(app, &release).await;
                return;
            }
            self.discard(app, &release, &DeployError::CutOff).await;
        }
    }

    /// That a release is taken back is decided when its successor is ready; nobody would
    /// find the evidence a second time. Whether the branch has moved for it.
    async fn take_back_after_all(&self, app: &App, release: &Release) -> bool {
        let decided = release.why == Why::Automatic && release.state == ReleaseState::Ready;
        let (true, Some(branch)) = (decided, &app.deploy_branch) else { return false };
        let Ok(Some(current)) = self.current(app).await else { return false };
        let path = self.repository(&app.repository);
        repository::move_branch(&path, branch, &current.commit, &release.commit).is_ok()
    }

    /// The branch of a first push, which is not stored before promotion.
    fn moved_branch(&self, app: &App, release: &Release) -> Option<String> {
        let path = self.repository(&app.repository);
        ["main", "master"]
            .into_iter()
            .find(|branch| repository::branch(&path, branch).ok().flatten().as_ref() == Some(&release.commit))
            .map(str::to_owned)
    }

    /// Promotes a release that was ready, if it is still: somebody may have begun to
    /// undo it, or have removed what it needs.
    async fn finish(
        self: &Arc<Self>,
        app: &App,
        release: Release,
        branch: Option<String>,
    ) -> Result<(), DeployError> {
        let turn = self.turn(app, "recovering", "").await;
        let targets = match self.expect_to_serve(app, &release).await {
            Ok(targets) => targets,
            Err(error) => {
                self.discard(app, &release, &error).await;
                return Err(error);
            }
        };
        let before = self.current(app).await?.map(|current| current.commit);
        let from = before.map_or_else(nothing, Ok)?;
        let to = release.commit.clone();
        let moved = branch.map(|branch| Moved { branch, from, to });
        let prepared = Prepared { app: app.clone(), release, targets, turn };
        self.promote(prepared, moved.as_ref(), &Report::channel().0).await
    }

    /// The web processes of a release that is ready, all of which run and answer.
    async fn expect_to_serve(&self, app: &App, release: &Release) -> Result<Vec<Target>, DeployError> {
        if !self.engine().has_image(&release.image_id).await? {
            return Err(DeployError::NoImage(release.image.clone()));
        }
        let mut wanted = self.wanted(app, release).await?;
        wanted.retain(|process| process.kind.is_web());
        let mut web = its_web(release, self.states(app.id).await?);
        web.retain(|state| wanted.contains(&state.process));
        let complete = release.took_over.is_some() && !web.is_empty() || web.len() == wanted.len();
        let answer =
            futures_util::future::join_all(web.iter().map(|state| self.answers(app, release, state)));
        let all = tokio::time::timeout(STILL, answer).await.unwrap_or_default();
        if !complete || all.len() < web.len() || all.contains(&false) {
            return Err(DeployError::CutOff);
        }
        Ok(web.iter().filter_map(|state| target(state, release.port)).collect())
    }

    /// Routes of the last table whose apps are gone.
    fn forget_routes(&self, apps: &[App]) {
        for name in self.routes.table().routes.keys() {
            if !apps.iter().any(|app| app.name == *name) {
                self.routes.publish(name, None);
            }
        }
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

    /// Waits for the app's turn and puts it in order.
    async fn adopt(self: &Arc<Self>, app: &App) {
        let turn = self.turn(app, "being put in order", "").await;
        let roster = self.queue.try_roster(app.id);
        if let Err(error) = self.put_in_order(app, turn, roster).await {
            tracing::error!(app = %app.name, %error, "the app could not be put in order");
        }
    }

    /// Makes the app's processes those that are wanted, collects their output
    /// and publishes its route. What cannot be started does not keep the rest
    /// from being routed to. Without the roster, somebody is at work on all processes
    /// but those that serve, and they are left alone.
    async fn put_in_order(
        self: &Arc<Self>,
        app: &App,
        turn: Turn,
        roster: Option<Roster>,
    ) -> Result<(), DeployError> {
        let id = app.id;
        let Some(app) = self.store().read(move |db| store::apps::get(db, id)).await? else { return Ok(()) };
        if self.store().read(move |db| store::apps::is_ending(db, id)).await? {
            return if roster.is_some() { self.take_apart(&app, turn).await } else { Ok(()) };
        }
        self.undo_unfinished(&app).await?;
        let current = self.current(&app).await?;
        if let Err(error) = self.put_branch_right(&app, current.as_ref()) {
            tracing::error!(app = %app.name, %error, "the branch could not be put right");
        }
        // Whoever promoted it may have been cut off before that.
        let named = current.as_ref().map(|current| (current.number, &current.commit));
        let path = self.repository(&app.repository);
        if let Err(error) = repository::put_names_right(&path, named, app.deploy_branch.as_deref()) {
            tracing::warn!(app = %app.name, %error, "HEAD and the release's ref could not be put right");
        }
        let label = current.as_ref().map_or(0, Release::label);
        let current = current.filter(|_| !app.stopped);
        let number = current.as_ref().map_or(0, Release::label);
        let states = self.states(app.id).await?;
        if roster.is_some() {
            self.give_up_addresses_but(app.id, &states).await?;
        }
        let mut states = self.not_retiring(states);
        let mut wanted = match &current {
            Some(release) => {
                self.keep_spare(&app, release, &states).await?;
                self.wanted(&app, release).await?
            }
            None => Vec::new(),
        };
        if roster.is_none() {
            wanted.retain(|process| process.kind.is_web());
            let others = states.extract_if(.., |state| !state.process.kind.is_web());
            others.for_each(|state| self.collector.follow(Origin::from(&state)));
        }
        if let Some(window) = self.window(app.id).await? {
            let standby = states.extract_if(.., |state| window.keeps(state));
            standby.for_each(|state| self.collector.follow(Origin::from(&state)));
        }
        let (keep, mut end): (Vec<ProcessState>, Vec<ProcessState>) =
            states.into_iter().partition(|state| state.release == number && wanted.contains(&state.process));
        // Who starts what is being ended would take over its name and address.
        end.retain(|state| roster.is_some() || state.release != label);
        let now = store::now();
        let (dead, keep): (Vec<_>, Vec<_>) = keep.into_iter().partition(|state| is_dead(state, now));
        for state in dead {
            self.engine().remove(&state.container).await?;
        }
        keep.iter().for_each(|state| self.collector.follow(Origin::from(state)));
        if let Some(release) = &current {
            wanted.retain(|process| !in_the_way(&end, release, &process.kind));
            self.start_absent(&app, release, &wanted, &keep).await;
            self.trust_again(release, &keep).await?;
            self.resolve_all_doubts(&app, release).await?;
        }
        self.publish_running(app.id).await?;
        if !end.is_empty() {
            self.mark_retiring(&end);
            drop(turn);
            let pipeline = self.clone();
            self.background.spawn(async move {
                pipeline.end_leftovers(&app, current, end, roster).await;
            });
        }
        Ok(())
    }

    /// Releases of this app that nobody is making: whoever made one had the turn,
    /// and died, or could not write down that it failed.
    pub(super) async fn undo_unfinished(&self, app: &App) -> Result<(), DeployError> {
        let unfinished = self.store().read(store::releases::unfinished).await?;
        for release in unfinished.iter().filter(|release| release.app == app.id) {
            self.discard(app, release, &DeployError::CutOff).await;
        }
        Ok(())
    }

    async fn start_absent(
        &self,
        app: &App,
        release: &Release,
        wanted: &[ProcessName],
        there: &[ProcessState],
    ) {
        for process in wanted.iter().filter(|process| !there.iter().any(|state| state.process == **process)) {
            tracing::info!(app = %app.name, %process, "starting a process that is missing");
            if let Err(error) = self.start_process(app, release, process).await {
                tracing::error!(app = %app.name, %process, %error, "a process could not be started");
                self.platform_line(app.id, &format!("{process} could not be started: {error}"));
            }
        }
    }

    /// Ends what an interrupted deploy left, as the deploy would have, and starts what
    /// had to wait for that.
    async fn end_leftovers(
        &self,
        app: &App,
        current: Option<Release>,
        end: Vec<ProcessState>,
        roster: Option<Roster>,
    ) {
        let (web, others): (Vec<_>, Vec<_>) = end.into_iter().partition(|state| state.process.kind.is_web());
        let exchange = async {
            if others.is_empty() {
                return;
            }
            self.end_processes(app, &others, GRACE).await;
            self.unmark_retiring(&others);
            if let Some(release) = &current
                && let Err(error) = self.start_instead(app, release).await
            {
                tracing::error!(app = %app.name, %error, "what was ended could not be replaced");
            }
        };
        tokio::join!(exchange, self.retire_web(app, &web));
        drop(roster);
    }

    async fn start_instead(&self, app: &App, release: &Release) -> Result<(), DeployError> {
        if self.serves(app, release).await? {
            self.start_others(app, release, false).await?;
        }
        Ok(())
    }

    /// Publishes the route to those web processes that run now.
    pub(super) async fn publish_running(&self, id: AppId) -> Result<Published, DeployError> {
        let _publishing = self.queue.publishing(id).await;
        let app = self.store().read(move |db| store::apps::get(db, id)).await?.ok_or(DeployError::NoApp)?;
        let current = self.current(&app).await?.filter(|_| !app.stopped);
        let Some(release) = current else {
            return Ok(self.routes.publish(&app.name, Some(self.route(&app, None, Vec::new(), "H14"))));
        };
        let wanted = self.wanted(&app, &release).await?;
        let outage = if wanted.iter().any(|process| process.kind.is_web()) { "H10" } else { "H14" };
        let states = self.states(app.id).await?;
        let running = states.iter().filter(|state| {
            state.release == release.label() && state.running && wanted.contains(&state.process)
        });
        let targets = running
            .filter(|state| state.process.kind.is_web() && !self.takes_none(state))
            .filter(|state| !self.is_retiring(&state.container))
            .filter_map(|state| target(state, release.port))
            .collect();
        Ok(self.routes.publish(&app.name, Some(self.route(&app, Some(&release), targets, outage))))
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
        let settings = &self.workers.settings;
        let listens = [Some(settings.http_listen), settings.https_listen].into_iter().flatten();
        let public = listens.filter(|listen| !listen.ip().is_loopback()).map(|listen| listen.port());
        let outcome = self.engine().isolate(public.collect(), settings.build.isolate).await.err();
        let mut exposed = self.exposed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (Some(why), None) = (&outcome, &*exposed) {
            tracing::warn!(
                why,
                "apps and builds can reach this host's ports: the firewall rules could not be set"
            );
        }
        *exposed = outcome;
    }

    /// Puts every app in order to which nothing is being done.
    pub(super) async fn adopt_all(self: &Arc<Self>) {
        let apps = self.store().read(store::apps::list).await.unwrap_or_default();
        for app in &apps {
            let Some(turn) = self.queue.try_take(app.id, order_activity()) else { continue };
            let roster = self.queue.try_roster(app.id);
            if let Err(error) = self.put_in_order(app, turn, roster).await {
                tracing::warn!(app = %app.name, %error, "the app could not be put in order");
            }
        }
    }

    /// Follows what the engine tells, until the server stops.
    pub async fn follow_events(self: Arc<Self>) {
        let mut events = Box::pin(self.engine().events());
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.stop.cancelled() => return,
            };
            match event {
                Some(Ok(event)) => {
                    let (pipeline, by_itself) = (self.clone(), self.heard(&event));
                    self.background.spawn(async move { pipeline.react(event, by_itself).await });
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "looking at all apps again");
                    self.adopt_all().await;
                    // And when it is certain what the engine does not start again.
                    let pipeline = self.clone();
                    self.background.spawn(async move {
                        tokio::select! {
                            () = tokio::time::sleep(AGAIN) => pipeline.adopt_all().await,
                            () = pipeline.stop.cancelled() => {}
                        }
                    });
                }
                None => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    events = Box::pin(self.engine().events());
                }
            }
        }
    }

    /// A process of ours died or came back by the engine's restart policy.
    async fn react(self: Arc<Self>, event: Event, by_itself: bool) {
        if event.kind == EventKind::Destroyed {
            self.crashes().forget(&event.container);
        }
        let id = event.app;
        let Ok(Some(app)) = self.store().read(move |db| store::apps::get(db, id)).await else { return };
        let Ok(Some(release)) = self.current(&app).await else { return };
        if release.label() != event.release || app.stopped {
            return;
        }
        match event.kind {
            EventKind::Died { exit_code } => {
                if exit_code != 0 && by_itself {
                    self.routes.tally.exited(&app.name, release.number, &event.process);
                }
                self.ended(&app, &release, &event, exit_code).await;
            }
            EventKind::Started => self.welcome_back(&app, &release, &event).await,
            EventKind::Oom => {
                self.platform_line(app.id, &format!("{} ran out of memory (R14)", event.process));
            }
            // A container of the current release was removed by hand.
            EventKind::Destroyed => self.put_in_order_if_idle(&app).await,
        }
    }

    /// Puts an app in order at once, unless somebody is at work on it.
    pub(super) async fn put_in_order_if_idle(self: &Arc<Self>, app: &App) {
        let Some(turn) = self.queue.try_take(app.id, order_activity()) else { return };
        let roster = self.queue.try_roster(app.id);
        if let Err(error) = self.put_in_order(app, turn, roster).await {
            tracing::warn!(app = %app.name, %error, "the app could not be put in order");
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
        if !event.process.kind.is_web() {
            return;
        }
        let Ok(state) = self.engine().inspect(&event.container).await else { return };
        self.resolve_restarted(app, release, &state);
    }
}

fn order_activity() -> Activity {
    let step = "being put in order";
    Activity { release: None, commit: None, step, who: String::new(), since: Instant::now() }
}

/// Ends who still writes to a repository, and removes what they left, or the
/// whole of it if it never became an app's.
fn recover_repository(path: &Path, known: bool) -> Result<(), DeployError> {
    if !path.is_dir() {
        return Ok(());
    }
    free_lease(path)?;
    let swept = if known {
        repository::keep(path)?;
        repository::sweep(path)
    } else if repository::is_new(path) {
        std::fs::remove_dir_all(path)
    } else {
        // The database may be the one that is wrong.
        tracing::warn!("{} is of no known app; it is left alone", path.display());
        return Ok(());
    };
    swept.map_err(|error| crate::git::GitError::Io("sweep", error).into())
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
