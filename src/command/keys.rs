//! `keys…`: public keys.

use super::table::{table, time};
use super::{CommandError, Session};
use crate::model::KeyName;
use crate::store;
use russh::keys::ssh_key::{Algorithm, HashAlg, PublicKey};
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
        let (public_key, fingerprint) = read_key(&text)?;
        let said = format!("Added {name}: {fingerprint}\n");
        self.pipeline
            .workers
            .store
            .write(move |db| store::keys::add(db, &name, &public_key, &fingerprint))
            .await?;
        self.print(&said).await
    }

    pub(super) async fn keys_remove(&mut self, name: &str) -> Result<(), CommandError> {
        let key = KeyName::parse(name)?;
        let removed = self.pipeline.workers.store.write(move |db| store::keys::remove(db, &key)).await?;
        if !removed {
            return Err(CommandError::NoSuchKey(name.to_owned()));
        }
        self.print(&format!("Removed {name}. It opens nothing any more.\n")).await
    }
}

/// The key in its stored form and its fingerprint.
fn read_key(text: &str) -> Result<(String, String), CommandError> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().ok_or(CommandError::NotAKey("standard input is empty"))?;
    if line.contains("PRIVATE KEY") {
        return Err(CommandError::NotAKey("this is the private key; keep it to yourself"));
    }
    if lines.next().is_some() {
        return Err(CommandError::NotAKey("there are several; add them one by one"));
    }
    let key = PublicKey::from_openssh(line).map_err(|_| CommandError::NotAKey("it does not read as one"))?;
    if matches!(key.algorithm(), Algorithm::Dsa) {
        return Err(CommandError::NotAKey("DSA is broken; make one with ssh-keygen -t ed25519"));
    }
    Ok((canonical(&key), key.fingerprint(HashAlg::Sha256).to_string()))
}

/// `TYPE BASE64`, without comment: what is stored and compared.
pub fn canonical(key: &PublicKey) -> String {
    let text = key.to_openssh().unwrap_or_default();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_comment_makes_no_other_key() {
        let with = read_key(&format!("# mine\n{KEY} ada@laptop\n")).unwrap();
        assert_eq!(with, read_key(KEY).unwrap());
        assert_eq!(with.0, KEY);
    }

    #[test]
    fn what_is_no_key_is_told() {
        let two = format!("{KEY}\n{KEY}");
        let inputs = ["", "hello", "-----BEGIN OPENSSH PRIVATE KEY-----", &two];
        let said: Vec<String> =
            inputs.iter().map(|text| read_key(text).unwrap_err().problem().to_string()).collect();
        insta::assert_snapshot!(said.join("\n\n"));
    }
}
