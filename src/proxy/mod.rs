//! The data plane: `paas proxy`. Never SQL or Docker.
//!
//! It knows one thing, the route table. The control plane sends it over a
//! Unix socket (`link`), the last one is on disk (`snapshot`), and the one in
//! force is read by every request without a lock (`board`). A connection comes
//! in at `listener`, its bytes pass `framing` (or `frames` and h2), and each request goes through
//! `forward`, which checks it, picks a target and streams the bodies both ways.

mod access;
mod answers;
mod asked;
mod balance;
mod board;
mod body;
mod census;
mod client;
mod client_stream;
mod counts;
mod error;
mod exposition;
mod forward;
mod forwarded;
mod frames;
mod framing;
mod front;
mod gate;
mod guard;
mod handover;
mod headers;
mod http1;
mod http2;
mod idle;
mod lines;
mod link;
mod listener;
mod lock;
mod meter;
mod names;
mod pages;
mod peers;
mod places;
mod ports;
mod preamble;
mod queue;
mod request;
mod routing;
mod scrape;
mod snapshot;
mod sockets;
mod sticky;
mod tls;
mod tunnel;
mod upload;
mod upstream;
mod waiting;
mod words;

pub use error::ProxyError;

use crate::model::{RouteTable, Target};
use crate::settings::Front;
use board::Board;
use census::Census;
use guard::Passwords;
use handover::{Handover, Predecessor, Waiting};
use link::Link;
use lock::Lock;
use peers::Peers;
use places::Places;
use ports::Ports;
use routing::Entry;
use snapshot::Keeper;
use sockets::Sockets;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tls::Tls;
use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// How often idle connections to apps are looked through.
const SWEEP: Duration = Duration::from_secs(15);
/// Between two times that connections are closed because files are short: what was
/// closed has to have an effect first.
const RELIEF: Duration = Duration::from_millis(100);
/// How long a new proxy waits for the control plane before it takes over.
const LINKED: Duration = Duration::from_secs(5);
/// Open files to ask the system for.
const FILES: u64 = 65_536;

/// Where the proxy listens and what it keeps.
#[derive(Debug)]
pub struct ProxyOptions {
    /// HTTP; port 0 picks a free one.
    pub http_listen: SocketAddr,
    /// HTTPS; `None` for none.
    pub https_listen: Option<SocketAddr>,
    /// The last route table, kept over restarts.
    pub snapshot: PathBuf,
    /// The last certificates with their keys, likewise.
    pub certificates: PathBuf,
    /// The control plane's Unix socket for proxies.
    pub socket: PathBuf,
    /// Held while running; has the process id in it.
    pub lock: PathBuf,
    /// The Unix socket where a new proxy asks to take over.
    pub handover: PathBuf,
    /// Take over from the proxy that runs, if one does.
    pub upgrade: bool,
    /// Where monitoring reads numbers; `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Listening sockets that somebody else has opened, in place of `http_listen` and
    /// `https_listen`, of which they have the port.
    pub sockets: Vec<std::net::TcpListener>,
    /// What is in front of us.
    pub front: Front,
    /// Times and numbers.
    pub limits: ProxyLimits,
    /// Told the bound addresses once requests are taken.
    pub ready: Option<oneshot::Sender<Bound>>,
}

