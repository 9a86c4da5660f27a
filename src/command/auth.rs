//! `auth…`: names and passwords for an app.

use super::of_app::OfApp;
use super::table::table;
use super::{CommandError, Session};
use crate::model::{AppName, expect_user_name, password_of};
use serde_json::json;

/// Longest line that is read for a password, bytes.
const LONGEST: u64 = 1024;

impl Session<'_> {
    pub(super) async fn auth(&mut self, name: AppName, as_json: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        if as_json {
            let all = app.users.iter().map(|user| json!({"user": user.name}));
            return self.print_json(&all.collect()).await;
        }
        if app.users.is_empty() {
            return self.print(&format!("{name} asks nobody for a password.\n")).await;
        }
        let rows: Vec<Vec<String>> = app.users.into_iter().map(|user| vec![user.name]).collect();
        self.print(&table(&["USER"], &rows)).await
    }

    pub(super) async fn auth_set(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (name, words) = app.split("auth:set")?;
        // A second word may be a password: it is not repeated.
        let [user] = &words[..] else {
            let reason = "give the app and one user; the password is read from standard input".to_owned();
            return Err(CommandError::Usage { command: "auth:set".to_owned(), reason });
        };
        let app = self.app(&name).await?;
        expect_user_name(user)?;
        let text = self.read_text(LONGEST).await?;
        let password = password_of(&text)?.to_owned();
        self.pipeline.set_user(&app, user.clone(), password).await?;
        self.print(&format!("{user} may use {name} with this password, and nobody without one.\n")).await
    }

    pub(super) async fn auth_remove(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (name, words) = app.split("auth:remove")?;
        let app = self.app(&name).await?;
        if words.is_empty() {
            let reason = "give the app and a user".to_owned();
            return Err(CommandError::Usage { command: "auth:remove".to_owned(), reason });
        }
        let mut text: String = words.iter().map(|user| format!("{user} may use {name} no more.\n")).collect();
        if !self.pipeline.remove_users(&app, words).await? {
            text += &format!("{name} asks nobody for a password any more: everybody may use it.\n");
        }
        self.print(&text).await
    }
}
