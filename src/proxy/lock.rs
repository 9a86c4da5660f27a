//! One proxy per data directory: a lock file held for the process's life.

use super::ProxyError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// The lock; dropping it lets the next proxy start.
pub(super) struct Lock {
    _file: Flock<File>,
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
        let mut file =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, errno)| match errno {
                Errno::EWOULDBLOCK => ProxyError::Running { path: path.to_owned(), pid: holder(file) },
                other => failed(other.into()),
            })?;
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// The process id in a lock file that somebody else holds.
fn holder(file: File) -> Option<String> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    let pid = text.trim();
    (!pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())).then(|| pid.to_owned())
}
