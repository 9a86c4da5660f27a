//! `keys…`: public keys.

use super::table::{table, time};
use super::{CommandError, Session};
use crate::model::{KeyName, PublicKey};
use crate::store;
use serde_json::json;

/// Longest file that is taken for a public key, bytes.
const LONGEST: u64 = 16 << 10;

impl Session<'_> {
    pub(super) async fn keys(&mut self, as_json: bool) -> Result<(), CommandError> {
        let keys = self.pipeline.workers.store.read(store::keys::list).await?;
        if as_json {
            let all = keys.iter().map(|key| {
                json!({"name": key.name, "fingerprint": key.fingerprint, "created": time(key.created_at)})
            });
            return self.print_json(&all.collect()).await;
        }
        let rows: Vec<Vec<String>> = keys
            .into_iter()
            .map(|key| vec![key.name.to_string(), key.fingerprint, time(key.created_at)])
            .collect();
        self.print(&table(&["NAME", "FINGERPRINT", "ADDED"], &rows)).await
    }

    pub(super) async fn keys_add(&mut self, name: &str) -> Result<(), CommandError> {
        let name = KeyName::parse(name)?;
        let text = self.read_text(LONGEST).await?;
        let key = PublicKey::parse(&text).map_err(CommandError::NotAKey)?;
        let said = format!("Added {name}: {}\n", key.fingerprint());
        self.pipeline.workers.store.write(move |db| store::keys::add(db, &name, &key)).await?;
        self.print(&said).await
    }

    pub(super) async fn keys_remove(&mut self, name: &str) -> Result<(), CommandError> {
        let key = KeyName::parse(name)?;
        if !self.pipeline.workers.store.remove_key(key).await? {
            return Err(CommandError::NoSuchKey(name.to_owned()));
        }
        self.print(&format!("Removed {name}. It opens nothing any more.\n")).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeyFault;

    #[test]
    fn what_is_no_key_is_told() {
        let faults =
            [KeyFault::Empty, KeyFault::Malformed, KeyFault::Private, KeyFault::Several, KeyFault::Dsa];
        let said = faults.map(|fault| CommandError::NotAKey(fault).problem().to_string());
        insta::assert_snapshot!(said.join("\n\n"));
    }
}
