//! Access lines on their way to the apps' logs: a few of each app in a second, gathered
//! until the control plane takes them. No request waits for any of this.

use super::upstream::clock;
use crate::model::{AccessLine, AccessLines, AccessLog, AppName};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long lines are gathered before they are told.
const GATHER: Duration = Duration::from_millis(200);
/// Bytes of lines of all apps that wait to be told.
const ROOM: usize = 8 << 20;
/// What a line takes besides its text.
const OVERHEAD: usize = 128;

/// The lines of all apps.
#[derive(Default)]
pub(super) struct Lines {
    lanes: Mutex<HashMap<AppName, Arc<Lane>>>,
    hub: Arc<Hub>,
}

/// What all apps' lines have in common.
#[derive(Default)]
struct Hub {
    bytes: AtomicUsize,
    /// There is a control plane to tell.
    open: AtomicBool,
    /// Whether there is anything to tell: nobody wakes for nothing.
    some: AtomicBool,
    notify: Notify,
}

/// The lines of one app.
pub(super) struct Lane {
    app: AppName,
    log: AccessLog,
    answers: Quota,
    errors: Quota,
    left_out: AtomicU64,
    waiting: Mutex<Vec<AccessLine>>,
    hub: Arc<Hub>,
}

impl Lines {
    /// Where an app's lines go.
    pub(super) fn of(&self, app: &AppName, log: AccessLog) -> Arc<Lane> {
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get(app).filter(|lane| lane.log == log) {
            return Arc::clone(lane);
        }
        let lane = Arc::new(Lane {
            app: app.clone(),
            log,
            answers: Quota::default(),
            errors: Quota::default(),
            left_out: AtomicU64::new(0),
            waiting: Mutex::default(),
            hub: Arc::clone(&self.hub),
        });
        lanes.insert(app.clone(), Arc::clone(&lane));
        lane
    }

    /// Lines are told from now on, as long as this lives; without it they are left out.
    pub(super) fn told(&self) -> Told<'_> {
        self.hub.open.store(true, Ordering::SeqCst);
        Told(&self.hub)
    }

    /// Waits until there is something to tell, and then a little for more of it.
    pub(super) async fn ripe(&self) {
        while !self.hub.some.load(Ordering::SeqCst) {
            self.hub.notify.notified().await;
        }
        tokio::time::sleep(GATHER).await;
    }

    /// What was not told yet. Forgets apps whose log nobody writes to any more.
    pub(super) fn take(&self) -> Vec<AccessLines> {
        // First: what ends from here on is news again.
        self.hub.some.store(false, Ordering::SeqCst);
        let mut lanes = self.lanes();
        let taken = lanes.values().filter_map(|lane| lane.take()).collect();
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        taken
    }

    /// What was taken did not get there.
    pub(super) fn lost(&self, taken: Vec<AccessLines>) {
        let lanes = self.lanes();
        for lost in taken {
            if let Some(lane) = lanes.get(&lost.app).filter(|lane| lane.log.app == lost.id) {
                lane.leave_out(lost.left_out + lost.lines.len() as u64);
            }
        }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<AppName, Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody to tell.
pub(super) struct Told<'a>(&'a Hub);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.open.store(false, Ordering::SeqCst);
    }
}

