//! Sizes of process types, set by command: the app's, above those of paas.toml.

use super::again::Again;
use super::config::Configured;
use super::{DeployError, Pipeline, Report};
use crate::model::{App, BuildPlan, ProcessType, Release, SizeChange, Why};
use crate::store;
use std::sync::Arc;

impl Pipeline {
    /// Changes the sizes of these types. What runs is replaced by a release of the
    /// same image; the sizes are stored only when it is live.
    pub async fn resize(
        self: &Arc<Self>,
        app: &App,
        kinds: &[ProcessType],
        change: SizeChange,
        who: &str,
        report: &Report,
    ) -> Result<Configured, DeployError> {
        if let Some((wanted, most)) = change.wanted().beyond(self.workers.settings.most) {
            return Err(DeployError::TooMuch { wanted, most });
        }
        let (app, turn) = self.begin(app, "resizing", who).await?;
        let (app, stopped) = (&app, app.stopped);
        let current = self.current(app).await?;
        if let Some(current) = &current {
            expect_known(current, kinds)?;
        }
        let id = app.id;
        let read = move |db: &_| Ok((store::apps::sizes(db, id)?, store::config::load(db, id)?));
        let (mut sizes, config) = self.store().read(read).await?;
        kinds.iter().for_each(|kind| change.apply(sizes.entry(kind.clone()).or_default()));
        sizes.retain(|_, size| !size.is_empty());
        let outcome = match current {
            None => Configured::Kept,
            Some(current) if current.sizes == sizes => Configured::Runs(current.number),
            Some(_) if stopped => Configured::Pending,
            Some(source) => {
                let (sizes, who) = (Some(sizes), who.to_owned());
                let again = Again { source, config, sizes, why: Why::Resize, who, evidence: None };
                return self.repeat(app, again, turn, report).await.map(Configured::Runs);
            }
        };
        self.store().write(move |db| store::apps::set_sizes(db, id, &sizes)).await?;
        drop(turn);
        Ok(outcome)
    }

    /// Refuses a plan whose processes would get more than the server allows.
    pub(super) fn expect_to_fit(&self, plan: &BuildPlan) -> Result<(), DeployError> {
        let most = self.workers.settings.most;
        match plan.types.values().find_map(|settings| settings.size.beyond(most)) {
            Some((wanted, most)) => Err(DeployError::TooMuch { wanted, most }),
            None => Ok(()),
        }
    }
}

/// Types that the release has, and `release` for its command.
fn expect_known(release: &Release, kinds: &[ProcessType]) -> Result<(), DeployError> {
    let known = |kind: &&ProcessType| release.processes.contains_key(*kind) || kind.is_release();
    match kinds.iter().find(|kind| !known(kind)) {
        None => Ok(()),
        Some(unknown) => {
            let known = release.processes.keys().map(ToString::to_string).collect();
            Err(DeployError::NoProcessType(unknown.to_string(), known))
        }
    }
}
