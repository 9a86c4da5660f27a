//! Apps that sleep while nobody asks for them: falling asleep, and waking.
//!
//! That an app is asleep is written down before anything ends, and that it is awake when
//! its processes answer: whatever is cut off in between leaves an app that is asleep, whose
//! containers are ended as leftovers, and that wakes on the next request.

use super::processes::ITS_OWN;
use super::queue::{Activity, Roster, Turn};
use super::{DeployError, Pipeline, Report};
use crate::failpoint::reached;
use crate::model::sleep::spoken;
use crate::model::{App, AppId, AppName, ProcessName, ProcessState, Release, Sleeps, Target, Woken};
use crate::store;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked who may fall asleep.
const TICK: Duration = Duration::from_secs(2);

/// How long requests that came just before may take; after that the app is in use.
const DRAIN: Duration = Duration::from_secs(5);

/// The first pause and the longest after which an app that did not wake is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// What is known of apps that are asleep, beside what is stored.
#[derive(Default)]
pub(super) struct Sleepers {
    /// Somebody is waking them.
    waking: HashSet<AppId>,
    /// They did not wake the last time.
    failed: HashMap<AppId, Failed>,
}

struct Failed {
    /// Nobody tries before.
    until: Instant,
    pause: Duration,
    why: String,
}

/// Why an app stays awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakeful {
    /// It has no web process that could be asked.
    NoWeb,
    /// Not all of its web processes are well.
    Unwell,
    /// Its release is watched, or it has just been stopped.
    Watched,
    /// Requests or streams are under way.
    InUse,
    /// A proxy is older, and would not hold requests; or there is none.
    NoProxy,
}

/// Who is waking an app; nobody when it is dropped.
struct Waking<'a> {
    pipeline: &'a Pipeline,
    app: AppId,
}

impl Drop for Waking<'_> {
    fn drop(&mut self) {
        self.pipeline.sleepers().waking.remove(&self.app);
    }
}

impl Pipeline {
    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores after how many seconds without a request an app falls asleep, if ever. One
    /// that is asleep and never shall be is woken.
    pub async fn set_sleep(
        self: &Arc<Self>,
        app: &App,
        after: Option<u32>,
        who: &str,
    ) -> Result<(), DeployError> {
        let (app, turn) = self.begin(app, "changing its sleep", who).await?;
        let id = app.id;
        self.store().write(move |db| store::sleep::set_after(db, id, after)).await?;
        drop(turn);
        self.publish_running(id).await?;
        if after.is_none() && app.is_asleep() {
            self.wake_app(&app).await?;
        }
        Ok(())
    }

    /// Puts an app to sleep now, if nobody uses it.
    pub async fn sleep_now(&self, app: &App, who: &str) -> Result<(), DeployError> {
        let (app, roster, turn) = self.begin_roster(app, "falling asleep", who).await?;
        if app.is_asleep() {
            return Ok(());
        }
        self.fall_asleep(&app, roster, turn, "ps:sleep").await
    }

    /// Wakes an app if it is asleep; how long that took.
    pub async fn wake_app(&self, app: &App) -> Result<Option<Duration>, DeployError> {
        if self.refreshed(app).await?.stopped {
            return Err(DeployError::AllStopped);
        }
        self.current(app).await?.ok_or(DeployError::NoRelease)?;
        let asked = Instant::now();
        let _waking = self.begin_waking(app.id);
        self.forget_sleeper(app.id);
        self.wake(app, asked, "ps:wake").await
    }

    /// Wakes apps that the proxies hold requests for, until the server stops.
    pub async fn follow_wakes(self: Arc<Self>) {
        loop {
            let apps = tokio::select! {
                apps = self.routes.wake_asked() => apps,
                () = self.stop.cancelled() => return,
            };
            for name in apps {
                let pipeline = self.clone();
                self.background.spawn(async move { pipeline.answer_wake(&name).await });
            }
        }
    }

