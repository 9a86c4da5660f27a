//! Which app a request is for, and which of its processes takes it.

use super::asked::Asked;
use super::counts::{Counter, Counts};
use super::lines::{Lane, Lines};
use super::names::ByName;
use super::pages::Page;
use super::upstream::Upstream;
use crate::model::{AppName, Domain, HttpsPolicy, Route, Target};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// By which address a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Entry {
    /// The HTTP address: the host name decides.
    Hosts,
    /// The HTTPS address: likewise.
    Https,
    /// An app's own port: any host name will do.
    Port(u16),
}

/// An app's place in the table.
pub(super) struct Backend {
    /// The app.
    pub(super) app: AppName,
    /// Of the release that answers.
    pub(super) counter: Arc<Counter>,
    /// Where its access lines go, if anybody wants them.
    pub(super) lane: Option<Arc<Lane>>,
    /// Whether plain requests are sent on.
    pub(super) https: HttpsPolicy,
    outage: String,
    upstreams: Vec<Arc<Upstream>>,
    turn: AtomicUsize,
}

/// Names and ports with the apps behind them. A clone shares all of them, so that a
/// change costs little with ten thousand, too.
#[derive(Default, Clone)]
pub(super) struct Routing {
    hosts: ByName<Arc<Backend>>,
    ports: HashMap<u16, Arc<Backend>>,
}

impl Routing {
    /// Where requests of a name or a port go.
    pub(super) fn find(&self, entry: Entry, host: &str) -> Option<&Arc<Backend>> {
        match entry {
            Entry::Hosts | Entry::Https => self.hosts.get(host),
            Entry::Port(port) => self.ports.get(&port),
        }
    }

    /// Adds an app, or puts its new route in place of its old one. Of two apps with one
    /// name the first by name counts.
    pub(super) fn add(&mut self, route: &Route, backend: &Arc<Backend>) {
        let is_ours = |there: Option<&Arc<Backend>>| there.is_none_or(|there| there.app >= route.app);
        for host in &route.hosts {
            if is_ours(self.hosts.of(host)) {
                self.hosts.set(host, Arc::clone(backend));
            }
        }
        if let Some(port) = route.port.filter(|port| is_ours(self.ports.get(port))) {
            self.ports.insert(port, Arc::clone(backend));
        }
    }

    /// Takes out what an app had and has no more. Whoever else claims it has to be
    /// [added](Self::add) again: whether there may be somebody.
    pub(super) fn remove(&mut self, before: &Route, now: Option<&Route>) -> bool {
        let mut some = false;
        for host in &before.hosts {
            let keeps = now.is_some_and(|now| now.hosts.contains(host));
            if !keeps && self.hosts.of(host).is_some_and(|there| there.app == before.app) {
                self.hosts.remove(host);
                some = true;
            }
        }
        if let Some(port) = before.port.filter(|port| now.and_then(|now| now.port) != Some(*port))
            && self.ports.get(&port).is_some_and(|there| there.app == before.app)
        {
            self.ports.remove(&port);
            some = true;
        }
        some
    }
}

/// Whether two routes claim one name or port.
pub(super) fn compete(one: &Route, other: &Route) -> bool {
    let claims = |host: &Domain| other.hosts.contains(host);
    one.hosts.iter().any(claims) || one.port.is_some() && one.port == other.port
}

impl Backend {
    pub(super) fn new(
        route: &Route,
        upstreams: &HashMap<Target, Arc<Upstream>>,
        counts: &Counts,
        lines: &Lines,
    ) -> Self {
        Self {
            app: route.app.clone(),
            counter: counts.of(&route.app, route.release),
            lane: route.traffic.access_log.map(|log| lines.of(&route.app, log)),
            https: route.https,
            outage: route.outage.clone(),
            upstreams: route.targets.iter().filter_map(|target| upstreams.get(target).cloned()).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The page in place of an answer, and its counting.
    pub(super) fn instead(&self, page: Page) -> Page {
        self.counter.note(page.status());
        page
    }

    /// The page while there is no process. That somebody wants none (H14) is no
    /// fault of the release.
    pub(super) fn outage(&self) -> Page {
        let page = Page::Outage(self.outage.clone());
        if self.outage == "H14" { page } else { self.instead(page) }
    }

    /// Whether there is another target that was not asked.
    pub(super) fn has_another(&self, than: &Arc<Upstream>, asked: &Asked) -> bool {
        self.upstreams.iter().any(|upstream| !Arc::ptr_eq(upstream, than) && !asked.has(upstream))
    }

    /// The target with the fewest requests in flight, in turn among equals;
    /// one that refused a moment ago only if all others did, and one that this
    /// request has asked only if it has asked all.
    pub(super) fn pick(&self, asked: &Asked) -> Option<&Arc<Upstream>> {
        let count = self.upstreams.len();
        if count < 2 {
            return self.upstreams.first();
        }
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % count;
        let (before, after) = self.upstreams.split_at(start);
        let worth = |one: &&Arc<Upstream>| (asked.has(one), one.is_ejected(), one.in_flight());
        after.iter().chain(before).min_by_key(worth)
    }
}
