//! What a server that was killed left half-done: finished or undone, on start before
//! anything is accepted, and whenever an app is put in order.

use super::branch::{Moved, nothing};
use super::prepare::Prepared;
use super::queue::Turn;
use super::reconcile::order_activity;
use super::release::target;
use super::watch::its_web;
use super::{DeployError, Pipeline, Report};
use crate::git::{Lease, repository};
use crate::model::{App, Release, ReleaseState, Target, Why};
use crate::store;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
                let turn = self.turn(app, "recovering", "").await;
                self.finish_or_undo(app, release, turn).await;
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
        self.resume_windows().await?;
        self.resume_config().await
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

    /// Releases of this app that nobody is making: whoever made one had the turn, and
    /// died, or could not write down what came of it. The turn, unless one is promoted
    /// with it.
    pub(super) async fn see_to_unfinished(
        self: &Arc<Self>,
        app: &App,
        turn: Turn,
    ) -> Result<Option<Turn>, DeployError> {
        match self.unfinished(app).await?.pop() {
            Some(release) => Ok(self.finish_or_undo(app, release, turn).await),
            None => Ok(Some(turn)),
        }
    }

    /// The same where another release is about to be made in its place.
    pub(super) async fn undo_unfinished(&self, app: &App) -> Result<(), DeployError> {
        for release in self.unfinished(app).await? {
            self.discard(app, &release, &DeployError::CutOff).await;
            self.put_branch_right(app, self.current(app).await?.as_ref())?;
        }
        Ok(())
    }

    /// There is at most one.
    pub(super) async fn unfinished(&self, app: &App) -> Result<Vec<Release>, DeployError> {
        let mut unfinished = self.store().read(store::releases::unfinished).await?;
        unfinished.retain(|release| release.app == app.id);
        Ok(unfinished)
    }

    /// A release that was ready is promoted: a push if the branch has moved to
    /// its commit, other kinds by the store alone. Every other one is undone. The turn,
    /// unless it is needed for that.
    async fn finish_or_undo(self: &Arc<Self>, app: &App, release: Release, turn: Turn) -> Option<Turn> {
        let ready = release.state == ReleaseState::Ready && !self.is_given_up(release.id);
        let decided = match self.decided(app, &release).await {
            // If nobody can tell, all of it stays until somebody can.
            Err(error) if ready => {
                tracing::error!(app = %app.name, release = release.number, %error, "it is not known whether it is to go live");
                self.is_amiss(app.id);
                return None;
            }
            decided => decided.unwrap_or_default(),
        };
        if let Some(branch) = decided.filter(|_| ready) {
            tracing::info!(app = %app.name, release = release.number, "finishing a deploy that was interrupted");
            if let Err(error) = self.finish(app, release, branch, turn).await {
                tracing::error!(app = %app.name, %error, "it could not be finished");
            }
            return None;
        }
        tracing::info!(app = %app.name, release = release.number, "undoing a deploy that was interrupted");
        if self.was_tried(app, &release).await {
            self.undo_canary(app, &release, turn).await;
            return None;
        }
        self.discard(app, &release, &DeployError::CutOff).await;
        Some(turn)
    }

    /// Whether a release that is ready is to go live; and by which branch, if one moves
    /// for it.
    async fn decided(&self, app: &App, release: &Release) -> Result<Option<Option<String>>, DeployError> {
        if !moves(release) {
            return Ok(Some(None));
        }
        let path = self.repository(&app.repository);
        // That of a first push is not stored before promotion.
        let branches = match &app.deploy_branch {
            Some(branch) => vec![branch.clone()],
            None => ["main", "master"].map(str::to_owned).into(),
        };
        for branch in branches {
            if repository::branch(&path, &branch)?.as_ref() == Some(&release.commit) {
                return Ok(Some(Some(branch)));
            }
        }
        let after_all = self.take_back_after_all(app, release).await;
        Ok(after_all.then(|| app.deploy_branch.clone()))
    }

    /// That a release is taken back is decided when its successor is ready; nobody would
    /// find the evidence a second time. Whether the branch has moved for it.
    async fn take_back_after_all(&self, app: &App, release: &Release) -> bool {
        let (true, Some(branch)) = (release.why == Why::Automatic, &app.deploy_branch) else { return false };
        let Ok(Some(current)) = self.current(app).await else { return false };
        let path = self.repository(&app.repository);
        repository::move_branch(&path, branch, &current.commit, &release.commit).is_ok()
    }

    /// Promotes a release that was ready, if it is still: somebody may have begun to
    /// undo it, or have removed what it needs.
    async fn finish(
        self: &Arc<Self>,
        app: &App,
        release: Release,
        branch: Option<String>,
        turn: Turn,
    ) -> Result<(), DeployError> {
        let targets = match self.expect_to_serve(app, &release).await {
            Ok(targets) => targets,
            Err(error) => {
                if self.was_tried(app, &release).await {
                    self.undo_canary(app, &release, turn).await;
                } else {
                    self.discard(app, &release, &error).await;
                }
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
}

/// Whether the branch moves for it.
fn moves(release: &Release) -> bool {
    matches!(release.why, Why::Push | Why::Rollback | Why::Automatic)
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
