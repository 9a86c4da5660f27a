//! `[deploy] canary`: a new release that answers gets some of the requests beside the
//! one that serves, and is judged by its answers before the branch moves.

use super::error::Unhealthy;
use super::prepare::Job;
use super::promote::DRAIN;
use super::queue::Turn;
use super::release::target;
use super::routes::Published;
use super::watch::its_web;
use super::{DeployError, Pipeline};
use crate::failpoint::reached;
use crate::model::{App, AppId, BuildPlan, Canary, Release, Route, Seen, Target, Weights};
use crate::store;
use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked how it does.
const LOOK: Duration = if cfg!(test) { Duration::from_millis(2) } else { Duration::from_secs(1) };

/// So many times in a row the engine may not say how it is.
const MOST_UNSEEN: u32 = 10;

/// Tests have less time.
const FASTER: u32 = if cfg!(test) { 100 } else { 1 };

/// How long proxies are waited for that may still send requests to what a former
/// server tried.
const PROXIES: Duration = Duration::from_secs(30);

/// A release with a share of an app's requests.
pub(super) struct Share {
    /// It: `8` for `v8`.
    release: u32,
    /// The one that serves.
    beside: u32,
    percent: u8,
    targets: Vec<Target>,
}

impl Pipeline {
    /// Has a release whose web processes answer take its share for a while, if paas.toml
    /// wants that and there is something that serves.
    pub(super) async fn try_canary(
        &self,
        job: &Job,
        release: &Release,
        targets: &[Target],
        plan: &BuildPlan,
    ) -> Result<(), DeployError> {
        let Some(canary) = plan.canary else { return Ok(()) };
        let before = self.current(&job.app).await?;
        let Some(before) = before.filter(|_| !targets.is_empty() && self.is_served(&job.app)) else {
            job.report.detail("No canary: there is nothing beside which it could be tried.");
            return Ok(());
        };
        if !self.routes.all_weigh() {
            job.report.warning("No canary: a proxy of an older version runs, which knows no shares.");
            return Ok(());
        }
        job.turn.step("trying the canary");
        job.report.step(&format!("Canary: {canary}"));
        // Whoever waits for its requests to end asks for its port.
        self.save(release).await?;
        let (number, beside, percent) = (release.number, before.number, canary.percent);
        let share = Share { release: number, beside, percent, targets: targets.to_vec() };
        self.canaries().insert(job.app.id, share);
        let published = self.publish_running(job.app.id).await?;
        if !self.routes.acknowledged(published.version).await {
            return Err(DeployError::NoProxy);
        }
        reached("canary-routed");
        let judged = self.judge(&job.app, release, &before, canary);
        job.report.alive("the canary goes on", judged).await?;
        self.say_canary(job, release, &before);
        reached("canary-judged");
        Ok(())
    }

    /// Whether anybody takes requests now.
    fn is_served(&self, app: &App) -> bool {
        self.routes.table().routes.get(&app.name).is_some_and(|route| !route.targets.is_empty())
    }

