//! Who may use an app.

use super::{DeployError, Pipeline};
use crate::model::{App, User};
use crate::password::PasswordHash;
use crate::store::{self, StoreError};

impl Pipeline {
    /// Lets a user in with a password, and nobody without one.
    pub async fn set_user(&self, app: &App, name: String, password: String) -> Result<(), DeployError> {
        let hashing = tokio::task::spawn_blocking(move || PasswordHash::of(&password));
        let internal = |error: &dyn std::fmt::Display| DeployError::Internal(error.to_string());
        let hash = hashing.await.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
        let (id, user) = (app.id, User { name, hash: hash.to_string() });
        self.store().write(move |db| store::users::set(db, id, &user)).await?;
        self.publish_rules(app).await
    }

    /// Lets users in no more; one that there is not changes nothing. Whether there are
    /// others still: without any, everybody may come in.
    pub async fn remove_users(&self, app: &App, names: Vec<String>) -> Result<bool, DeployError> {
        let id = app.id;
        let left = self.store().write(move |db| {
            for name in names {
                if !store::users::remove(db, id, &name)? {
                    return Err(StoreError::NoUser(name));
                }
            }
            Ok(store::apps::get(db, id)?.is_some_and(|app| !app.users.is_empty()))
        });
        let left = left.await?;
        self.publish_rules(app).await?;
        Ok(left)
    }
}
