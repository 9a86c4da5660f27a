//! The last route table on disk, to start from while the control plane is away.

use crate::model::RouteTable;
use std::io::{self, BufReader, Write};
use std::path::Path;
use tracing::{info, warn};

/// The stored table; an empty one, with a line in the log, if there is none
/// that can be read.
pub(super) fn load(path: &Path) -> RouteTable {
    match read(path) {
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

/// Replaces the stored table: after a crash there is the old one or the new
/// one, never half of one.
pub(super) fn save(path: &Path, table: &RouteTable) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    let document = serde_json::to_vec(table)?;
    file.write_all(&document)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename itself lasts only once the directory is on disk.
    std::fs::File::open(directory)?.sync_all()
}

fn read(path: &Path) -> io::Result<RouteTable> {
    let file = std::fs::File::open(path)?;
    Ok(serde_json::from_reader(BufReader::new(file))?)
}
