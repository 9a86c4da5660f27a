//! The logs that we keep: of apps, builds, the router and the platform.
//!
//! Appending hands an entry to one writer thread, which owns all files and is
//! the one place where order is decided: so a reader that asks it for "the last
//! lines and all that follow" gets neither a gap nor a line twice.

mod entry;
mod segment;
mod words;
mod writer;

use crate::model::AppId;
use crate::settings::LogSettings;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

pub use entry::{Filter, LogEntry, Source};
pub use writer::Follower;

/// Bytes of entries that may wait for the writer.
const QUEUE: usize = 16 << 20;

/// Why logs can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file or directory.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The writer thread can't start.
    #[error("cannot start the log writer: {0}")]
    Start(std::io::Error),
    /// The writer thread has ended.
    #[error("the log writer has stopped")]
    Stopped,
}

/// The logs of all apps. Cheap to clone; the files are flushed and closed when
/// the last clone is gone.
#[derive(Clone)]
pub struct Logs {
    writer: mpsc::UnboundedSender<Message>,
    /// One permit for each byte that may wait.
    room: Arc<Semaphore>,
    dropped: Arc<Dropped>,
}

/// Entries that found no room, by app.
#[derive(Default)]
struct Dropped(Mutex<HashMap<AppId, u64>>);

/// What the writer is asked to do, in order.
enum Message {
    Append { app: AppId, entry: LogEntry, _room: OwnedSemaphorePermit },
    View { app: AppId, follow: Option<Filter>, reply: oneshot::Sender<View> },
    Forget { app: AppId, reply: oneshot::Sender<Result<(), LogError>> },
    Prune { reply: oneshot::Sender<()> },
    Flush { reply: oneshot::Sender<()> },
}

/// What there was at one moment, and what came after.
struct View {
    /// Segments and the bytes to read of each, oldest first.
    segments: Vec<(PathBuf, u64)>,
    follower: Option<Follower>,
}

impl Logs {
    /// Logs in `<directory>/<app id>/`. With `settings.keep` zero nothing is
    /// stored, what was is removed, and following still works.
    pub fn open(directory: &Path, settings: LogSettings) -> Result<Self, LogError> {
        let failed = |cause| LogError::File { path: directory.to_owned(), cause };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let (writer, messages) = mpsc::unbounded_channel();
        let dropped = Arc::<Dropped>::default();
        writer::start(directory, settings, messages, Arc::clone(&dropped)).map_err(LogError::Start)?;
        Ok(Self { writer, room: Arc::new(Semaphore::new(QUEUE)), dropped })
    }

    /// Appends an entry for each line of its text. Returns at once; in a flood
    /// entries are dropped, counted, and the log says how many.
    pub fn append(&self, app: AppId, entry: LogEntry) {
        for entry in entry.split() {
            match Arc::clone(&self.room).try_acquire_many_owned(entry.weight()) {
                Ok(room) => self.send(app, entry, room),
                Err(_) => self.dropped.count(app, 1),
            }
        }
    }

    /// As `append`, but waits for room and drops nothing: for build output.
    pub async fn append_all(&self, app: AppId, entry: LogEntry) {
        for entry in entry.split() {
            if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(entry.weight()).await {
                self.send(app, entry, room);
            }
        }
    }

    fn send(&self, app: AppId, entry: LogEntry, room: OwnedSemaphorePermit) {
        // Without a writer there is nobody to tell but the server's own log.
        if self.writer.send(Message::Append { app, entry, _room: room }).is_err() {
            tracing::error!(app = app.0, "a log entry is lost: the writer has stopped");
        }
    }

    /// The last `count` entries that pass the filter, oldest first.
    pub async fn tail(&self, app: AppId, count: usize, filter: &Filter) -> Result<Vec<LogEntry>, LogError> {
        let view = self.view(app, None).await?;
        read_back(view.segments, count, filter.clone()).await
    }

    /// All entries from now on that pass the filter.
    pub async fn follow(&self, app: AppId, filter: &Filter) -> Result<Follower, LogError> {
        self.view(app, Some(filter.clone())).await?.follower.ok_or(LogError::Stopped)
    }

    /// The last `count` entries and all that follow them.
    pub async fn tail_and_follow(
        &self,
        app: AppId,
        count: usize,
        filter: &Filter,
    ) -> Result<(Vec<LogEntry>, Follower), LogError> {
        let view = self.view(app, Some(filter.clone())).await?;
        let follower = view.follower.ok_or(LogError::Stopped)?;
        Ok((read_back(view.segments, count, filter.clone()).await?, follower))
    }

    /// Time (nanoseconds since the epoch) of the last stored line that this
    /// process of this release printed: where a collector goes on.
    pub async fn last_seen(&self, app: AppId, process: &str, release: u32) -> Result<Option<i64>, LogError> {
        let filter =
            Filter { source: Some(Source::App), process: Some(process.to_owned()), release: Some(release) };
        Ok(self.tail(app, 1, &filter).await?.pop().map(|entry| entry.at_nanos))
    }

    /// Removes all logs of an app and ends its followers.
    pub async fn forget(&self, app: AppId) -> Result<(), LogError> {
        self.ask(|reply| Message::Forget { app, reply }).await?
    }

    /// Removes what is too old or too much; also done by itself, now and then.
    pub async fn prune(&self) -> Result<(), LogError> {
        self.ask(|reply| Message::Prune { reply }).await
    }

    /// Returns when all that was appended before is in the files.
    pub async fn flush(&self) -> Result<(), LogError> {
        self.ask(|reply| Message::Flush { reply }).await
    }

    async fn view(&self, app: AppId, follow: Option<Filter>) -> Result<View, LogError> {
        self.ask(|reply| Message::View { app, follow, reply }).await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(message(reply)).map_err(|_| LogError::Stopped)?;
        answer.await.map_err(|_| LogError::Stopped)
    }
}

impl Dropped {
    fn count(&self, app: AppId, entries: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(app).or_default() += entries;
    }

    fn take(&self) -> HashMap<AppId, u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn read_back(
    segments: Vec<(PathBuf, u64)>,
    count: usize,
    filter: Filter,
) -> Result<Vec<LogEntry>, LogError> {
    let reading = tokio::task::spawn_blocking(move || segment::last(&segments, count, &filter));
    reading.await.map_err(|_| LogError::Stopped)?
}

#[cfg(test)]
mod tests;
