//! The apps' own ports on loopback, opened and closed as the table changes.

use super::Shared;
use super::board::Entry;
use super::listener::{accept, listen};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The ports that are listened on now.
pub(super) struct Ports {
    shared: Arc<Shared>,
    open: BTreeMap<u16, Open>,
}

struct Open {
    close: CancellationToken,
    accepting: Vec<JoinHandle<()>>,
}

impl Ports {
    /// None yet.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: BTreeMap::new() }
    }

    /// Closes the ports that are not wanted any more; their connections live on.
    pub(super) async fn close_others(&mut self, wanted: &BTreeSet<u16>) {
        let (keep, close) =
            std::mem::take(&mut self.open).into_iter().partition(|(port, _)| wanted.contains(port));
        self.open = keep;
        for open in close.into_values() {
            open.close.cancel();
            for accepting in open.accepting {
                let _ = accepting.await;
            }
        }
    }

    /// Opens the wanted ports that are not open yet.
    ///
    /// Returns those that can't be, with the reason.
    pub(super) fn open(&mut self, wanted: &BTreeSet<u16>) -> BTreeMap<u16, String> {
        let mut refused = BTreeMap::new();
        for &port in wanted {
            if self.open.contains_key(&port) {
                continue;
            }
            match self.open_one(port) {
                Ok(open) => {
                    self.open.insert(port, open);
                }
                Err(error) => {
                    warn!(port, %error, "can't listen on an app's port");
                    refused.insert(port, reason(&error));
                }
            }
        }
        refused
    }

    fn open_one(&self, port: u16) -> io::Result<Open> {
        let close = self.shared.stop.child_token();
        let ipv4 = listen((Ipv4Addr::LOCALHOST, port).into())?;
        // Machines without IPv6 do with the other.
        let ipv6 = listen((Ipv6Addr::LOCALHOST, port).into()).ok();
        let accepting = [Some(ipv4), ipv6].into_iter().flatten().map(|listener| {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(accept(shared, listener, Entry::Port(port), close.clone()))
        });
        Ok(Open { accepting: accepting.collect(), close })
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "another program listens there".to_owned(),
        ErrorKind::PermissionDenied => "ports below 1024 need more rights".to_owned(),
        _ => error.to_string(),
    }
}
