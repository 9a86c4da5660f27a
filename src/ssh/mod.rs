//! The SSH entrance: sessions and keys. Never builds.
//!
//! `listener` accepts and counts, `connection` answers every request of one
//! client, `channel` runs one command, `input` and `output` carry its bytes.
//! Who may come in and what a command does is behind [`Door`].

mod channel;
mod command_line;
mod connection;
mod host_key;
mod input;
mod listener;
mod output;
mod socket;
mod terminal;
mod words;

use crate::model::{Caller, PublicKey};
use crate::output::Streams;
use futures_util::future::BoxFuture;
use russh::keys::PrivateKey;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use host_key::host_key;
pub use listener::serve;
pub use terminal::Terminal;

/// What the SSH entrance opens to: identities and commands.
pub trait Door: Send + Sync + 'static {
    /// Who owns this key; asked when a key is offered, again when it has
    /// signed, and before each command.
    fn admit(&self, key: &PublicKey, from: SocketAddr) -> BoxFuture<'_, Option<Caller>>;

    /// Ends when nobody owns this key any more: what it runs is ended then.
    fn revoked(&self, key: &PublicKey) -> BoxFuture<'static, ()>;

    /// Runs one command to its end; returns the exit status. It should end soon
    /// after `streams.gone` is cancelled; it is dropped only when we stop.
    fn run(&self, request: Exec) -> BoxFuture<'static, u32>;
}

/// One command that a client wants run.
pub struct Exec {
    /// Who asks.
    pub caller: Caller,
    /// The words of the command; at least one.
    pub argv: Vec<String>,
    /// `version=0` to `version=2`, the only variable that is ever passed on.
    pub git_protocol: Option<String>,
    /// The client's terminal, if it asked for one (`ssh -t`).
    pub terminal: Option<Terminal>,
    /// Its streams.
    pub streams: Streams,
}

/// What `serve` needs to know.
pub struct Config {
    /// Our identity, from [`host_key`].
    pub key: PrivateKey,
    /// Where input that a command is slow to read waits (unlinked files).
    pub spill_dir: PathBuf,
    /// Numbers and times by which everything is bounded.
    pub limits: Limits,
}

impl Config {
    /// With the usual limits.
    pub fn new(key: PrivateKey, spill_dir: PathBuf) -> Self {
        Self { key, spill_dir, limits: Limits::default() }
    }
}

/// Bounds of the entrance.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections, all together.
    pub connections: usize,
    /// Open connections of one IPv4 address or one IPv6 /64.
    pub connections_per_address: usize,
    /// Connections that have not logged in yet, all together; beyond that the
    /// oldest of them makes room.
    pub logins: usize,
    /// Time from connecting to having logged in.
    pub login_time: Duration,
    /// Sessions in one connection at a time.
    pub channels: usize,
    /// Unread input of a command that is kept in memory, bytes.
    pub input_memory: usize,
    /// Unread input of a command that may wait on disk beyond that, bytes.
    pub input_disk: u64,
    /// The same of all commands together.
    pub input_disk_total: u64,
    /// Silence after which a client is asked for a sign of life; it is dropped
    /// when four such times have passed without one.
    pub keepalive: Duration,
    /// How long running commands may go on when we stop, and again how long
    /// they have to end once told.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_address: 64,
            logins: 128,
            login_time: Duration::from_secs(30),
            channels: 10,
            input_memory: 8 << 20,
            input_disk: 2 << 30,
            input_disk_total: 4 << 30,
            keepalive: Duration::from_secs(15),
            grace: Duration::from_secs(5),
        }
    }
}

/// Why the entrance can't open.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The host key file can't be read.
    #[error("cannot read the host key {path}: {cause}")]
    HostKeyUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The host key file can't be made.
    #[error("cannot write the host key {path}: {cause}")]
    HostKeyUnwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not an unencrypted Ed25519 key in OpenSSH's form.
    #[error("the host key {path} is damaged")]
    HostKeyDamaged {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner can read the file.
    #[error("the host key {path} has mode {mode:04o}")]
    HostKeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The listening socket doesn't tell its address, so it is no socket of ours.
    #[error("the SSH socket is unusable: {0}")]
    Listener(std::io::Error),
}
