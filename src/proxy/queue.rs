//! Requests that wait until a process of their app may take one more.

use super::asked::Asked;
use super::upstream::{InFlight, Upstream};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// An app's queue, where each process has so many requests at a time and no more. It
/// goes on from one table to the next. While anybody waits, no process has time that
/// would do for him: whoever comes later overtakes nobody.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// So many requests a process has at a time.
    most: u32,
    /// So many may wait.
    room: usize,
    /// The processes of the table in force.
    upstreams: Vec<Arc<Upstream>>,
    waiting: VecDeque<Waiting>,
    next: u64,
}

struct Waiting {
    number: u64,
    /// The one that it waits for, if no other will do.
    only: Option<Arc<Upstream>>,
    /// Those that it has asked.
    asked: Vec<Arc<Upstream>>,
    give: oneshot::Sender<InFlight>,
}

/// What came of asking for a place.
pub(super) enum Entered {
    /// The request is in flight there.
    In(InFlight),
    /// It has as many as it may.
    Full,
    /// The table has it no more.
    Gone,
}

/// What came of waiting.
pub(super) enum Waited {
    /// The request is in flight there.
    In(InFlight),
    /// There are other processes now: choose anew.
    Anew,
    /// Too many wait, or it took too long.
    InVain,
}

impl Queue {
    /// From now on these processes, with so many requests each, and so many that wait.
    pub(super) fn renew(self: &Arc<Self>, upstreams: &[Arc<Upstream>], (most, room): (u16, u16)) {
        let mut state = self.lock();
        (state.most, state.room) = (most.into(), room.into());
        state.upstreams = upstreams.to_vec();
        // Who waits for one that is gone.
        let known = |only: &Arc<Upstream>| upstreams.iter().any(|one| Arc::ptr_eq(one, only));
        state.waiting.retain(|waiting| waiting.only.as_ref().is_none_or(known));
        if upstreams.is_empty() {
            state.waiting.clear();
        }
        for upstream in upstreams {
            state.offer(self, upstream);
        }
    }

    /// Nobody waits any more: there is no limit, or no app.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.most = u32::MAX;
        state.upstreams.clear();
        state.waiting.clear();
    }

    /// Takes a request to this process, if it may have one more.
    pub(super) fn enter(self: &Arc<Self>, upstream: &Arc<Upstream>) -> Entered {
        let state = self.lock();
        if upstream.held() >= state.most {
            return Entered::Full;
        }
        upstream.enter_from(self).map_or(Entered::Gone, Entered::In)
    }

    /// Waits for a process that was not asked, or for this one alone. Whoever ends to
    /// wait has given up his place.
    pub(super) async fn wait(
        self: &Arc<Self>,
        only: Option<Arc<Upstream>>,
        asked: &Asked,
        limit: Duration,
    ) -> Waited {
        let (give, given) = oneshot::channel();
        let (_place, given) = match self.join(only, asked, give) {
            Joined::Waits(place) => (place, given),
            Joined::Ended(waited) => return waited,
        };
        match tokio::time::timeout(limit, given).await {
            Ok(Ok(in_flight)) => Waited::In(in_flight),
            Ok(Err(_)) => Waited::Anew,
            Err(_) => Waited::InVain,
        }
    }

    fn join(
        self: &Arc<Self>,
        only: Option<Arc<Upstream>>,
        asked: &Asked,
        give: oneshot::Sender<InFlight>,
    ) -> Joined {
        let mut state = self.lock();
        // The table that sent him here is about to give way to the next.
        if state.upstreams.is_empty() || only.as_ref().is_some_and(|only| !state.knows(only)) {
            return Joined::Ended(Waited::Anew);
        }
        let waiting = Waiting { number: state.next, only, asked: asked.all(), give };
        // One may have got time since it was asked for that.
        let free = state.upstreams.iter().find(|one| one.held() < state.most && waiting.takes(one));
        if let Some(in_flight) = free.and_then(|one| one.enter_from(self)) {
            return Joined::Ended(Waited::In(in_flight));
        }
        if state.waiting.len() >= state.room {
            return Joined::Ended(Waited::InVain);
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push_back(waiting);
        Joined::Waits(Place { queue: Arc::clone(self), number })
    }

    /// A request has ended there: whoever waits for that is next.
    pub(super) fn leave(self: &Arc<Self>, upstream: &Arc<Upstream>) {
        let mut state = self.lock();
        upstream.let_go();
        if state.knows(upstream) {
            state.offer(self, upstream);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn knows(&self, upstream: &Arc<Upstream>) -> bool {
        self.upstreams.iter().any(|one| Arc::ptr_eq(one, upstream))
    }

    /// Gives what a process may still take to those who wait, the first of them first.
    fn offer(&mut self, queue: &Arc<Queue>, upstream: &Arc<Upstream>) {
        while upstream.held() < self.most {
            let place = self.waiting.iter().position(|waiting| waiting.takes(upstream));
            let Some(waiting) = place.and_then(|place| self.waiting.remove(place)) else { return };
            let Some(in_flight) = upstream.enter_from(queue) else {
                // It has just been retired: the next table has others.
                self.waiting.insert(place.unwrap_or_default(), waiting);
                return;
            };
            if let Err(in_flight) = waiting.give.send(in_flight) {
                // He has just gone. Not by its end, which would want this very lock.
                in_flight.forget_queue();
                upstream.let_go();
            }
        }
    }
}

impl Waiting {
    fn takes(&self, upstream: &Arc<Upstream>) -> bool {
        let is_it = |one: &Arc<Upstream>| Arc::ptr_eq(one, upstream);
        self.only.as_ref().is_none_or(is_it) && !self.asked.iter().any(is_it)
    }
}

enum Joined {
    Waits(Place),
    Ended(Waited),
}

/// A place in the queue; given up when dropped.
struct Place {
    queue: Arc<Queue>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        let found = state.waiting.binary_search_by_key(&self.number, |waiting| waiting.number);
        let left = found.ok().and_then(|place| state.waiting.remove(place));
        drop(state);
        drop(left);
    }
}
