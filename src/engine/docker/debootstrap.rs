//! debootstrap as a child: its output as it comes, its end as a group.

use crate::engine::EngineError;
use crate::settings::BuildSettings;
use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

/// Lines of debootstrap that are kept for the error.
const TAIL: usize = 10;

/// How long debootstrap may take to unmount what it mounted once it is told to end.
const CLEAN_UP: Duration = Duration::from_secs(3);

/// Runs debootstrap to its end. When dropped, it is ended as a group.
pub(super) async fn run(
    suite: &str,
    root: &Path,
    settings: &BuildSettings,
    lines: &mpsc::Sender<String>,
) -> Result<(), EngineError> {
    let io = |source| EngineError::Io { doing: "start debootstrap".to_owned(), source };
    let proxies: Vec<(String, String)> = settings
        .args
        .iter()
        .filter(|(key, _)| key.to_ascii_lowercase().ends_with("_proxy"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut command = crate::spawn::debootstrap(suite, root, &settings.debian_mirror, &proxies);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(io)?;
    let mut group = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut tail = VecDeque::new();
    let (sender, mut printed) = mpsc::channel(64);
    let readers =
        [tokio::spawn(read_lines(stdout, sender.clone())), tokio::spawn(read_lines(stderr, sender))];
    let run = async {
        while let Some(line) = printed.recv().await {
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
            if let Some(line) = tail.back() {
                let _ = lines.send(line.clone()).await;
            }
        }
        child.wait().await
    };
    let limit = settings.timeout;
    let status = tokio::time::timeout(limit, run).await;
    for reader in readers {
        reader.abort();
    }
    let Ok(status) = status else {
        group.end(CLEAN_UP).await;
        return Err(EngineError::TimedOut { what: "debootstrap", limit });
    };
    group.ended();
    let status = status.map_err(io)?;
    if status.success() {
        return Ok(());
    }
    Err(EngineError::Debootstrap { suite: suite.to_owned(), exit_code: status.code(), lines: tail.into() })
}

async fn read_lines(from: Option<impl AsyncRead + Unpin>, to: mpsc::Sender<String>) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if to.send(line).await.is_err() {
            return;
        }
    }
}

/// A child's process group: debootstrap is a shell script with children, and
/// unmounts what it mounted when it gets SIGTERM.
struct Group(Option<nix::unistd::Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(nix::unistd::Pid::from_raw))
    }

    fn ended(&mut self) {
        self.0 = None;
    }

    async fn end(&mut self, patience: Duration) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        tokio::time::sleep(patience).await;
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.0 = None;
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = nix::sys::signal::killpg(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
    }
}
