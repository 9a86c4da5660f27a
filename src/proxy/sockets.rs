//! The sockets that the proxy listens on: systemd's, those of the proxy before
//! it, or its own.

use super::ProxyError;
use super::listener::{end_with_the_client, listen};
use super::scrape;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::net::TcpListener;
use tracing::warn;

/// Where clients speak TLS, whatever is set.
const HTTPS: u16 = 443;

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Purpose {
    /// The HTTP address.
    Hosts,
    /// The HTTPS address.
    Https,
    /// An app's own port.
    Port(u16),
    /// Monitoring. Handed over only to those who know it.
    Metrics,
}

/// Listening sockets, by what they are for.
#[derive(Default)]
pub(super) struct Sockets {
    /// The HTTP address; one at least.
    pub(super) http: Vec<Arc<TcpListener>>,
    /// The HTTPS address; none if TLS is off.
    pub(super) https: Vec<Arc<TcpListener>>,
    /// The apps' own ports.
    pub(super) ports: BTreeMap<u16, Vec<Arc<TcpListener>>>,
    /// Where monitoring reads numbers.
    pub(super) metrics: Option<Arc<TcpListener>>,
}

impl Sockets {
    /// Those that were given to us, for HTTPS those with its port or 443; and our own
    /// where there is none.
    pub(super) fn open(
        given: Vec<std::net::TcpListener>,
        address: SocketAddr,
        secure: Option<SocketAddr>,
    ) -> Result<Self, ProxyError> {
        let failed = |source| ProxyError::Listen { address, source };
        let mut sockets = Self::default();
        for socket in given {
            let port = socket.local_addr().map_err(failed)?.port();
            let socket = Arc::new(adopt(socket).map_err(failed)?);
            match secure {
                Some(secure) if secure.port() == port || port == HTTPS => sockets.https.push(socket),
                // Nobody expects anything else there.
                None if port == HTTPS => warn!(port, "TLS is off: a socket that was given is closed"),
                _ => sockets.http.push(socket),
            }
        }
        if sockets.http.is_empty() {
            sockets.http.push(Arc::new(listen(address).map_err(failed)?));
        }
        sockets.open_https(secure)?;
        Ok(sockets)
    }

    /// One at `address`, if there is none; none without an address.
    pub(super) fn open_https(&mut self, address: Option<SocketAddr>) -> Result<(), ProxyError> {
        let Some(address) = address else {
            self.https.clear();
            return Ok(());
        };
        if self.https.is_empty() {
            let socket = listen(address).map_err(|source| ProxyError::Listen { address, source })?;
            self.https.push(Arc::new(socket));
        }
        Ok(())
    }

    /// The one for monitoring, as it is set now.
    pub(super) fn open_metrics(&mut self, address: Option<SocketAddr>) {
        self.metrics = scrape::open(address, self.metrics.take());
    }

    /// Those of the proxy before us.
    pub(super) fn from_descriptors(
        descriptors: impl IntoIterator<Item = (Purpose, OwnedFd)>,
    ) -> io::Result<Self> {
        let mut sockets = Self::default();
        for (purpose, descriptor) in descriptors {
            let socket = Arc::new(adopt(std::net::TcpListener::from(descriptor))?);
            match purpose {
                Purpose::Hosts => sockets.http.push(socket),
                Purpose::Https => sockets.https.push(socket),
                Purpose::Port(port) => sockets.ports.entry(port).or_default().push(socket),
                Purpose::Metrics => sockets.metrics = Some(socket),
            }
        }
        Ok(sockets)
    }

    /// The HTTP address as it was bound.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.http.first().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }

    /// The address for monitoring as it was bound.
    pub(super) fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// The HTTPS address as it was bound.
    pub(super) fn https_address(&self) -> Option<SocketAddr> {
        self.https.first()?.local_addr().ok()
    }
}

/// Sockets and ports in the form in which they are handed over.
pub(super) fn described<'a>(
    http: &'a [Arc<TcpListener>],
    https: &'a [Arc<TcpListener>],
    ports: impl IntoIterator<Item = (u16, &'a Arc<TcpListener>)>,
    metrics: Option<&'a Arc<TcpListener>>,
) -> (Vec<Purpose>, Vec<BorrowedFd<'a>>) {
    let http = http.iter().map(|socket| (Purpose::Hosts, socket));
    let https = https.iter().map(|socket| (Purpose::Https, socket));
    let ports = ports.into_iter().map(|(port, socket)| (Purpose::Port(port), socket));
    let metrics = metrics.map(|socket| (Purpose::Metrics, socket));
    let all = http.chain(https).chain(ports).chain(metrics);
    all.map(|(purpose, socket)| (purpose, socket.as_fd())).unzip()
}

fn adopt(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    end_with_the_client(&socket)?;
    TcpListener::from_std(socket)
}
