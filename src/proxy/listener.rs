//! Accepting connections, within limits, and serving HTTP on them, in TLS or not.

use super::Shared;
use super::client::Client;
use super::client_stream::ClientStream;
use super::forward;
use super::front;
use super::http2;
use super::routing::Entry;
use super::tls;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::collections::hash_map;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections that wait for `accept`, per address.
const BACKLOG: u32 = 4096;
/// Pause after a failed `accept`, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The longest request head, in bytes; longer ones get 431.
const HEAD_LIMIT: usize = 64 * 1024;

/// Listens on `address`, with SO_REUSEADDR.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until `close`, from when it is our turn; the connections live on.
pub(super) async fn accept(
    shared: Arc<Shared>,
    listener: Arc<TcpListener>,
    entry: Entry,
    close: CancellationToken,
) {
    let accepting = async {
        shared.begin.cancelled().await;
        loop {
            // First a place among all connections: until there is one, clients
            // wait in the socket's queue, where the next proxy finds them.
            let Ok(permit) = Arc::clone(&shared.places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, peer)) => admit(&shared, stream, peer.ip().to_canonical(), entry, permit),
                Err(error) => {
                    warn!(%error, "can't accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    close.run_until_cancelled(accepting).await;
}

/// Starts serving a connection, if its address has not its fill.
fn admit(shared: &Arc<Shared>, stream: TcpStream, peer: IpAddr, entry: Entry, permit: OwnedSemaphorePermit) {
    // A load balancer brings everybody's.
    let counted = if shared.trusts(peer) { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { peer };
    let Some(seat) = shared.peers.admit(counted) else {
        debug!(%peer, "too many connections from one address");
        return;
    };
    let shared = Arc::clone(shared);
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let _held = (seat, permit);
        serve(shared, stream, peer, entry).await;
    });
}

async fn serve(shared: Arc<Shared>, mut stream: TcpStream, peer: IpAddr, entry: Entry) {
    let ends = match shared.quit.run_until_cancelled(front::ends(&shared, &mut stream, peer, entry)).await {
        Some(Ok(ends)) => ends,
        Some(Err(error)) => return debug!(%peer, %error, "a connection without a preamble"),
        None => return,
    };
    let peer = ends.0;
    let Ok(mut client) = Client::new(Arc::clone(&shared), &stream, ends, entry) else {
        return;
    };
    let Some(tls) = shared.tls.as_ref().filter(|_| entry == Entry::Https) else {
        match shared.quit.run_until_cancelled(http2::is_spoken(&shared, &stream)).await {
            Some(Ok(true)) => http2::serve(&shared, stream, client).await,
            Some(Ok(false)) => serve_http1(shared, stream, peer, client).await,
            Some(Err(_)) | None => {}
        }
        return;
    };
    let handshake = tls.shake_hands(stream, shared.limits.header);
    match shared.quit.run_until_cancelled(handshake).await {
        Some(Ok(Some(stream))) => {
            let session = stream.get_ref().1;
            client.server_name = session.server_name().map(str::to_ascii_lowercase);
            if session.alpn_protocol() == Some(tls::HTTP2) {
                http2::serve(&shared, stream, client).await;
            } else {
                serve_http1(Arc::clone(&shared), stream, peer, client).await;
            }
        }
        Some(Err(error)) => debug!(%peer, %error, "a handshake failed"),
        Some(Ok(None)) | None => {}
    }
}

async fn serve_http1<S>(shared: Arc<Shared>, stream: S, peer: IpAddr, client: Client)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = Arc::new(client);
    let service = service_fn(move |request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(forward::answer(&client, request).await) }
    });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.idle)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(ClientStream::new(stream, &shared.limits)), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shared.quit.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = shared.kill.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a client's connection ended");
    }
}

/// Connections per address; loopback is not counted.
pub(super) struct Peers {
    limit: u32,
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// A connection's count, given back when dropped.
pub(super) struct Seat {
    peer: Option<IpAddr>,
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Peers {
    /// At most `limit` connections per IPv4 address or IPv6 /64.
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, counts: Arc::default() }
    }

    /// Counts one more connection, unless the address has its fill.
    pub(super) fn admit(&self, peer: IpAddr) -> Option<Seat> {
        let counts = Arc::clone(&self.counts);
        if peer.is_loopback() {
            return Some(Seat { peer: None, counts });
        }
        let peer = network(peer);
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(peer).or_insert(0);
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Seat { peer: Some(peer), counts })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let hash_map::Entry::Occupied(mut count) = all.entry(peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Whoever has one IPv6 address has the /64 around it.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_fill_and_gets_it_back() {
        let peers = Peers::new(2);
        let first = peers.admit(address("192.0.2.1"));
        let second = peers.admit(address("192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(peers.admit(address("192.0.2.1")).is_none());
        assert!(peers.admit(address("192.0.2.2")).is_some());
        drop(first);
        let third = peers.admit(address("192.0.2.1"));
        assert!(third.is_some());
        drop((second, third));
        assert!(peers.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_and_loopback_not_at_all() {
        let peers = Peers::new(1);
        let _first = peers.admit(address("2001:db8::1")).unwrap();
        assert!(peers.admit(address("2001:db8::ffff:1")).is_none());
        assert!(peers.admit(address("2001:db8:0:1::1")).is_some());
        let local: Vec<_> = (0..5).map(|_| peers.admit(address("127.0.0.1")).unwrap()).collect();
        assert_eq!(local.len(), 5);
    }
}
