//! Which of an app's processes takes the next request.

use super::asked::Asked;
use super::upstream::Upstream;
use crate::model::Weights;
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An app's processes.
pub(super) struct Processes {
    all: Vec<Arc<Upstream>>,
    /// Unless all are to get as much.
    shares: Option<Shares>,
    turn: AtomicUsize,
}

/// Who gets how much.
struct Shares {
    /// Up to each process, in order: the weights of it and of all before it.
    sums: Vec<u64>,
    /// Of each process: where those of its release are.
    releases: Vec<Range<usize>>,
}

impl Processes {
    /// These, of which some may have weights.
    pub(super) fn new(mut all: Vec<Arc<Upstream>>, weights: &Weights) -> Self {
        let shares = (!weights.is_even()).then(|| {
            all.sort_by_key(|upstream| upstream.target.release);
            Shares::new(&all, weights)
        });
        Self { all, shares, turn: AtomicUsize::new(0) }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Arc<Upstream>] {
        &self.all
    }

    /// Of two the one with fewer requests in flight: of one in turn, and of another at
    /// random. One that refused a moment ago only if all others did, and one that this
    /// request has asked only if it has asked all.
    pub(super) fn pick(&self, asked: &Asked) -> Option<&Arc<Upstream>> {
        if self.all.len() < 2 {
            return self.all.first();
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (first, among) = match &self.shares {
            Some(shares) => shares.draw(turn),
            None => (turn % self.all.len(), 0..self.all.len()),
        };
        let (one, other) = (&self.all[first], &self.all[another(first, &among)]);
        let better = if other.in_flight() < one.in_flight() { other } else { one };
        if !better.is_ejected() && !asked.has(better) {
            return Some(better);
        }
        // Rarely: the best of all.
        let worth = |one: &&Arc<Upstream>| (asked.has(one), one.is_ejected(), one.in_flight());
        self.from(first).min_by_key(worth)
    }

    /// All of them, from this one on.
    fn from(&self, first: usize) -> impl Iterator<Item = &Arc<Upstream>> {
        let (before, after) = self.all.split_at(first);
        after.iter().chain(before)
    }
}

impl Shares {
    fn new(all: &[Arc<Upstream>], weights: &Weights) -> Self {
        let mut sum = 0;
        let sums = all.iter().map(|upstream| {
            sum += u64::from(weights.of(&upstream.target));
            sum
        });
        let sums = sums.collect();
        let of = |release| {
            let first = all.partition_point(|upstream| upstream.target.release < release);
            first..all.partition_point(|upstream| upstream.target.release <= release)
        };
        Self { sums, releases: all.iter().map(|upstream| of(upstream.target.release)).collect() }
    }

