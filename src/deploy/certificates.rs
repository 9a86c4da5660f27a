//! The certificates and challenges as wanted now, and which proxies have them.

use super::ProxyId;
use crate::model::{CertificateTable, Challenges, FromProxy, ServedCertificate};
use arc_swap::ArcSwap;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Two tables that proxies follow, and what they have said; clones share it.
#[derive(Clone)]
pub struct Certificates {
    table: Arc<watch::Sender<Arc<CertificateTable>>>,
    challenges: Arc<watch::Sender<Arc<Challenges>>>,
    seen: Arc<watch::Sender<HashMap<ProxyId, Seen>>>,
    /// Names that clients trust us for.
    trusted: Arc<ArcSwap<HashSet<String>>>,
}

/// The versions that a proxy uses.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    certificates: u64,
    challenges: u64,
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificates {
    /// None yet. Versions start from the clock, as those of routes do.
    pub fn new() -> Self {
        let version = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(1);
        let table = CertificateTable { version, certificates: Vec::new() };
        let challenges = Challenges { version, ..Challenges::default() };
        Self {
            table: Arc::new(watch::Sender::new(Arc::new(table))),
            challenges: Arc::new(watch::Sender::new(Arc::new(challenges))),
            seen: Arc::default(),
            trusted: Arc::default(),
        }
    }

    /// The certificates now and whenever they change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<CertificateTable>> {
        self.table.subscribe()
    }

    /// The challenges, likewise.
    pub fn subscribe_challenges(&self) -> watch::Receiver<Arc<Challenges>> {
        self.challenges.subscribe()
    }

    /// The certificates now.
    pub fn table(&self) -> Arc<CertificateTable> {
        self.table.borrow().clone()
    }

    /// Shows these from now on; the version in which it holds.
    pub fn publish(&self, certificates: Vec<ServedCertificate>) -> u64 {
        let trusted = certificates.iter().filter(|one| one.trusted).flat_map(|one| &one.names);
        self.trusted.store(Arc::new(trusted.map(ToString::to_string).collect()));
        self.table.send_if_modified(|table| {
            if table.certificates == certificates {
                return false;
            }
            *table = Arc::new(CertificateTable { version: table.version + 1, certificates });
            true
        });
        self.table.borrow().version
    }

    /// Whether clients will trust what is shown to them for this name.
    pub fn vouch_for(&self, host: &str) -> bool {
        let trusted = self.trusted.load();
        let wide = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        trusted.contains(host) || wide.is_some_and(|wide| trusted.contains(&wide))
    }

    /// Changes what is answered; the version in which it holds.
    pub fn change_challenges(&self, change: impl FnOnce(&mut Challenges)) -> u64 {
        self.challenges.send_modify(|challenges| {
            let mut changed = Challenges::clone(challenges);
            change(&mut changed);
            changed.version += 1;
            *challenges = Arc::new(changed);
        });
        self.challenges.borrow().version
    }

    /// Waits until every connected proxy that speaks TLS answers these challenges;
    /// `false` if there is none or one does not say so in time.
    pub async fn answered(&self, version: u64, within: Duration) -> bool {
        self.reached(within, move |seen| seen.challenges >= version).await
    }

    /// Likewise for certificates.
    pub async fn shown(&self, version: u64, within: Duration) -> bool {
        self.reached(within, move |seen| seen.certificates >= version).await
    }

    async fn reached(&self, within: Duration, enough: impl Fn(&Seen) -> bool) -> bool {
        let mut seen = self.seen.subscribe();
        let all = |all: &HashMap<ProxyId, Seen>| !all.is_empty() && all.values().all(&enough);
        tokio::time::timeout(within, seen.wait_for(all)).await.is_ok_and(|result| result.is_ok())
    }

    /// Whether any proxy that speaks TLS is connected.
    pub fn followed(&self) -> bool {
        !self.seen.borrow().is_empty()
    }

    /// A proxy that speaks TLS has connected.
    pub fn join(&self, id: ProxyId) {
        self.seen.send_modify(|seen| {
            seen.insert(id, Seen::default());
        });
    }

    /// A proxy has said something.
    pub fn hear(&self, id: ProxyId, message: &FromProxy) {
        self.seen.send_modify(|seen| {
            let Some(seen) = seen.get_mut(&id) else { return };
            match message {
                FromProxy::Certified { version } => seen.certificates = *version,
                FromProxy::Challenged { version } => seen.challenges = *version,
                _ => {}
            }
        });
    }

    /// A proxy's connection has ended.
    pub fn leave(&self, id: ProxyId) {
        self.seen.send_modify(|seen| {
            seen.remove(&id);
        });
    }
}