impl Hub {
    fn ring(&self) {
        if !self.some.load(Ordering::SeqCst) && !self.some.swap(true, Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }
}

/// One that another has taken the place of is asked for its lines no more.
impl Drop for Lane {
    fn drop(&mut self) {
        let bytes: usize = self.waiting().iter().map(|line| line.text.len() + OVERHEAD).sum();
        self.hub.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Lane {
    /// Takes a line, which is made only if there is room for it.
    pub(super) fn put(&self, is_error: bool, line: impl FnOnce() -> AccessLine) {
        let quota = if is_error { &self.errors } else { &self.answers };
        let is_open = self.hub.open.load(Ordering::Relaxed);
        let has_room = self.hub.bytes.load(Ordering::Relaxed) < ROOM;
        if !is_open || !has_room || !quota.take(self.log.per_second) {
            return self.leave_out(1);
        }
        let line = line();
        self.hub.bytes.fetch_add(line.text.len() + OVERHEAD, Ordering::Relaxed);
        self.waiting().push(line);
        self.hub.ring();
    }

    fn leave_out(&self, count: u64) {
        self.left_out.fetch_add(count, Ordering::SeqCst);
        self.hub.ring();
    }

    fn take(&self) -> Option<AccessLines> {
        let lines = std::mem::take(&mut *self.waiting());
        let left_out = self.left_out.swap(0, Ordering::SeqCst);
        let bytes = lines.iter().map(|line| line.text.len() + OVERHEAD).sum();
        self.hub.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let some = left_out > 0 || !lines.is_empty();
        some.then(|| AccessLines { app: self.app.clone(), id: self.log.app, lines, left_out })
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<AccessLine>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many in each second: the second in the upper half, those of it in the lower.
#[derive(Default)]
struct Quota(AtomicU64);

impl Quota {
    /// Whether one more may be had.
    fn take(&self, most: u32) -> bool {
        let second = clock() / 1000;
        let next = |before: u64| {
            let taken = if before >> 32 == second { before & u64::from(u32::MAX) } else { 0 };
            (taken < u64::from(most)).then_some(second << 32 | (taken + 1))
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::AppId;

    fn line(text: &str) -> AccessLine {
        AccessLine { at_nanos: 1, process: None, release: 0, text: text.to_owned() }
    }

    fn lane(lines: &Lines, per_second: u32) -> Arc<Lane> {
        lines.of(&AppName::parse("shop").unwrap(), AccessLog { app: AppId(7), per_second })
    }

    #[tokio::test]
    async fn of_a_flood_some_are_told_and_the_rest_is_counted() {
        let lines = Lines::default();
        let (lane, _told) = (lane(&lines, 5), lines.told());
        // A second may begin meanwhile.
        for number in 0..1000 {
            lane.put(false, || line(&number.to_string()));
        }
        lane.put(true, || line("an error"));
        lines.ripe().await;
        let [told] = &lines.take()[..] else { panic!("one app") };
        assert!((6..=11).contains(&told.lines.len()), "{}", told.lines.len());
        assert_eq!(told.lines.len() as u64 + told.left_out, 1001);
        assert_eq!(
            (told.lines[0].text.as_str(), told.lines.last().unwrap().text.as_str()),
            ("0", "an error")
        );
        assert_eq!((lines.take(), lines.hub.bytes.load(Ordering::SeqCst)), (vec![], 0));
        let nothing = tokio::time::timeout(GATHER * 2, lines.ripe()).await;
        assert!(nothing.is_err(), "nothing new");
    }

    #[test]
    fn without_anybody_to_tell_they_are_left_out_and_their_number_is_told_later() {
        let lines = Lines::default();
        let lane = lane(&lines, 5);
        lane.put(false, || panic!("nobody to tell"));
        let told = lines.told();
        lane.put(false, || line("one"));
        drop(told);
        lane.put(false, || panic!("nobody to tell"));
        let taken = lines.take();
        assert_eq!((taken[0].lines.len(), taken[0].left_out), (1, 2));
        lines.lost(taken);
        assert_eq!(lines.take()[0].left_out, 3);
        drop(lane);
        lines.take();
        assert!(lines.lanes().is_empty());
    }

    #[test]
    fn what_waits_is_bounded_over_all_apps() {
        let lines = Lines::default();
        let (lane, _told) = (lane(&lines, u32::MAX), lines.told());
        let long = "x".repeat(64 << 10);
        for _ in 0..200 {
            lane.put(false, || line(&long));
        }
        let taken = lines.take();
        assert!(taken[0].lines.len() < 130 && taken[0].left_out > 70);
    }

    #[test]
    fn an_app_of_the_same_name_has_lines_of_its_own() {
        let lines = Lines::default();
        let (old, _told) = (lane(&lines, 5), lines.told());
        let name = AppName::parse("shop").unwrap();
        let new = lines.of(&name, AccessLog { app: AppId(8), per_second: 5 });
        old.put(false, || line("of the old one"));
        new.put(false, || line("of the new one"));
        let taken = lines.take();
        assert_eq!((taken.len(), taken[0].id, taken[0].lines.len()), (1, AppId(8), 1));
    }
}
