//! Carries what processes print from the engine into the kept logs.

use crate::engine::Engine;
use crate::logs::{LogEntry, Logs, Source};
use crate::model::{AppId, ProcessName, ProcessState};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long the end of a stopped process's output is waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One task per container.
#[derive(Clone)]
pub(super) struct Collector {
    engine: Arc<dyn Engine>,
    logs: Logs,
    tasks: Arc<Mutex<HashMap<String, Task>>>,
}

struct Task {
    handle: JoinHandle<()>,
    /// The container has begun anew while its former output was still read.
    again: bool,
}

/// Whose output it is.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub container: String,
    pub app: AppId,
    pub release: u32,
    pub process: ProcessName,
}

impl From<&ProcessState> for Origin {
    fn from(state: &ProcessState) -> Self {
        Self {
            container: state.container.clone(),
            app: state.app,
            release: state.release,
            process: state.process.clone(),
        }
    }
}

impl Collector {
    pub fn new(engine: Arc<dyn Engine>, logs: Logs) -> Self {
        Self { engine, logs, tasks: Arc::default() }
    }

    /// Begins to collect from a container, or goes on after it was restarted.
    pub fn follow(&self, origin: Origin) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = tasks.get_mut(&origin.container) {
            task.again = true;
            return;
        }
        let container = origin.container.clone();
        let handle = tokio::spawn(self.clone().collect(origin));
        tasks.insert(container, Task { handle, again: false });
    }

    /// Whether there is more to read; if not, the container is forgotten, in one
    /// step, so that a restart in between is either seen here or begins anew.
    fn goes_on(&self, container: &str) -> bool {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let again = tasks.get_mut(container).is_some_and(|task| std::mem::take(&mut task.again));
        if !again {
            tasks.remove(container);
        }
        again
    }

    async fn collect(self, origin: Origin) {
        let process = origin.process.to_string();
        let stored = self.logs.last_seen(origin.app, &process, origin.release).await;
        let mut seen = stored.unwrap_or_default();
        loop {
            seen = self.read_to_the_end(&origin, &process, seen).await;
            if !self.goes_on(&origin.container) {
                return;
            }
        }
    }

    /// One run's output; the time of the last line.
    async fn read_to_the_end(&self, origin: &Origin, process: &str, mut seen: Option<i64>) -> Option<i64> {
        let mut lines = self.engine.logs(&origin.container, seen, true);
        while let Some(line) = lines.next().await {
            let line = match line {
                Ok(line) => line,
                Err(error) => {
                    tracing::debug!(container = origin.container, %error, "the log stream ended");
                    break;
                }
            };
            seen = seen.max(Some(line.nanos));
            let entry = LogEntry {
                at_nanos: line.nanos,
                source: Source::App,
                process: process.to_owned(),
                release: origin.release,
                text: line.text,
            };
            self.logs.append(origin.app, entry);
        }
        seen
    }

    /// Waits for the last lines of a container that was stopped.
    pub async fn finish(&self, container: &str) {
        let task = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
        if let Some(Task { mut handle, .. }) = task
            && tokio::time::timeout(LAST_WORDS, &mut handle).await.is_err()
        {
            handle.abort();
        }
    }
}
