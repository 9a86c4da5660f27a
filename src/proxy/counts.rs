//! How many requests each release has answered, and how many of them with an
//! error of the server's: what the control plane judges a new release by.

use crate::model::{AppName, Count};
use hyper::StatusCode;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long numbers are gathered before they are told.
const GATHER: Duration = Duration::from_millis(200);

/// The numbers of one release since they were last told.
pub(super) struct Counter {
    answers: AtomicU64,
    errors: AtomicU64,
    news: Arc<News>,
}

/// Whether there is anything to tell: nobody wakes for nothing.
#[derive(Default)]
pub(super) struct News {
    some: AtomicBool,
    notify: Notify,
}

impl News {
    /// There is.
    pub(super) fn tell(&self) {
        if !self.some.load(Ordering::SeqCst) && !self.some.swap(true, Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }

    /// Waits for it.
    pub(super) async fn wait(&self) {
        while !self.some.load(Ordering::SeqCst) {
            self.notify.notified().await;
        }
    }

    /// There is none any more.
    pub(super) fn clear(&self) {
        self.some.store(false, Ordering::SeqCst);
    }
}

/// The numbers of all releases that are routed to, and of those before them
/// until they have been told.
#[derive(Default)]
pub(super) struct Counts {
    counters: Mutex<HashMap<(AppName, u32), Arc<Counter>>>,
    news: Arc<News>,
}

impl Counter {
    /// One request was answered: by the app, or by a page of ours in its place.
    pub(super) fn note(&self, status: StatusCode) {
        self.answers.fetch_add(1, Ordering::SeqCst);
        if status.is_server_error() {
            self.errors.fetch_add(1, Ordering::SeqCst);
        }
        self.news.tell();
    }
}

impl Counts {
    /// The counter of a release.
    pub(super) fn of(&self, app: &AppName, release: u32) -> Arc<Counter> {
        let new = || Counter {
            answers: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            news: Arc::clone(&self.news),
        };
        Arc::clone(self.counters().entry((app.clone(), release)).or_insert_with(|| Arc::new(new())))
    }

    /// Waits until there is something to tell, and then a little for more of it.
    pub(super) async fn ripe(&self) {
        self.news.wait().await;
        tokio::time::sleep(GATHER).await;
    }

    /// The numbers that were not told yet. Forgets releases that nobody routes to.
    pub(super) fn take(&self) -> Vec<Count> {
        // First: what is counted from here on is news again.
        self.news.clear();
        let mut counters = self.counters();
        let taken = counters.iter().filter_map(|((app, release), counter)| {
            let answers = counter.answers.swap(0, Ordering::SeqCst);
            let errors = counter.errors.swap(0, Ordering::SeqCst);
            let some = answers + errors > 0;
            some.then(|| Count { app: app.clone(), release: *release, answers, errors })
        });
        let taken = taken.collect();
        counters.retain(|_, counter| Arc::strong_count(counter) > 1);
        taken
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<(AppName, u32), Arc<Counter>>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_was_counted_is_told_once() {
        let counts = Counts::default();
        let app = AppName::parse("shop").unwrap();
        let counter = counts.of(&app, 3);
        counter.note(StatusCode::OK);
        counts.of(&app, 3).note(StatusCode::BAD_GATEWAY);
        counts.ripe().await;
        assert_eq!(counts.take(), [Count { app: app.clone(), release: 3, answers: 2, errors: 1 }]);
        assert_eq!(counts.take(), []);
        assert!(tokio::time::timeout(GATHER * 2, counts.ripe()).await.is_err(), "nothing new");
        counter.note(StatusCode::NOT_FOUND);
        counts.ripe().await;
        assert_eq!(counts.take(), [Count { app, release: 3, answers: 1, errors: 0 }]);
        drop(counter);
        counts.take();
        assert!(counts.counters().is_empty());
    }
}