    /// One, each as often as its weight says, and those of the same release: how much a
    /// release gets does not depend on how much it has to do.
    fn draw(&self, turn: usize) -> (usize, Range<usize>) {
        let all = self.sums.last().copied().unwrap_or_default();
        let point = scaled(golden(turn), all);
        let first = self.sums.partition_point(|sum| *sum <= point).min(self.sums.len() - 1);
        (first, self.releases[first].clone())
    }
}

/// Any other of these, if there is one.
fn another(first: usize, among: &Range<usize>) -> usize {
    let others = among.len() - 1;
    if others == 0 {
        return first;
    }
    let step = 1 + usize::try_from(scaled(random(), others as u64)).unwrap_or_default();
    among.start + (first - among.start + step) % among.len()
}

/// A number below `all`, as far from 0 as `number` is.
fn scaled(number: u64, all: u64) -> u64 {
    u64::try_from((u128::from(number) * u128::from(all)) >> 64).unwrap_or_default()
}

/// Numbers that follow one another and are spread evenly, however many there are: so
/// one of ten is one of the next ten, and not only in the long run.
fn golden(turn: usize) -> u64 {
    (turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Good enough for this, at the cost of nothing: xorshift.
fn random() -> u64 {
    thread_local! {
        static LAST: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    LAST.with(|last| {
        let mut next = last.get();
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        last.set(next);
        next
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::upstream::InFlight;
    use super::*;
    use crate::model::Target;
    use tokio::sync::Notify;

    fn upstream(number: u8, release: u32) -> Arc<Upstream> {
        let address = format!("10.0.0.{number}:5000").parse().unwrap();
        let target = Target { address, process: format!("web.{number}"), release };
        Upstream::new(target, Arc::new(Notify::new()))
    }

    fn load(upstream: &Arc<Upstream>, requests: usize) -> Vec<InFlight> {
        (0..requests).map(|_| upstream.enter().unwrap()).collect()
    }

    /// How often each is picked.
    fn picked(processes: &Processes, times: usize) -> Vec<usize> {
        let mut counts = vec![0; processes.all.len()];
        for _ in 0..times {
            let picked = processes.pick(&Asked::default()).unwrap();
            counts[processes.all.iter().position(|one| Arc::ptr_eq(one, picked)).unwrap()] += 1;
        }
        counts
    }

    fn processes(number: u8) -> Processes {
        Processes::new((1..=number).map(|number| upstream(number, 1)).collect(), &Weights::default())
    }

    #[test]
    fn who_has_nothing_to_do_is_asked_in_turn() {
        assert_eq!(picked(&processes(1), 10), [10]);
        assert_eq!(picked(&processes(2), 10), [5, 5]);
        assert_eq!(picked(&processes(5), 100), [20; 5]);
    }

    #[test]
    fn of_two_the_one_with_fewer_requests_is_picked() {
        let processes = processes(5);
        let _most = load(&processes.all[2], 3);
        let _some = load(&processes.all[0], 1);
        let counts = picked(&processes, 2000);
        assert_eq!(counts[2], 0, "whichever the other one is, it has fewer");
        // It is picked where it comes with the one above, first or second: 2 of 20.
        assert!((60..400).contains(&counts[0]), "{counts:?}");
        assert!(counts[1].min(counts[3]).min(counts[4]) > 400, "{counts:?}");
    }

    #[test]
    fn a_body_on_its_way_is_no_second_request() {
        let processes = processes(2);
        let one = load(&processes.all[0], 1);
        let part = one[0].part();
        let _other = load(&processes.all[1], 1);
        assert_eq!(picked(&processes, 10), [5, 5]);
        drop(one);
        assert_eq!(picked(&processes, 10), [10, 0]);
        drop(part);
    }

    #[test]
    fn who_refused_is_passed_over_while_there_are_others() {
        let processes = processes(4);
        processes.all[1].eject();
        let _busy = load(&processes.all[0], 9);
        let counts = picked(&processes, 100);
        assert_eq!(counts[1], 0);
        processes.all.iter().for_each(|one| one.eject());
        assert_eq!(picked(&processes, 100).iter().sum::<usize>(), 100);
    }

    #[test]
    fn a_release_gets_its_share_whatever_it_has_to_do() {
        let all: Vec<_> =
            [(1, 7), (2, 8), (3, 7), (4, 7)].map(|(number, release)| upstream(number, release)).into();
        let targets = |release| -> Vec<Target> {
            all.iter().map(|one| one.target.clone()).filter(|target| target.release == release).collect()
        };
        let weights = Weights::share(10, &targets(8), &targets(7));
        let processes = Processes::new(all.clone(), &weights);
        let _loaded = load(&all[1], 50);
        let counts = picked(&processes, 1000);
        let release = |number| -> usize {
            let its = processes.all.iter().zip(&counts).filter(|(one, _)| one.target.release == number);
            its.map(|(_, count)| count).sum()
        };
        assert!((95..=105).contains(&release(8)), "{counts:?}");
        assert_eq!(release(7) + release(8), 1000);
        let least = processes.all.iter().zip(&counts).filter(|(one, _)| one.target.release == 7);
        assert!(least.map(|(_, count)| *count).min().unwrap() > 200, "{counts:?}");
        // If all of one refuse, the other takes it all.
        all[1].eject();
        assert_eq!(picked(&processes, 100).iter().sum::<usize>(), 100);
    }
}
