//! One target as the proxy sees it: its connections, and what is in flight.

use super::body::RequestBody;
use super::listener::keep_alive;
use super::queue::Queue;
use crate::model::Target;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tracing::debug;

/// A connection to a target, ready for one request at a time.
pub(super) type Sender = SendRequest<RequestBody>;

/// Set in `load` once a table has removed the target.
const RETIRED: u64 = 1 << 63;
/// What a request counts in `load`, and what each further part of one.
const REQUEST: u64 = 1;
const PART: u64 = 1 << 32;
/// Idle connections kept per target.
const POOL_LIMIT: usize = 512;
/// How long an idle connection is kept.
const POOL_AGE: Duration = Duration::from_secs(60);
/// How long a target gets no requests after a refused connection, while others are there.
const EJECTION: Duration = Duration::from_secs(1);
/// Bytes buffered per connection to a target; heads of responses must fit.
const BUFFER: usize = 128 * 1024;

/// A target with its connections.
pub(super) struct Upstream {
    /// Who it is.
    pub(super) target: Target,
    /// Requests in flight, further parts of them, and [`RETIRED`]: one word, so that
    /// "no longer used" and "one more" can't cross.
    load: AtomicU64,
    /// Requests that have come through a [`Queue`], whose lock guards this.
    held: AtomicU32,
    /// Requests so far that keep their app awake.
    uses: AtomicU64,
    /// Milliseconds on the process's own clock.
    ejected_until: AtomicU64,
    idle: Mutex<Vec<Idle>>,
    drained: Arc<Notify>,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

impl Upstream {
    /// A target without connections yet; `drained` is notified whenever its
    /// last request ends after it was retired.
    pub(super) fn new(target: Target, drained: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            target,
            load: AtomicU64::new(0),
            held: AtomicU32::new(0),
            uses: AtomicU64::new(0),
            ejected_until: AtomicU64::new(0),
            idle: Mutex::new(Vec::new()),
            drained,
        })
    }

    /// Counts one more request, unless the target has left the table.
    pub(super) fn enter(self: &Arc<Self>) -> Option<InFlight> {
        let before = self.load.fetch_add(REQUEST, Ordering::SeqCst);
        let entered = InFlight { upstream: Arc::clone(self), counts: REQUEST, queue: None };
        (before & RETIRED == 0).then_some(entered)
    }

    /// The same for a request that is told to a queue when it has ended; with its lock.
    pub(super) fn enter_from(self: &Arc<Self>, queue: &Arc<Queue>) -> Option<InFlight> {
        let mut entered = self.enter()?;
        self.held.fetch_add(1, Ordering::Relaxed);
        entered.queue = Some(Arc::clone(queue));
        Some(entered)
    }

    /// How many requests have come so and go on; with the queue's lock.
    pub(super) fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }

    /// One of them has ended; likewise.
    pub(super) fn let_go(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests in flight now.
    pub(super) fn in_flight(&self) -> u64 {
        self.load.load(Ordering::Relaxed) % PART
    }

    /// The same with further parts of them: none while nothing is under way.
    pub(super) fn under_way(&self) -> u64 {
        self.load.load(Ordering::Relaxed) & !RETIRED
    }

    /// A request that keeps its app awake has come.
    pub(super) fn used(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    /// Such requests so far.
    pub(super) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// No new request from now on; idle connections are closed.
    pub(super) fn retire(&self) {
        self.load.fetch_or(RETIRED, Ordering::SeqCst);
        self.connections().clear();
    }

    /// Takes requests again: a later table has put it back.
    pub(super) fn reinstate(&self) {
        self.load.fetch_and(!RETIRED, Ordering::SeqCst);
    }

    /// Whether it is retired and its last request has ended.
    pub(super) fn is_drained(&self) -> bool {
        self.load.load(Ordering::SeqCst) == RETIRED
    }

    /// Prefers other targets for a moment.
    pub(super) fn eject(&self) {
        let until = clock() + millis(EJECTION);
        self.ejected_until.store(until, Ordering::Relaxed);
    }

    /// Whether a connection was refused a moment ago.
    pub(super) fn is_ejected(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until != 0 && clock() < until
    }

    /// An idle connection that was used less than `age` ago.
    pub(super) fn take_idle(&self, age: Duration) -> Option<Sender> {
        let mut idle = self.connections();
        while let Some(last) = idle.pop() {
            if last.since.elapsed() > age {
                idle.push(last);
                return None;
            }
            if !last.sender.is_closed() {
                return Some(last.sender);
            }
        }
        None
    }

    /// Keeps a connection whose exchange is complete for the next request.
    pub(super) fn give_back(&self, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.connections();
        // Under the lock: `retire` sets the bit first and clears after.
        let retired = self.load.load(Ordering::SeqCst) & RETIRED != 0;
        if !retired && idle.len() < POOL_LIMIT {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Lets go of all idle connections.
    pub(super) fn close_idle(&self) {
        self.connections().clear();
    }

    /// Lets go of connections that are closed or have been idle for long.
    pub(super) fn sweep(&self) {
        self.connections().retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < POOL_AGE);
    }

    /// A fresh connection.
    pub(super) async fn connect(&self, limit: Duration) -> io::Result<Sender> {
        let connecting = TcpStream::connect(self.target.address);
        let stream = tokio::time::timeout(limit, connecting)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let _ = keep_alive(&stream);
        let (sender, connection) = Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        self.ejected_until.store(0, Ordering::Relaxed);
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "connection to an app ended");
            }
        });
        Ok(sender)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request in flight to a target; ends when dropped.
pub(super) struct InFlight {
    upstream: Arc<Upstream>,
    counts: u64,
    /// Who waits for its end.
    queue: Option<Arc<Queue>>,
}

impl InFlight {
    /// The target it is in flight to.
    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// A second part of the same request, such as its body, that may end later.
    pub(super) fn part(&self) -> Self {
        self.upstream.load.fetch_add(PART, Ordering::SeqCst);
        Self { upstream: Arc::clone(&self.upstream), counts: PART, queue: None }
    }

    /// Its end is told to nobody.
    pub(super) fn forget_queue(mut self) {
        self.queue = None;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.leave(&self.upstream);
        }
        let before = self.upstream.load.fetch_sub(self.counts, Ordering::SeqCst);
        if before == RETIRED | self.counts {
            self.upstream.drained.notify_one();
        }
    }
}

/// Whether it was for want of something of this machine's that there is no connection.
pub(super) fn is_our_own(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let own =
        [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL, Errno::EAGAIN, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|number| own.contains(&Errno::from_raw(number)))
}

/// Whether it was for want of files, of which there are more when some are closed.
pub(super) fn is_for_files(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let files = [Errno::EMFILE, Errno::ENFILE];
    error.raw_os_error().is_some_and(|number| files.contains(&Errno::from_raw(number)))
}

/// Milliseconds since the first call; never 0.
pub(super) fn clock() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    millis(START.get_or_init(Instant::now).elapsed()) + 1
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
