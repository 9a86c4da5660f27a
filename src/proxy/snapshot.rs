//! The last route table and certificates on disk, to start from while the control
//! plane is away. The files are for our own user alone.

use super::Shared;
use crate::model::{CertificateTable, RouteTable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The stored table; an empty one, with a line in the log, if there is none
/// that can be read.
pub(super) fn load(path: &Path) -> RouteTable {
    match read::<RouteTable>(path) {
        Ok(table) => {
            info!(version = table.version, routes = table.routes.len(), "routes loaded from disk");
            table
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            info!(path = %path.display(), "no stored routes yet; waiting for the control plane");
            RouteTable::default()
        }
        Err(error) => {
            warn!(
                path = %path.display(), %error,
                "stored routes are damaged; starting without any until the control plane sends them"
            );
            RouteTable::default()
        }
    }
}

/// The stored certificates; none, with a line in the log, if they can't be read.
pub(super) fn load_certificates(path: &Path) -> CertificateTable {
    match read::<CertificateTable>(path) {
        Ok(table) => {
            info!(certificates = table.certificates.len(), "certificates loaded from disk");
            table
        }
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(
                    path = %path.display(), %error,
                    "stored certificates are damaged; starting without any until the control plane sends them"
                );
            }
            CertificateTable::default()
        }
    }
}

/// After a failure it is tried again: the disk may have been full for a while.
const AGAIN: Duration = Duration::from_secs(30);

/// Keeps the table in force on disk, a little later: a change is not to wait for the
/// disk, and many of them are written once. A full disk must not keep it from serving.
pub(super) struct Keeper {
    /// To be told that the table is another one.
    pub(super) changed: Arc<Notify>,
    keeping: JoinHandle<()>,
    last: CancellationToken,
}

impl Keeper {
    /// Begins to.
    pub(super) fn new(path: PathBuf, shared: &Arc<Shared>) -> Self {
        let (changed, last) = (Arc::new(Notify::new()), CancellationToken::new());
        let keeping = tokio::spawn(keep(path, Arc::clone(shared), Arc::clone(&changed), last.clone()));
        Self { changed, keeping, last }
    }

    /// Ends; what is in force is on disk then.
    pub(super) async fn close(self) {
        self.last.cancel();
        let _ = self.keeping.await;
    }
}

async fn keep(path: PathBuf, shared: Arc<Shared>, changed: Arc<Notify>, last: CancellationToken) {
    let mut kept = shared.board.table().version;
    let mut failed = false;
    loop {
        let more = tokio::select! {
            () = last.cancelled() => false,
            () = changed.notified() => true,
            () = tokio::time::sleep(AGAIN), if failed => true,
        };
        let table = shared.board.table();
        let version = table.version;
        if version != kept {
            let place = path.clone();
            let saved = tokio::task::spawn_blocking(move || save(&place, &*table)).await;
            let saved = saved.unwrap_or_else(|error| Err(io::Error::other(error)));
            failed = saved.is_err();
            match saved {
                Ok(()) => kept = version,
                Err(error) => {
                    warn!(path = %path.display(), %error, "can't store the routes; a restart would serve older ones");
                }
            }
        }
        if !more {
            return;
        }
    }
}

/// Replaces the stored table: after a crash there is the old one or the new
/// one, never half of one.
pub(super) fn save(path: &Path, table: &impl Serialize) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    let document = zeroize::Zeroizing::new(serde_json::to_vec(table)?);
    file.write_all(&document)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename itself lasts only once the directory is on disk.
    std::fs::File::open(directory)?.sync_all()
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let file = std::fs::File::open(path)?;
    Ok(serde_json::from_reader(BufReader::new(file))?)
}
