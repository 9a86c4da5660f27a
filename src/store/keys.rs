//! Public keys: who may come in.

use super::{Store, StoreError, now};
use crate::model::{KeyId, KeyName, PublicKey};
use rusqlite::{Connection, OptionalExtension, params};

/// A stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Row number.
    pub id: KeyId,
    /// What its owner calls it.
    pub name: KeyName,
    /// `ssh-ed25519 AAAA…` without comment.
    pub public_key: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// Seconds since the epoch, UTC.
    pub created_at: i64,
}

type Columns = (i64, String, String, String, i64);

fn columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn key((id, name, public_key, fingerprint, created_at): Columns) -> Result<Key, StoreError> {
    let name = KeyName::parse(&name).map_err(|error| StoreError::Value(error.to_string()))?;
    Ok(Key { id: KeyId(id), name, public_key, fingerprint, created_at })
}

/// The key with these bytes.
pub fn find(db: &Connection, public_key: &PublicKey) -> Result<Option<Key>, StoreError> {
    let sql = "SELECT id, name, public_key, fingerprint, created_at FROM keys WHERE public_key = ?1";
    db.query_row(sql, [public_key.as_str()], columns).optional()?.map(key).transpose()
}

/// All keys by name.
pub fn list(db: &Connection) -> Result<Vec<Key>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT id, name, public_key, fingerprint, created_at FROM keys ORDER BY name")?;
    let rows = statement.query_map([], columns)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(key).collect()
}

/// Stores a key under a name; neither may be there already.
pub fn add(db: &Connection, name: &KeyName, key: &PublicKey) -> Result<(), StoreError> {
    if let Some(same) = find(db, key)? {
        return Err(StoreError::KeyTaken(format!("this key is already here, named {}", same.name)));
    }
    if list(db)?.iter().any(|key| key.name == *name) {
        return Err(StoreError::KeyTaken(format!("a key named {name} is already here")));
    }
    db.execute(
        "INSERT INTO keys (name, public_key, fingerprint, created_at) VALUES (?1, ?2, ?3, ?4)",
        params![name.as_str(), key.as_str(), key.fingerprint(), now()],
    )?;
    Ok(())
}

impl Store {
    /// Removes a key, and tells those who wait in [`Store::key_removed`]; `false`
    /// if there is none of that name.
    pub async fn remove_key(&self, name: KeyName) -> Result<bool, StoreError> {
        let removed = self.write(move |db| remove(db, &name)).await?;
        self.removals.send_replace(());
        Ok(removed)
    }

    /// Returns once this key is not, or no longer, among the stored ones.
    pub async fn key_removed(&self, key: PublicKey) {
        let mut removals = self.removals.subscribe();
        loop {
            let key = key.clone();
            if matches!(self.read(move |db| find(db, &key)).await, Ok(None)) {
                return;
            }
            if removals.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Removes a key; `false` if there is none of that name.
fn remove(db: &Connection, name: &KeyName) -> Result<bool, StoreError> {
    Ok(db.execute("DELETE FROM keys WHERE name = ?1", [name.as_str()])? > 0)
}
