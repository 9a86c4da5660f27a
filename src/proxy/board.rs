//! The table in force, how the next one replaces it, and what drains.

use super::counts::{Counter, Counts};
use super::names::ByName;
use super::pages::Page;
use super::upstream::{InFlight, Upstream};
use crate::model::{AppName, HttpsPolicy, Route, RouteTable, Target};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Removed targets remembered for a control plane that comes back.
const GONE_LIMIT: usize = 1024;

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
    /// Whether plain requests are sent on.
    pub(super) https: HttpsPolicy,
    outage: String,
    upstreams: Vec<Arc<Upstream>>,
    turn: AtomicUsize,
}

/// Where one request may go.
pub(super) enum Choice {
    /// To this target, which counts the request from now on.
    Target {
        /// The app's place.
        backend: Arc<Backend>,
        /// The target, entered.
        in_flight: InFlight,
    },
    /// Nowhere: the app has no process.
    Outage(Arc<Backend>),
    /// No app has that name.
    Unknown,
}

#[derive(Default)]
struct Routing {
    hosts: ByName<Arc<Backend>>,
    ports: HashMap<u16, Arc<Backend>>,
}

/// Which table is in force.
pub(super) struct Board {
    routing: ArcSwap<Routing>,
    state: Mutex<State>,
    drained: Arc<Notify>,
    /// What was answered.
    pub(super) counts: Counts,
}

#[derive(Default)]
struct State {
    table: Arc<RouteTable>,
    /// How many tables have been in force; unlike versions it only grows.
    turn: u64,
    live: HashMap<Target, Arc<Upstream>>,
    gone: VecDeque<Gone>,
}

struct Gone {
    upstream: Arc<Upstream>,
    /// The first turn without it.
    turn: u64,
    reported: bool,
}

impl Board {
    /// A board with `table` in force, and without requests to `gone`, the targets
    /// of older tables.
    pub(super) fn new(table: RouteTable, gone: Vec<Target>) -> Self {
        let board = Self {
            routing: ArcSwap::default(),
            state: Mutex::default(),
            drained: Arc::new(Notify::new()),
            counts: Counts::default(),
        };
        board.put_in_force(Arc::new(table));
        board.state().inherit(gone, &board.drained);
        board
    }

    /// What a proxy in our place has to know.
    pub(super) fn inheritance(&self) -> (RouteTable, Vec<Target>) {
        let state = self.state();
        let gone = state.gone.iter().map(|gone| gone.upstream.target.clone());
        (RouteTable::clone(&state.table), gone.collect())
    }

    /// The table in force.
    pub(super) fn table(&self) -> Arc<RouteTable> {
        Arc::clone(&self.state().table)
    }

    /// The ports that the table in force wants listened on.
    pub(super) fn ports(table: &RouteTable) -> BTreeSet<u16> {
        table.routes.values().filter_map(|route| route.port).collect()
    }

    /// Replaces the table. When this returns, no new request can reach a
    /// target that only an older table had.
    ///
    /// Returns its turn, for [`Self::take_drained`].
    pub(super) fn put_in_force(&self, table: Arc<RouteTable>) -> u64 {
        let mut state = self.state();
        let live = state.upstreams(&table, &self.drained);
        self.routing.store(Arc::new(Routing::new(&table, &live, &self.counts)));
        let before = std::mem::replace(&mut state.live, live);
        state.turn += 1;
        state.retire(before);
        state.table = table;
        state.turn
    }

    /// Picks a target and counts the request there; never one that a table has
    /// removed, however late this comes.
    pub(super) fn choose(&self, entry: Entry, host: &str) -> Choice {
        loop {
            let routing = self.routing.load();
            let Some(backend) = routing.find(entry, host) else {
                return Choice::Unknown;
            };
            let Some(upstream) = backend.pick() else {
                return Choice::Outage(Arc::clone(backend));
            };
            if let Some(in_flight) = upstream.enter() {
                return Choice::Target { backend: Arc::clone(backend), in_flight };
            }
        }
    }

    /// Waits until a removed target may have finished.
    pub(super) async fn drain_news(&self) {
        self.drained.notified().await;
    }

