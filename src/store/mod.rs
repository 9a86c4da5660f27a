//! State in SQLite: all SQL, never network.
//!
//! One thread owns the writing connection; every change is one closure in one
//! `BEGIN IMMEDIATE` transaction with `synchronous=FULL`, so what was answered
//! is on disk. Readers have connections of their own (WAL) and never wait.

pub mod apps;
pub mod audit;
pub mod bases;
pub mod certificates;
pub mod config;
pub mod domains;
mod error;
pub mod facts;
pub mod keys;
pub mod maintenance;
pub mod mounts;
pub mod redirects;
pub mod releases;
mod secrets;
pub mod sleep;
pub mod users;
pub mod webhooks;
pub mod windows;

pub use crate::clock::now;
pub use error::{Obstacle, StoreError};
pub use secrets::{Rotated, SecretKeyId};

use crate::failpoint::{effect, fails};
use crate::settings::KeyPlace;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rusqlite_migration::{M, Migrations};
use secrets::Keys;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Numbered by their order; a landed one is never changed.
const MIGRATIONS: [&str; 19] = [
    include_str!("migrations/01-first.sql"),
    include_str!("migrations/02-rollback.sql"),
    include_str!("migrations/03-sealed.sql"),
    include_str!("migrations/04-checks.sql"),
    include_str!("migrations/05-types.sql"),
    include_str!("migrations/06-audit.sql"),
    include_str!("migrations/07-app-checks.sql"),
    include_str!("migrations/08-bases.sql"),
    include_str!("migrations/09-window.sql"),
    include_str!("migrations/10-stopped.sql"),
    include_str!("migrations/11-webhooks.sql"),
    include_str!("migrations/12-domains.sql"),
    include_str!("migrations/13-http.sql"),
    include_str!("migrations/14-maintenance.sql"),
    include_str!("migrations/15-users.sql"),
    include_str!("migrations/16-redirects.sql"),
    include_str!("migrations/17-told.sql"),
    include_str!("migrations/18-mounts.sql"),
    include_str!("migrations/19-sleep.sql"),
];

/// How long a statement waits for another process (a backup, a curious admin).
const BUSY: Duration = Duration::from_secs(5);

/// A write that tests can refuse.
pub(crate) const WRITE: &str = "a write";

/// The fact that the files have to be tidied.
const TIDY: &str = "tidy";

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the state; clones share it.
#[derive(Clone)]
pub struct Store {
    writer: mpsc::Sender<Job>,
    readers: Arc<Readers>,
    /// Changes whenever a key was removed.
    removals: watch::Sender<()>,
    keys: Keys,
    rotating: Arc<tokio::sync::Mutex<()>>,
}

struct Readers {
    path: PathBuf,
    keys: Keys,
    idle: Mutex<Vec<Connection>>,
}

impl Store {
    /// Opens or creates `path` and brings it to this program's schema.
    pub fn open(path: &Path, key: &KeyPlace) -> Result<Self, StoreError> {
        let mut connection = open_writer(path)?;
        let version = expect_ours(path, &connection)?;
        let keys = Keys::open(key, path, &connection)?;
        keys.teach(&connection)?;
        if version < MIGRATIONS.len() {
            migrations().to_latest(&mut connection).map_err(|error| StoreError::migration(path, error))?;
        }
        keys.finish(&connection)?;
        if facts::get(&connection, TIDY)?.is_some() {
            tidy(&connection)?;
        }
        apps::number_from_own_range(&connection)?;
        let (writer, jobs) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || jobs.iter().for_each(|job| job(&mut connection)))
            .map_err(StoreError::Thread)?;
        let readers = Readers { path: path.to_owned(), keys: keys.clone(), idle: Mutex::default() };
        Ok(Self {
            writer,
            readers: Arc::new(readers),
            keys,
            rotating: Arc::default(),
            removals: watch::Sender::new(()),
        })
    }

    /// Whether `open` would succeed; nothing is changed.
    pub fn check(path: &Path, key: &KeyPlace) -> Result<(), StoreError> {
        let connection = open_reader(path)?;
        expect_sound(path, &connection)?;
        expect_ours(path, &connection)?;
        Keys::check(key, path, &connection)
    }

    /// Runs `change` as one transaction, which is durable when this returns `Ok`.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, result) = oneshot::channel();
        #[cfg(test)]
        let ahead = crate::clock::in_tests::ahead();
        let job: Job = Box::new(move |connection| {
            #[cfg(test)]
            crate::clock::in_tests::set_ahead(ahead);
            let _ = answer.send(in_transaction(connection, change));
        });
        effect("before a write");
        if fails(WRITE) {
            return Err(StoreError::Sqlite(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                None,
            )));
        }
        self.writer.send(job).map_err(|_| StoreError::Closed)?;
        let written = result.await.map_err(|_| StoreError::Closed)?;
        effect("after a write");
        written
    }

    /// Removes from the files what no row has any more.
    async fn tidy(&self) -> Result<(), StoreError> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let _ = answer.send(tidy(connection));
        });
        self.writer.send(job).map_err(|_| StoreError::Closed)?;
        result.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `query` on a connection that cannot write.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = self.readers.clone();
        let run = move || {
            let connection = readers.take()?;
            let result = query(&connection);
            readers.give_back(connection);
            result
        };
        tokio::task::spawn_blocking(run).await.map_err(|_| StoreError::Closed)?
    }
}

