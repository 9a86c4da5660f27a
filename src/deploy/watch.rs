//! Asks web processes again and again after their start, where `[checks]` says
//! so, and takes those out of the routes that are not well.

use super::health::{self, Check};
use super::{DeployError, Pipeline};
use crate::model::{App, ProcessState, Release};
use crate::store;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked who is due: the shortest interval.
const TICK: Duration = Duration::from_secs(1);

/// What is known of each watched container, by its id.
#[derive(Default)]
pub(super) struct Watched {
    containers: HashMap<String, Wellness>,
}

struct Wellness {
    due: Instant,
    failures: u16,
    /// Takes no requests.
    out: bool,
}

impl Watched {
    /// Whether a container is out of the routes for its health.
    pub fn is_out(&self, container: &str) -> bool {
        self.containers.get(container).is_some_and(|wellness| wellness.out)
    }

    /// Whether a container is to be asked now; if so, it is next in an interval.
    fn is_due(&mut self, container: &str, interval: Duration) -> bool {
        let now = Instant::now();
        let new = || Wellness { due: now + interval, failures: 0, out: false };
        let wellness = self.containers.entry(container.to_owned()).or_insert_with(new);
        let due = wellness.due <= now;
        if due {
            wellness.due = now + interval;
        }
        due
    }

    /// Notes an answer; whether that changes where requests go.
    fn note(&mut self, container: &str, well: bool, attempts: u16) -> bool {
        let Some(wellness) = self.containers.get_mut(container) else { return false };
        wellness.failures = if well { 0 } else { wellness.failures.saturating_add(1) };
        let out = wellness.failures >= attempts;
        std::mem::replace(&mut wellness.out, out) != out
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
        if releases.is_empty() {
            self.watched().containers.clear();
            return Ok(());
        }
        let states = self.engine().processes(None).await?;
        self.watched().containers.retain(|id, _| states.iter().any(|state| state.container == *id));
        for release in releases {
            let its = |state: &&ProcessState| state.app == release.app && state.release == release.number;
            for state in states.iter().filter(its).filter(|state| state.process.kind.is_web()) {
                self.ask_if_due(&release, state);
            }
        }
        Ok(())
    }

    /// Asks beside everything else: one that hangs keeps no other waiting.
    fn ask_if_due(self: &Arc<Self>, release: &Release, state: &ProcessState) {
        let interval = Duration::from_secs(release.checks.interval.into());
        if !state.running || !self.watched().is_due(&state.container, interval) {
            return;
        }
        let (pipeline, release, state) = (self.clone(), release.clone(), state.clone());
        self.background.spawn(async move {
            if let Err(error) = pipeline.ask(&release, &state).await {
                tracing::warn!(process = %state.process, %error, "its health could not be asked for");
            }
        });
    }

    async fn ask(&self, release: &Release, state: &ProcessState) -> Result<(), DeployError> {
        let id = release.app;
        let Some(app) = self.store().read(move |db| store::apps::get(db, id)).await? else { return Ok(()) };
        let Some(address) = state.address else { return Ok(()) };
        let host = self.host(&app);
        let check = Check {
            engine: self.engine(),
            container: &state.container,
            address,
            port: release.port,
            host: &host,
            how: &release.checks,
        };
        let answer = health::ask(&check).await;
        let changed = self.watched().note(&state.container, answer.is_ok(), release.checks.attempts);
        if changed {
            self.say_wellness(&app, state, answer.err().as_ref());
            self.publish_running(id).await?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_failures_in_a_row_take_it_out_and_one_success_brings_it_back() {
        let mut watched = Watched::default();
        assert!(!watched.is_due("a", Duration::from_secs(60)), "it has just started");
        assert!(!watched.note("a", false, 2));
        assert!(!watched.note("a", true, 2));
        assert!(!watched.note("a", false, 2));
        assert!(watched.note("a", false, 2) && watched.is_out("a"));
        assert!(!watched.note("a", false, 2), "nothing new");
        assert!(watched.note("a", true, 2) && !watched.is_out("a"));
    }
}
