//! Load balancers and proxies in front of us: whom we believe what it says of
//! where a connection or a request comes from.

use super::Shared;
use super::preamble::{self, Preamble};
use super::routing::Entry;
use crate::settings::Front;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Before looking again for the rest of a preamble; doubles each time.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether this address is believed.
pub(super) fn trusts(front: &Front, address: IpAddr) -> bool {
    front.trusted.iter().any(|net| net.contains(&address))
}

/// The two ends of a client's connection.
pub(super) struct Ends {
    /// The client's address.
    pub(super) client: IpAddr,
    /// The address that it connected to.
    pub(super) to: SocketAddr,
    /// Whether its word on where requests come from is believed.
    pub(super) trusted: bool,
}

/// The ends as a trusted peer's preamble names them; or those of the connection itself.
pub(super) async fn ends(
    shared: &Shared,
    stream: &mut TcpStream,
    peer: IpAddr,
    entry: Entry,
) -> io::Result<Ends> {
    let own = Ends { client: peer, to: stream.local_addr()?, trusted: shared.trusts(peer) };
    let is_app_port = matches!(entry, Entry::Port(_));
    if is_app_port || !shared.front.protocol || !own.trusted {
        return Ok(own);
    }
    let reading = tokio::time::timeout(shared.limits.header, read(stream));
    let named = reading.await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(match named {
        Some((from, to)) => {
            let client = from.ip().to_canonical();
            Ends { client, to, trusted: shared.trusts(client) }
        }
        // It does not know who that is, or asks for itself: no word of its own either.
        None => Ends { trusted: false, ..own },
    })
}

/// Reads the preamble and not a byte more: what follows may be a handshake.
async fn read(stream: &mut TcpStream) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let (mut bytes, mut pause) = (vec![0; preamble::LONGEST], PAUSE);
    loop {
        let length = stream.peek(&mut bytes).await?;
        match preamble::parse(&bytes[..length]) {
            Preamble::Complete { length, addresses } => {
                stream.read_exact(&mut bytes[..length]).await?;
                return Ok(addresses);
            }
            Preamble::Partial if length > 0 => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Preamble::Partial | Preamble::Invalid => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
