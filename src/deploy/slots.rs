//! How many builds run side by side: more than the machine has cores for would
//! only make all of them slow.

use super::Report;
use std::collections::VecDeque;
use tokio::sync::watch;

/// Places for builds, given out in the order in which they were asked for.
pub(super) struct Slots {
    line: watch::Sender<Line>,
}

#[derive(Default)]
struct Line {
    free: usize,
    next: u64,
    /// Those who wait, first come first.
    waiting: VecDeque<u64>,
}

/// A place to build; dropping it lets the next one in.
pub(super) struct Slot<'a> {
    line: &'a watch::Sender<Line>,
    ticket: u64,
    taken: bool,
}

impl Slots {
    pub fn new(count: usize) -> Self {
        Self { line: watch::Sender::new(Line { free: count.max(1), ..Line::default() }) }
    }

    /// Waits for a place, saying how many are before this one.
    pub async fn take(&self, report: &Report) -> Slot<'_> {
        let mut changes = self.line.subscribe();
        let mut slot = Slot { line: &self.line, ticket: self.queue_up(), taken: false };
        let mut said = None;
        while !slot.try_take() {
            let before = slot.before();
            if said != Some(before) {
                report.step(&waiting(before));
                said = Some(before);
            }
            // The sender lives as long as we do.
            let _ = changes.changed().await;
        }
        slot
    }

    fn queue_up(&self) -> u64 {
        let mut ticket = 0;
        self.line.send_modify(|line| {
            line.next += 1;
            ticket = line.next;
            line.waiting.push_back(ticket);
        });
        ticket
    }
}

fn waiting(before: usize) -> String {
    match before {
        0 => "Waiting for a running build to end; this one is next".to_owned(),
        count => format!("Waiting for a running build to end; {count} before this one"),
    }
}

impl Slot<'_> {
    fn before(&self) -> usize {
        self.line.borrow().waiting.iter().position(|&ticket| ticket == self.ticket).unwrap_or(0)
    }

    fn try_take(&mut self) -> bool {
        let ticket = self.ticket;
        self.taken = self.line.send_if_modified(|line| {
            if line.free == 0 || line.waiting.front() != Some(&ticket) {
                return false;
            }
            line.waiting.pop_front();
            line.free -= 1;
            true
        });
        self.taken
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.line.send_modify(|line| {
            line.waiting.retain(|&ticket| ticket != self.ticket);
            line.free += usize::from(self.taken);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn places_go_round_in_order_and_one_that_gave_up_is_passed_over() {
        let slots = Arc::new(Slots::new(1));
        let (report, mut lines) = Report::channel();
        let first = slots.take(&report).await;
        let wait =
            |slots: Arc<Slots>, report: Report| tokio::spawn(async move { drop(slots.take(&report).await) });
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
        assert_eq!(slots.line.borrow().free, 1);
    }
}
