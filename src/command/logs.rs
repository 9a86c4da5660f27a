//! `logs`: what an app, its builds and we ourselves have to say.

use super::{CommandError, Session};
use crate::deploy::DeployError;
use crate::logs::{Filter, LogEntry, LogError, Source};
use crate::model::{App, AppName};
use futures_util::StreamExt;
use std::collections::VecDeque;

/// Most lines that are shown at once.
const MOST: usize = 100_000;

/// Most bytes of what the engine has that are kept for that.
const MOST_BYTES: usize = 16 << 20;

impl Session<'_> {
    pub(super) async fn logs(
        &mut self,
        name: AppName,
        follow: bool,
        lines: usize,
        process: Option<String>,
        source: Option<String>,
    ) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let source = match source {
            Some(word) => Some(Source::parse(&word).ok_or_else(|| CommandError::NoSource(shorten(&word)))?),
            None => None,
        };
        let filter = Filter { source, process, release: None };
        self.expect_process(&app, &filter).await?;
        let lines = lines.min(MOST);
        if !self.pipeline.workers.settings.logs.keep.is_zero() {
            return if follow {
                self.follow(&app, lines, &filter).await
            } else {
                self.tail(&app, lines, &filter).await
            };
        }
        self.engine_log(&app, lines, &filter).await?;
        if follow { self.follow(&app, 0, &filter).await } else { Ok(()) }
    }

    /// Refuses a process that the app does not have and whose log is empty: one
    /// that a former release had may still be read.
    async fn expect_process(&mut self, app: &App, filter: &Filter) -> Result<(), CommandError> {
        let Some(process) = &filter.process else { return Ok(()) };
        let account = self.pipeline.account(app).await?;
        let kinds = account.current.iter().flat_map(|release| release.processes.keys());
        let known: Vec<String> = kinds.map(ToString::to_string).collect();
        let kind = process.split('.').next().unwrap_or_default();
        let any = Filter { process: Some(process.clone()), ..Filter::default() };
        if known.iter().any(|known| known == kind)
            || !self.pipeline.workers.logs.tail(app.id, 1, &any).await.map_err(failed)?.is_empty()
        {
            return Ok(());
        }
        Err(CommandError::NoProcess(shorten(process), known))
    }

    async fn tail(&mut self, app: &App, lines: usize, filter: &Filter) -> Result<(), CommandError> {
        let entries = self.pipeline.workers.logs.tail(app.id, lines, filter).await.map_err(failed)?;
        self.print(&text(&entries)).await
    }

    async fn follow(&mut self, app: &App, lines: usize, filter: &Filter) -> Result<(), CommandError> {
        let logs = self.pipeline.workers.logs.clone();
        let (entries, mut follower) = logs.tail_and_follow(app.id, lines, filter).await.map_err(failed)?;
        self.print(&text(&entries)).await?;
        let gone = self.streams.gone.clone();
        loop {
            let entry = tokio::select! {
                entry = follower.next() => entry,
                () = gone.cancelled() => return Err(CommandError::Gone),
            };
            let Some(entry) = entry else { return Ok(()) };
            self.print(&format!("{}\n", entry.line())).await?;
        }
    }

    /// With `keep = "0"` nothing is stored: what the engine still has of the
    /// containers that are there.
    async fn engine_log(&mut self, app: &App, lines: usize, filter: &Filter) -> Result<(), CommandError> {
        let engine = self.pipeline.workers.engine.clone();
        let (mut entries, mut bytes) = (VecDeque::new(), 0);
        for state in engine.processes(Some(app.id)).await.map_err(DeployError::from)? {
            let mut output = engine.logs(&state.container, None, false);
            while let Some(Ok(line)) = output.next().await {
                let entry = LogEntry {
                    at_nanos: line.nanos,
                    source: Source::App,
                    process: state.process.to_string(),
                    release: state.release,
                    text: line.text,
                };
                if filter.matches(&entry) {
                    bytes += entry.text.len();
                    entries.push_back(entry);
                }
                while bytes > MOST_BYTES || entries.len() > MOST {
                    let Some(first) = entries.pop_front() else { break };
                    bytes -= first.text.len();
                }
            }
        }
        let mut entries = Vec::from(entries);
        entries.sort_by_key(|entry| entry.at_nanos);
        let from = entries.len().saturating_sub(lines);
        self.print(&text(&entries[from..])).await
    }
}

fn text(entries: &[LogEntry]) -> String {
    entries.iter().fold(String::new(), |text, entry| text + &entry.line() + "\n")
}

fn shorten(word: &str) -> String {
    word.chars().take(40).collect()
}

fn failed(error: LogError) -> CommandError {
    CommandError::Internal(error.to_string())
}
