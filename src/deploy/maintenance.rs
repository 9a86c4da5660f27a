//! Apps that are being worked on. Their processes, checks and deploys go on; only
//! requests get a page.

use super::{DeployError, Pipeline};
use crate::model::App;
use crate::store;

impl Pipeline {
    /// Begins maintenance, or ends it.
    pub async fn set_maintenance(&self, app: &App, on: bool) -> Result<(), DeployError> {
        let id = app.id;
        self.store().write(move |db| store::maintenance::set(db, id, on)).await?;
        self.publish_rules(app).await
    }

    /// Keeps the app's own page for it, or none any more.
    pub async fn set_maintenance_page(&self, app: &App, page: Option<String>) -> Result<(), DeployError> {
        let id = app.id;
        self.store().write(move |db| store::maintenance::set_page(db, id, page.as_deref())).await?;
        self.publish_rules(app).await
    }

    /// How long the app's own page is.
    pub async fn maintenance_page(&self, app: &App) -> Result<Option<usize>, DeployError> {
        let id = app.id;
        Ok(self.store().read(move |db| store::maintenance::page_length(db, id)).await?)
    }

    /// Has the proxies go by an app's rules as they are stored now.
    pub(super) async fn publish_rules(&self, app: &App) -> Result<(), DeployError> {
        let published = self.publish_running(app.id).await?;
        self.routes.acknowledged(published.version).await;
        Ok(())
    }
}
