//! The one thread that writes, and that knows who is following.

use super::entry::{Filter, LogEntry, Source};
use super::segment::{self, Active};
use super::{Dropped, LogError, Message, View};
use crate::model::AppId;
use crate::settings::LogSettings;
use std::collections::HashMap;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::{Instant, timeout_at};

/// Longest time that a line stays in memory only.
const FLUSH: Duration = Duration::from_millis(200);
/// Bytes of one app that are written before that time.
const BUFFER: usize = 64 << 10;
/// Largest segment; a quarter of an app's share if that is less.
const SEGMENT: u64 = 4 << 20;
/// Longest time that one segment grows, so that age can remove it.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often old segments are looked for.
const PRUNE: Duration = Duration::from_secs(10 * 60);
/// A file that nobody wrote to for this long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Entries that a follower may lag behind.
const LAG: usize = 4096;

/// Starts the thread; it ends when all senders are gone.
pub(super) fn start(
    directory: &Path,
    settings: LogSettings,
    messages: UnboundedReceiver<Message>,
    dropped: Arc<Dropped>,
) -> Result<()> {
    // A small runtime of its own: file writes block it and nobody else.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let directory = directory.to_owned();
    let writer = Writer { directory, settings, dropped, apps: HashMap::new() };
    let thread = std::thread::Builder::new().name("logs".to_owned());
    thread.spawn(move || runtime.block_on(writer.run(messages)))?;
    Ok(())
}

struct Writer {
    directory: PathBuf,
    settings: LogSettings,
    dropped: Arc<Dropped>,
    apps: HashMap<AppId, AppLog>,
}

impl Writer {
    async fn run(mut self, mut messages: UnboundedReceiver<Message>) {
        self.prune();
        let (mut flush, mut prune) = (None, Instant::now() + PRUNE);
        loop {
            let received = timeout_at(flush.unwrap_or(prune), messages.recv()).await;
            if let Ok(message) = received {
                let Some(message) = message else { break };
                flush.get_or_insert_with(|| Instant::now() + FLUSH);
                self.handle(message);
            }
            let now = Instant::now();
            if flush.is_some_and(|time| time <= now) {
                self.flush();
                flush = None;
            }
            if prune <= now {
                self.prune();
                prune = now + PRUNE;
            }
        }
        self.flush();
    }

    /// Whoever asked may have gone: unanswered is fine then.
    fn handle(&mut self, message: Message) {
        match message {
            Message::Append { app, entry, .. } => self.append(app, &entry),
            Message::View { app, follow, reply } => drop(reply.send(self.view(app, follow))),
            Message::Forget { app, reply } => drop(reply.send(self.forget(app))),
            Message::Prune { reply } => {
                self.prune();
                let _ = reply.send(());
            }
            Message::Flush { reply } => {
                self.flush();
                let _ = reply.send(());
            }
        }
    }

    fn app(&mut self, app: AppId) -> &mut AppLog {
        let directory = || self.directory.join(app.0.to_string());
        self.apps.entry(app).or_insert_with(|| AppLog::new(directory()))
    }

    fn append(&mut self, app: AppId, entry: &LogEntry) {
        let stored = !self.settings.keep.is_zero();
        let log = self.app(app);
        log.tell(entry);
        if stored {
            entry.encode(&mut log.buffer);
            log.lines += 1;
            if log.buffer.len() >= BUFFER {
                self.write(app);
            }
        }
    }

    fn write(&mut self, app: AppId) {
        let settings = self.settings;
        let log = self.app(app);
        let lines = std::mem::take(&mut log.lines);
        if let Err(error) = log.write(settings) {
            tracing::error!(app = app.0, %error, "log lines are lost");
            self.dropped.count(app, lines);
        }
    }

    /// Says what was dropped, writes what waits, closes what is idle.
    fn flush(&mut self) {
        for (app, count) in self.dropped.take() {
            self.append(app, &dropped(count));
        }
        let apps: Vec<AppId> = self.apps.keys().copied().collect();
        for app in apps {
            self.write(app);
        }
        self.apps.retain(|_, log| log.is_needed());
    }

