//! Accepting clients: counted, timed, and going on when the system is short of
//! descriptors.

use super::channel::Stop;
use super::connection::Connection;
use super::socket::{self, Socket};
use super::{Config, Door, Limits, SshError};
use russh::keys::PrivateKey;
use russh::server::{RunningSession, run_stream};
use russh::{Disconnect, MethodKind, MethodSet, Preferred, SshId};
use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Window that a client may fill before we grant more; enough for 1 Gbit/s
/// over 60 ms.
const WINDOW: u32 = 8 << 20;
/// Pause after the system refused a connection (EMFILE and the like).
const BREATHER: Duration = Duration::from_millis(100);
/// Time for clients to take their leave when we stop.
const FAREWELL: Duration = Duration::from_secs(2);

/// What all connections share.
pub(super) struct Server<D: Door> {
    pub(super) door: Arc<D>,
    pub(super) limits: Limits,
    pub(super) spill_dir: PathBuf,
    pub(super) commands: TaskTracker,
    pub(super) stopping: CancellationToken,
    pub(super) stop: Stop,
    closing: CancellationToken,
    connections: TaskTracker,
    census: Arc<Census>,
    protocol: Arc<russh::server::Config>,
}

/// Serves until `stop` is cancelled, then lets running commands end (see
/// [`Limits::grace`]) and closes all connections.
pub async fn serve<D: Door>(
    listener: TcpListener,
    config: Config,
    door: Arc<D>,
    stop: CancellationToken,
) -> Result<(), SshError> {
    let address = listener.local_addr().map_err(SshError::Listener)?;
    tracing::info!(%address, "SSH is open");
    let server = Arc::new(Server::new(config, door, stop.clone()));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((tcp, peer)) => Arc::clone(&server).receive(tcp, peer),
            Err(error) => {
                tracing::warn!(%error, "cannot accept an SSH connection");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
    drop(listener);
    server.wind_up().await;
    Ok(())
}

/// How we speak: public keys only, no compression, keepalives in place of an
/// inactivity time-out, which would end a silent long build.
fn protocol(key: PrivateKey, limits: &Limits) -> russh::server::Config {
    russh::server::Config {
        server_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-paas_", env!("CARGO_PKG_VERSION")))),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(50),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        window_size: WINDOW,
        preferred: Preferred {
            compression: Cow::Borrowed(&[russh::compression::NONE]),
            ..Preferred::DEFAULT
        },
        inactivity_timeout: None,
        keepalive_interval: Some(limits.keepalive),
        keepalive_max: 3,
        event_buffer_size: 16,
        ..russh::server::Config::default()
    }
}

impl<D: Door> Server<D> {
    fn new(config: Config, door: Arc<D>, stopping: CancellationToken) -> Self {
        let Config { key, spill_dir, limits } = config;
        Self {
            protocol: Arc::new(protocol(key, &limits)),
            door,
            limits,
            spill_dir,
            commands: TaskTracker::new(),
            stopping,
            stop: Stop::default(),
            closing: CancellationToken::new(),
            connections: TaskTracker::new(),
            census: Arc::default(),
        }
    }

    /// Takes a client in, or closes at once if there are too many.
    fn receive(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let Some(seat) = self.census.seat(peer.ip(), &self.limits) else {
            tracing::warn!(%peer, "connection refused: too many are open");
            return;
        };
        let tracker = self.connections.clone();
        tracker.spawn(self.attend(tcp, peer, seat));
    }

    /// One connection from its first byte to its last.
    async fn attend(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr, mut seat: Seat) {
        let (cut, logged_in, tcp) = (CancellationToken::new(), CancellationToken::new(), Arc::new(tcp));
        // Whatever ends this function ends the library's task too.
        let _cut_at_the_end = cut.clone().drop_guard();
        let connection = Connection::new(Arc::clone(&self), Arc::clone(&tcp), peer, logged_in.clone());
        let socket = Socket::new(Arc::clone(&tcp), cut);
        let login = async {
            let mut session = run_stream(Arc::clone(&self.protocol), socket, connection).await?;
            tokio::select! {
                result = &mut session => result.map(|()| None),
                () = logged_in.cancelled() => Ok(Some(session)),
            }
        };
        let session = match timeout(self.limits.login_time, self.closing.run_until_cancelled(login)).await {
            Ok(Some(Ok(Some(session)))) => session,
            Ok(Some(Err(error))) => return tracing::debug!(%peer, %error, "connection ended before login"),
            Ok(_) => return,
            Err(_) => return tracing::info!(%peer, "connection closed: no login in time"),
        };
        seat.logged_in();
        if let Err(error) = self.converse(session).await {
            tracing::info!(%peer, %error, "connection ended");
            socket::linger(&tcp).await;
        }
    }

    async fn converse(&self, session: RunningSession<Connection<D>>) -> Result<(), russh::Error> {
        let handle = session.handle();
        let mut session = pin!(session);
        if let Some(result) = self.closing.run_until_cancelled(session.as_mut()).await {
            return result;
        }
        let goodbye = async {
            let words = "The server is stopping".to_owned();
            handle.disconnect(Disconnect::ByApplication, words, String::new()).await?;
            session.await
        };
        timeout(FAREWELL, goodbye).await.unwrap_or(Ok(()))
    }

    /// Ends commands, then connections.
    async fn wind_up(&self) {
        self.commands.close();
        self.connections.close();
        if within(self.limits.grace, self.commands.wait()).await.is_none() {
            self.stop.interrupt.cancel();
            if within(self.limits.grace, self.commands.wait()).await.is_none() {
                tracing::warn!(count = self.commands.len(), "commands dropped: they did not end in time");
            }
        }
        self.stop.abort.cancel();
        self.commands.wait().await;
        // Clients whose command has ended leave by themselves; a disconnect
        // would hide the exit status from them.
        let _ = within(FAREWELL / 4, self.connections.wait()).await;
        self.closing.cancel();
        self.connections.wait().await;
    }
}

async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    timeout(time, future).await.ok()
}

