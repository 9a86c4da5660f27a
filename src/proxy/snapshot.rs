//! The last route table and certificates on disk, to start from while the control
//! plane is away. The files are for our own user alone.

use crate::model::{CertificateTable, RouteTable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufReader, Write};
use std::path::Path;
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
