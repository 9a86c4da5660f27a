//! Requests that wait for their app to wake.
//!
//! As many as there may be are held, in the order in which they came, until the app's
//! route is another one or their time is over. Whoever's client leaves leaves the line.

use super::pages::Page;
use crate::model::AppName;
use hyper::header::{HeaderMap, USER_AGENT};
use hyper::{Method, Request};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

/// Requests that wait for one app.
const MOST: usize = 2_000;

/// Bytes of their heads. Bodies are left with the clients.
const MOST_BYTES: usize = 16 << 20;

/// So many go at once when it is awake; each of the others when one of them is answered:
/// an app that has just booted takes no thousand connections at a time.
const AT_ONCE: usize = 64;

/// So many more go whenever nobody has been answered for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// All apps' lines.
#[derive(Default)]
pub(super) struct Waiting {
    lines: Arc<Lines>,
    asks: Notify,
}

type Lines = Mutex<HashMap<AppName, Line>>;

/// Those who wait for one app.
struct Line {
    requests: usize,
    bytes: usize,
    /// Whether it is to be woken, and whether that was said.
    wake: bool,
    told: bool,
    /// Its route is another one.
    news: watch::Sender<()>,
    gate: Arc<Gate>,
}

/// Where those go on who waited.
struct Gate {
    passes: Arc<Semaphore>,
    /// When it was made wider last.
    widened: Mutex<Instant>,
}

/// One request's place in a line; leaving it when dropped.
pub(super) struct Held {
    lines: Arc<Lines>,
    app: AppName,
    bytes: usize,
    news: watch::Receiver<()>,
    gate: Arc<Gate>,
}

impl Waiting {
    /// Takes the last place in an app's line, if there is one.
    pub(super) fn enter(&self, app: &AppName, bytes: usize) -> Result<Held, Page> {
        let mut lines = lock(&self.lines);
        let line = lines.entry(app.clone()).or_insert_with(|| Line {
            requests: 0,
            bytes: 0,
            wake: false,
            told: false,
            news: watch::Sender::new(()),
            gate: Arc::default(),
        });
        if line.requests >= MOST || line.bytes + bytes > MOST_BYTES {
            return Err(Page::Backlog);
        }
        line.requests += 1;
        line.bytes += bytes;
        let (news, gate) = (line.news.subscribe(), Arc::clone(&line.gate));
        Ok(Held { lines: Arc::clone(&self.lines), app: app.clone(), bytes, news, gate })
    }

    /// Waits until the app's route is another one than when the place was taken, or
    /// this returned last.
    pub(super) async fn wait(&self, held: &mut Held, until: Instant) -> Result<(), Page> {
        self.ask(&held.app);
        let left = until.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, held.news.changed()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Page::NotAwake),
        }
    }

    fn ask(&self, app: &AppName) {
        if let Some(line) = lock(&self.lines).get_mut(app).filter(|line| !line.wake) {
            (line.wake, line.told) = (true, false);
            self.asks.notify_one();
        }
    }

    /// An app's route is another one.
    pub(super) fn changed(&self, app: &AppName) {
        lock(&self.lines).get_mut(app).into_iter().for_each(Line::changed);
    }

    /// All may be.
    pub(super) fn all_changed(&self) {
        lock(&self.lines).values_mut().for_each(Line::changed);
    }

    /// Waits until some app is to be woken.
    pub(super) async fn asked(&self) {
        self.asks.notified().await;
    }

    /// The apps to be woken of which that was not said yet.
    pub(super) fn take_asks(&self) -> Vec<AppName> {
        let mut lines = lock(&self.lines);
        let due = lines.iter_mut().filter(|(_, line)| line.wake && !line.told);
        due.map(|(app, line)| {
            line.told = true;
            app.clone()
        })
        .collect()
    }

    /// It is to be said again.
    pub(super) fn ask_again(&self) {
        let mut some = false;
        for line in lock(&self.lines).values_mut().filter(|line| line.wake) {
            (line.told, some) = (false, true);
        }
        if some {
            self.asks.notify_one();
        }
    }
}

impl Line {
    fn changed(&mut self) {
        self.wake = false;
        self.news.send_replace(());
    }
}

impl Held {
    /// Leaves the line when it is this one's turn to go on, which lasts until the pass
    /// is dropped.
    pub(super) async fn pass(self) -> Option<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.gate.passes).acquire_owned();
        let mut turn = std::pin::pin!(turn);
        loop {
            tokio::select! {
                turn = &mut turn => return turn.ok(),
                () = tokio::time::sleep(PATIENCE) => self.gate.widen(),
            }
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { passes: Arc::new(Semaphore::new(AT_ONCE)), widened: Mutex::new(Instant::now()) }
    }
}

