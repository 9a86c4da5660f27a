//! Asks web processes again and again after their start, where `[checks]` says
//! so, and takes those out of the routes that are not well.

use super::health::{self, Check};
use super::{DeployError, Pipeline};
use crate::model::{App, AppId, CheckChange, HealthCheck, ProcessState, Release};
use crate::store;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked who is due: the shortest interval.
const TICK: Duration = Duration::from_secs(1);

/// What is known of the watched apps, and of each of their containers by its id.
#[derive(Default)]
pub(super) struct Watched {
    due: HashMap<AppId, Instant>,
    containers: HashMap<String, Wellness>,
}

struct Wellness {
    app: AppId,
    /// Takes no requests.
    out: bool,
}

impl Watched {
    /// Whether a container is out of the routes for its health.
    pub fn is_out(&self, container: &str) -> bool {
        self.containers.get(container).is_some_and(|known| known.out)
    }

    /// Whether an app is to be asked now; if so, it is next in an interval.
    fn is_due(&mut self, app: AppId, interval: Duration) -> bool {
        let now = Instant::now();
        let due = self.due.entry(app).or_insert(now + interval);
        // Rather a moment too early than a whole tick too late.
        let is_due = *due < now + TICK;
        if is_due {
            *due = now + interval;
        }
        is_due
    }

    /// Has an app asked at once, and from then on in its interval.
    fn ask_now(&mut self, app: AppId) {
        self.due.insert(app, Instant::now());
    }

    /// Forgets what is gone of an app.
    fn keep(&mut self, app: AppId, states: &[ProcessState]) {
        self.containers
            .retain(|id, known| known.app != app || states.iter().any(|state| state.container == *id));
    }

    /// Forgets apps that are not watched any more.
    fn keep_apps(&mut self, apps: &[AppId]) {
        let watched = |app| apps.contains(&app);
        self.due.retain(|app, _| watched(*app));
        self.containers.retain(|_, known| watched(known.app));
    }

    /// Notes an answer; whether that changes where requests go.
    fn note(&mut self, app: AppId, container: &str, well: bool) -> bool {
        let new = || Wellness { app, out: false };
        let wellness = self.containers.entry(container.to_owned()).or_insert_with(new);
        std::mem::replace(&mut wellness.out, !well) == well
    }
}

