//! One proxy per data directory: a lock file held for the process's life, and
//! passed on with the sockets.
//!
//! The lock belongs to the open file, not to a process: after a handover both
//! proxies have it, until the old one closes its copy.

use super::ProxyError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The lock; dropping its last copy lets the next proxy start.
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock at once or not at all, and writes our process id into it.
    pub(super) fn take(path: &Path) -> Result<Self, ProxyError> {
        let failed = |source: io::Error| ProxyError::Lock { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ProxyError::Running { path: path.to_owned(), pid: holder(file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut lock = Self { file };
        lock.claim().map_err(failed)?;
        Ok(lock)
    }

    /// A copy of another proxy's lock, still in that one's name.
    pub(super) fn from_copy(descriptor: OwnedFd) -> Self {
        Self { file: File::from(descriptor) }
    }

    /// Writes our process id into the file; in one go and always of one length, so
    /// that nobody reads half of one.
    pub(super) fn claim(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(format!("{:<10}\n", std::process::id()).as_bytes())?;
        self.file.set_len(11)
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The process id in a lock file that somebody else holds.
fn holder(file: File) -> Option<String> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    let pid = text.trim();
    (!pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())).then(|| pid.to_owned())
}
