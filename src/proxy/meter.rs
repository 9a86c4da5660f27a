//! What each app has to do, in numbers that are only ever added to: without a lock, and
//! without memory of their own for apps that nobody asks.

use super::counts::News;
use crate::model::{Answers, AppLoad, AppName, BOUNDS, Load, Spread, load};
use hyper::StatusCode;
use std::array;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How long numbers are gathered before they are told.
const GATHER: Duration = Duration::from_secs(5);

/// Where a request without an answer is counted among [`Answers`].
const GONE: usize = Answers::NAMES.len() - 1;

/// Heroku's codes of pages that stand for an app's answer; any other is counted last.
pub(super) const CODES: [&str; 18] = [
    "H10", "H11", "H12", "H13", "H14", "H15", "H17", "H18", "H19", "H20", "H21", "H27", "H28", "H80", "H81",
    "H82", "H99", "other",
];

/// One app's numbers.
pub(super) struct Meter {
    numbers: OnceLock<Box<Numbers>>,
    news: Arc<News>,
}

/// Since the proxy has begun, or the app was put into the table.
struct Numbers {
    answers: [AtomicU64; Answers::NAMES.len()],
    cells: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
    pages: [AtomicU64; CODES.len()],
    in_flight: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    held: AtomicU64,
    ejected: AtomicU64,
}

/// The same at one moment.
#[derive(Clone)]
pub(super) struct Totals {
    /// By status, as in [`Answers::NAMES`].
    pub(super) answers: [u64; Answers::NAMES.len()],
    /// By how long they took, as in [`BOUNDS`], and one more.
    pub(super) cells: [u64; BOUNDS.len() + 1],
    /// All of these times, in microseconds.
    pub(super) micros: u64,
    /// Pages in the app's place, as in [`CODES`].
    pub(super) pages: [u64; CODES.len()],
    /// Requests under way.
    pub(super) in_flight: u64,
    /// Bytes of bodies from clients.
    pub(super) received: u64,
    /// Bytes of bodies to clients.
    pub(super) sent: u64,
    /// Requests that had to wait.
    pub(super) held: u64,
    /// Processes that got no requests for a moment.
    pub(super) ejected: u64,
}

/// The numbers of all apps in the table.
#[derive(Default)]
pub(super) struct Meters {
    apps: Mutex<HashMap<AppName, Entry>>,
    news: Arc<News>,
}

struct Entry {
    meter: Arc<Meter>,
    /// What the control plane has heard of.
    told: Option<Box<Totals>>,
}

impl Meter {
    fn new(news: Arc<News>) -> Self {
        Self { numbers: OnceLock::new(), news }
    }

    fn numbers(&self) -> &Numbers {
        self.numbers.get_or_init(Box::default)
    }

    /// One more request.
    pub(super) fn begin(self: &Arc<Self>) -> Ongoing {
        self.numbers().in_flight.fetch_add(1, Ordering::Relaxed);
        Ongoing { meter: Arc::clone(self), answered: false, held: false }
    }

    /// A part of a body has come from a client.
    pub(super) fn received(&self, bytes: usize) {
        self.numbers().received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A process is not asked for a moment.
    pub(super) fn ejected(&self) {
        self.numbers().ejected.fetch_add(1, Ordering::Relaxed);
    }

    /// The numbers of now; `None` if nothing was ever counted.
    pub(super) fn totals(&self) -> Option<Totals> {
        self.numbers.get().map(|numbers| numbers.totals())
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            answers: array::from_fn(|_| AtomicU64::new(0)),
            cells: array::from_fn(|_| AtomicU64::new(0)),
            micros: AtomicU64::new(0),
            pages: array::from_fn(|_| AtomicU64::new(0)),
            in_flight: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            held: AtomicU64::new(0),
            ejected: AtomicU64::new(0),
        }
    }
}