/// Where the proxy listens.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// HTTP.
    pub http: SocketAddr,
    /// HTTPS.
    pub https: Option<SocketAddr>,
    /// For monitoring.
    pub metrics: Option<SocketAddr>,
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
    /// From the end of a request to the head of the response, unless its app says so.
    pub first_byte: Duration,
    /// The longest body of a request, unless its app says so.
    pub body_limit: u64,
    /// How long a request waits for a process that has as many as it may.
    pub queue: Duration,
    /// For a connection to a process while another one could be asked.
    pub connect: Duration,
    /// For a connection to the last process there is: over the time after which the
    /// system tries once more, because a busy one takes no connections for a moment.
    pub connect_last: Duration,
    /// For a client to take the next part of its answer.
    pub send: Duration,
    /// How long a request waits while every process refuses connections.
    pub retry: Duration,
    /// How long a request waits for an app that sleeps.
    pub wake: Duration,
    /// How often the control plane is told which apps are idle, and asked once more to
    /// wake those for which requests wait.
    pub tell: Duration,
    /// For requests in flight when the proxy is stopped.
    pub drain: Duration,
    /// How long an idle connection may bring one more request after another proxy
    /// has taken over: closing it at once might be just when it is used.
    pub linger: Duration,
    /// For streams and WebSockets after another proxy has taken over.
    pub farewell: Duration,
    /// Connections of all clients together, as far as there are files for them.
    pub connections: usize,
    /// Connections from one address; loopback has no limit.
    pub connections_per_peer: u32,
    /// Requests in flight to all apps together, as far as there are files for them.
    pub requests: usize,
    /// Requests in flight from one address; likewise.
    pub requests_per_peer: u32,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            body: Duration::from_secs(60),
            idle: Duration::from_secs(75),
            first_byte: Duration::from_secs(30),
            body_limit: 1 << 30,
            queue: Duration::from_secs(10),
            connect: Duration::from_millis(250),
            connect_last: Duration::from_secs(5),
            send: Duration::from_secs(60),
            retry: Duration::from_secs(1),
            wake: Duration::from_secs(60),
            tell: Duration::from_secs(2),
            drain: Duration::from_secs(30),
            linger: Duration::from_secs(5),
            farewell: Duration::from_secs(300),
            connections: 10_000,
            connections_per_peer: 1_000,
            requests: 30_000,
            requests_per_peer: 1_000,
        }
    }
}

impl ProxyLimits {
    /// Leaves a quarter of the files for idle connections to apps and for sockets.
    fn fit_into(&mut self, files: u64) {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        self.connections = self.connections.min(files / 4).max(1);
        self.requests = self.requests.min(files / 2).max(1);
    }
}

/// What all connections share.
struct Shared {
    board: Board,
    passwords: Passwords,
    /// Unless it is off.
    tls: Option<Tls>,
    /// Of HTTP, and of HTTPS to which plain requests are sent on.
    web_ports: (u16, u16),
    limits: ProxyLimits,
    front: Front,
    places: Places,
    peers: Peers,
    census: Arc<Census>,
    /// By the clock, when connections were closed last because files were short.
    relieved: AtomicU64,
    tasks: TaskTracker,
    /// Whether each connection's next request is its last.
    leaving: AtomicBool,
    /// From now on connections are accepted: no other proxy does any more.
    begin: CancellationToken,
    /// The control plane's table is in force, or it is away.
    linked: CancellationToken,
    /// No new connections from its end on, and the tasks that accept them.
    accepting: CancellationToken,
    acceptors: TaskTracker,
    /// No more requests on the connections that are there.
    quit: CancellationToken,
    /// We were asked to end.
    stop: CancellationToken,
    /// The time to drain is over.
    kill: CancellationToken,
}

/// The table that the proxy of this snapshot served last; empty if there is none.
pub fn last_table(snapshot: &std::path::Path) -> crate::model::RouteTable {
    snapshot::load(snapshot)
}

/// What a proxy begins with.
struct Beginning {
    lock: Lock,
    sockets: Sockets,
    table: RouteTable,
    gone: Vec<Target>,
    /// The proxy before us, which goes on until we are ready.
    before: Option<Waiting>,
}