impl Readers {
    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().map_err(|_| StoreError::Closed)?.pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let connection = open_reader(&self.path)?;
        self.keys.teach(&connection)?;
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < 4
        {
            idle.push(connection);
        }
    }
}

fn migrations() -> Migrations<'static> {
    Migrations::new(MIGRATIONS.iter().map(|sql| M::up(sql)).collect())
}

fn in_transaction<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = change(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    make_private(path)
        .map_err(|error| StoreError::Unopenable { path: path.to_owned(), reason: error.to_string() })?;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        // What was removed is overwritten, and what is sorted stays off the disk.
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    };
    let connection = open().map_err(|error| StoreError::opening(path, error))?;
    expect_sound(path, &connection)?;
    Ok(connection)
}

fn expect_sound(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| StoreError::opening(path, error))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged { path: path.to_owned(), reason: verdict }) }
}

/// The schema's version, unless it is a newer program's.
fn expect_ours(path: &Path, connection: &Connection) -> Result<usize, StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() { Err(StoreError::Newer { path: path.to_owned() }) } else { Ok(version) }
}

/// Writes the database anew, so that nothing is left of what was removed, and
/// empties its journal.
fn tidy(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch("VACUUM")?;
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        // Somebody reads it from outside; the next start tries again.
        tracing::warn!("paas.db could not be tidied: another process reads it");
        return facts::set(connection, TIDY, "due");
    }
    facts::remove(connection, TIDY)
}

/// Nobody else reads it, though its secrets are sealed. SQLite gives its journal
/// the mode of the database.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    };
    open().map_err(|error| StoreError::opening(path, error))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A database as the first version left it.
    pub(crate) fn first_version(path: &Path) -> Connection {
        let mut connection = Connection::open(path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        Migrations::new(vec![M::up(MIGRATIONS[0])]).to_latest(&mut connection).unwrap();
        connection
    }

    /// A store in a directory that goes with the guard.
    pub(crate) fn scratch() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        (dir, store)
    }

    /// Opens the store in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Store, StoreError> {
        Store::open(&dir.join("paas.db"), &KeyPlace::File(dir.join("secrets.key")))
    }

    #[test]
    fn a_file_that_is_no_database_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("paas.db");
        std::fs::write(&path, "this is not a database, though it is long enough to be one").unwrap();
        let error = open(dir.path()).err().unwrap();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    }

    #[test]
    fn a_database_of_a_newer_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("paas.db");
        drop(open(dir.path()).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = open(dir.path()).err().unwrap();
        assert!(matches!(error, StoreError::Newer { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_failed_change_leaves_nothing() {
        let (_dir, store) = scratch();
        let failed = store
            .write(|db| {
                facts::set(db, "a", "1")?;
                Err::<(), _>(StoreError::Closed)
            })
            .await;
        assert!(failed.is_err());
        assert_eq!(store.read(|db| facts::get(db, "a")).await.unwrap(), None);
    }
}
