//! What an engine in memory holds: containers, images, networks.

use super::apps::{Behaviour, Serving};
use crate::engine::{Event, EventKind};
use crate::model::{AppId, ProcessName, ProcessState, Restart};
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub(super) struct Container {
    pub app: AppId,
    pub release: u32,
    pub process: ProcessName,
    pub address: std::net::Ipv4Addr,
    pub name: String,
    pub image: String,
    pub behaviour: Behaviour,
    pub port: u16,
    pub running: bool,
    pub restart: Restart,
    pub stop_timeout: Duration,
    pub size: (i64, i64),
    pub exit_code: Option<i64>,
    pub restarts: i64,
    pub started_at: i64,
    pub serving: Option<Arc<Serving>>,
    /// When it has booted.
    pub ready: Instant,
    pub ended: CancellationToken,
}

#[derive(Clone)]
pub(super) struct Image {
    pub id: String,
    pub app: AppId,
    pub behaviour: Behaviour,
}

/// What outlives the server.
#[derive(Clone, Default)]
pub(super) struct State {
    pub containers: BTreeMap<String, Container>,
    /// By reference.
    pub images: BTreeMap<String, Image>,
    pub networks: BTreeMap<AppId, Ipv4Net>,
    /// Where the proxy sends requests.
    pub routed: BTreeSet<SocketAddr>,
    /// Until when a request to a process is under way.
    pub busy: BTreeMap<SocketAddr, Instant>,
    /// Web processes that are started answer with 500.
    pub sick: bool,
    /// So do those of this index and above.
    pub sick_from: Option<u32>,
    /// So many lines each process has printed.
    pub prints: usize,
    /// How long processes other than web take to stop.
    pub slow: Duration,
    /// How long an image is in going.
    pub heavy: Duration,
    /// How long web processes listen before they are well.
    pub boot: Duration,
    pub next: u64,
}

impl State {
    pub fn is_busy(&self, at: SocketAddr) -> bool {
        self.busy.get(&at).is_some_and(|until| *until > Instant::now())
    }
}

impl Container {
    pub fn begins(&mut self, serving: Option<Serving>, ready: Instant) {
        self.running = true;
        self.ready = ready;
        self.exit_code = None;
        self.started_at = 1;
        self.serving = serving.map(Arc::new);
        self.ended = CancellationToken::new();
    }

    pub fn ends(&mut self, code: i64) {
        self.running = false;
        self.exit_code = Some(code);
        self.serving = None;
        self.ended.cancel();
    }

    pub fn at(&self) -> SocketAddr {
        SocketAddr::from((self.address, self.port))
    }

    pub fn listens_at(&self, at: SocketAddr) -> bool {
        self.process.kind.is_web() && self.at() == at
    }

    /// Whether it runs, and has booted.
    pub fn is_up(&self) -> bool {
        self.running && self.ready <= Instant::now()
    }

    pub fn event(&self, id: &str, kind: EventKind) -> Event {
        let (app, release, process) = (self.app, self.release, self.process.clone());
        Event { at: 0, app, release, process, container: id.to_owned(), kind }
    }

    pub fn state(&self, id: &str) -> ProcessState {
        ProcessState {
            container: id.to_owned(),
            app: self.app,
            release: self.release,
            process: self.process.clone(),
            address: Some(self.address),
            running: self.running,
            restarting: false,
            restart: self.restart,
            stop_timeout: self.stop_timeout,
            size: self.size,
            finished_at: 0,
            exit_code: self.exit_code,
            oom_killed: false,
            restarts: self.restarts,
            started_at: self.started_at,
        }
    }
}
