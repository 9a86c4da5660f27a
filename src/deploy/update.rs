//! `images:update`: newer base images, on purpose.

use super::pins::{BaseChange, changes};
use super::prepare::blocking;
use super::{DeployError, Pipeline, Report};
use crate::buildpack::{self, Choice};
use crate::git::PushedTree;
use crate::git::tree::Bounds;
use crate::model::{App, BaseImage, BasePin, BuildPlan, CommitId, pin};
use crate::store;

/// The mark in the names of the bases of one update.
pub fn update_mark() -> String {
    jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string()
}

impl Pipeline {
    /// Makes or pulls the bases of what an app runs anew; its next build stands on
    /// them. What changes by that.
    pub async fn update_bases(
        &self,
        app: &App,
        mark: &str,
        report: &Report,
    ) -> Result<Vec<BaseChange>, DeployError> {
        let current = self.current(app).await?.ok_or(DeployError::NoRelease)?;
        let plan = self.plan_anew(app, current.commit.clone(), mark).await?;
        let now = self.make_all(&plan.bases, report).await?;
        let changed = changes(&current.bases, &now);
        let id = app.id;
        self.store().write(move |db| store::bases::set_next(db, id, &now)).await?;
        self.tidy_bases().await;
        Ok(changed)
    }

    /// The same for the bases that are known here and that no app uses, so that a
    /// new app gets a new one; `done` are those that the apps' updates made.
    pub async fn update_other_bases(&self, mark: &str, report: &Report) -> Result<usize, DeployError> {
        let known = self.store().read(store::bases::known).await?;
        let mut catalog = self.base_catalog().await?;
        catalog.choice = Choice::Anew(mark.to_owned());
        let all = buildpack::bases(&catalog).map_err(DeployError::Detect)?.into_iter().map(|(.., base)| base);
        let is_known = |base: &BaseImage| known.iter().any(|other| other.pin.name == base.name);
        let is_done = |base: &BaseImage| known.iter().any(|other| other.pin.reference == base.reference);
        let others: Vec<BaseImage> = all.filter(|base| is_known(base) && !is_done(base)).collect();
        let made = self.make_all(&others, report).await?;
        self.tidy_bases().await;
        Ok(made.len())
    }

    async fn make_all(&self, bases: &[BaseImage], report: &Report) -> Result<Vec<BasePin>, DeployError> {
        let mut made = Vec::new();
        for base in bases.iter().filter(|base| !pin::is_aid(&base.name)) {
            self.expect_room().await?;
            let slot = super::line::slot(&self.slots, report).await;
            report.step(&format!("{}: {}", pin::title(&base.name), base.reference));
            made.push(self.prepare_base(base, report).await?);
            drop(slot);
        }
        Ok(made)
    }

    /// The plan of what an app runs, on bases that are made anew.
    async fn plan_anew(&self, app: &App, commit: CommitId, mark: &str) -> Result<BuildPlan, DeployError> {
        let catalog = self.catalog(app.into(), Choice::Anew(mark.to_owned()));
        let repository = self.repository(&app.repository);
        blocking(move || {
            let tree = PushedTree::open(&repository, None, &commit, Bounds::default())?;
            buildpack::plan(&tree, &catalog).map_err(DeployError::Detect)
        })
        .await
    }

    pub(super) async fn tidy_bases(&self) {
        if let Err(error) = self.prune_bases().await {
            tracing::warn!(%error, "old base images could not be looked for");
        }
    }
}
