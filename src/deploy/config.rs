//! Changes of config vars: of one app, or of all.

use super::again::Again;
use super::{DeployError, Pipeline, Report};
use crate::model::{App, AppName, ConfigVars, Release, Why};
use crate::store::{self, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// When a change of config vars takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// By a new release of the same image.
    AtOnce,
    /// With whatever makes the next release.
    WithNextRelease,
}

/// What a change of an app's config vars led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Configured {
    /// Kept; nothing is deployed yet.
    Kept,
    /// Kept; the release that runs does without it.
    Pending,
    /// This release runs with it.
    Runs(u32),
}

/// What a change of all apps' config vars led to: the apps that see a difference.
#[derive(Debug, Default)]
pub struct ConfiguredAll {
    /// Run with it, as this release.
    pub run: Vec<(AppName, u32)>,
    /// Get it with their next release.
    pub pending: Vec<AppName>,
    /// Did not come up with it, and run what they ran.
    pub refused: Vec<(AppName, DeployError)>,
}

impl Pipeline {
    /// Changes an app's config vars; if that takes effect at once, they are stored
    /// only when the release that has them is live.
    pub async fn configure(
        self: &Arc<Self>,
        app: &App,
        who: &str,
        effect: Effect,
        report: &Report,
        change: impl FnOnce(&mut ConfigVars) + Send,
    ) -> Result<Configured, DeployError> {
        let (app, turn) = self.begin(app, "changing the config", who).await?;
        let (app, stopped) = (&app, app.stopped);
        let Wanted { app: before, global, current } = self.wanted_config(app).await?;
        let mut vars = before.clone();
        change(&mut vars);
        vars.over(&global).expect_to_fit().map_err(|why| DeployError::Oversize(app.name.clone(), why))?;
        let runs = current.as_ref().filter(|current| current.config == vars && current.global == global);
        let outcome = match (&current, runs, effect) {
            (None, ..) => Configured::Kept,
            (_, Some(current), _) => Configured::Runs(current.number),
            (_, None, Effect::WithNextRelease) => Configured::Pending,
            // A release would start what somebody wished to be stopped.
            (_, None, Effect::AtOnce) if stopped => Configured::Pending,
            (Some(current), None, Effect::AtOnce) => {
                let (source, why, who) = (current.clone(), Why::Config, who.to_owned());
                let again = Again { source, config: vars, sizes: None, why, who, evidence: None };
                return self.repeat(app, again, turn, report).await.map(Configured::Runs);
            }
        };
        if vars != before {
            let id = app.id;
            self.store().write(move |db| store::config::replace(db, id, &vars)).await?;
        }
        drop(turn);
        Ok(outcome)
    }

    /// Changes the config vars of all apps, and then, one after the other, what the
    /// apps run for which that makes a difference. One that does not come up with
    /// it keeps what it ran; the change stands all the same.
    pub async fn configure_all(
        self: &Arc<Self>,
        who: &str,
        effect: Effect,
        report: &Report,
        change: impl FnOnce(&mut ConfigVars) + Send + 'static,
    ) -> Result<ConfiguredAll, DeployError> {
        let by = who.to_owned();
        let changed = self.store().write(move |db| {
            let mut vars = store::config::load_global(db)?;
            change(&mut vars);
            for app in store::apps::list(db)? {
                if let Err(why) = store::config::load(db, app.id)?.over(&vars).expect_to_fit() {
                    return Ok(Err(DeployError::Oversize(app.name, why)));
                }
            }
            store::config::replace_global(db, &vars)?;
            let apps = store::apps::list(db)?;
            if effect == Effect::AtOnce {
                apps.iter().try_for_each(|app| store::config::set_behind(db, app.id, &by))?;
            }
            Ok(Ok(apps))
        });
        let mut all = ConfiguredAll::default();
        for app in changed.await?? {
            let outcome = self.catch_up(&app, who, effect, report).await;
            self.caught_up(&app).await;
            match outcome {
                Ok(None | Some(Configured::Kept)) => {}
                Ok(Some(Configured::Pending)) => all.pending.push(app.name),
                Ok(Some(Configured::Runs(number))) => all.run.push((app.name, number)),
                Err(error) => all.refused.push((app.name, error)),
            }
        }
        Ok(all)
    }

