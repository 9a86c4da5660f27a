//! The sockets that the proxy listens on: systemd's, those of the proxy before
//! it, or its own.

use super::ProxyError;
use super::board::Entry;
use super::listener::listen;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Listening sockets, by what they are for.
#[derive(Default)]
pub(super) struct Sockets {
    /// The HTTP address; one at least.
    pub(super) http: Vec<Arc<TcpListener>>,
    /// The apps' own ports.
    pub(super) ports: BTreeMap<u16, Vec<Arc<TcpListener>>>,
}

impl Sockets {
    /// Those that were given to us; if there is none, one at `address`.
    pub(super) fn open(given: Vec<std::net::TcpListener>, address: SocketAddr) -> Result<Self, ProxyError> {
        let failed = |source| ProxyError::Listen { address, source };
        let mut http = Vec::new();
        for socket in given {
            http.push(Arc::new(adopt(socket).map_err(failed)?));
        }
        if http.is_empty() {
            http.push(Arc::new(listen(address).map_err(failed)?));
        }
        Ok(Self { http, ports: BTreeMap::new() })
    }

    /// Those of the proxy before us.
    pub(super) fn from_descriptors(
        descriptors: impl IntoIterator<Item = (Entry, OwnedFd)>,
    ) -> io::Result<Self> {
        let mut sockets = Self::default();
        for (entry, descriptor) in descriptors {
            let socket = Arc::new(adopt(std::net::TcpListener::from(descriptor))?);
            match entry {
                Entry::Hosts => sockets.http.push(socket),
                Entry::Port(port) => sockets.ports.entry(port).or_default().push(socket),
            }
        }
        Ok(sockets)
    }

    /// The HTTP address as it was bound.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.http.first().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }
}

/// HTTP sockets and ports in the form in which they are handed over.
pub(super) fn described<'a>(
    http: &'a [Arc<TcpListener>],
    ports: impl IntoIterator<Item = (u16, &'a Arc<TcpListener>)>,
) -> (Vec<Entry>, Vec<BorrowedFd<'a>>) {
    let http = http.iter().map(|socket| (Entry::Hosts, socket));
    let ports = ports.into_iter().map(|(port, socket)| (Entry::Port(port), socket));
    http.chain(ports).map(|(entry, socket)| (entry, socket.as_fd())).unzip()
}

fn adopt(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}