/// Who is here: connections by address, and how many have not logged in.
#[derive(Default)]
struct Census(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    open: usize,
    strangers: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One counted connection.
struct Seat {
    census: Arc<Census>,
    address: IpAddr,
    stranger: bool,
}

impl Census {
    fn counts<T>(&self, with: impl FnOnce(&mut Counts) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn seat(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Option<Seat> {
        let address = neighbourhood(address);
        let granted = self.counts(|counts| {
            let here = counts.by_address.get(&address).copied().unwrap_or(0);
            let room = counts.open < limits.connections
                && counts.strangers < limits.logins
                && here < limits.connections_per_address;
            if room {
                counts.open += 1;
                counts.strangers += 1;
                counts.by_address.insert(address, here + 1);
            }
            room
        });
        granted.then(|| Seat { census: Arc::clone(self), address, stranger: true })
    }
}

impl Seat {
    fn logged_in(&mut self) {
        self.stranger = false;
        self.census.counts(|counts| counts.strangers -= 1);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.census.counts(|counts| {
            counts.open -= 1;
            counts.strangers -= usize::from(self.stranger);
            if let Some(here) = counts.by_address.get_mut(&self.address) {
                *here -= 1;
                if *here == 0 {
                    counts.by_address.remove(&self.address);
                }
            }
        });
    }
}

/// One household has one IPv4 address or one IPv6 /64.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() & !u128::from(u64::MAX)).into()),
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn seats_are_limited_and_given_back() {
        let limits = Limits { connections: 3, connections_per_address: 2, logins: 2, ..Limits::default() };
        let census = Arc::<Census>::default();
        let [a, b]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "::ffff:10.0.0.2".parse().unwrap()];
        let mut first = census.seat(a, &limits).unwrap();
        let second = census.seat(a, &limits).unwrap();
        assert!(census.seat(b, &limits).is_none(), "two strangers at most");
        first.logged_in();
        assert!(census.seat(a, &limits).is_none(), "two of an address at most");
        let mut third = census.seat(b, &limits).unwrap();
        third.logged_in();
        assert!(census.seat("10.0.0.3".parse().unwrap(), &limits).is_none(), "three at most");
        drop((first, second, third));
        census.counts(|counts| {
            assert_eq!((counts.open, counts.strangers, counts.by_address.len()), (0, 0, 0));
        });
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let [a, b]: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "2001:db8::ffff:2".parse().unwrap()];
        assert_eq!(neighbourhood(a), neighbourhood(b));
    }
}
