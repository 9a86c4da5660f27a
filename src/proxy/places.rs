//! Places for connections, and who gives his up when they run short: whoever has
//! been without a request for longest.

use super::peers::Seat;
use super::upstream::{clock, millis};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Nobody is sent away who has been without a request for less.
const BRIEF: Duration = Duration::from_secs(1);

/// How often it is looked whether a request that takes long has ended.
const RARELY: Duration = Duration::from_secs(8);

/// All places.
pub(super) struct Places {
    all: usize,
    free: Arc<Semaphore>,
    taken: Arc<Taken>,
    next: AtomicU64,
    requests: Arc<Requests>,
}

/// Requests on all connections.
struct Requests {
    now: AtomicUsize,
    all: usize,
}

type Taken = Mutex<HashMap<u64, Arc<State>>>;

/// A connection's place; given back when dropped.
pub(super) struct Place {
    number: u64,
    state: Arc<State>,
    taken: Arc<Taken>,
    /// Its address's seat.
    seat: Seat,
    requests: Arc<Requests>,
    _permit: Option<OwnedSemaphorePermit>,
}

struct State {
    requests: AtomicUsize,
    /// By the [`clock`], since when there are so many.
    since: AtomicU64,
    /// Likewise, when a part of an answer was sent last: one that is over for its
    /// request may still be on its way.
    written: AtomicU64,
    leave: CancellationToken,
}

/// One request of a connection, to the end of its answer.
pub(super) struct Request {
    place: Arc<Place>,
    /// Why it is one too many.
    pub(super) full: Option<Full>,
}

/// Who has as many requests under way as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The client's address.
    Peer,
    /// The proxy.
    Proxy,
    /// Every process of the app, and the line of those that wait.
    App,
}

impl Places {
    /// So many, and so many requests under way on all of them.
    pub(super) fn new(all: usize, requests: usize) -> Self {
        let requests = Arc::new(Requests { now: AtomicUsize::new(0), all: requests });
        let (free, taken) = (Arc::new(Semaphore::new(all)), Arc::default());
        Self { all, free, taken, next: AtomicU64::new(0), requests }
    }

    /// A place among all connections, once there is one; none if `close` comes first.
    pub(super) async fn permit(&self, close: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        loop {
            if self.free.available_permits() <= self.all / 10 {
                self.relieve();
            }
            let acquiring = tokio::time::timeout(BRIEF, Arc::clone(&self.free).acquire_owned());
            // Who was not idle for long enough just now may be in a moment.
            if let Ok(permit) = close.run_until_cancelled(acquiring).await? {
                return permit.ok();
            }
        }
    }

    /// Asks some of those to leave that have been without a request for longest.
    pub(super) fn relieve(&self) {
        let now = clock();
        let taken = lock(&self.taken);
        let mut idle: Vec<(u64, &Arc<State>)> = taken
            .values()
            .filter_map(|state| Some((state.idle_since()?, state)))
            .filter(|(since, state)| now - since.min(&now) >= millis(BRIEF) && !state.leave.is_cancelled())
            .collect();
        let some = (self.all / 100).max(1);
        if idle.len() > some {
            idle.select_nth_unstable_by_key(some, |(since, _)| *since);
        }
        idle.iter().take(some).for_each(|(_, state)| state.leave.cancel());
    }

    /// Takes a place. `leave` is cancelled when it is to be given up.
    pub(super) fn take(
        &self,
        permit: Option<OwnedSemaphorePermit>,
        seat: Seat,
        leave: CancellationToken,
    ) -> Arc<Place> {
        let (since, written) = (AtomicU64::new(clock()), AtomicU64::new(0));
        let state = Arc::new(State { requests: AtomicUsize::new(0), since, written, leave });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.taken).insert(number, Arc::clone(&state));
        let (taken, requests) = (Arc::clone(&self.taken), Arc::clone(&self.requests));
        Arc::new(Place { number, state, taken, seat, requests, _permit: permit })
    }
}

impl State {
    fn idle_since(&self) -> Option<u64> {
        let since = self.since.load(Ordering::Relaxed).max(self.written.load(Ordering::Relaxed));
        (self.requests.load(Ordering::Relaxed) == 0).then_some(since)
    }
}

impl Place {
    /// Cancelled when no more requests are to be taken.
    pub(super) fn leave(&self) -> &CancellationToken {
        &self.state.leave
    }

    /// A part of an answer has just been sent.
    pub(super) fn wrote(&self) {
        self.state.written.store(clock(), Ordering::Relaxed);
    }

    /// Counts one more request.
    pub(super) fn request(self: &Arc<Self>) -> Request {
        self.state.requests.fetch_add(1, Ordering::Relaxed);
        let before = self.requests.now.fetch_add(1, Ordering::Relaxed);
        let full = if self.seat.request() {
            (before >= self.requests.all).then_some(Full::Proxy)
        } else {
            Some(Full::Peer)
        };
        Request { full, place: Arc::clone(self) }
    }

    /// Waits until there was no request for `time`. While there is one, it looks ever
    /// more rarely: an answer may go on for hours.
    pub(super) async fn idle_for(&self, time: Duration) {
        let mut pause = time;
        loop {
            let left = match self.state.idle_since() {
                None => {
                    pause = (pause * 2).min(time.max(RARELY));
                    pause
                }
                Some(since) => {
                    let idle = Duration::from_millis(clock() - since.min(clock()));
                    match time.checked_sub(idle) {
                        None | Some(Duration::ZERO) => return,
                        Some(left) => left,
                    }
                }
            };
            tokio::time::sleep(left).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).remove(&self.number);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.place.seat.answered();
        self.place.requests.now.fetch_sub(1, Ordering::Relaxed);
        self.place.state.since.store(clock(), Ordering::Relaxed);
        self.place.state.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock(taken: &Taken) -> MutexGuard<'_, HashMap<u64, Arc<State>>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::peers::Peers;
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[tokio::test]
    async fn who_is_not_idle_for_long_makes_room_once_he_is() {
        let (places, close) = (Places::new(1, 1), CancellationToken::new());
        let seat = Peers::new(1, 1).admit(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let permit = places.permit(&close).await;
        let place = places.take(permit, seat, CancellationToken::new());
        tokio::spawn(async move { place.leave().cancelled().await });
        let next = tokio::time::timeout(Duration::from_secs(30), places.permit(&close));
        assert!(next.await.unwrap().is_some());
    }
}
