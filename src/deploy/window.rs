//! After a promotion: the release before stands by for a while, and takes over
//! again if the new one does worse.

use super::again::Again;
use super::queue::Turn;
use super::release::target;
use super::tally::LATE;
use super::{DeployError, Pipeline, Report};
use crate::failpoint::reached;
use crate::model::{App, AppId, Evidence, ProcessState, Release, Seen, Target, Why, Window};
use crate::store;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// In whose name a release is taken back.
const WHO: &str = "paas";

/// The first pause and the longest between two tries to end a watch.
const PAUSE: Duration = Duration::from_millis(250);
const MOST_PAUSE: Duration = Duration::from_secs(10);

/// How long after its time a watch is still tried to be ended.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// How soon one that stands by has to answer to take over.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Web processes that stand by and can take over at once.
pub(super) struct Standby {
    /// The number that their containers bear.
    pub label: u32,
    pub targets: Vec<Target>,
}

impl Pipeline {
    /// The window of an app, if its release is watched.
    pub async fn window(&self, app: AppId) -> Result<Option<Window>, DeployError> {
        Ok(self.store().read(move |db| store::windows::of(db, app)).await?)
    }

    /// For how long a release is watched.
    pub(super) fn watch_time(&self, release: &Release) -> Duration {
        let own = release.watch.map(|seconds| Duration::from_secs(seconds.into()));
        own.unwrap_or(self.workers.settings.watch)
    }

    /// The window that opens when this release goes live. A rollback opens none:
    /// it goes to what has proved itself, and has to end. Nor does a restart, which
    /// is asked for to be rid of the old processes.
    pub(super) async fn window_after(
        &self,
        app: &App,
        release: &Release,
    ) -> Result<Option<Window>, DeployError> {
        let watch = self.watch_time(release);
        let may_be_worse = matches!(release.why, Why::Push | Why::Config | Why::Resize);
        if watch.is_zero() || !may_be_worse || self.refreshed(app).await?.stopped {
            return Ok(None);
        }
        let Some(before) = self.current(app).await? else { return Ok(None) };
        Ok(Some(Window {
            app: app.id,
            release: release.number,
            before: before.number,
            standby: before.label(),
            until: store::now() + i64::try_from(watch.as_secs()).unwrap_or(0),
            former: self.late(app, &before).await,
        }))
    }

    /// How a release has done at last, as it was seen here; and where that says nothing
    /// of its exits, as after a restart of the server, what the engine knows of them.
    async fn late(&self, app: &App, release: &Release) -> Seen {
        let mut seen = self.routes.tally.late(&app.name, release.number);
        if seen.exits.is_empty() {
            let states = self.states(app.id).await.unwrap_or_default();
            let its = states.iter().filter(|state| state.release == release.label() && state.restarts > 0);
            let since = store::now() - LATE.as_secs().cast_signed();
            its.filter(|state| state.finished_at > since).for_each(|state| seen.exited(&state.process));
        }
        seen
    }

    /// Watches a release in the background.
    pub(super) fn watch_over(self: &Arc<Self>, app: App, window: Window, left: Duration) {
        let (pipeline, end) = (self.clone(), Instant::now() + left);
        self.watches.spawn(async move {
            let tally = &pipeline.routes.tally;
            tokio::select! {
                () = tally.worse(&app.name, window.release, &window.former) => {}
                () = tokio::time::sleep(left) => {}
                () = pipeline.stop.cancelled() => return,
            }
            let ending = pipeline.clone();
            pipeline.background.spawn(async move { ending.end_watch(&app, &window, end).await });
        });
    }

