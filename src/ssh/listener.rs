//! Accepting clients: counted, timed, and going on when the system is short of
//! descriptors.

use super::channel::Stop;
use super::connection::{Connection, Milestones};
use super::input::Disk;
use super::socket::{self, Socket};
use super::{Config, Door, Limits, SshError};
use russh::keys::PrivateKey;
use russh::server::{RunningSession, run_stream};
use russh::{Disconnect, MethodKind, MethodSet, Preferred, SshId};
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
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
    pub(super) disk: Arc<Disk>,
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
            disk: Disk::new(spill_dir, limits.input_disk_total),
            limits,
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
    async fn attend(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr, seat: Seat) {
        let (cut, milestones, tcp) = (CancellationToken::new(), Milestones::default(), Arc::new(tcp));
        // Whatever ends this function ends the library's task too.
        let _cut_at_the_end = cut.clone().drop_guard();
        let connection = Connection::new(Arc::clone(&self), Arc::clone(&tcp), peer, milestones.clone());
        let socket = Socket::new(Arc::clone(&tcp), cut);
        let session = tokio::select! {
            session = self.log_in(socket, connection, &milestones.logged_in) => session,
            () = tokio::time::sleep(self.limits.login_time) => {
                return tracing::info!(%peer, "connection closed: no login in time");
            }
            () = seat.ousted.cancelled() => {
                return tracing::info!(%peer, "connection closed: newer ones want to log in");
            }
            () = self.closing.cancelled() => return,
        };
        seat.logged_in();
        let ended = match session {
            Ok(Some(session)) => self.converse(session, &milestones.revoked).await,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%peer, %error, "connection ended before login"),
        };
        if let Err(error) = ended {
            tracing::info!(%peer, %error, "connection ended");
            socket::linger(&tcp).await;
        }
    }

    /// The session once its client has logged in; nothing if it left before.
    async fn log_in(
        &self,
        socket: Socket,
        connection: Connection<D>,
        logged_in: &CancellationToken,
    ) -> Result<Option<RunningSession<Connection<D>>>, russh::Error> {
        let mut session = run_stream(Arc::clone(&self.protocol), socket, connection).await?;
        tokio::select! {
            result = &mut session => result.map(|()| None),
            () = logged_in.cancelled() => Ok(Some(session)),
        }
    }

    async fn converse(
        &self,
        session: RunningSession<Connection<D>>,
        revoked: &CancellationToken,
    ) -> Result<(), russh::Error> {
        let handle = session.handle();
        let mut session = pin!(session);
        let words = tokio::select! {
            result = session.as_mut() => return result,
            () = revoked.cancelled() => "This key was removed",
            () = self.closing.cancelled() => "The server is stopping",
        };
        let goodbye = async {
            handle.disconnect(Disconnect::ByApplication, words.to_owned(), String::new()).await?;
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

/// Who is here: connections by address, and those that have not logged in.
#[derive(Default)]
struct Census(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    open: usize,
    by_address: HashMap<IpAddr, usize>,
    /// Oldest first.
    strangers: VecDeque<(u64, CancellationToken)>,
    /// How many ever came.
    ever: u64,
}

/// One counted connection.
struct Seat {
    census: Arc<Census>,
    address: IpAddr,
    number: u64,
    /// Cancelled when a newer stranger takes this one's place.
    ousted: CancellationToken,
}

impl Census {
    fn counts<T>(&self, with: impl FnOnce(&mut Counts) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A seat, unless all or those of the address are taken. Logging in takes a
    /// moment and idling takes for ever, so of too many strangers the oldest
    /// goes: idle ones can't keep anybody out.
    fn seat(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Option<Seat> {
        let (address, ousted) = (neighbourhood(address), CancellationToken::new());
        let number = self.counts(|counts| {
            let here = counts.by_address.get(&address).copied().unwrap_or(0);
            if counts.open >= limits.connections || here >= limits.connections_per_address {
                return None;
            }
            if counts.strangers.len() >= limits.logins
                && let Some((_, oldest)) = counts.strangers.pop_front()
            {
                oldest.cancel();
            }
            counts.open += 1;
            counts.ever += 1;
            counts.by_address.insert(address, here + 1);
            counts.strangers.push_back((counts.ever, ousted.clone()));
            Some(counts.ever)
        })?;
        Some(Seat { census: Arc::clone(self), address, number, ousted })
    }
}

impl Seat {
    /// No stranger any more.
    fn logged_in(&self) {
        self.census.counts(|counts| counts.strangers.retain(|(number, _)| *number != self.number));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.logged_in();
        self.census.counts(|counts| {
            counts.open -= 1;
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
        let limits = Limits { connections: 3, connections_per_address: 2, ..Limits::default() };
        let census = Arc::<Census>::default();
        let [a, b]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "::ffff:10.0.0.2".parse().unwrap()];
        let two = [(); 2].map(|()| census.seat(a, &limits).unwrap());
        assert!(census.seat(a, &limits).is_none(), "two of an address at most");
        let third = census.seat(b, &limits).unwrap();
        assert!(census.seat("10.0.0.3".parse().unwrap(), &limits).is_none(), "three at most");
        drop((two, third));
        census.counts(|counts| {
            assert_eq!((counts.open, counts.strangers.len(), counts.by_address.len()), (0, 0, 0));
        });
    }

    #[test]
    fn of_too_many_strangers_the_oldest_goes() {
        let limits = Limits { logins: 2, ..Limits::default() };
        let census = Arc::<Census>::default();
        let seats = [1, 2, 3, 4].map(|last| {
            let seat = census.seat(IpAddr::from([10, 0, 0, last]), &limits).unwrap();
            if last == 1 {
                seat.logged_in();
            }
            seat
        });
        assert_eq!(seats.map(|seat| seat.ousted.is_cancelled()), [false, true, false, false]);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let [a, b]: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "2001:db8::ffff:2".parse().unwrap()];
        assert_eq!(neighbourhood(a), neighbourhood(b));
    }
}
