//! Accepting connections, within limits, and serving HTTP on them, in TLS or not.

use super::Shared;
use super::client::Client;
use super::front;
use super::http1;
use super::http2;
use super::peers::Seat;
use super::places::Place;
use super::routing::Entry;
use super::tls::{self, Tls};
use rustix::net::sockopt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections that wait for `accept`, per address.
const BACKLOG: u32 = 4096;
/// Pause after a failed `accept`, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A client or an app of which nothing is heard for so long is asked whether it is
/// there, this often and so many times.
const SILENCE: Duration = Duration::from_secs(60);
const PROBE: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
/// How long what was sent may stay unconfirmed, in milliseconds; over the time that
/// clients may take to read on.
const UNCONFIRMED: u32 = 90_000;

/// Listens on `address`, with SO_REUSEADDR.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    end_with_the_client(&listener)?;
    Ok(listener)
}

/// Connections that are accepted here end when their client has vanished: they have
/// from their listening socket what is set on it.
pub(super) fn end_with_the_client(listener: &impl AsFd) -> io::Result<()> {
    keep_alive(listener)?;
    Ok(sockopt::set_tcp_user_timeout(listener, UNCONFIRMED)?)
}

/// Has the system ask whether the other side of a silent connection is still there.
pub(super) fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    sockopt::set_tcp_keepidle(socket, SILENCE)?;
    sockopt::set_tcp_keepintvl(socket, PROBE)?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    Ok(sockopt::set_socket_keepalive(socket, true)?)
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
        listener.accept().await
    };
    let mut accepted = close.run_until_cancelled(accepting).await;
    while let Some(result) = accepted {
        match result {
            Ok((stream, peer)) => {
                // All others wait in the socket's queue, where the next proxy finds
                // them; this one has been taken out of it, and is served.
                let permit = shared.places.permit(&close).await;
                admit(&shared, stream, peer.ip().to_canonical(), entry, permit);
            }
            Err(error) => {
                warn!(%error, "can't accept a connection; trying again");
                shared.relieve(&error);
                close.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
            }
        }
        accepted = close.run_until_cancelled(listener.accept()).await;
    }
}

/// Starts serving a connection, if its address has not its fill.
fn admit(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: IpAddr,
    entry: Entry,
    permit: Option<OwnedSemaphorePermit>,
) {
    // A load balancer brings everybody's.
    let counted = if shared.trusts(peer) { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { peer };
    let Some(seat) = shared.peers.admit(counted) else {
        shared.census.refused();
        debug!(%peer, "too many connections from one address");
        return;
    };
    let shared = Arc::clone(shared);
    let tasks = shared.tasks.clone();
    let connected = shared.census.connected(entry);
    tasks.spawn(async move {
        let _connected = connected;
        serve(shared, stream, (peer, entry), (seat, permit)).await;
    });
}

async fn serve(
    shared: Arc<Shared>,
    mut stream: TcpStream,
    (peer, entry): (IpAddr, Entry),
    (mut seat, permit): (Seat, Option<OwnedSemaphorePermit>),
) {
    let ends = match shared.quit.run_until_cancelled(front::ends(&shared, &mut stream, peer, entry)).await {
        Some(Ok(ends)) => ends,
        Some(Err(error)) => return debug!(%peer, %error, "a connection without a preamble"),
        None => return,
    };
    if ends.client != peer {
        // Whom the load balancer names is counted by his own address.
        let Some(own) = shared.peers.admit(ends.client) else {
            shared.census.refused();
            return debug!(peer = %ends.client, "too many connections from one address");
        };
        seat = own;
    }
    let place = shared.places.take(permit, seat, shared.quit.child_token());
    let Ok(client) = Client::new(Arc::clone(&shared), &stream, ends, entry, Arc::clone(&place)) else {
        return;
    };
    let tls = shared.tls.as_ref().filter(|_| entry == Entry::Https);
    // Each in a box of its own: what most connections are most of the time is to be small.
    match tls {
        Some(tls) => Box::pin(serve_tls(&shared, tls, stream, client, &place)).await,
        None => match Box::pin(place.leave().run_until_cancelled(http2::is_spoken(&shared, &stream))).await {
            Some(Ok(true)) => Box::pin(http2::serve(&shared, stream, client, &place)).await,
            Some(Ok(false)) => http1::serve(&shared, stream, client, &place).await,
            Some(Err(_)) | None => {}
        },
    }
}

async fn serve_tls(shared: &Arc<Shared>, tls: &Tls, stream: TcpStream, mut client: Client, place: &Place) {
    let peer = client.origin.client;
    let handshake = Box::pin(tls.shake_hands(stream, shared.limits.header));
    match place.leave().run_until_cancelled(handshake).await {
        Some(Ok(Some(stream))) => {
            shared.census.shaken(true);
            let session = stream.get_ref().1;
            client.server_name = session.server_name().map(str::to_ascii_lowercase);
            if session.alpn_protocol() == Some(tls::HTTP2) {
                Box::pin(http2::serve(shared, stream, client, place)).await;
            } else {
                http1::serve(shared, stream, client, place).await;
            }
        }
        Some(Err(error)) => {
            shared.census.shaken(false);
            debug!(%peer, %error, "a handshake failed");
        }
        Some(Ok(None)) | None => {}
    }
}
