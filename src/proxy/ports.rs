//! The apps' own ports on loopback, opened and closed as the table changes.

use super::Shared;
use super::listener::{accept, listen};
use super::routing::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The ports that are listened on now.
pub(super) struct Ports {
    shared: Arc<Shared>,
    open: BTreeMap<u16, Open>,
    /// Those that can't be listened on, with the reason.
    refused: BTreeMap<u16, String>,
    /// This proxy accepts no more, on whatever port.
    closed: bool,
}

struct Open {
    close: CancellationToken,
    sockets: Vec<Arc<TcpListener>>,
    accepting: Vec<JoinHandle<()>>,
}

impl Ports {
    /// Those that another proxy has handed over.
    pub(super) fn new(shared: Arc<Shared>, sockets: BTreeMap<u16, Vec<Arc<TcpListener>>>) -> Self {
        let mut ports = Self { shared, open: BTreeMap::new(), refused: BTreeMap::new(), closed: false };
        for (port, sockets) in sockets {
            let open = ports.accept(port, sockets);
            ports.open.insert(port, open);
        }
        ports
    }

    /// The sockets, to be handed over.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (u16, &Arc<TcpListener>)> {
        self.open.iter().flat_map(|(&port, open)| open.sockets.iter().map(move |socket| (port, socket)))
    }

    /// Closes all for good; nothing is accepted on them any more when this is called.
    pub(super) fn close_all(&mut self) {
        self.closed = true;
        self.open.clear();
    }

    /// Closes the ports that are not wanted any more; their connections live on.
    pub(super) async fn close_others(&mut self, wanted: &BTreeSet<u16>) {
        let others: BTreeSet<u16> = self
            .open
            .keys()
            .chain(self.refused.keys())
            .filter(|port| !wanted.contains(port))
            .copied()
            .collect();
        self.close(&others).await;
    }

    /// Closes these; their connections live on.
    pub(super) async fn close(&mut self, ports: &BTreeSet<u16>) {
        self.refused.retain(|port, _| !ports.contains(port));
        for open in ports.iter().filter_map(|port| self.open.remove(port)).collect::<Vec<_>>() {
            open.close.cancel();
            for accepting in open.accepting {
                let _ = accepting.await;
            }
        }
    }

    /// Opens the wanted ports that are not open yet, and tries again those that could
    /// not be before: another program may have ended.
    ///
    /// Returns all that can't be, with the reason.
    pub(super) fn open(&mut self, wanted: &BTreeSet<u16>) -> BTreeMap<u16, String> {
        let again = std::mem::take(&mut self.refused);
        for port in again.into_keys().chain(wanted.iter().copied()).collect::<BTreeSet<_>>() {
            if self.closed || self.open.contains_key(&port) {
                continue;
            }
            match self.open_one(port) {
                Ok(open) => {
                    self.open.insert(port, open);
                }
                Err(error) => {
                    warn!(port, %error, "can't listen on an app's port");
                    self.refused.insert(port, reason(&error));
                }
            }
        }
        self.refused.clone()
    }

    fn open_one(&self, port: u16) -> io::Result<Open> {
        let ipv4 = listen((Ipv4Addr::LOCALHOST, port).into())?;
        // Machines without IPv6 do with the other.
        let ipv6 = listen((Ipv6Addr::LOCALHOST, port).into()).ok();
        Ok(self.accept(port, [Some(ipv4), ipv6].into_iter().flatten().map(Arc::new).collect()))
    }

    fn accept(&self, port: u16, sockets: Vec<Arc<TcpListener>>) -> Open {
        let close = self.shared.accepting.child_token();
        let accepting = sockets.iter().map(|socket| {
            let accepting =
                accept(Arc::clone(&self.shared), Arc::clone(socket), Entry::Port(port), close.clone());
            self.shared.acceptors.spawn(accepting)
        });
        Open { accepting: accepting.collect(), close, sockets }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "another program listens there".to_owned(),
        ErrorKind::PermissionDenied => "ports below 1024 need more rights".to_owned(),
        _ => error.to_string(),
    }
}