impl Gate {
    /// Lets more through, unless another has just done so.
    fn widen(&self) {
        let mut widened = self.widened.lock().unwrap_or_else(PoisonError::into_inner);
        if widened.elapsed() >= PATIENCE {
            *widened = Instant::now();
            self.passes.add_permits(AT_ONCE);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut lines = lock(&self.lines);
        let Some(line) = lines.get_mut(&self.app) else { return };
        line.requests -= 1;
        line.bytes -= self.bytes;
        if line.requests == 0 {
            lines.remove(&self.app);
        }
    }
}

fn lock(lines: &Lines) -> MutexGuard<'_, HashMap<AppName, Line>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a request's head takes.
pub(super) fn size_of<B>(request: &Request<B>) -> usize {
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
    request.uri().path_and_query().map_or(0, |path| path.as_str().len()) + headers.sum::<usize>() + 1024
}

/// Whether a request comes from a program that reads all of the web by turns, and says
/// so: an app that such ones wake would never sleep. What is more than reading is meant
/// for the app alone, as Slack's commands are, whose sender calls itself a bot too.
pub(super) fn is_crawler(method: &Method, headers: &HeaderMap) -> bool {
    if method != Method::GET && method != Method::HEAD {
        return false;
    }
    let Some(agent) = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()) else { return false };
    let agent = agent.to_ascii_lowercase();
    let words = agent.split(|letter: char| !letter.is_ascii_alphanumeric());
    let mut words = words.filter(|word| *word != "cubot");
    words.any(|word| ["bot", "crawler", "spider"].iter().any(|end| word.ends_with(end)) || word == "slurp")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn app(name: &str) -> AppName {
        AppName::parse(name).unwrap()
    }

    #[test]
    fn a_line_is_as_long_as_it_may_be_and_who_leaves_makes_room() {
        let waiting = Waiting::default();
        let mut all: Vec<Held> = (0..MOST).map(|_| waiting.enter(&app("shop"), 1).unwrap()).collect();
        assert_eq!(waiting.enter(&app("shop"), 1).err(), Some(Page::Backlog));
        assert!(waiting.enter(&app("blog"), 1).is_ok(), "each app for itself");
        all.pop();
        all.push(waiting.enter(&app("shop"), 1).unwrap());
        drop(all);
        assert!(lock(&waiting.lines).is_empty());
        let large = waiting.enter(&app("shop"), MOST_BYTES).unwrap();
        assert_eq!(waiting.enter(&app("shop"), 1).err(), Some(Page::Backlog));
        drop(large);
        assert!(waiting.enter(&app("shop"), 1).is_ok());
    }

    #[test]
    fn a_bot_that_sends_something_is_no_crawler() {
        let agent = HeaderMap::from_iter([(
            USER_AGENT,
            "Slackbot 1.0 (+https://api.slack.com/robots)".parse().unwrap(),
        )]);
        assert!(is_crawler(&Method::GET, &agent) && is_crawler(&Method::HEAD, &agent));
        assert!(!is_crawler(&Method::POST, &agent));
        assert!(!is_crawler(&Method::GET, &HeaderMap::new()));
    }

    #[tokio::test]
    async fn an_app_is_asked_for_once_until_its_route_changes_or_it_is_to_be_said_again() {
        let waiting = Waiting::default();
        let (mut one, mut two) =
            (waiting.enter(&app("shop"), 1).unwrap(), waiting.enter(&app("shop"), 1).unwrap());
        assert_eq!(waiting.take_asks(), [], "nobody has found it asleep yet");
        let over = Instant::now();
        assert_eq!(waiting.wait(&mut one, over).await, Err(Page::NotAwake));
        assert_eq!(waiting.wait(&mut two, over).await, Err(Page::NotAwake));
        assert_eq!(waiting.take_asks(), [app("shop")]);
        assert_eq!(waiting.take_asks(), []);
        waiting.ask_again();
        waiting.asked().await;
        assert_eq!(waiting.take_asks(), [app("shop")]);
        waiting.changed(&app("shop"));
        assert_eq!(waiting.wait(&mut one, over + PATIENCE).await, Ok(()), "it came before we waited");
        waiting.changed(&app("shop"));
        waiting.ask_again();
        assert_eq!(waiting.take_asks(), [], "it is not asleep any more");
    }

    #[tokio::test]
    async fn those_who_waited_go_a_few_at_a_time() {
        let waiting = Waiting::default();
        let enter = || waiting.enter(&app("shop"), 1).unwrap();
        let all: Vec<Held> = (0..=AT_ONCE).map(|_| enter()).collect();
        let mut passes = Vec::new();
        let mut last = None;
        for held in all {
            if passes.len() == AT_ONCE {
                last = Some(tokio::spawn(held.pass()));
                break;
            }
            passes.push(held.pass().await.unwrap());
        }
        tokio::task::yield_now().await;
        let last = last.unwrap();
        assert!(!last.is_finished());
        passes.pop();
        assert!(last.await.unwrap().is_some());
    }
}
