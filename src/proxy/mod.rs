//! The data plane: `paas proxy`. Never SQL or Docker.
//!
//! It knows one thing, the route table. The control plane sends it over a
//! Unix socket (`link`), the last one is on disk (`snapshot`), and the one in
//! force is read by every request without a lock (`board`). A connection comes
//! in at `listener`, its bytes pass `framing`, and each request goes through
//! `forward`, which checks it, picks a target and streams the bodies both ways.

mod access;
mod board;
mod body;
mod client_stream;
mod counts;
mod error;
mod forward;
mod framing;
mod headers;
mod link;
mod listener;
mod lock;
mod pages;
mod ports;
mod request;
mod snapshot;
mod tunnel;
mod upstream;
mod words;

pub use error::ProxyError;

use board::{Board, Entry};
use link::Link;
use listener::Peers;
use ports::Ports;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// How often idle connections to apps are looked through.
const SWEEP: Duration = Duration::from_secs(15);
/// Open files to ask the system for.
const FILES: u64 = 65_536;

/// Where the proxy listens and what it keeps.
#[derive(Debug)]
pub struct ProxyOptions {
    /// HTTP; port 0 picks a free one.
    pub http_listen: SocketAddr,
    /// The last route table, kept over restarts.
    pub snapshot: PathBuf,
    /// The control plane's Unix socket for proxies.
    pub socket: PathBuf,
    /// Held while running; has the process id in it.
    pub lock: PathBuf,
    /// Times and numbers.
    pub limits: ProxyLimits,
    /// Told the bound HTTP address once requests are taken.
    pub ready: Option<oneshot::Sender<SocketAddr>>,
}

/// Times and numbers that bound what clients and apps can do.
#[derive(Debug, Clone)]
pub struct ProxyLimits {
    /// From a request's first byte to the end of its head.
    pub header: Duration,
    /// Between two parts of a request's body.
    pub body: Duration,
    /// How long a connection may stay without a request.
    pub idle: Duration,
    /// From the end of a request to the head of the response.
    pub first_byte: Duration,
    /// For a connection to a process.
    pub connect: Duration,
    /// How long a request waits while every process refuses connections.
    pub retry: Duration,
    /// For requests in flight when the proxy is stopped.
    pub drain: Duration,
    /// Connections of all clients together.
    pub connections: usize,
    /// Connections from one address; loopback has no limit.
    pub connections_per_peer: u32,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            body: Duration::from_secs(60),
            idle: Duration::from_secs(75),
            first_byte: Duration::from_secs(30),
            connect: Duration::from_millis(250),
            retry: Duration::from_secs(1),
            drain: Duration::from_secs(30),
            connections: 10_000,
            connections_per_peer: 1_000,
        }
    }
}

/// What all connections share.
struct Shared {
    board: Board,
    limits: ProxyLimits,
    places: Arc<Semaphore>,
    peers: Peers,
    tasks: TaskTracker,
    /// No new connections, and no more requests on the old ones.
    stop: CancellationToken,
    /// The time to drain is over.
    kill: CancellationToken,
}

/// The table that the proxy of this snapshot served last; empty if there is none.
pub fn last_table(snapshot: &std::path::Path) -> crate::model::RouteTable {
    snapshot::load(snapshot)
}

/// Runs the proxy until `stop`, then lets requests in flight finish.
///
/// # Errors
/// Only before the first request is taken: another proxy holds the lock, or
/// the HTTP address can't be listened on.
pub async fn run(options: ProxyOptions, stop: CancellationToken) -> Result<(), ProxyError> {
    let _lock = lock::Lock::take(&options.lock)?;
    raise_file_limit();
    let (listener, address) = bind(options.http_listen)?;
    let shared = Arc::new(Shared::new(snapshot::load(&options.snapshot), options.limits, &stop));
    let mut ports = Ports::new(Arc::clone(&shared));
    ports.open(&Board::ports(&shared.board.table()));
    info!(%address, "proxy listening");
    if let Some(ready) = options.ready {
        let _ = ready.send(address);
    }
    let (socket, snapshot) = (options.socket, options.snapshot);
    let link = Link { shared: Arc::clone(&shared), ports, socket, snapshot };
    let upkeep = async { tokio::join!(link.follow(), sweep(&shared)) };
    tokio::select! {
        () = listener::accept(Arc::clone(&shared), listener, Entry::Hosts, shared.stop.clone()) => {}
        _ = upkeep => {}
    }
    drain(&shared).await;
    Ok(())
}

impl Shared {
    fn new(table: crate::model::RouteTable, limits: ProxyLimits, stop: &CancellationToken) -> Self {
        Self {
            board: Board::new(table),
            places: Arc::new(Semaphore::new(limits.connections)),
            peers: Peers::new(limits.connections_per_peer),
            limits,
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            kill: CancellationToken::new(),
        }
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ProxyError> {
    let failed = |source| ProxyError::Listen { address, source };
    let listener = listener::listen(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn sweep(shared: &Shared) {
    loop {
        tokio::time::sleep(SWEEP).await;
        shared.board.sweep();
    }
}

/// Requests in flight may finish, for a while.
async fn drain(shared: &Shared) {
    shared.tasks.close();
    if tokio::time::timeout(shared.limits.drain, shared.tasks.wait()).await.is_err() {
        warn!(connections = shared.tasks.len(), "connections cut off: they did not finish in time");
        shared.kill.cancel();
        shared.tasks.wait().await;
    }
}

/// One connection is two files; the usual soft limit of 1024 is soon reached.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = FILES.min(hard);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        warn!(%error, "can't raise the limit of open files");
    }
}
