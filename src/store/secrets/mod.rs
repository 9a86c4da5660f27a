//! Config vars are sealed before SQLite sees them.
//!
//! Every connection has two functions, `seal(kind, owner, name, value)` and
//! `unseal(kind, owner, name, record)`, so that a statement says where a value
//! is a secret, and no other code of the store has to know of keys.

mod key_file;
mod rotate;
mod seal;
#[cfg(test)]
mod tests;

pub use rotate::Rotated;
pub use seal::SecretKeyId;

use super::StoreError;
use crate::settings::KeyPlace;
use arc_swap::ArcSwap;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};
use seal::{Key, Place};
use std::path::Path;
use std::sync::Arc;

/// What is sealed: table, condition-free columns that name a row, and how the
/// place of its value is written in SQL.
pub(super) const SEALED: [Sealed; 6] = [
    Sealed { table: "config", row: "(app, key)", place: "'config', app, key", column: "value" },
    Sealed { table: "global_config", row: "(key)", place: "'global', 0, key", column: "value" },
    Sealed { table: "releases", row: "(id)", place: "'release', app, number", column: "vars" },
    Sealed { table: "webhooks", row: "(id)", place: "'webhook', app, id", column: "endpoint" },
    Sealed { table: "certificates", row: "(id)", place: "'certificate', 0, id", column: "key" },
    Sealed { table: "acme_accounts", row: "(directory)", place: "'acme', 0, directory", column: "account" },
];

/// One of [`SEALED`].
pub(super) struct Sealed {
    table: &'static str,
    row: &'static str,
    place: &'static str,
    column: &'static str,
}

/// The keys of a store; clones share them.
#[derive(Clone)]
pub(super) struct Keys {
    place: KeyPlace,
    /// The one in use first. Former ones stay until the process ends: a reader
    /// may be in the middle of a view that is older than a rotation.
    ring: Arc<ArcSwap<Vec<Key>>>,
}

impl Keys {
    /// The keys at `place`. One is made there if there is none and nothing in the
    /// database needs it; a missing or wrong one is an error and never replaced.
    pub(super) fn open(place: &KeyPlace, database: &Path, db: &Connection) -> Result<Self, StoreError> {
        let keys = match Self::read(place, database, db)? {
            Some(keys) => keys,
            None => make(place)?,
        };
        if let KeyPlace::File(path) = place {
            key_file::forget_half_written(path);
        }
        Ok(Self { place: place.clone(), ring: Arc::new(ArcSwap::from_pointee(keys)) })
    }

    /// Whether the keys at `place` are those of the database, changing nothing.
    pub(super) fn check(place: &KeyPlace, database: &Path, db: &Connection) -> Result<(), StoreError> {
        Self::read(place, database, db).map(|_| ())
    }

    fn read(place: &KeyPlace, database: &Path, db: &Connection) -> Result<Option<Vec<Key>>, StoreError> {
        let keys = key_file::read(place)?;
        let known: Vec<SecretKeyId> = keys.iter().flatten().map(Key::id).collect();
        let Some(needed) = needed(db)?.into_iter().find(|id| !known.contains(id)) else { return Ok(keys) };
        let (path, database) = (place.path().to_owned(), database.to_owned());
        Err(match keys {
            None => StoreError::KeyMissing { path, database, needed },
            Some(_) => StoreError::KeyWrong { path, database, needed },
        })
    }

    /// Gives a connection the functions `seal` and `unseal`.
    pub(super) fn teach(&self, db: &Connection) -> rusqlite::Result<()> {
        // Not from the schema: a changed file must not run them by a view or trigger.
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
        let keys = self.clone();
        db.create_scalar_function("seal", 4, flags, move |context| keys.seal(context))?;
        let keys = self.clone();
        db.create_scalar_function("unseal", 4, flags, move |context| keys.unseal(context))
    }

    fn seal(&self, context: &Context<'_>) -> rusqlite::Result<Vec<u8>> {
        let (kind, owner, name) = place(context)?;
        let place = Place { kind: &kind, owner, name: &name };
        let value = context.get_raw(3).as_str()?;
        let ring = self.ring.load();
        let key = ring.first().ok_or_else(|| failed("there is no key".into()))?;
        seal::seal(key, place, value).map_err(|error| failed(error.into()))
    }

    fn unseal(&self, context: &Context<'_>) -> rusqlite::Result<String> {
        let (kind, owner, name) = place(context)?;
        let place = Place { kind: &kind, owner, name: &name };
        let record = context.get_raw(3).as_blob()?;
        let value = seal::open(&self.ring.load(), place, record)
            .map_err(|error| failed(format!("{kind} {name} of {owner}: {error}").into()))?;
        String::from_utf8(value.to_vec()).map_err(|_| failed("a stored value is not UTF-8".into()))
    }
}

/// A key in a new file; a credential is for others to make.
fn make(place: &KeyPlace) -> Result<Vec<Key>, StoreError> {
    let path = place.path();
    if let KeyPlace::Credential(_) = place {
        let (path, cause) = (path.to_owned(), std::io::ErrorKind::NotFound.into());
        return Err(StoreError::KeyFile { doing: "read", path, cause });
    }
    let keys = vec![new_key(path)?];
    key_file::write(path, &keys)?;
    tracing::info!("made {}; keep a copy of it in another place than those of paas.db", path.display());
    Ok(keys)
}

fn new_key(path: &Path) -> Result<Key, StoreError> {
    Key::generate().map_err(|error| StoreError::KeyFile {
        doing: "make",
        path: path.to_owned(),
        cause: std::io::Error::other(error),
    })
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(error)
}

fn place(context: &Context<'_>) -> rusqlite::Result<(String, i64, String)> {
    let name = match context.get_raw(2) {
        ValueRef::Integer(number) => number.to_string(),
        other => other.as_str()?.to_owned(),
    };
    Ok((context.get(0)?, context.get(1)?, name))
}

/// Ids of all keys that something in the database is sealed with.
fn needed(db: &Connection) -> Result<Vec<SecretKeyId>, StoreError> {
    let mut ids = Vec::new();
    for sealed in &SEALED {
        if !sealed.is_there(db)? {
            continue;
        }
        let Sealed { table, column, .. } = sealed;
        let mut statement = db.prepare(&format!("SELECT DISTINCT substr({column}, 1, 9) FROM {table}"))?;
        let starts = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        for start in starts {
            let id = seal::key_of(&start?).ok_or_else(|| StoreError::Value(format!("{table}.{column}")))?;
            ids.push(id);
        }
    }
    Ok(ids)
}

impl Sealed {
    /// Whether the table is there and its values are sealed already.
    fn is_there(&self, db: &Connection) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2 AND type = 'BLOB'";
        Ok(db.query_row(sql, [self.table, self.column], |_| Ok(())).optional()?.is_some())
    }
}
