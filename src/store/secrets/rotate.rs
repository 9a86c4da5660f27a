//! Another key for everything that is sealed.
//!
//! The file has the new key in front of the old one before anything is sealed
//! with it, and loses the old one after nothing is sealed with that: at every
//! instant each value opens with a key of the file. [`finish`] on the next start
//! does what a crash cut off.

use super::seal::Key;
use super::{Keys, SEALED, Sealed, SecretKeyId, key_file, new_key};
use crate::failpoint;
use crate::settings::KeyPlace;
use crate::store::{Store, StoreError};
use rusqlite::{Connection, params};
use std::sync::Arc;

/// Rows that are sealed anew in one transaction.
const BATCH: u32 = 200;

/// What a rotation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// The key that everything is sealed with now.
    pub key: SecretKeyId,
    /// How many values were sealed anew.
    pub values: usize,
}

impl Store {
    /// Makes a new key, seals everything with it, and drops the old one.
    pub async fn rotate_key(&self) -> Result<Rotated, StoreError> {
        let _one_at_a_time = self.rotating.lock().await;
        let KeyPlace::File(path) = self.keys.place.clone() else {
            return Err(StoreError::KeyIsCredential);
        };
        let key = new_key(&path)?;
        let id = key.id();
        let kept = key_file::read(&self.keys.place)?.unwrap_or_default();
        key_file::write(&path, &[std::slice::from_ref(&key), &kept].concat())?;
        failpoint::reached("key-written");
        self.keys.put_in_front(key.clone());
        let mut values = 0;
        loop {
            match self.write(move |db| seal_anew(db, id, BATCH)).await? {
                0 => break,
                done => values += done,
            }
            failpoint::reached("sealed-in-part");
        }
        failpoint::reached("sealed-anew");
        key_file::write(&path, &[key])?;
        self.tidy().await?;
        Ok(Rotated { key: id, values })
    }
}

impl Keys {
    pub(super) fn put_in_front(&self, key: Key) {
        let former = self.ring.load();
        let ring = std::iter::once(key).chain(former.iter().cloned()).collect();
        self.ring.store(Arc::new(ring));
    }

    /// Seals with the first key what is sealed with another, and forgets the others.
    pub(in crate::store) fn finish(&self, db: &Connection) -> Result<(), StoreError> {
        let ring = self.ring.load();
        let [first, _, ..] = &ring[..] else { return Ok(()) };
        while seal_anew(db, first.id(), BATCH)? > 0 {}
        if let KeyPlace::File(path) = &self.place {
            key_file::write(path, std::slice::from_ref(first))?;
            tracing::info!(key = %first.id(), "the change of the config vars' key is complete");
        }
        Ok(())
    }
}

/// Seals up to `most` values of each table with the key in use, if they are
/// sealed with another than `key`; returns how many there were.
pub(super) fn seal_anew(db: &Connection, key: SecretKeyId, most: u32) -> Result<usize, StoreError> {
    let mut done = 0;
    for Sealed { table, row, place, column } in &SEALED {
        let names = row.trim_matches(['(', ')']);
        let sql = format!(
            "UPDATE {table} SET {column} = seal({place}, unseal({place}, {column})) WHERE {row} IN
             (SELECT {names} FROM {table} WHERE substr({column}, 2, 8) <> ?1 LIMIT ?2)"
        );
        done += db.execute(&sql, params![key.as_bytes(), most])?;
    }
    Ok(done)
}