    /// Tries again for a while if the store or the engine are unwell: a release that is
    /// worse must not stay for that.
    async fn end_watch(self: &Arc<Self>, app: &App, window: &Window, end: Instant) {
        let mut pause = PAUSE;
        while let Err(error) = self.see_through(app, window, end).await {
            let passing =
                matches!(error, DeployError::Store(_) | DeployError::Engine(_) | DeployError::NoProxy);
            if passing && Instant::now() < end + AFTERWARDS {
                tracing::warn!(app = %app.name, release = window.release, %error, "its watch is to end once more");
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(MOST_PAUSE),
                    () = self.stop.cancelled() => return,
                }
                continue;
            }
            tracing::error!(app = %app.name, release = window.release, %error, "its watch went wrong");
            let text = format!("v{} could not be rolled back automatically: {error}", window.release);
            self.platform_line(app.id, &text);
            self.give_up_window(app, window).await;
            return;
        }
    }

    /// Goes on with the windows of a former life, for what is left of them. Never
    /// longer than they were meant to be, whatever the clock says.
    pub(super) async fn resume_windows(self: &Arc<Self>) -> Result<(), DeployError> {
        let windows = self.store().read(store::windows::list).await?;
        for window in windows {
            let id = window.app;
            let app = self.store().read(move |db| store::apps::get(db, id)).await?;
            let Some(app) = app else { continue };
            let Some(release) = self.current(&app).await? else { continue };
            let left = u64::try_from(window.until - store::now()).map_or(Duration::ZERO, Duration::from_secs);
            self.watch_over(app, window, left.min(self.watch_time(&release)));
        }
        Ok(())
    }

    /// A release is worse than the one before, or no time is left of its watch.
    async fn see_through(
        self: &Arc<Self>,
        app: &App,
        window: &Window,
        end: Instant,
    ) -> Result<(), DeployError> {
        if self.window(app.id).await?.as_ref() != Some(window) {
            return Ok(());
        }
        // Nothing is taken back from under a deploy: it ends the window, or fails.
        let turn = tokio::select! {
            turn = self.turn(app, "ending its watch", WHO) => turn,
            () = self.stop.cancelled() => return Ok(()),
        };
        if self.window(app.id).await?.as_ref() != Some(window) {
            return Ok(());
        }
        match self.routes.tally.evidence(&app.name, window.release, &window.former) {
            Some(evidence) => self.take_back(app, window, evidence, turn).await,
            None if Instant::now() >= end => self.close_window(app, window, turn).await,
            None => {
                // It has become better while somebody else had the turn.
                self.watch_over(app.clone(), window.clone(), end.saturating_duration_since(Instant::now()));
                Ok(())
            }
        }
    }

    /// The release before takes over again, as a new release; the branch is put
    /// back to its commit.
    async fn take_back(
        self: &Arc<Self>,
        app: &App,
        window: &Window,
        evidence: Evidence,
        turn: Turn,
    ) -> Result<(), DeployError> {
        turn.step("rolling back");
        reached("evidence-found");
        tracing::warn!(app = %app.name, release = window.release, %evidence, "taking a release back");
        let app = self.refreshed(app).await?;
        let (id, before) = (app.id, window.before);
        let source = self.store().read(move |db| store::releases::numbered(db, id, before)).await?;
        let (Some(current), Some(source)) = (self.current(&app).await?, source) else {
            return Err(DeployError::NothingBefore);
        };
        // A proxy that is just being started again is waited for.
        self.routes.wait_connected(Duration::from_secs(30)).await;
        let text = format!("v{} was rolled back automatically: {evidence}", window.release);
        let again = Again {
            config: source.config.clone(),
            sizes: Some(source.sizes.clone()),
            source,
            why: Why::Automatic,
            who: WHO.to_owned(),
            evidence: Some(evidence),
        };
        let report = Report::channel().0;
        let prepared = self.prepare_back(&app, again, turn, &report).await?;
        let number = prepared.release.number;
        self.go_back(&app, prepared, &current, &report).await?;
        self.platform_line(app.id, &format!("{text}; v{number} runs what v{} ran", window.before));
        Ok(())
    }

    /// The release has done well enough: what stood by ends.
    async fn close_window(&self, app: &App, window: &Window, turn: Turn) -> Result<(), DeployError> {
        let id = app.id;
        self.store().write(move |db| store::windows::close(db, id)).await?;
        reached("window-closed");
        tracing::info!(app = %app.name, release = window.release, "its watch is over");
        let mut standby = self.not_retiring(self.states(app.id).await?);
        standby.retain(|state| window.keeps(state));
        self.mark_retiring(&standby);
        drop(turn);
        // A request that began before the swap may still be under way.
        self.retire_web_in_turn(app, &standby).await;
        self.drop_old_images(app).await;
        Ok(())
    }

    /// How many of so many new web processes are started first: as many as find addresses
    /// beside what stands by, which goes on until those answer.
    pub(super) async fn beside_standby(&self, app: &App, processes: usize) -> Result<usize, DeployError> {
        let id = app.id;
        let read = move |db: &_| Ok((store::windows::of(db, id)?, store::apps::free_addresses(db, id)?));
        match self.store().read(read).await? {
            (Some(_), 0) => {
                // Those of the release before that are just being ended.
                self.make_room(app, processes).await?;
                Ok(processes)
            }
            (Some(_), free) => Ok(free.min(processes)),
            (None, _) => Ok(processes),
        }
    }

    /// Ends what stands by before its time if a next release would find no addresses:
    /// a large app has not enough of them for three.
    pub(super) async fn make_room(&self, app: &App, processes: usize) -> Result<(), DeployError> {
        let id = app.id;
        let read = move |db: &_| Ok((store::windows::of(db, id)?, store::apps::free_addresses(db, id)?));
        let (window, free) = self.store().read(read).await?;
        let Some(window) = window.filter(|_| free < processes) else { return Ok(()) };
        self.store().write(move |db| store::windows::close(db, id)).await?;
        let mut standby = self.not_retiring(self.states(id).await?);
        standby.retain(|state| window.keeps(state));
        self.retire_web_soon(app, &standby).await;
        Ok(())
    }

    /// After a failure: the window must not stay open for ever.
    async fn give_up_window(&self, app: &App, window: &Window) {
        let turn = self.turn(app, "ending its watch", WHO).await;
        let same = self.window(app.id).await.is_ok_and(|there| there.as_ref() == Some(window));
        if same && let Err(error) = self.close_window(app, window, turn).await {
            tracing::error!(app = %app.name, %error, "a watch could not be ended");
        }
    }

    /// The web processes that stand by, if they run what is to run again.
    pub(super) async fn standby(&self, app: &App, again: &Again) -> Result<Option<Standby>, DeployError> {
        let source = &again.source;
        let Some(window) = self.window(app.id).await? else { return Ok(None) };
        let id = app.id;
        let read = move |db: &_| Ok((store::config::load_global(db)?, store::apps::sizes(db, id)?));
        let (global, sizes) = self.store().read(read).await?;
        let sizes = again.sizes.as_ref().unwrap_or(&sizes);
        let same = again.config == source.config && global == source.global && *sizes == source.sizes;
        if window.standby != source.label() || !same {
            return Ok(None);
        }
        let wanted = self.wanted(app, source).await?;
        let fit = |state: &ProcessState| {
            window.keeps(state)
                && state.running
                && wanted.contains(&state.process)
                && !self.is_out(&state.container)
        };
        let states = self.not_retiring(self.states(app.id).await?);
        let mut fit: Vec<&ProcessState> = states.iter().filter(|state| fit(state)).collect();
        let asked = fit.iter().map(|state| self.is_well(app, source, state));
        let mut well = futures_util::future::join_all(asked).await.into_iter();
        fit.retain(|state| {
            let is_well = well.next().unwrap_or_default();
            if is_well {
                self.trust_container(&state.container);
            } else {
                // Nor is it routed to when what is wanted is looked through.
                self.doubt(state);
            }
            is_well
        });
        let targets: Vec<Target> = fit.into_iter().filter_map(|state| target(state, source.port)).collect();
        Ok((!targets.is_empty()).then_some(Standby { label: window.standby, targets }))
    }

    /// Whether a process answers at once.
    async fn is_well(&self, app: &App, release: &Release, state: &ProcessState) -> bool {
        let how = app.checks.over(&release.checks);
        let asked = self.answer(app, release, state, &how);
        tokio::time::timeout(AT_ONCE, asked)
            .await
            .is_ok_and(|answer| answer.is_some_and(|answer| answer.is_ok()))
    }

    /// From now on nobody else takes these for leftovers.
    pub(super) fn mark_retiring(&self, states: &[ProcessState]) {
        let mut retiring = self.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        retiring.extend(states.iter().map(|state| state.container.clone()));
    }
}
