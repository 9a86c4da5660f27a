//! What a deploy says: to the one who pushes, and into the app's log.

use crate::logs::{LogEntry, Logs, Source};
use crate::model::{AppId, BuildPlan, Problem};
use crate::output;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Something is visible at least this often.
const SILENCE: Duration = Duration::from_secs(5);

/// Bytes that may wait for a slow reader.
const BACKLOG: usize = 8 << 20;

#[derive(Default)]
struct Backlog {
    bytes: AtomicUsize,
    left_out: AtomicUsize,
}

/// The reading end of a report.
pub struct Lines {
    received: mpsc::UnboundedReceiver<String>,
    backlog: Arc<Backlog>,
}

impl Lines {
    /// The next line; `None` when all ends of the report are gone.
    pub async fn next(&mut self) -> Option<String> {
        let line = self.received.recv().await?;
        let read = |bytes: usize| Some(bytes.saturating_sub(line.len()));
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let _ = self.backlog.bytes.fetch_update(relaxed, relaxed, read);
        Some(line)
    }
}

/// The lines of one deploy. Clones write to the same place.
#[derive(Clone)]
pub struct Report {
    lines: mpsc::UnboundedSender<String>,
    backlog: Arc<Backlog>,
    logs: Option<(Logs, AppId)>,
    release: Arc<Mutex<u32>>,
    last: Arc<Mutex<Instant>>,
}

impl Report {
    /// A report and its lines. A deploy neither fails nor waits because nobody
    /// reads them: beyond a limit lines are left out, and the log has them.
    pub fn channel() -> (Self, Lines) {
        let (sender, received) = mpsc::unbounded_channel();
        let backlog = Arc::<Backlog>::default();
        let last = Arc::new(Mutex::new(Instant::now()));
        let report =
            Self { lines: sender, backlog: backlog.clone(), logs: None, release: Arc::default(), last };
        (report, Lines { received, backlog })
    }

    fn send(&self, line: String) {
        use std::sync::atomic::Ordering::Relaxed;
        if self.backlog.bytes.load(Relaxed) > BACKLOG {
            self.backlog.left_out.fetch_add(1, Relaxed);
            return;
        }
        let left_out = self.backlog.left_out.swap(0, Relaxed);
        if left_out > 0 {
            let _ =
                self.lines.send(output::warning(&format!("{left_out} lines left out; the log has them.")));
        }
        self.backlog.bytes.fetch_add(line.len(), Relaxed);
        let _ = self.lines.send(line);
    }

    /// Keeps every line in the app's log too.
    #[must_use]
    pub fn kept(mut self, logs: Logs, app: AppId) -> Self {
        self.logs = Some((logs, app));
        self
    }

    /// From now on lines belong to this release.
    pub fn of_release(&self, number: u32) {
        *self.release.lock().unwrap_or_else(PoisonError::into_inner) = number;
    }

    /// A line as it is.
    pub fn line(&self, line: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if let Some((logs, app)) = &self.logs {
            let release = *self.release.lock().unwrap_or_else(PoisonError::into_inner);
            logs.append(*app, LogEntry::now(Source::Build, format!("v{release}"), release, line.clone()));
        }
        self.send(line);
    }

    /// `-----> text`
    pub fn step(&self, text: &str) {
        self.line(output::step(text));
    }

    /// `       text`, in as many lines as it needs.
    pub fn detail(&self, text: &str) {
        output::wrapped(text).iter().for_each(|line| self.line(output::detail(line)));
    }

    /// ` !     text`, in as many lines as it needs.
    pub fn warning(&self, text: &str) {
        output::wrapped(text).iter().for_each(|line| self.line(output::warning(line)));
    }

    /// A stranger's line (a build's, an app's) as a detail, however long.
    pub fn foreign(&self, text: &str) {
        self.line(output::detail(&output::tame(text)));
    }

    /// Why a push is refused, after an empty line.
    pub fn problem(&self, problem: &Problem) {
        self.line(String::new());
        for line in output::problem(&problem.clone().of_a_push()) {
            self.line(line);
        }
        self.line(String::new());
    }

    /// What detection decided.
    pub fn plan(&self, plan: &BuildPlan) {
        self.step(&format!("{} app detected", title(&plan.runtime)));
        for line in &plan.decisions {
            self.detail(line);
        }
        for notice in &plan.notices {
            self.warning(notice);
        }
        self.step("Discovering process types");
        let types: Vec<&str> = plan.processes.keys().map(crate::model::ProcessType::as_str).collect();
        let source = if plan.procfile { "Procfile declares types" } else { "Default types" };
        self.detail(&format!("{source} -> {}", types.join(", ")));
    }

    /// Runs `work`, saying how long it has taken whenever it was silent for long.
    pub async fn alive<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let begin = Instant::now();
        let pulse = async {
            loop {
                let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
                tokio::time::sleep(SILENCE.saturating_sub(last.elapsed()).max(Duration::from_millis(50)))
                    .await;
                let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= SILENCE {
                    self.detail(&format!("({what}, {} s)", begin.elapsed().as_secs()));
                }
            }
        };
        tokio::select! {
            value = work => value,
            () = pulse => unreachable!("the pulse has no end"),
        }
    }
}

/// `Python 3.11` → `Python`.
fn title(runtime: &str) -> &str {
    let versioned =
        runtime.rsplit_once(' ').filter(|(_, last)| last.starts_with(|c: char| c.is_ascii_digit()));
    versioned.map_or(runtime, |(name, _)| name)
}