    async fn judge(
        &self,
        app: &App,
        release: &Release,
        before: &Release,
        canary: Canary,
    ) -> Result<(), DeployError> {
        let end = Instant::now() + canary.time() / FASTER;
        let mut unseen = 0;
        loop {
            match self.expect_to_go_on(app, release).await {
                // The engine may be restarting.
                Err(DeployError::Engine(error)) if unseen < MOST_UNSEEN => {
                    tracing::warn!(app = %app.name, %error, "nobody knows how its canary is");
                    unseen += 1;
                }
                looked => {
                    looked?;
                    unseen = 0;
                }
            }
            let former = self.routes.tally.late(&app.name, before.number);
            if let Some(evidence) = self.routes.tally.evidence(&app.name, release.number, &former) {
                return Err(DeployError::Worse { evidence, beside: before.number });
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }

    /// One that ends, and is started again or not, is no better than one that ends
    /// before it has answered.
    async fn expect_to_go_on(&self, app: &App, release: &Release) -> Result<(), DeployError> {
        let mut states = self.states(app.id).await?;
        states.retain(|state| state.release == release.label() && state.process.kind.is_web());
        let ended = states.into_iter().find(|state| !state.running || state.restarts > 0);
        let Some(state) = ended else { return Ok(()) };
        let why = Unhealthy::Exited { code: state.exit_code, out_of_memory: state.oom_killed };
        let tail = self.last_lines(&state.container).await;
        Err(DeployError::Unhealthy { process: state.process, port: release.port, why, tail, advice: None })
    }

    fn say_canary(&self, job: &Job, release: &Release, before: &Release) {
        let Seen { answers, errors, .. } = self.routes.tally.total(&job.app.name, release.number);
        if answers == 0 {
            job.report.warning("No request came to it: nothing says how it does.");
            return;
        }
        let former = self.routes.tally.late(&job.app.name, before.number);
        job.report.detail(&format!(
            "{errors} of {answers} answers were 5xx ({} of {} of v{})",
            former.errors, former.answers, before.number
        ));
    }

    /// A route, with the release that is tried beside it, if there is one.
    pub(super) fn with_canary(&self, app: AppId, mut route: Route) -> Route {
        let canaries = self.canaries();
        let beside = |share: &&Share| share.beside == route.release && !route.targets.is_empty();
        if let Some(share) = canaries.get(&app).filter(beside) {
            route.traffic.weights = Weights::share(share.percent, &share.targets, &route.targets);
            route.traffic.canary = Some(share.release);
            route.targets.extend(share.targets.iter().cloned());
        }
        route
    }

    /// What was tried serves now: nothing is beside anything any more.
    pub(super) fn forget_canary(&self, app: AppId) {
        self.canaries().remove(&app);
    }

    /// Takes a release that is to be undone out of the routes, if it was tried, and waits
    /// until its last request has ended.
    pub(super) async fn end_canary(&self, app: &App, release: &Release) {
        if self.is_tried(app, release) {
            // A proxy that never had it would not tell that it has done with it.
            self.routes.acknowledged(self.routes.table().version).await;
        }
        if let Some(published) = self.unroute(app, release).await {
            self.let_end(app, published).await;
        }
    }

    /// The same for what a former server tried: the routes are as they were at once, and
    /// the rest follows when the proxies are let in. Nobody has a turn until then.
    pub(super) async fn undo_canary(self: &Arc<Self>, app: &App, release: &Release, turn: Turn) {
        let published = match self.unroute(app, release).await {
            Some(published) => published,
            None => self.unrouted_before(app, release).await,
        };
        let (pipeline, app, release) = (self.clone(), app.clone(), release.clone());
        self.background.spawn(async move {
            pipeline.routes.wait_connected(PROXIES).await;
            pipeline.let_end(&app, published).await;
            pipeline.discard(&app, &release, &DeployError::CutOff).await;
            drop(turn);
        });
    }

    /// Whether a release is in the routes beside the one that serves.
    pub(super) fn is_tried(&self, app: &App, release: &Release) -> bool {
        let table = self.routes.table();
        let route = table.routes.get(&app.name);
        route.is_some_and(|route| route.traffic.canary == Some(release.number))
    }

    /// Whether it is, or has been and may have requests under way.
    pub(super) async fn was_tried(&self, app: &App, release: &Release) -> bool {
        let id = app.id;
        let unrouted = self.store().read(move |db| store::windows::unrouted(db, id)).await;
        self.is_tried(app, release) || unrouted.unwrap_or_default() == Some(release.number)
    }

    /// First it is written down: the next server would not see it by the routes.
    async fn unroute(&self, app: &App, release: &Release) -> Option<Published> {
        let _publishing = self.queue.publishing(app.id).await;
        self.canaries().retain(|id, share| *id != app.id || share.release != release.number);
        if !self.is_tried(app, release) {
            return None;
        }
        let (id, number) = (app.id, release.number);
        let noted = self.store().write(move |db| store::windows::set_unrouted(db, id, number)).await;
        if let Err(error) = noted {
            tracing::warn!(app = %app.name, %error, "that a canary ends could not be written down");
        }
        let mut route = Route::clone(self.routes.table().routes.get(&app.name)?);
        route.targets.retain(|target| target.release != release.label());
        route.traffic.weights = Weights::default();
        route.traffic.canary = None;
        let published = self.routes.publish(&app.name, Some(route));
        reached("canary-taken-back");
        Some(published)
    }

    /// What a former server took out of the routes; its proxies tell once more when they
    /// have done with it.
    async fn unrouted_before(&self, app: &App, release: &Release) -> Published {
        let its = its_web(release, self.states(app.id).await.unwrap_or_default());
        let removed = its.iter().filter_map(|state| target(state, release.port)).collect();
        Published { version: self.routes.table().version, removed }
    }

    async fn let_end(&self, app: &App, published: Published) {
        self.routes.acknowledged(published.version).await;
        if !self.routes.drained(&published.removed, DRAIN).await {
            tracing::info!(app = %app.name, "requests to a canary are cut off after {} s", DRAIN.as_secs());
        }
    }

    fn canaries(&self) -> MutexGuard<'_, HashMap<AppId, Share>> {
        self.canaries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
