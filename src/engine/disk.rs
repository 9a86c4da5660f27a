//! How full a disk is.

use std::io;
use std::path::Path;

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub total: u64,
    /// Bytes that can still be written.
    pub free: u64,
}

impl Space {
    /// That of the file system on which `path` is.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = nix::sys::statvfs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
        Ok(Self { total: bytes(found.blocks()), free: bytes(found.blocks_available()) })
    }
}
