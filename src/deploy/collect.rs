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
    engine: Engine,
    logs: Logs,
    tasks: Arc<Mutex<HashMap<String, JoinHandle<()>>>>,
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
    pub fn new(engine: Engine, logs: Logs) -> Self {
        Self { engine, logs, tasks: Arc::default() }
    }

    /// Begins to collect from a container, or goes on after it was restarted.
    pub fn follow(&self, origin: Origin) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.get(&origin.container).is_some_and(|task| !task.is_finished()) {
            return;
        }
        tasks.retain(|_, task| !task.is_finished());
        let (engine, logs) = (self.engine.clone(), self.logs.clone());
        tasks.insert(origin.container.clone(), tokio::spawn(collect(engine, logs, origin)));
    }

    /// Waits for the last lines of a container that was stopped.
    pub async fn finish(&self, container: &str) {
        let task = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
        if let Some(mut task) = task {
            if tokio::time::timeout(LAST_WORDS, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

async fn collect(engine: Engine, logs: Logs, origin: Origin) {
    let process = origin.process.to_string();
    let seen = logs.last_seen(origin.app, &process, origin.release);
    let mut lines = engine.logs(&origin.container, seen.map(|at| at + 1), true);
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => logs.append(
                origin.app,
                LogEntry {
                    at_nanos: line.at_nanos,
                    source: Source::App,
                    process: process.clone(),
                    release: origin.release,
                    text: line.text,
                },
            ),
            Err(error) => {
                tracing::debug!(container = origin.container, %error, "the log stream ended");
                return;
            }
        }
    }
}
