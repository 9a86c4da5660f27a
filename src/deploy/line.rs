//! Lines in which people wait: for a place to build, for an app's turn. First come,
//! first served, and whoever waits knows how many are before.

use super::Report;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// Places that are given out in the order in which they were asked for.
pub(super) struct Line {
    state: watch::Sender<State>,
}

struct State {
    free: usize,
    next: u64,
    /// Those who wait, first come first.
    waiting: VecDeque<u64>,
}

/// A place in a line, and what it is waited for; dropping it lets the next one in.
pub(super) struct Spot {
    line: Arc<Line>,
    ticket: u64,
    taken: bool,
}

impl Line {
    /// A line for so many places.
    pub fn new(count: usize) -> Arc<Self> {
        let state = State { free: count.max(1), next: 0, waiting: VecDeque::new() };
        Arc::new(Self { state: watch::Sender::new(state) })
    }

    /// Takes the last place of the line: nobody who comes later is served before.
    pub fn queue_up(self: &Arc<Self>) -> Spot {
        let mut ticket = 0;
        self.state.send_modify(|state| {
            state.next += 1;
            ticket = state.next;
            state.waiting.push_back(ticket);
        });
        Spot { line: self.clone(), ticket, taken: false }
    }

    /// What is waited for, if nobody has it and nobody waits.
    pub fn try_take(self: &Arc<Self>) -> Option<Spot> {
        let mut spot = self.queue_up();
        spot.try_take().then_some(spot)
    }
}

impl Spot {
    /// Waits until it is served; `said` hears how many are before, whenever that changes.
    pub async fn served(&mut self, mut said: impl FnMut(usize)) {
        let mut changes = self.line.state.subscribe();
        let mut last = None;
        while !self.try_take() {
            let before = self.before();
            if last != Some(before) {
                said(before);
                last = Some(before);
            }
            // The sender lives as long as we do.
            let _ = changes.changed().await;
        }
    }

    fn before(&self) -> usize {
        let state = self.line.state.borrow();
        state.waiting.iter().position(|&ticket| ticket == self.ticket).unwrap_or(0)
    }

    fn try_take(&mut self) -> bool {
        let ticket = self.ticket;
        self.taken = self.line.state.send_if_modified(|state| {
            if state.free == 0 || state.waiting.front() != Some(&ticket) {
                return false;
            }
            state.waiting.pop_front();
            state.free -= 1;
            true
        });
        self.taken
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        self.line.state.send_modify(|state| {
            state.waiting.retain(|&ticket| ticket != self.ticket);
            state.free += usize::from(self.taken);
        });
    }
}

/// Waits for a place to build: more builds side by side than the machine has cores for
/// would only make all of them slow.
pub(super) async fn slot(slots: &Arc<Line>, report: &Report) -> Spot {
    let mut spot = slots.queue_up();
    spot.served(|before| report.step(&place("Waiting for a running build to end", before))).await;
    spot
}

/// What is waited for, and how many are before.
pub(super) fn place(what: &str, before: usize) -> String {
    match before {
        0 => format!("{what}; this one is next"),
        count => format!("{what}; {count} before this one"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn places_go_round_in_order_and_one_that_gave_up_is_passed_over() {
        let slots = Line::new(1);
        let (report, mut lines) = Report::channel();
        let first = slot(&slots, &report).await;
        let wait =
            |slots: Arc<Line>, report: Report| tokio::spawn(async move { drop(slot(&slots, &report).await) });
        let gives_up = wait(slots.clone(), report.clone());
        assert_eq!(
            lines.next().await.unwrap(),
            "-----> Waiting for a running build to end; this one is next"
        );
        let patient = wait(slots.clone(), report.clone());
        assert_eq!(
            lines.next().await.unwrap(),
            "-----> Waiting for a running build to end; 1 before this one"
        );
        gives_up.abort();
        assert_eq!(
            lines.next().await.unwrap(),
            "-----> Waiting for a running build to end; this one is next"
        );
        drop(first);
        patient.await.unwrap();
        assert_eq!(slots.state.borrow().free, 1);
    }
}