impl Pipeline {
    /// Watches every app whose release wants it, until the server stops.
    pub async fn watch_health(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.stop.cancelled() => return,
            }
            if let Err(error) = self.watch_once().await {
                tracing::warn!(%error, "the apps' health could not be asked for");
            }
        }
    }

    async fn watch_once(self: &Arc<Self>) -> Result<(), DeployError> {
        let releases = self.store().read(store::releases::watched).await?;
        let apps: Vec<AppId> = releases.iter().map(|(app, _)| app.id).collect();
        self.watched().keep_apps(&apps);
        for (app, release) in releases {
            let interval = Duration::from_secs(app.checks.over(&release.checks).interval.into());
            if self.watched().is_due(release.app, interval) {
                let pipeline = self.clone();
                // Beside everything else: one that hangs keeps no other waiting.
                self.background.spawn(async move {
                    if let Err(error) = pipeline.ask_all(&app, &release).await {
                        tracing::warn!(%error, "an app's health could not be asked for");
                    }
                });
            }
        }
        Ok(())
    }

    /// Asks the web processes of one release.
    async fn ask_all(&self, app: &App, release: &Release) -> Result<(), DeployError> {
        let states = self.states(release.app).await?;
        self.watched().keep(release.app, &states);
        let web = its_web(release, states);
        futures_util::future::try_join_all(web.iter().map(|state| self.ask(app, release, state))).await?;
        Ok(())
    }

    /// One that is out of the routes until it passes its check.
    pub(super) fn found_unwell(&self, app: AppId, container: &str) {
        self.watched().note(app, container, false);
    }

    /// Waits until a process answers that has done so before; `false` if it does not
    /// in the time that its check gives it.
    pub(super) async fn answers(&self, app: &App, release: &Release, state: &ProcessState) -> bool {
        let how = app.checks.over(&release.checks);
        let host = self.host(app);
        match self.check(release, state, &host, &how) {
            Some(check) => health::wait_again(&check, &self.stop).await,
            None => true,
        }
    }

    /// Whether a process takes connections where its requests go.
    pub(super) async fn listens(&self, release: &Release, state: &ProcessState) -> bool {
        match self.check(release, state, "", &release.checks) {
            Some(check) => health::listens(&check).await,
            None => false,
        }
    }

    async fn ask(&self, app: &App, release: &Release, state: &ProcessState) -> Result<(), DeployError> {
        let (id, how) = (app.id, app.checks.over(&release.checks));
        let host = self.host(app);
        let Some(check) = self.check(release, state, &host, &how) else { return Ok(()) };
        let answer = health::ask_in_a_row(&check).await;
        let changed = self.watched().note(id, &state.container, answer.is_ok());
        if changed {
            self.say_wellness(app, state, answer.err().as_ref());
            self.publish_running(id).await?;
        }
        Ok(())
    }

    /// What a process answers to one question; `None` if it cannot be asked.
    pub(super) async fn answer(
        &self,
        app: &App,
        release: &Release,
        state: &ProcessState,
        how: &HealthCheck,
    ) -> Option<Result<(), super::error::Unhealthy>> {
        let host = self.host(app);
        Some(health::ask(&self.check(release, state, &host, how)?).await)
    }

    fn check<'a>(
        &'a self,
        release: &Release,
        state: &'a ProcessState,
        host: &'a str,
        how: &'a HealthCheck,
    ) -> Option<Check<'a>> {
        let (container, address) = (&state.container, state.address?);
        Some(Check { engine: self.engine(), container, address, port: release.port, host, how })
    }

    /// Stores what shall be asked of an app from now on. If one of its processes
    /// would not pass, nothing is changed, unless that is wished.
    pub async fn set_checks(
        &self,
        app: &App,
        change: impl FnOnce(&mut CheckChange),
        force: bool,
        who: &str,
    ) -> Result<(), DeployError> {
        let (app, turn) = self.begin(app, "changing the checks", who).await?;
        let mut checks = app.checks.clone();
        change(&mut checks);
        let current = self.current(&app).await?;
        let mut goes_on = false;
        if let Some(release) = current {
            let how = checks.over(&release.checks);
            goes_on = how.goes_on();
            let web = if force { Vec::new() } else { its_web(&release, self.states(app.id).await?) };
            for state in web {
                if let Some(Err(why)) = self.answer(&app, &release, &state, &how).await {
                    return Err(DeployError::NotPassed(state.process.clone(), why));
                }
            }
        }
        let id = app.id;
        self.store().write(move |db| store::apps::set_checks(db, id, &checks)).await?;
        // By force nobody was asked: who takes no requests does so until the next question.
        if !(force && goes_on) {
            self.watched().keep(id, &[]);
        }
        self.watched().ask_now(id);
        // It is set, and nothing may refuse it any more; within a minute all is looked at.
        if let Err(error) = self.publish_running(id).await {
            tracing::warn!(app = %app.name, %error, "its route follows within a minute");
        }
        drop(turn);
        Ok(())
    }

    fn say_wellness(&self, app: &App, state: &ProcessState, why: Option<&super::error::Unhealthy>) {
        let line = match why {
            Some(why) => format!("{} takes no requests: its check fails ({why})", state.process),
            None => format!("{} takes requests again: its check succeeds", state.process),
        };
        self.platform_line(app.id, &line);
    }

    pub(super) fn watched(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a process is out of the routes for its health.
    pub fn is_out(&self, container: &str) -> bool {
        self.watched().is_out(container)
    }
}

/// The web processes of a release that run.
pub(super) fn its_web(release: &Release, mut states: Vec<ProcessState>) -> Vec<ProcessState> {
    states.retain(|state| state.release == release.label() && state.running && state.process.kind.is_web());
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_is_out_and_one_success_brings_it_back() {
        let mut watched = Watched::default();
        let mut note = |well| {
            let changed = watched.note(AppId(1), "a", well);
            (changed, watched.is_out("a"))
        };
        assert_eq!(note(true), (false, false));
        assert_eq!(note(false), (true, true));
        assert_eq!(note(false), (false, true), "nothing new");
        assert_eq!(note(true), (true, false));
    }

    #[test]
    fn an_app_is_asked_once_in_its_interval_and_forgotten_when_it_is_not_watched() {
        let mut watched = Watched::default();
        assert!(!watched.is_due(AppId(1), Duration::from_secs(60)), "it has just started");
        assert!(watched.is_due(AppId(2), Duration::ZERO));
        assert!(watched.is_due(AppId(2), Duration::from_secs(60)));
        assert!(!watched.is_due(AppId(2), Duration::from_secs(60)));
        watched.ask_now(AppId(2));
        assert!(watched.is_due(AppId(2), Duration::from_secs(60)), "its checks have just been set");
        watched.note(AppId(1), "a", false);
        watched.keep(AppId(1), &[]);
        assert!(!watched.is_out("a"));
        watched.keep_apps(&[]);
        assert!(watched.due.is_empty());
    }
}
