//! What the proxy as a whole has come to: connections, handshakes, and requests of no app.

use super::routing::Entry;
use hyper::StatusCode;
use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// By which addresses connections come in.
pub(super) const ENTRIES: [&str; 3] = ["http", "https", "port"];
/// How handshakes end.
pub(super) const ENDS: [&str; 2] = ["done", "failed"];
/// Kinds of answers to requests of no app.
pub(super) const KINDS: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The numbers.
pub(super) struct Census {
    accepted: [AtomicU64; ENTRIES.len()],
    open: [AtomicU64; ENTRIES.len()],
    refused: AtomicU64,
    handshakes: [AtomicU64; ENDS.len()],
    strays: [AtomicU64; KINDS.len()],
    /// Seconds since the epoch when the proxy has begun.
    pub(super) begun: u64,
}

/// An open connection; ends when dropped.
pub(super) struct Connected {
    census: Arc<Census>,
    entry: usize,
}

impl Default for Census {
    fn default() -> Self {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            accepted: array::from_fn(|_| AtomicU64::new(0)),
            open: array::from_fn(|_| AtomicU64::new(0)),
            refused: AtomicU64::new(0),
            handshakes: array::from_fn(|_| AtomicU64::new(0)),
            strays: array::from_fn(|_| AtomicU64::new(0)),
            begun: epoch.as_secs(),
        }
    }
}

impl Census {
    /// One more connection.
    pub(super) fn connected(self: &Arc<Self>, entry: Entry) -> Connected {
        let entry = match entry {
            Entry::Hosts => 0,
            Entry::Https => 1,
            Entry::Port(_) => 2,
        };
        self.accepted[entry].fetch_add(1, Ordering::Relaxed);
        self.open[entry].fetch_add(1, Ordering::Relaxed);
        Connected { census: Arc::clone(self), entry }
    }

    /// A connection is closed at once: its address has its fill.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A handshake has ended.
    pub(super) fn shaken(&self, well: bool) {
        self.handshakes[usize::from(!well)].fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered that is for no app.
    pub(super) fn stray(&self, status: StatusCode) {
        let kind = usize::from(status.as_u16() / 100).clamp(1, KINDS.len()) - 1;
        self.strays[kind].fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that were accepted, by entry.
    pub(super) fn accepted(&self) -> [u64; ENTRIES.len()] {
        read(&self.accepted)
    }

    /// Those of them that are open.
    pub(super) fn open(&self) -> [u64; ENTRIES.len()] {
        read(&self.open)
    }

    /// Connections that were closed at once.
    pub(super) fn turned_away(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Handshakes by their end.
    pub(super) fn handshakes(&self) -> [u64; ENDS.len()] {
        read(&self.handshakes)
    }

    /// Answers to requests of no app, by kind.
    pub(super) fn strays(&self) -> [u64; KINDS.len()] {
        read(&self.strays)
    }
}

fn read<const N: usize>(numbers: &[AtomicU64; N]) -> [u64; N] {
    array::from_fn(|place| numbers[place].load(Ordering::Relaxed))
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.census.open[self.entry].fetch_sub(1, Ordering::Relaxed);
    }
}