impl Numbers {
    fn totals(&self) -> Totals {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Totals {
            answers: array::from_fn(|place| read(&self.answers[place])),
            cells: array::from_fn(|place| read(&self.cells[place])),
            micros: read(&self.micros),
            pages: array::from_fn(|place| read(&self.pages[place])),
            in_flight: read(&self.in_flight),
            received: read(&self.received),
            sent: read(&self.sent),
            held: read(&self.held),
            ejected: read(&self.ejected),
        }
    }
}

/// A request of an app, from when the app is known to the last byte of its answer.
pub(super) struct Ongoing {
    meter: Arc<Meter>,
    answered: bool,
    held: bool,
}

impl Ongoing {
    /// The head of its answer is there, so long after its own.
    pub(super) fn answered(&mut self, status: StatusCode, after: Duration) {
        let numbers = self.meter.numbers();
        self.answered = true;
        let class = usize::from(status.as_u16() / 100).clamp(1, GONE) - 1;
        numbers.answers[class].fetch_add(1, Ordering::Relaxed);
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
            numbers.cells[load::cell(micros)].fetch_add(1, Ordering::Relaxed);
            numbers.micros.fetch_add(micros, Ordering::Relaxed);
        }
        self.meter.news.tell();
    }

    /// Likewise, by a page with this code in the app's place.
    pub(super) fn answered_by_page(&mut self, status: StatusCode, code: Option<&str>, after: Duration) {
        self.answered(status, after);
        if let Some(code) = code {
            let place = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
            self.meter.numbers().pages[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A part of its answer's body is on its way.
    pub(super) fn sent(&self, bytes: u64) {
        self.meter.numbers().sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes have come from its client that are no body.
    pub(super) fn received(&self, bytes: usize) {
        self.meter.received(bytes);
    }

    /// It has to wait before a process can be asked; counted once, however often.
    pub(super) fn held(&mut self) {
        if !std::mem::replace(&mut self.held, true) {
            self.meter.numbers().held.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let numbers = self.meter.numbers();
        if !self.answered {
            numbers.answers[GONE].fetch_add(1, Ordering::Relaxed);
        }
        numbers.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.meter.news.tell();
    }
}

impl Meters {
    /// The numbers of an app, from now on if there are none.
    pub(super) fn of(&self, app: &AppName) -> Arc<Meter> {
        let mut apps = self.apps();
        if let Some(entry) = apps.get(app) {
            return Arc::clone(&entry.meter);
        }
        let meter = Arc::new(Meter::new(Arc::clone(&self.news)));
        apps.insert(app.clone(), Entry { meter: Arc::clone(&meter), told: None });
        meter
    }

    /// Forgets the apps that are not in the table any more.
    pub(super) fn keep(&self, is_there: impl Fn(&AppName) -> bool) {
        self.apps().retain(|app, _| is_there(app));
    }

    /// Forgets an app that has left it.
    pub(super) fn forget(&self, app: &AppName) {
        self.apps().remove(app);
    }

    /// What every app has come to that was ever asked, by name.
    pub(super) fn all(&self) -> Vec<(AppName, Totals)> {
        let meters: Vec<_> =
            self.apps().iter().map(|(app, entry)| (app.clone(), Arc::clone(&entry.meter))).collect();
        let mut all: Vec<_> =
            meters.into_iter().filter_map(|(app, meter)| Some((app, meter.totals()?))).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    /// Waits until there is something to tell, and then for more of it.
    pub(super) async fn ripe(&self) {
        self.news.wait().await;
        tokio::time::sleep(GATHER).await;
    }

    /// Whoever listens from now on has heard nothing, and of what was before it could
    /// not say when that was: only requests under way are told.
    pub(super) fn begin_anew(&self) {
        for entry in self.apps().values_mut() {
            entry.told = entry.meter.totals().map(|now| Box::new(Totals { in_flight: 0, ..now }));
        }
        self.news.tell();
    }

    /// What was not told yet.
    pub(super) fn take(&self) -> Vec<AppLoad> {
        // First: what is counted from here on is news again.
        self.news.clear();
        let mut loads = Vec::new();
        for (app, entry) in self.apps().iter_mut() {
            let Some(now) = entry.meter.totals() else { continue };
            let told = entry.told.as_deref();
            let load = now.since(told);
            if load != Load::default() || told.map_or(0, |told| told.in_flight) != now.in_flight {
                loads.push(AppLoad { app: app.clone(), in_flight: now.in_flight, load });
                entry.told = Some(Box::new(now));
            }
        }
        loads
    }

    fn apps(&self) -> MutexGuard<'_, HashMap<AppName, Entry>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    fn since(&self, before: Option<&Self>) -> Load {
        let less = |number: u64, of: fn(&Self) -> u64| number - before.map_or(0, of).min(number);
        let answer = |place: usize| {
            self.answers[place] - before.map_or(0, |before| before.answers[place]).min(self.answers[place])
        };
        let cells = (0..self.cells.len()).map(|place| {
            self.cells[place] - before.map_or(0, |before| before.cells[place]).min(self.cells[place])
        });
        Load {
            answers: Answers::from_all(array::from_fn(answer)),
            spread: Spread::from_cells(cells),
            received: less(self.received, |of| of.received),
            sent: less(self.sent, |of| of.sent),
            held: less(self.held, |of| of.held),
            pages: less(self.pages.iter().sum(), |of| of.pages.iter().sum()),
            ejected: less(self.ejected, |of| of.ejected),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn app(name: &str) -> AppName {
        AppName::parse(name).unwrap()
    }

    #[tokio::test]
    async fn what_was_counted_is_told_once_and_requests_under_way_when_they_change() {
        let meters = Meters::default();
        let meter = meters.of(&app("shop"));
        assert!(meters.all().is_empty(), "nobody has asked");
        let mut one = meter.begin();
        one.answered(StatusCode::OK, Duration::from_millis(3));
        one.sent(10);
        let gone = meter.begin();
        drop(gone);
        let told = meters.take();
        assert_eq!((told.len(), told[0].in_flight), (1, 1));
        let load = &told[0].load;
        assert_eq!((load.answers.fine, load.answers.gone, load.sent, load.spread.count()), (1, 1, 10, 1));
        assert_eq!(meters.take(), []);
        drop(one);
        meters.news.wait().await;
        let told = meters.take();
        assert_eq!((told[0].in_flight, &told[0].load), (0, &Load::default()));
    }

    #[test]
    fn pages_are_counted_by_code_and_tunnels_have_no_time() {
        let meters = Meters::default();
        let meter = meters.of(&app("shop"));
        meter.begin().answered_by_page(StatusCode::SERVICE_UNAVAILABLE, Some("H12"), Duration::from_secs(30));
        meter.begin().answered_by_page(StatusCode::SERVICE_UNAVAILABLE, Some("H1234"), Duration::ZERO);
        meter.begin().answered(StatusCode::SWITCHING_PROTOCOLS, Duration::from_secs(1));
        let totals = meter.totals().unwrap();
        assert_eq!((totals.pages[2], totals.pages[CODES.len() - 1]), (1, 1));
        assert_eq!((totals.answers, totals.micros), ([1, 0, 0, 0, 2, 0], 30_000_000));
    }

    #[test]
    fn what_happened_while_nobody_listened_is_not_told_as_of_now() {
        let meters = Meters::default();
        let meter = meters.of(&app("shop"));
        let one = meter.begin();
        drop(meter.begin());
        meters.begin_anew();
        let told = meters.take();
        assert_eq!((told[0].in_flight, &told[0].load), (1, &Load::default()));
        drop(one);
    }

    #[test]
    fn an_app_that_has_left_the_table_begins_with_nothing() {
        let meters = Meters::default();
        let before = meters.of(&app("shop"));
        drop(before.begin());
        meters.keep(|_| false);
        assert!(meters.all().is_empty() && meters.take().is_empty());
        drop(before.begin());
        assert!(meters.of(&app("shop")).totals().is_none());
    }
}
