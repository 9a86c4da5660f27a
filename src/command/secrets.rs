//! `secrets…`: the key that config vars are encrypted with.

use super::{CommandError, Session};

impl Session<'_> {
    pub(super) async fn secrets_rotate(&mut self) -> Result<(), CommandError> {
        let rotated = self.pipeline.workers.store.rotate_key().await?;
        tracing::info!(caller = self.caller.name(), key = %rotated.key, "config vars have another key");
        let path = self.pipeline.workers.settings.secrets_key();
        self.print(&format!(
            "Encrypted {} values under the new key {}.\nKeep a copy of {} in another place than those of paas.db.\n",
            rotated.values,
            rotated.key,
            path.path().display()
        ))
        .await
    }
}
