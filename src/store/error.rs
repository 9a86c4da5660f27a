//! What can go wrong with the state.

use super::SecretKeyId;
use std::path::{Path, PathBuf};

/// Errors of the store; the display text is for the log, except where a variant
/// is about what a user asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("cannot open {}: {reason}", path.display())]
    Unopenable {
        /// The database file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// The file is no sound database.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// The database was written by a newer paas.
    #[error("{} was written by a newer version of paas", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
    },
    /// Config vars are sealed with a key, and there is no key file.
    #[error("the config vars in {} are encrypted with the key {needed}, and {} is not there", database.display(), path.display())]
    KeyMissing {
        /// Where the key should be.
        path: PathBuf,
        /// The database file.
        database: PathBuf,
        /// The key.
        needed: SecretKeyId,
    },
    /// Config vars are sealed with a key that the key file does not have.
    #[error("the config vars in {} are encrypted with the key {needed}, which is not in {}", database.display(), path.display())]
    KeyWrong {
        /// The key file.
        path: PathBuf,
        /// The database file.
        database: PathBuf,
        /// The key.
        needed: SecretKeyId,
    },
    /// The key file has something else than keys.
    #[error("{} is damaged: line {line} is not 64 hex digits", path.display())]
    KeyDamaged {
        /// The key file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// Others may read the key file.
    #[error("{} can be read by other users (mode {mode:04o})", path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key file cannot be read or written.
    #[error("cannot {doing} {}: {cause}", path.display())]
    KeyFile {
        /// `read`, `write`.
        doing: &'static str,
        /// The key file.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// The key is a systemd credential, which is not ours to change.
    #[error("the key is a systemd credential")]
    KeyIsCredential,
    /// The writer could not be started.
    #[error("cannot start the writer: {0}")]
    Thread(std::io::Error),
    /// The store was closed under the caller.
    #[error("the store is closed")]
    Closed,
    /// An app of that name exists.
    #[error("an app named {0} exists")]
    NameTaken(String),
    /// A key of that name, or the same key under another name, exists.
    #[error("{0}")]
    KeyTaken(String),
    /// A name that another app has.
    #[error("{0} is another app's")]
    DomainTaken(String),
    /// The pages of all apps are as long as they may be.
    #[error("there is no room for more pages on this server: together they have 8 MiB")]
    NoRoomForPages,
    /// An app has as many users as it may have.
    #[error("an app can have 100 users")]
    NoMoreUsers,
    /// A path under a name that no app has.
    #[error("no app has {0}: give it to one first (domains:add)")]
    MountOnNobody(String),
    /// An app has as many paths as it may have.
    #[error("an app can have 100 paths under names")]
    NoMoreMounts,
    /// Another app has a part of a name.
    #[error("{part} is another app's: {name} stays until that is removed")]
    MountedByOthers {
        /// The name.
        name: String,
        /// The part.
        part: String,
    },
    /// Redirects that come back to where they began.
    #[error("{from} would be sent on to itself: {to} leads back to it")]
    RedirectLoop {
        /// The name.
        from: String,
        /// Where it was to go.
        to: String,
    },
    /// A user that an app does not have. It may be a password, typed in the wrong place.
    #[error("there is no user of that name")]
    NoUser(String),
    /// A name that the app does not have.
    #[error("{0} is not one of its names")]
    NoDomain(String),
    /// No port is left in the range.
    #[error("no free port is left in port_range")]
    NoPort,
    /// No subnet is left in the range.
    #[error("no free subnet is left in network_range")]
    NoSubnet,
    /// No address is left in the app's subnet.
    #[error("no free address is left in the app's network")]
    NoAddress,
    /// A stored value that does not read back.
    #[error("a stored value does not read back: {0}")]
    Value(String),
    /// Any other failure of SQLite.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Value(error.to_string())
    }
}

/// What keeps the state from being written, though nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// No room is left on its disk.
    DiskFull,
    /// Another program holds it.
    Held,
}

impl StoreError {
    /// Whether something is in the way that goes away.
    pub fn obstacle(&self) -> Option<Obstacle> {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
        let Self::Sqlite(error) = self else { return None };
        match error.sqlite_error()? {
            error if matches!(error.code, DatabaseBusy | DatabaseLocked) => Some(Obstacle::Held),
            // The journal's index could not be made larger.
            error if error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => Some(Obstacle::DiskFull),
            error => (error.code == DiskFull).then_some(Obstacle::DiskFull),
        }
    }

    pub(super) fn opening(path: &Path, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged { path, reason },
            _ => Self::Unopenable { path, reason },
        }
    }

    pub(super) fn migration(path: &Path, error: rusqlite_migration::Error) -> Self {
        use rusqlite_migration::{Error, MigrationDefinitionError::DatabaseTooFarAhead};
        match error {
            Error::MigrationDefinition(DatabaseTooFarAhead) => Self::Newer { path: path.to_owned() },
            Error::RusqliteError { err, .. } => Self::opening(path, err),
            other => Self::Unopenable { path: path.to_owned(), reason: other.to_string() },
        }
    }
}
