//! How far the upload of a request's body is, and who is waited for.

use super::upstream::{clock, millis};
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// Why a request's body was not taken to its end. It is the client's doing, never the
/// app's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// The connection or the stream ended before, or went on with what is no body.
    #[error("the client broke off")]
    Broken,
    /// Nothing came for too long.
    #[error("the client sent nothing for too long")]
    Stalled,
    /// There is more of it than the app takes.
    #[error("the client sent too much")]
    TooLarge,
}

impl Fault {
    /// What an error of a client's body means.
    pub(super) fn of(error: &hyper::Error) -> Self {
        let mut cause: Option<&dyn Error> = error.source();
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
            {
                return Self::Stalled;
            }
            cause = error.source();
        }
        Self::Broken
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The app has to take what is there.
    App,
    /// The client has to send more; how long it may take is seen to elsewhere.
    Client,
    /// Nobody's: all has come.
    Ended,
    /// Nobody's: it will never come.
    Fault(Fault),
}

/// Shared by a request's body and by whoever waits for its answer.
#[derive(Default)]
pub(super) struct Upload {
    complete: AtomicBool,
    turn: AtomicU8,
    /// By the [`clock`], since when.
    since: AtomicU64,
}

impl Upload {
    /// The target has been given the whole body.
    pub(super) fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Whether it has.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// It is somebody's turn from now on.
    pub(super) fn turn(&self, turn: Turn) {
        self.since.store(clock(), Ordering::Relaxed);
        self.turn.store(turn.number(), Ordering::Release);
    }

    /// What went wrong at the client's side.
    pub(super) fn fault(&self) -> Option<Fault> {
        let turn = self.turn.load(Ordering::Acquire);
        [Fault::Broken, Fault::Stalled, Fault::TooLarge]
            .into_iter()
            .find(|fault| Turn::Fault(*fault).number() == turn)
    }

    /// How long the app may still let us wait that has `limit` for it; a slow client is
    /// no slow app. `None` if its time is over.
    pub(super) fn patience(&self, limit: Duration) -> Option<Duration> {
        if self.turn.load(Ordering::Acquire) == Turn::Client.number() {
            return Some(limit);
        }
        let since = self.since.load(Ordering::Relaxed);
        // Another thread may have set it to what is the next millisecond by now.
        let waited = Duration::from_millis(clock().saturating_sub(since));
        limit.checked_sub(waited).filter(|left| millis(*left) > 0)
    }
}

impl Turn {
    fn number(self) -> u8 {
        match self {
            Self::App => 0,
            Self::Client => 1,
            Self::Ended => 2,
            Self::Fault(Fault::Broken) => 3,
            Self::Fault(Fault::Stalled) => 4,
            Self::Fault(Fault::TooLarge) => 5,
        }
    }
}
