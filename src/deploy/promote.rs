//! The second phase of a deploy: one transaction makes the release current, the
//! routes follow, and the old processes end when nobody uses them any more.

use super::branch::Moved;
use super::error::Unhealthy;
use super::prepare::Prepared;
use super::processes::ITS_OWN;
use super::queue::Turn;
use super::release::target;
use super::{DeployError, Pipeline, Report};
use crate::failpoint::reached;
use crate::model::{
    AccessLog, Announcement, App, AppId, ProcessName, ProcessState, ProcessType, Release, Route, Target,
    Traffic, Window,
};
use crate::store;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long requests in flight to an old process may take.
pub(super) const DRAIN: Duration = Duration::from_secs(if cfg!(test) { 6 } else { 30 });

impl Pipeline {
    /// All steps of the second phase, in order. Until the transaction has
    /// committed, an error leaves the old release as it was, and puts the branch back
    /// if it has moved for this, before anybody else has a turn.
    pub(super) async fn promote(
        self: &Arc<Self>,
        prepared: Prepared,
        moved: Option<&Moved>,
        report: &Report,
    ) -> Result<(), DeployError> {
        let Prepared { app, release, targets, turn } = prepared;
        turn.step("going live");
        self.dispel_doubts(&app, &release, &targets).await;
        let committed = async {
            let publishing = self.queue.publishing(app.id).await;
            let targets = self.expect_running(&app, &release, targets).await?;
            let window = self.commit(&app, &release, moved).await?;
            Ok::<_, DeployError>((publishing, targets, window))
        };
        let (publishing, targets, window) = match committed.await {
            Ok(committed) => committed,
            Err(error) => {
                if let Some(moved) = moved {
                    self.put_back(&app, moved);
                }
                self.discard(&app, &release, &error).await;
                return Err(error);
            }
        };
        reached("committed");
        let targets = self.still_running(&app, targets).await;
        let outage = self.outage(&app, &release).await;
        let app_now = self.as_it_is(&app).await;
        let route = self.route(&app_now, Some(&release), targets, outage);
        let published = self.routes.publish(&app.name, Some(route));
        self.forget_canary(app.id);
        drop(publishing);
        reached("published");
        if !self.routes.acknowledged(published.version).await {
            report.warning("The proxy has not confirmed the new routes yet; it will follow.");
        }
        reached("acknowledged");
        self.name_release(&app, &release);
        tracing::info!(app = %app.name, release = release.number, steps = turn.timings(), "deployed");
        if let Some(window) = window.clone() {
            self.watch_over(app.clone(), window, self.watch_time(&release));
        }
        let pipeline = self.clone();
        self.background.spawn(async move { pipeline.retire_others(app, release, window, turn).await });
        Ok(())
    }

    /// The targets whose processes run still. A release whose web processes have all
    /// ended since they answered, or come back and not answered, must not take the place of
    /// one that serves.
    async fn expect_running(
        &self,
        app: &App,
        release: &Release,
        targets: Vec<Target>,
    ) -> Result<Vec<Target>, DeployError> {
        let targets = self.still_running(app, targets).await;
        if !targets.is_empty() || !self.wants_web(app, release).await? {
            return Ok(targets);
        }
        let is_web = |state: &ProcessState| state.release == release.label() && state.process.kind.is_web();
        let ended = self.states(app.id).await?.into_iter().find(is_web);
        let (process, why, tail) = match ended {
            Some(state) if state.running => {
                let how = app.checks.over(&release.checks);
                let answer = self.answer(app, release, &state, &how).await;
                let why = answer.and_then(Result::err).unwrap_or(Unhealthy::Silent);
                let tail = self.last_lines(&state.container).await;
                (state.process, why, tail)
            }
            Some(state) => {
                let why = Unhealthy::Exited { code: state.exit_code, out_of_memory: state.oom_killed };
                (state.process, why, self.last_lines(&state.container).await)
            }
            None => (ProcessName { kind: ProcessType::web(), index: 1 }, Unhealthy::Removed, Vec::new()),
        };
        Err(DeployError::Unhealthy { process, port: release.port, why, tail, advice: None })
    }