    /// Targets removed up to this turn that have finished and were not reported yet.
    pub(super) fn take_drained(&self, turn: u64) -> Vec<Target> {
        let mut state = self.state();
        let finished = state
            .gone
            .iter_mut()
            .filter(|gone| gone.turn <= turn && !gone.reported && gone.upstream.is_drained());
        finished
            .map(|gone| {
                gone.reported = true;
                gone.upstream.target.clone()
            })
            .collect()
    }

    /// The control plane is a new one: everything removed is to be reported again.
    pub(super) fn report_again(&self) {
        for gone in &mut self.state().gone {
            gone.reported = false;
        }
    }

    /// Lets go of idle connections that nobody needs.
    pub(super) fn sweep(&self) {
        let live: Vec<_> = self.state().live.values().cloned().collect();
        for upstream in live {
            upstream.sweep();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The table's targets, those known already with their connections.
    fn upstreams(&mut self, table: &RouteTable, drained: &Arc<Notify>) -> HashMap<Target, Arc<Upstream>> {
        let mut upstreams = HashMap::new();
        for target in table.routes.values().flat_map(|route| &route.targets) {
            if !upstreams.contains_key(target) {
                upstreams.insert(target.clone(), self.upstream(target, drained));
            }
        }
        upstreams
    }

    fn upstream(&mut self, target: &Target, drained: &Arc<Notify>) -> Arc<Upstream> {
        if let Some(upstream) = self.live.get(target) {
            return Arc::clone(upstream);
        }
        let place = self.gone.iter().position(|gone| gone.upstream.target == *target);
        if let Some(gone) = place.and_then(|place| self.gone.remove(place)) {
            gone.upstream.reinstate();
            return gone.upstream;
        }
        Upstream::new(target.clone(), Arc::clone(drained))
    }

    /// Remembers targets that only the proxy before us has sent anything.
    fn inherit(&mut self, gone: Vec<Target>, drained: &Arc<Notify>) {
        for target in gone {
            if !self.live.contains_key(&target) {
                let upstream = Upstream::new(target, Arc::clone(drained));
                upstream.retire();
                self.gone.push_back(Gone { upstream, turn: self.turn, reported: false });
            }
        }
    }

    /// Retires those of `before` that the table in force has no more.
    fn retire(&mut self, before: HashMap<Target, Arc<Upstream>>) {
        for (target, upstream) in before {
            if !self.live.contains_key(&target) {
                upstream.retire();
                self.gone.push_back(Gone { upstream, turn: self.turn, reported: false });
            }
        }
        while self.gone.len() > GONE_LIMIT && self.gone.front().is_some_and(|gone| gone.reported) {
            self.gone.pop_front();
        }
    }
}

impl Routing {
    fn new(table: &RouteTable, upstreams: &HashMap<Target, Arc<Upstream>>, counts: &Counts) -> Self {
        let mut routing = Self::default();
        for route in table.routes.values() {
            let backend = Arc::new(Backend::new(route, upstreams, counts));
            for host in &route.hosts {
                routing.hosts.add(host, Arc::clone(&backend));
            }
            if let Some(port) = route.port {
                routing.ports.insert(port, backend);
            }
        }
        routing
    }

    fn find(&self, entry: Entry, host: &str) -> Option<&Arc<Backend>> {
        match entry {
            Entry::Hosts | Entry::Https => self.hosts.get(host),
            Entry::Port(port) => self.ports.get(&port),
        }
    }
}

impl Backend {
    fn new(route: &Route, upstreams: &HashMap<Target, Arc<Upstream>>, counts: &Counts) -> Self {
        Self {
            app: route.app.clone(),
            counter: counts.of(&route.app, route.release),
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

    /// The target with the fewest requests in flight, in turn among equals;
    /// one that refused a moment ago only if all did.
    fn pick(&self) -> Option<&Arc<Upstream>> {
        let count = self.upstreams.len();
        if count < 2 {
            return self.upstreams.first();
        }
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % count;
        let (before, after) = self.upstreams.split_at(start);
        after.iter().chain(before).min_by_key(|upstream| (upstream.is_ejected(), upstream.in_flight()))
    }
}