    /// Goes on with a change of all apps' config vars that was cut off by the end of the
    /// server, as soon as anything can be routed.
    pub(super) async fn resume_config(self: &Arc<Self>) -> Result<(), DeployError> {
        let behind = self.store().read(store::config::behind).await?;
        if behind.is_empty() {
            return Ok(());
        }
        let pipeline = self.clone();
        self.background.spawn(async move {
            tokio::select! {
                _ = pipeline.routes.wait_connected(Duration::MAX) => {}
                () = pipeline.stop.cancelled() => return,
            }
            for (app, who) in behind {
                tracing::info!(app = %app.name, "going on with a change of all apps' config vars");
                if pipeline.stop.is_cancelled() {
                    return;
                }
                pipeline.catch_up_after_all(&app, &who).await;
            }
        });
        Ok(())
    }

    /// What passes is no reason to give a change up: then the next start goes on with it.
    async fn catch_up_after_all(self: &Arc<Self>, app: &App, who: &str) {
        let report = Report::channel().0;
        let outcome = self.catch_up(app, who, Effect::AtOnce, &report).await;
        if let Err(error) = &outcome {
            tracing::warn!(app = %app.name, %error, "it does not run with today's config vars");
            let text = format!("The change of all apps' config vars did not come up: {error}");
            self.platform_line(app.id, &text);
        }
        if !matches!(outcome, Err(DeployError::Store(_) | DeployError::Engine(_) | DeployError::NoProxy)) {
            self.caught_up(app).await;
        }
    }

    /// An app runs with the config vars of all apps, or never will by itself.
    async fn caught_up(&self, app: &App) {
        let id = app.id;
        if let Err(error) = self.store().write(move |db| store::config::caught_up(db, id)).await {
            tracing::warn!(app = %app.name, %error, "its config is looked at again on the next start");
        }
    }

    /// Makes an app run with the config that is stored; `None` if it does.
    async fn catch_up(
        self: &Arc<Self>,
        app: &App,
        who: &str,
        effect: Effect,
        report: &Report,
    ) -> Result<Option<Configured>, DeployError> {
        let turn = self.turn(app, "changing the config", who).await;
        let stopped = match self.refreshed(app).await {
            Ok(app) => app.stopped,
            Err(DeployError::NoApp) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Wanted { app: vars, global, current } = self.wanted_config(app).await?;
        let Some(current) = current else { return Ok(Some(Configured::Kept)) };
        if vars.over(&global) == current.config.over(&current.global) {
            return Ok(None);
        }
        // A release would start what somebody wished to be stopped.
        if stopped || effect == Effect::WithNextRelease {
            return Ok(Some(Configured::Pending));
        }
        report.step(&format!("Restarting {}", app.name));
        let again = Again {
            source: current,
            config: vars,
            sizes: None,
            why: Why::Config,
            who: who.to_owned(),
            evidence: None,
        };
        self.repeat(app, again, turn, report).await.map(|number| Some(Configured::Runs(number)))
    }

    async fn wanted_config(&self, app: &App) -> Result<Wanted, DeployError> {
        let id = app.id;
        let read = move |db: &_| -> Result<Wanted, StoreError> {
            Ok(Wanted {
                app: store::config::load(db, id)?,
                global: store::config::load_global(db)?,
                current: store::releases::current(db, id)?,
            })
        };
        Ok(self.store().read(read).await?)
    }
}

/// What is stored, and what runs.
struct Wanted {
    app: ConfigVars,
    global: ConfigVars,
    current: Option<Release>,
}