/// Runs the proxy until `stop` or until another one takes over, then lets
/// requests in flight finish.
///
/// # Errors
/// Only before the first request is taken: another proxy holds the lock or goes
/// on, or the HTTP address can't be listened on.
pub async fn run(mut options: ProxyOptions, stop: CancellationToken) -> Result<(), ProxyError> {
    options.limits.fit_into(raise_file_limit());
    let Beginning { mut lock, mut sockets, table, gone, before } = Beginning::of(&mut options).await?;
    let listened = |source| ProxyError::Listen { address: options.http_listen, source };
    let bound = Bound {
        http: sockets.address().map_err(listened)?,
        https: sockets.https_address(),
        metrics: sockets.metrics_address(),
    };
    let tls = bound.https.map(|_| Tls::new(&snapshot::load_certificates(&options.certificates)));
    let secured = (tls.transpose()?, (bound.http.port(), bound.https.map_or(0, |address| address.port())));
    let shared = Arc::new(Shared::new((table, gone), secured, (options.limits, options.front), &stop));
    for socket in &sockets.http {
        shared.accept(Arc::clone(socket), Entry::Hosts);
    }
    for socket in &sockets.https {
        shared.accept(Arc::clone(socket), Entry::Https);
    }
    if let Some(socket) = &sockets.metrics {
        shared.acceptors.spawn(scrape::serve(Arc::clone(&shared), Arc::clone(socket)));
    }
    let mut ports = Ports::new(Arc::clone(&shared), std::mem::take(&mut sockets.ports));
    ports.open(&Board::ports(&shared.board.table()));
    let ports = Arc::new(Mutex::new(ports));
    let keeper = Keeper::new(options.snapshot, &shared);
    let link = Link {
        shared: Arc::clone(&shared),
        ports: Arc::clone(&ports),
        socket: options.socket,
        changed: Arc::clone(&keeper.changed),
        certificates: options.certificates,
    };
    let upkeep = async { tokio::join!(link.follow(), sweep(&shared)) };
    tokio::pin!(upkeep);
    tokio::select! {
        begun = begin(&shared, before, &mut lock, &options.lock) => begun?,
        _ = &mut upkeep => {}
    }
    let listener = handover::listen(&options.handover);
    info!(http = %bound.http, https = ?bound.https, metrics = ?bound.metrics, "proxy listening");
    if let Some(ready) = options.ready {
        let _ = ready.send(bound);
    }
    let Sockets { http, https, metrics, .. } = sockets;
    let handover = Handover { shared: Arc::clone(&shared), http, https, metrics, ports, lock, listener };
    let succeeded = tokio::select! {
        () = shared.stop.cancelled() => false,
        () = handover.wait() => true,
        _ = &mut upkeep => false,
    };
    // Until the last request has ended: the successor has it now, or it tells
    // others that this proxy still has requests.
    let _lock = handover.close(succeeded).await;
    tokio::select! {
        // First, or one without requests is gone before it has said that it retires.
        biased;
        _ = &mut upkeep => {}
        () = drain(&shared, succeeded) => {}
    }
    keeper.close().await;
    Ok(())
}

impl Beginning {
    /// The proxy before us has it all; or there is none, and we begin from the disk.
    async fn of(options: &mut ProxyOptions) -> Result<Self, ProxyError> {
        let given = std::mem::take(&mut options.sockets);
        if options.upgrade
            && let Some(before) = Predecessor::meet(&options.handover).await?
        {
            let Predecessor { waiting, lock, mut sockets, table, gone } = before;
            sockets.open_https(options.https_listen)?;
            sockets.open_metrics(options.metrics_listen);
            return Ok(Self { lock, sockets, table, gone, before: Some(waiting) });
        }
        let lock = Lock::take(&options.lock)?;
        let mut sockets = Sockets::open(given, options.http_listen, options.https_listen)?;
        sockets.open_metrics(options.metrics_listen);
        Ok(Self { lock, sockets, table: snapshot::load(&options.snapshot), gone: Vec::new(), before: None })
    }
}

/// Our turn to accept: at once, or when the proxy before us has ended to, for
/// which we know the routes first.
async fn begin(
    shared: &Shared,
    before: Option<Waiting>,
    lock: &mut Lock,
    path: &Path,
) -> Result<(), ProxyError> {
    if let Some(before) = before {
        if tokio::time::timeout(LINKED, shared.linked.cancelled()).await.is_err() {
            warn!("the control plane sends no routes; taking over with those of the proxy before");
        }
        before.take_over().await?;
        // The one before us has ended to accept: from here on there is no way back.
        if let Err(error) = lock.claim() {
            warn!(path = %path.display(), %error, "the lock file still names the proxy before");
        }
    }
    shared.begin.cancel();
    Ok(())
}