    fn view(&mut self, app: AppId, follow: Option<Filter>) -> View {
        self.write(app);
        let log = self.app(app);
        let follower = follow.map(|filter| log.follow(filter));
        // An unreadable directory was reported when it was written to.
        let segments = segment::list(&log.directory).unwrap_or_default();
        View { segments: segments.into_iter().map(|one| (one.path, one.length)).collect(), follower }
    }

    fn forget(&mut self, app: AppId) -> std::result::Result<(), LogError> {
        self.apps.remove(&app);
        let path = self.directory.join(app.0.to_string());
        match std::fs::remove_dir_all(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(LogError::File { path, cause }),
            _ => Ok(()),
        }
    }

    fn prune(&mut self) {
        let directories = match self.directory.read_dir() {
            Ok(entries) => entries.flatten().map(|entry| entry.path()),
            Err(error) => return tracing::error!(%error, "logs are not pruned"),
        };
        for directory in directories.filter(|path| path.is_dir()) {
            if let Err(error) = segment::prune(&directory, self.settings.keep, self.settings.max_bytes) {
                tracing::error!(%error, path = %directory.display(), "logs are not pruned");
            }
        }
        // One of them may have been growing; the next line begins a new one.
        for log in self.apps.values_mut() {
            log.active = None;
        }
    }
}

/// The entry in place of those that had no room.
fn dropped(count: u64) -> LogEntry {
    let lines = if count == 1 { "line" } else { "lines" };
    LogEntry::now(Source::Platform, "logs", 0, format!("… {count} {lines} dropped"))
}

/// One app's log while it is in use.
struct AppLog {
    directory: PathBuf,
    active: Option<Active>,
    buffer: Vec<u8>,
    /// Lines in the buffer.
    lines: u64,
    used: Instant,
    followers: Vec<Sending>,
}

impl AppLog {
    fn new(directory: PathBuf) -> Self {
        let (buffer, followers) = (Vec::new(), Vec::new());
        Self { directory, active: None, buffer, lines: 0, used: Instant::now(), followers }
    }

    /// Writes the buffer. After an error its lines are gone, and the next write
    /// opens the file anew and removes half a line if there is one.
    fn write(&mut self, settings: LogSettings) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.used = Instant::now();
        let lines = std::mem::take(&mut self.buffer);
        let mut active = match self.active.take() {
            Some(active) => active,
            None => Active::open(&self.directory)?,
        };
        if active.is_full(lines.len(), SEGMENT.min(settings.max_bytes / 4), DAY.min(settings.keep / 4)) {
            active = active.next(&self.directory)?;
            segment::prune(&self.directory, settings.keep, settings.max_bytes)?;
        }
        active.write(&lines)?;
        self.active = Some(active);
        Ok(())
    }

    fn tell(&mut self, entry: &LogEntry) {
        self.followers.retain_mut(|follower| follower.tell(entry));
    }

    fn follow(&mut self, filter: Filter) -> Follower {
        let (entries, receiver) = mpsc::channel(LAG);
        self.followers.push(Sending { filter, entries, missed: 0 });
        Follower(receiver)
    }

    fn is_needed(&mut self) -> bool {
        self.followers.retain(|follower| !follower.entries.is_closed());
        !self.followers.is_empty() || self.active.is_some() && self.used.elapsed() < IDLE
    }
}

/// Our end of a follower.
struct Sending {
    filter: Filter,
    entries: mpsc::Sender<LogEntry>,
    missed: u64,
}

impl Sending {
    /// False if nobody listens any more. Who is too slow is told how much went by.
    fn tell(&mut self, entry: &LogEntry) -> bool {
        if self.entries.is_closed() {
            return false;
        }
        if !self.filter.matches(entry) {
            return true;
        }
        if self.missed > 0 && self.entries.capacity() > 1 {
            let _ = self.entries.try_send(dropped(std::mem::take(&mut self.missed)));
        }
        if self.missed > 0 || self.entries.try_send(entry.clone()).is_err() {
            self.missed += 1;
        }
        true
    }
}

/// Entries as they come, in order.
pub struct Follower(mpsc::Receiver<LogEntry>);

impl Follower {
    /// The next entry; `None` when the app is destroyed or the server stops.
    pub async fn next(&mut self) -> Option<LogEntry> {
        self.0.recv().await
    }
}
