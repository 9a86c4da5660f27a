//! What was seen of each app's last releases: answers, as the proxies count them,
//! and exits, as the engine tells of them.

use crate::model::{AppName, Count, Evidence, ProcessName, Seen, window};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long numbers count as of late; at most twice that.
pub(super) const LATE: Duration = Duration::from_secs(60);

/// How long processes may boot after the engine has come back.
const BOOT: Duration = Duration::from_secs(30);

/// Releases of an app that are remembered: the one that serves, and those that
/// finish their last requests.
const REMEMBERED: usize = 4;

/// The numbers of all apps; clones share them.
#[derive(Clone, Default)]
pub(super) struct Tally {
    apps: Arc<watch::Sender<HashMap<AppName, BTreeMap<u32, Series>>>>,
    /// Until when nothing counts.
    excused: Arc<Mutex<Option<Instant>>>,
}

/// The numbers of one release.
#[derive(Clone)]
struct Series {
    total: Seen,
    /// Of this minute and of the one before.
    late: [Seen; 2],
    /// When this minute began.
    begun: Instant,
}

impl Series {
    fn new() -> Self {
        Self { total: Seen::default(), late: Default::default(), begun: Instant::now() }
    }

    /// Begins a new minute if it is time to.
    fn turn(&mut self) {
        let minutes = self.begun.elapsed().as_secs() / LATE.as_secs();
        if minutes > 0 {
            let last = std::mem::take(&mut self.late[0]);
            self.late[1] = if minutes == 1 { last } else { Seen::default() };
            self.begun = Instant::now();
        }
    }

    fn add(&mut self, more: &Seen) {
        self.turn();
        self.late[0].add(more);
        self.total.add(more);
    }

    fn late(mut self) -> Seen {
        self.turn();
        let [mut seen, before] = self.late;
        seen.add(&before);
        seen
    }
}

impl Tally {
    /// The engine was away, and may have taken every process with it: what was seen lately
    /// says nothing of any release, nor does what is seen while they boot.
    pub fn excuse(&self) {
        *self.excused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + BOOT);
        self.apps.send_modify(HashMap::clear);
    }

    fn add(&self, app: &AppName, release: u32, more: &Seen) {
        let excused = *self.excused.lock().unwrap_or_else(PoisonError::into_inner);
        if excused.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.apps.send_modify(|apps| {
            let releases = apps.entry(app.clone()).or_default();
            releases.entry(release).or_insert_with(Series::new).add(more);
            while releases.len() > REMEMBERED {
                releases.pop_first();
            }
        });
    }

    /// Answers that a proxy has counted.
    pub fn answered(&self, count: &Count) {
        let Count { answers, errors, .. } = *count;
        self.add(&count.app, count.release, &Seen { answers, errors, ..Seen::default() });
    }

    /// A process has exited with an error.
    pub fn exited(&self, app: &AppName, release: u32, process: &ProcessName) {
        let mut seen = Seen::default();
        seen.exited(process);
        self.add(app, release, &seen);
    }

    /// Forgets an app that is gone.
    pub fn forget(&self, app: &AppName) {
        self.apps.send_if_modified(|apps| apps.remove(app).is_some());
    }

    /// What was seen of a release in its last minute or two.
    pub fn late(&self, app: &AppName, release: u32) -> Seen {
        let series = self.apps.borrow().get(app).and_then(|releases| releases.get(&release)).cloned();
        series.map(Series::late).unwrap_or_default()
    }

    /// What was seen of a release since it is there.
    pub fn total(&self, app: &AppName, release: u32) -> Seen {
        let apps = self.apps.borrow();
        let series = apps.get(app).and_then(|releases| releases.get(&release));
        series.map(|series| series.total.clone()).unwrap_or_default()
    }

    /// Whether a release has been worse than `former` since it went live.
    pub fn evidence(&self, app: &AppName, release: u32, former: &Seen) -> Option<Evidence> {
        evidence(&self.apps.borrow(), app, release, former)
    }

    /// Waits until it is.
    pub async fn worse(&self, app: &AppName, release: u32, former: &Seen) {
        let mut apps = self.apps.subscribe();
        let _ = apps.wait_for(|apps| evidence(apps, app, release, former).is_some()).await;
    }
}

fn evidence(
    apps: &HashMap<AppName, BTreeMap<u32, Series>>,
    app: &AppName,
    release: u32,
    former: &Seen,
) -> Option<Evidence> {
    let series = apps.get(app)?.get(&release)?;
    // A share of answers is the same over any time; exits are counted over as long as
    // the former release's were.
    let late = window::worse(&series.clone().late(), former);
    late.or_else(|| window::worse(&series.total.answered(), former))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn count(release: u32, answers: u64, errors: u64) -> Count {
        Count { app: AppName::parse("shop").unwrap(), release, answers, errors }
    }

    #[tokio::test]
    async fn numbers_add_up_until_they_are_evidence() {
        let (tally, app) = (Tally::default(), AppName::parse("shop").unwrap());
        let former = Seen::default();
        let (watched, waiting) = (tally.clone(), app.clone());
        let worse = tokio::spawn(async move { watched.worse(&waiting, 7, &former).await });
        for _ in 0..3 {
            assert_eq!(tally.evidence(&app, 7, &Seen::default()), None);
            tally.answered(&count(7, 4, 4));
            tally.answered(&count(6, 400, 400));
        }
        worse.await.unwrap();
        let evidence = tally.evidence(&app, 7, &Seen::default()).unwrap();
        assert_eq!(evidence.to_string(), "12 of 12 answers were 5xx");
        assert_eq!(tally.late(&app, 6).errors, 1200);
        tally.forget(&app);
        assert_eq!(tally.late(&app, 6), Seen::default());
    }

    #[test]
    fn exits_are_compared_over_as_long_a_time() {
        let (tally, app) = (Tally::default(), AppName::parse("shop").unwrap());
        let worker = ProcessName::parse("worker.1").unwrap();
        for _ in 0..5 {
            // A quarter of an hour later.
            tally.apps.send_modify(|apps| {
                if let Some(series) = apps.get_mut(&app).and_then(|releases| releases.get_mut(&7)) {
                    series.begun = Instant::now().checked_sub(LATE * 15).unwrap();
                }
            });
            tally.exited(&app, 7, &worker);
            assert_eq!(tally.evidence(&app, 7, &Seen::default()), None);
        }
        tally.exited(&app, 7, &worker);
        tally.exited(&app, 7, &worker);
        assert!(tally.evidence(&app, 7, &Seen::default()).is_some());
    }

    #[test]
    fn what_is_long_ago_is_not_of_late_and_old_releases_are_forgotten() {
        let mut series = Series::new();
        let minutes_ago = |minutes| Instant::now().checked_sub(LATE * minutes).unwrap();
        let one = Seen { answers: 1, ..Seen::default() };
        series.add(&one);
        series.begun = minutes_ago(1);
        series.add(&one);
        assert_eq!(series.clone().late().answers, 2);
        series.begun = minutes_ago(1);
        assert_eq!(series.clone().late().answers, 1);
        series.begun = minutes_ago(2);
        assert_eq!((series.clone().late().answers, series.total.answers), (0, 2));
        let tally = Tally::default();
        for release in 1..=9 {
            tally.answered(&count(release, 1, 0));
        }
        assert_eq!(tally.apps.borrow()[&AppName::parse("shop").unwrap()].len(), REMEMBERED);
    }
}
