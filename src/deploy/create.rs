//! A new app: its repository first, then its row.

use super::{DeployError, Pipeline};
use crate::git::repository;
use crate::model::{App, AppName};
use crate::store;

impl Pipeline {
    /// Writes a new app down over a repository that exists.
    pub(super) async fn create(&self, name: &AppName, repository: &str) -> Result<App, DeployError> {
        let (name, directory, pools) = (name.clone(), repository.to_owned(), self.pools());
        let app = self.store().write(move |db| store::apps::create(db, &name, &directory, &pools)).await?;
        // After the row, which protects it as well: cut off here, the next start does it.
        repository::keep(&self.repository(repository))?;
        // Its name answers from now on: that nothing runs yet, not that it is unknown.
        let publishing = self.queue.publishing(app.id).await;
        self.routes.publish(&app.name, Some(self.route(&app, None, Vec::new(), "H14")));
        drop(publishing);
        self.orders.wake();
        Ok(app)
    }

    /// An empty repository that no app has yet; returns its directory's name.
    pub(super) async fn new_repository(&self) -> Result<String, DeployError> {
        let mut bytes = [0u8; 8];
        getrandom::fill(&mut bytes).map_err(|error| DeployError::Internal(error.to_string()))?;
        let directory = format!("{:016x}.git", u64::from_be_bytes(bytes));
        let path = self.repository(&directory);
        super::prepare::blocking(move || Ok(repository::create(&path)?)).await?;
        Ok(directory)
    }
}
