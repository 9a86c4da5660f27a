//! The engine's promises, tried on the real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod base;
mod build;
mod container;
mod network;
mod watch;

use super::build_limits::limit_builds;
use super::testing::{TestApp, drain, until};
use super::*;
use crate::engine::{EventKind, LABEL_PROCESS, LABEL_RELEASE, Output};
use crate::model::{BaseImage, ImageSource, Problem, ProcessName, Recipe, RunCommand};
use crate::settings::{BuildSettings, ImageSourceChoice};
use bollard::models::ContainerInspectResponse;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(10);

fn output(lines: &[BuildLine]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| if let BuildLine::Output(text) = line { Some(text.as_str()) } else { None })
        .collect()
}

async fn raw(app: &TestApp, container: &str) -> ContainerInspectResponse {
    app.engine.docker.inspect_container(container, None).await.unwrap()
}

/// Whether a process of this machine sleeps for this many seconds.
fn runs(seconds: &str) -> bool {
    let sleeps = |line: &[u8]| {
        line.strip_suffix(b"\0").is_some_and(|line| line == format!("sleep\0{seconds}").as_bytes())
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| sleeps(&line)))
}

/// A TCP door to the engine's socket that can be shut.
struct Relay {
    url: String,
    open: Arc<std::sync::atomic::AtomicUsize>,
    shut: tokio::sync::watch::Sender<u32>,
}

impl Relay {
    async fn start() -> Self {
        use std::sync::atomic::Ordering::SeqCst;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let open = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (shut, shutting) = tokio::sync::watch::channel(0);
        let counter = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (counter, mut shutting) = (Arc::clone(&counter), shutting.clone());
                shutting.mark_unchanged();
                counter.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    let mut engine = tokio::net::UnixStream::connect(DEFAULT_SOCKETS[0]).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut engine) => {}
                        _ = shutting.changed() => {}
                    }
                    counter.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { url, open, shut }
    }

    /// Connections that are open.
    fn open(&self) -> usize {
        self.open.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Cuts all that are open.
    fn hang_up(&self) {
        self.shut.send_modify(|times| *times += 1);
    }
}
