//! What can keep the proxy from starting.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the proxy did not start; the words for it are in `words.rs`.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Another proxy holds the lock file.
    #[error("another proxy (process {}) holds {}", pid.as_deref().unwrap_or("unknown"), path.display())]
    Running {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it, if it is a number.
        pid: Option<String>,
    },
    /// The lock file can't be opened, locked or written.
    #[error("the lock file {}: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system gives no random numbers, or the like.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// An address can't be listened on.
    #[error("listening on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The proxy that runs did not hand its sockets over; it goes on.
    #[error("taking over by {}: {source}", path.display())]
    Handover {
        /// Where it was asked.
        path: PathBuf,
        /// What it said, or the system.
        source: io::Error,
    },
}