impl Shared {
    fn new(
        (table, gone): (RouteTable, Vec<Target>),
        (tls, web_ports): (Option<Tls>, (u16, u16)),
        (limits, front): (ProxyLimits, Front),
        stop: &CancellationToken,
    ) -> Self {
        Self {
            board: Board::new(table, gone),
            passwords: Passwords::new(),
            tls,
            web_ports,
            places: Places::new(limits.connections, limits.requests),
            peers: Peers::new(limits.connections_per_peer, limits.requests_per_peer),
            limits,
            front,
            census: Arc::default(),
            relieved: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            leaving: AtomicBool::new(false),
            begin: CancellationToken::new(),
            linked: CancellationToken::new(),
            accepting: stop.child_token(),
            acceptors: TaskTracker::new(),
            quit: stop.child_token(),
            stop: stop.clone(),
            kill: CancellationToken::new(),
        }
    }

    fn accept(self: &Arc<Self>, socket: Arc<tokio::net::TcpListener>, entry: Entry) {
        let accepting = listener::accept(Arc::clone(self), socket, entry, self.accepting.clone());
        self.acceptors.spawn(accepting);
    }

    /// Whether the word of this peer on where requests come from is believed.
    fn trusts(&self, peer: std::net::IpAddr) -> bool {
        front::trusts(&self.front, peer)
    }

    /// Accepts no more; clients with a connection are told to make another one.
    async fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.accepting.cancel();
        self.acceptors.close();
        self.acceptors.wait().await;
    }

    /// Lets go of what is only kept in case it is used again, if it is files that are
    /// short: without a port to be had, closing connections would take even more of them.
    fn relieve(&self, error: &std::io::Error) {
        let (now, before) = (upstream::clock(), self.relieved.load(Ordering::Relaxed));
        let is_due = now.saturating_sub(before) >= upstream::millis(RELIEF);
        if !is_due || !upstream::is_for_files(error) {
            return;
        }
        let (set, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.relieved.compare_exchange(before, now, set, failed).is_ok() {
            self.board.close_idle();
            self.places.relieve();
        }
    }

    /// Whether the next answer on a connection is its last.
    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}

async fn sweep(shared: &Shared) {
    loop {
        tokio::time::sleep(SWEEP).await;
        shared.board.sweep();
    }
}

/// Requests in flight may finish, for a while; and for longer if nobody waits.
async fn drain(shared: &Shared, succeeded: bool) {
    shared.tasks.close();
    if succeeded {
        let linger = tokio::time::timeout(shared.limits.linger, shared.tasks.wait());
        let _ = shared.stop.run_until_cancelled(linger).await;
        shared.quit.cancel();
        let farewell = tokio::time::timeout(shared.limits.farewell, shared.tasks.wait());
        let _ = shared.stop.run_until_cancelled(farewell).await;
    }
    if tokio::time::timeout(shared.limits.drain, shared.tasks.wait()).await.is_err() {
        warn!(connections = shared.tasks.len(), "connections cut off: they did not finish in time");
        shared.kill.cancel();
        shared.tasks.wait().await;
    }
}

/// One connection is two files; the usual soft limit of 1024 is soon reached. Returns
/// how many there may be.
fn raise_file_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((FILES, FILES));
    let wanted = FILES.min(hard);
    if soft >= wanted {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(error) => {
            warn!(%error, "can't raise the limit of open files");
            soft
        }
    }
}

/// Parsers of what strangers send, for `fuzz/` alone.
#[doc(hidden)]
pub mod fuzzed {
    pub use super::forwarded::is_valid as forwarded;
    pub use super::preamble::parse as preamble;

    /// The host of a `Host` header.
    pub fn host(text: &[u8]) -> Option<String> {
        super::request::host_of(text)
    }

    /// Whether a client's bytes can be read in one way only.
    pub fn framing(bytes: &[u8]) -> bool {
        super::framing::Framing::new().read(bytes).is_ok()
    }
}