    /// Requests wait for this app.
    async fn answer_wake(self: &Arc<Self>, name: &AppName) {
        let asked = Instant::now();
        let Ok(Some(app)) = self.find(name).await else { return };
        if !app.is_asleep() || self.has_just_failed(app.id) {
            return;
        }
        let Some(_waking) = self.begin_waking(app.id) else { return };
        match self.wake(&app, asked, "a request").await {
            Ok(_) => {}
            Err(DeployError::NoApp | DeployError::BeingRemoved(_)) => self.forget_sleeper(app.id),
            Err(error) => self.has_not_woken(&app, &error).await,
        }
    }

    /// Notes that an app is being woken; nothing if it is already.
    fn begin_waking(&self, app: AppId) -> Option<Waking<'_>> {
        let is_first = self.sleepers().waking.insert(app);
        // Not before it is known: dropping one ends the other's.
        is_first.then(|| Waking { pipeline: self, app })
    }

    /// Whether somebody is waking an app.
    pub fn is_waking(&self, app: AppId) -> bool {
        self.sleepers().waking.contains(&app)
    }

    /// Why an app that is asleep did not wake when it was asked for last.
    pub(super) fn why_not_woken(&self, app: &App) -> Option<String> {
        let sleepers = self.sleepers();
        sleepers.failed.get(&app.id).filter(|_| app.is_asleep()).map(|failed| failed.why.clone())
    }

    /// It is gone, or what it did when it last woke counts no more.
    pub(super) fn forget_sleeper(&self, app: AppId) {
        self.sleepers().failed.remove(&app);
    }

    /// Starts what an app has by its formation: web first, and requests go on when that
    /// answers. With the roster and without the turn, which a deploy may have for as
    /// long as its build takes: the release that it makes is the one that serves then.
    async fn wake(&self, app: &App, asked: Instant, by: &str) -> Result<Option<Duration>, DeployError> {
        let roster = self.queue.roster(app.id).taken().await;
        let app = self.refreshed(app).await?;
        let release = self.current(&app).await?.filter(|_| app.is_asleep());
        let Some(release) = release else { return Ok(None) };
        let mut web = self.wanted(&app, &release).await?;
        web.retain(|process| process.kind.is_web());
        let woken = async {
            self.start_beside(&app, &release, &web).await?;
            reached("awake");
            let took = asked.elapsed();
            let millis = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
            let woken = Woken { at: store::now(), took: millis };
            let its = release.clone();
            let written = self.store().write(move |db| store::sleep::wake_by(db, &its, woken)).await?;
            Ok::<_, DeployError>(written.then_some(took))
        };
        let took = match woken.await {
            Ok(Some(took)) => took,
            // Another release has been promoted meanwhile.
            Ok(None) => {
                self.end_begun(&app, &release, &web).await;
                return Ok(None);
            }
            Err(error) => {
                self.end_begun(&app, &release, &web).await;
                return Err(error);
            }
        };
        self.forget_sleeper(app.id);
        reached("woken");
        self.platform_line(app.id, &format!("Woken by {by} in {} ms", took.as_millis()));
        tracing::info!(app = %app.name, ms = took.as_millis(), "woken");
        match self.publish_running(app.id).await {
            Ok(published) => _ = self.routes.acknowledged(published.version).await,
            // It is awake, whoever knows it: that is told as soon as possible.
            Err(error) => {
                tracing::warn!(app = %app.name, %error, "its route could not be published");
                self.is_amiss(app.id);
                self.publish_again(app.id).await;
            }
        }
        for overlap in [true, false] {
            if self.serves(&app, &release).await? {
                self.start_others(&app, &release, overlap).await?;
            }
        }
        drop(roster);
        Ok(Some(took))
    }

    /// Starts web processes side by side, and waits until all of them answer.
    async fn start_beside(
        &self,
        app: &App,
        release: &Release,
        web: &[ProcessName],
    ) -> Result<(), DeployError> {
        let starts = web.iter().map(|process| async move {
            Ok::<_, DeployError>((process.clone(), self.start_process(app, release, process).await?))
        });
        let started = futures_util::future::join_all(starts).await;
        let started = started.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.check_all(app, release, &started, &Report::channel().0).await?;
        Ok(())
    }

    /// It stays asleep. Who waits is told that it has crashed, and for a moment whoever
    /// comes is told so at once; then the next request tries again.
    async fn has_not_woken(self: &Arc<Self>, app: &App, error: &DeployError) {
        tracing::warn!(app = %app.name, %error, "it did not wake");
        let why = why_not(error);
        let pause = {
            let mut sleepers = self.sleepers();
            let before = sleepers.failed.get(&app.id).map(|failed| failed.pause);
            let pause = before.map_or(PAUSES.0, |pause| (pause * 2).min(PAUSES.1));
            let failed = Failed { until: Instant::now() + pause, pause, why: why.clone() };
            sleepers.failed.insert(app.id, failed);
            pause
        };
        let again = spoken(pause.as_secs());
        self.platform_line(
            app.id,
            &format!("It could not be woken: {why} Requests try again after {again}."),
        );
        self.publish_again(app.id).await;
        let (pipeline, id) = (self.clone(), app.id);
        self.watches.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(pause) => pipeline.publish_again(id).await,
                () = pipeline.stop.cancelled() => {}
            }
        });
    }

    async fn publish_again(&self, app: AppId) {
        if let Err(error) = self.publish_running(app).await {
            tracing::warn!(%error, "the route of an app that sleeps could not be published");
        }
    }

    pub(super) fn has_just_failed(&self, app: AppId) -> bool {
        self.sleepers().failed.get(&app).is_some_and(|failed| failed.until > Instant::now())
    }

    /// What an app's route says of its sleep.
    pub(super) fn sleeps(&self, app: &App, targets: &[Target], outage: &str) -> Sleeps {
        let may_wake = targets.is_empty() && outage == "H10" && !self.has_just_failed(app.id);
        match app.sleep.after {
            _ if app.is_asleep() && may_wake => Sleeps::Asleep,
            // It was cut off just when it woke: its processes are asked once more.
            _ if may_wake && self.is_waking_still(app) => Sleeps::Asleep,
            Some(_) => Sleeps::Awake,
            None => Sleeps::Never,
        }
    }

    /// Whether its route holds requests, and one of its web processes is yet to answer.
    fn is_waking_still(&self, app: &App) -> bool {
        let table = self.routes.table();
        let holds = |route: &Arc<crate::model::Route>| route.traffic.sleeps == Sleeps::Asleep;
        table.routes.get(&app.name).is_some_and(holds) && self.has_doubts(app.id)
    }

    /// Puts apps to sleep that nobody uses, until the server stops.
    pub async fn watch_idleness(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.stop.cancelled() => return,
            }
            if let Err(error) = self.look_who_is_idle().await {
                tracing::warn!(%error, "it is not known which apps are idle");
            }
        }
    }

    pub(super) async fn look_who_is_idle(self: &Arc<Self>) -> Result<(), DeployError> {
        let apps = self.store().read(store::sleep::list).await?;
        let holds = self.routes.hold_requests();
        for app in apps {
            let is_idle = |after: u32| {
                let after = Duration::from_secs(after.into());
                self.routes.idle_for(&app.name).is_some_and(|idle| idle >= after)
            };
            if app.is_asleep() && !holds && self.routes.connected() {
                // By an older proxy nobody would wake it.
                let pipeline = self.clone();
                self.background.spawn(async move { pipeline.answer_wake(&app.name).await });
            } else if !app.rests() && app.sleep.after.is_some_and(is_idle) {
                self.fall_asleep_if_idle(app);
            }
        }
        Ok(())
    }

    /// In the background, unless somebody is at work on it.
    fn fall_asleep_if_idle(self: &Arc<Self>, app: App) {
        let Some(turn) = self.queue.try_take(app.id, activity()) else { return };
        let Some(roster) = self.queue.try_roster(app.id) else { return };
        let pipeline = self.clone();
        self.background.spawn(async move {
            let after = spoken(app.sleep.after.unwrap_or_default().into());
            let why = format!("{after} without a request");
            match pipeline.fall_asleep(&app, roster, turn, &why).await {
                Ok(()) => {}
                Err(DeployError::StaysAwake(why)) => tracing::debug!(app = %app.name, ?why, "it stays awake"),
                Err(error) => tracing::warn!(app = %app.name, %error, "it could not fall asleep"),
            }
        });
    }

    /// No request is lost: the proxies hold all that come from now on, and have said so,
    /// and those before are answered, before anything ends. Who comes within that time
    /// wakes it, and has it stay.
    async fn fall_asleep(&self, app: &App, roster: Roster, turn: Turn, why: &str) -> Result<(), DeployError> {
        let app = self.refreshed(app).await?;
        let states = self.expect_well(&app).await?;
        if !self.routes.hold_requests() {
            return Err(DeployError::StaysAwake(Wakeful::NoProxy));
        }
        let id = app.id;
        if !self.store().write(move |db| store::sleep::fall_asleep(db, id)).await? {
            return Err(DeployError::StaysAwake(Wakeful::Watched));
        }
        self.forget_sleeper(id);
        reached("falling-asleep");
        let is_quiet = async {
            let published = self.publish_running(id).await?;
            let web = self.routed_once(&app, &states).await;
            let held = self.routes.acknowledged(published.version).await;
            // Whoever waits now is not to wait until others are done.
            let drained = tokio::select! {
                drained = self.routes.drained(&web, DRAIN) => drained,
                () = self.is_wanted(id) => false,
            };
            Ok::<_, DeployError>(held && drained)
        };
        let is_quiet = is_quiet.await;
        if !matches!(is_quiet, Ok(true)) || self.is_waking(id) {
            self.store().write(move |db| store::sleep::wake(db, id)).await?;
            self.publish_running(id).await?;
            is_quiet?;
            return Err(DeployError::StaysAwake(Wakeful::InUse));
        }
        reached("drained");
        self.mark_retiring(&states);
        drop(turn);
        self.end_processes(&app, &states, ITS_OWN).await;
        self.unmark_retiring(&states);
        self.platform_line(id, &format!("Asleep after {why}; the next request wakes it"));
        drop(roster);
        Ok(())
    }

    /// Waits until somebody wants an app to wake.
    async fn is_wanted(&self, app: AppId) {
        while !self.is_waking(app) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All processes of an app that could sleep.
    async fn expect_well(&self, app: &App) -> Result<Vec<ProcessState>, DeployError> {
        if app.stopped {
            return Err(DeployError::AllStopped);
        }
        let release = self.current(app).await?.ok_or(DeployError::NoRelease)?;
        let mut web = self.wanted(app, &release).await?;
        web.retain(|process| process.kind.is_web());
        let states = self.not_retiring(self.states(app.id).await?);
        let is_well = |state: &ProcessState| {
            state.release == release.label() && state.running && !self.takes_none(state)
        };
        let all_well =
            web.iter().all(|process| states.iter().any(|state| state.process == *process && is_well(state)));
        match all_well {
            _ if web.is_empty() => Err(DeployError::StaysAwake(Wakeful::NoWeb)),
            false => Err(DeployError::StaysAwake(Wakeful::Unwell)),
            true => Ok(states),
        }
    }
}

/// In a sentence.
fn why_not(error: &DeployError) -> String {
    match error {
        DeployError::Unhealthy { process, why, .. } => format!("{process} does not answer: {why}."),
        other => other.problem().of_a_command().title,
    }
}

fn activity() -> Activity {
    let step = "falling asleep";
    Activity { release: None, commit: None, step, who: String::new(), since: Instant::now() }
}