    async fn wants_web(&self, app: &App, release: &Release) -> Result<bool, DeployError> {
        Ok(self.wanted(app, release).await?.iter().any(|process| process.kind.is_web()))
    }

    /// Those targets whose processes have not ended since they were looked at, or have
    /// answered again since. With the publishing lock: whoever hears that one has ended
    /// publishes after this.
    pub(super) async fn still_running(&self, app: &App, mut targets: Vec<Target>) -> Vec<Target> {
        match self.states(app.id).await {
            Ok(states) => targets.retain(|target| {
                let is_it = |state: &ProcessState| {
                    state.running
                        && !self.takes_none(state)
                        && state.release == target.release
                        && state.address.is_some_and(|address| address == target.address.ip())
                };
                states.iter().any(is_it)
            }),
            Err(error) => {
                tracing::warn!(app = %app.name, %error, "it is not known which processes run still");
            }
        }
        targets
    }

    /// What it means that a release has no target: that no web process is wanted, or
    /// that none runs.
    pub(super) async fn outage(&self, app: &App, release: &Release) -> &'static str {
        if self.wants_web(app, release).await.unwrap_or_default() { "H10" } else { "H14" }
    }

    /// The commit point; the window that it opens.
    async fn commit(
        &self,
        app: &App,
        release: &Release,
        moved: Option<&Moved>,
    ) -> Result<Option<Window>, DeployError> {
        let window = self.window_after(app, release).await?;
        let branch = moved.map(|moved| moved.branch.clone());
        let (release, opened) = (release.clone(), window.clone());
        let commit = self.store().write(move |db| {
            let before = store::releases::current(db, release.app)?;
            store::releases::promote(db, &release, opened.as_ref())?;
            store::webhooks::announce(db, release.app, &Announcement::promoted(&release, before.as_ref()))?;
            match branch {
                Some(branch) => store::apps::set_deploy_branch(db, release.app, &branch),
                None => Ok(()),
            }
        });
        commit.await?;
        self.ring();
        Ok(window)
    }

    /// Ends what belongs to other releases: web processes when their requests are
    /// finished, but for those that stand by, and all others as soon as it is their
    /// turn. The app is free for the next deploy meanwhile.
    async fn retire_others(self: Arc<Self>, app: App, release: Release, window: Option<Window>, turn: Turn) {
        let states = match self.states(app.id).await {
            Ok(states) => states,
            Err(error) => {
                // Nothing is started beside what nobody sees: all is put in order within a minute.
                tracing::warn!(app = %app.name, %error, "the old processes could not be listed");
                return;
            }
        };
        let stands_by = |state: &ProcessState| window.as_ref().is_some_and(|window| window.keeps(state));
        let old = self.not_retiring(states).into_iter();
        let old = old.filter(|state| state.release != release.label() && !stands_by(state));
        let mut web: Vec<_> = old.filter(|state| state.process.kind.is_web()).collect();
        self.mark_retiring(&web);
        // What stood by may not be all that is wanted now.
        if release.took_over.is_some() {
            let report = Report::channel().0;
            match self.adjust_some(&app, release.clone(), &report, ProcessType::is_web).await {
                Ok(superfluous) => web.extend(superfluous),
                Err(error) => {
                    tracing::error!(app = %app.name, %error, "not every web process could be started again");
                }
            }
        }
        let line = self.queue.roster(app.id);
        drop(turn);
        let exchange = async {
            let roster = line.taken().await;
            if let Err(error) = self.exchange_others(&app, &release).await {
                tracing::error!(app = %app.name, %error, "the processes of the release before could not be replaced");
            }
            drop(roster);
        };
        tokio::join!(exchange, self.retire_web(&app, &web));
        self.drop_old_images(&app).await;
    }

    /// Processes of other releases that get no traffic end before those of this one
    /// start, so that two releases' workers never run together, unless their type
    /// overlaps. With the roster; a release that has been followed by another meanwhile
    /// leaves all this to that one.
    async fn exchange_others(&self, app: &App, release: &Release) -> Result<(), DeployError> {
        if self.serves(app, release).await? {
            self.start_others(app, release, true).await?;
        }
        if self.serves(app, release).await? {
            let mut others = self.not_retiring(self.states(app.id).await?);
            others.retain(|state| state.release != release.label() && !state.process.kind.is_web());
            self.end_processes(app, &others, ITS_OWN).await;
        }
        reached("others-ended");
        if self.serves(app, release).await? {
            self.start_others(app, release, false).await?;
        }
        reached("others-started");
        Ok(())
    }

    /// Whether a release serves still.
    pub(super) async fn serves(&self, app: &App, release: &Release) -> Result<bool, DeployError> {
        let rests = self.refreshed(app).await?.rests();
        Ok(!rests && self.current(app).await?.is_some_and(|current| current.id == release.id))
    }

    /// Removes what no rollback and no next build needs.
    pub(super) async fn drop_old_images(&self, app: &App) {
        match self.prune_images(app, "").await {
            Ok(_) | Err(DeployError::NoApp | DeployError::BeingRemoved(_)) => {}
            Err(error) => tracing::warn!(app = %app.name, %error, "old images could not be looked for"),
        }
        self.tidy_bases().await;
    }

    /// Starts the processes of a release that get no traffic and that are not there:
    /// those whose type overlaps with the former release, or those others, unless one of
    /// a former release could not be ended.
    pub(super) async fn start_others(
        &self,
        app: &App,
        release: &Release,
        overlap: bool,
    ) -> Result<(), DeployError> {
        let mut wanted = self.wanted(app, release).await?;
        let states = self.states(app.id).await?;
        let is_there = |process: &ProcessName| {
            states.iter().any(|state| state.process == *process && state.release == release.label())
        };
        let due = |kind: &ProcessType| !kind.is_web() && release.overlaps(kind) == overlap;
        wanted.retain(|process| due(&process.kind) && !is_there(process));
        for process in wanted {
            if !overlap && in_the_way(&states, release, &process.kind) {
                tracing::warn!(app = %app.name, %process, "it is not started while a former release's runs");
            } else if let Err(error) = self.start_process(app, release, &process).await {
                tracing::error!(app = %app.name, %process, %error, "a process could not be started");
                self.platform_line(app.id, &format!("{process} could not be started: {error}"));
            }
        }
        Ok(())
    }

    /// Ends old processes once every proxy has finished with them: whichever release
    /// they are of, whoever took their route away, and however long ago. Until then
    /// nobody else takes them for leftovers.
    pub(super) async fn retire_web(&self, app: &App, web: &[ProcessState]) {
        self.retire_after(app, web, Duration::MAX, ITS_OWN).await;
    }

    /// The same for who has the app in hand: a proxy that stays away is not waited for
    /// any longer than its requests would be.
    pub(super) async fn retire_web_in_turn(&self, app: &App, web: &[ProcessState]) {
        self.retire_after(app, web, DRAIN, ITS_OWN).await;
    }

    /// The same where others wait for the app's turn: a process has no longer to end than
    /// its requests, whatever its type says.
    pub(super) async fn retire_web_soon(&self, app: &App, web: &[ProcessState]) {
        self.retire_after(app, web, DRAIN, DRAIN).await;
    }

    async fn retire_after(&self, app: &App, web: &[ProcessState], away: Duration, most: Duration) {
        self.mark_retiring(web);
        let used = self.routed_once(app, web).await;
        let version = self.routes.table().version;
        let finished = async {
            // A proxy that is away goes on sending requests to them until it is back.
            let _ = tokio::time::timeout(away, self.routes.in_force(version, &used)).await;
            self.routes.drained(&used, DRAIN).await
        };
        tokio::select! {
            drained = finished => if !drained {
                tracing::info!(app = %app.name, "requests to an old process are cut off after {} s", DRAIN.as_secs());
            },
            // Stopping: the next server's reconcile ends them.
            () = self.stop.cancelled() => return,
        }
        reached("drained");
        self.end_processes(app, web, most).await;
        self.unmark_retiring(web);
    }

    /// Those of the processes that may have requests in flight, as the proxies know them.
    pub(super) async fn routed_once(&self, app: &App, states: &[ProcessState]) -> Vec<Target> {
        let web: Vec<_> =
            states.iter().filter(|state| state.running && state.process.kind.is_web()).collect();
        if web.is_empty() {
            return Vec::new();
        }
        let id = app.id;
        let read = move |db: &_| Ok((store::releases::ports(db, id)?, store::apps::fresh(db, id)?));
        let (ports, fresh) = self.store().read(read).await.unwrap_or_else(|error| {
            tracing::warn!(app = %app.name, %error, "nobody knows who still sends to its old processes");
            (BTreeMap::new(), Vec::new())
        });
        let used = |state: &&&ProcessState| !fresh.contains(&(state.release, state.process.to_string()));
        web.iter().filter(used).filter_map(|state| target(state, *ports.get(&state.release)?)).collect()
    }

    /// They are ended.
    pub(super) fn unmark_retiring(&self, states: &[ProcessState]) {
        let mut retiring = self.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        retiring.retain(|container| !states.iter().any(|state| state.container == *container));
    }

    /// It is gone.
    pub(super) fn forget_retiring(&self, container: &str) {
        self.retiring.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }

    /// Those processes that nobody is ending already.
    pub(super) fn not_retiring(&self, mut states: Vec<ProcessState>) -> Vec<ProcessState> {
        let retiring = self.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|state| !retiring.contains(&state.container));
        states
    }

    /// Whether somebody is ending this container.
    pub(super) fn is_retiring(&self, container: &str) -> bool {
        self.retiring.lock().unwrap_or_else(PoisonError::into_inner).contains(container)
    }

    /// The app as it is now, with the publishing lock: its names and whether it wants
    /// HTTPS are changed without its turn.
    pub(super) async fn as_it_is(&self, app: &App) -> App {
        let id = app.id;
        match self.store().read(move |db| store::apps::get(db, id)).await {
            Ok(Some(now)) => now,
            _ => self.as_it_was_told(app),
        }
    }

    /// Nobody can read it: who may come in, and whether anybody may, is as the proxies
    /// heard last. A password that was set meanwhile must not be forgotten.
    fn as_it_was_told(&self, app: &App) -> App {
        let mut app = app.clone();
        if let Some(route) = self.routes.table().routes.get(&app.name) {
            let Traffic { maintenance, users, redirects, .. } = route.traffic.clone();
            (app.maintenance, app.users, app.redirects) = (maintenance, users, redirects);
        }
        app
    }

    /// An app's route to `targets`, which are `release`'s, if there is one.
    pub(super) fn route(
        &self,
        app: &App,
        release: Option<&Release>,
        targets: Vec<Target>,
        outage: &str,
    ) -> Route {
        let route = Route {
            app: app.name.clone(),
            hosts: self.names(app),
            https: app.https.policy(),
            traffic: Traffic { sleeps: self.sleeps(app, &targets, outage), ..self.traffic(app, release) },
            port: Some(app.port),
            release: release.map_or(0, |release| release.number),
            targets,
            outage: outage.to_owned(),
        };
        self.with_canary(app.id, route)
    }

    /// An app's own rules for its requests.
    fn traffic(&self, app: &App, release: Option<&Release>) -> Traffic {
        let per_second = self.workers.settings.logs.requests;
        let access_log = (per_second > 0).then_some(AccessLog { app: app.id, per_second });
        let http = release.map(|release| release.http).unwrap_or_default();
        Traffic {
            access_log,
            http,
            sticky_key: http.sticky.then(|| app.sticky_key()),
            maintenance: app.maintenance.clone(),
            users: app.users.clone(),
            redirects: app.redirects.clone(),
            mounts: app.mounts.clone(),
            ..Traffic::default()
        }
    }

    /// A line of ours in an app's log.
    pub(super) fn platform_line(&self, app: AppId, text: &str) {
        let line = crate::logs::LogEntry::now(crate::logs::Source::Platform, "deploy", 0, text);
        self.workers.logs.append(app, line);
    }
}

/// Whether processes of this type are not to be started yet: those of another release
/// run, and two releases' must not run together.
pub(super) fn in_the_way(states: &[ProcessState], release: &Release, kind: &ProcessType) -> bool {
    let former = |state: &ProcessState| {
        let runs = state.running || state.restarting;
        runs && state.release != release.label() && state.process.kind == *kind
    };
    !kind.is_web() && !release.overlaps(kind) && states.iter().any(former)
}
