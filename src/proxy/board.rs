//! The table in force, how the next one replaces it, and what drains.

use super::asked::Asked;
use super::counts::Counts;
use super::idle::Idleness;
use super::lines::Lines;
use super::meter::Meters;
use super::routing::{Backend, Entry, Pick, Routing, compete};
use super::upstream::{InFlight, Upstream, clock};
use super::waiting::Waiting;
use crate::model::{AppName, Route, RouteChanges, RouteTable, Sleeps, Target};
use arc_swap::ArcSwap;
use hyper::header::HeaderMap;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Removed targets remembered for a control plane that comes back.
const GONE_LIMIT: usize = 1024;

/// Where one request may go.
pub(super) enum Choice {
    /// To this target, which counts the request from now on.
    Target {
        /// The app's place.
        backend: Arc<Backend>,
        /// The target, entered.
        in_flight: InFlight,
    },
    /// To a process when it has time, or to any.
    Wait(Arc<Backend>, Option<Arc<Upstream>>),
    /// Nowhere: the app has no process.
    Outage(Arc<Backend>),
    /// No app has that name.
    Unknown,
}

/// Which table is in force.
pub(super) struct Board {
    routing: ArcSwap<Routing>,
    state: Mutex<State>,
    drained: Arc<Notify>,
    /// What was answered.
    pub(super) counts: Counts,
    /// What is said of it.
    pub(super) lines: Lines,
    /// What each app has to do.
    pub(super) meters: Meters,
    /// Requests to apps that sleep.
    pub(super) waiting: Waiting,
    idleness: Mutex<Idleness>,
}

#[derive(Default)]
struct State {
    table: Arc<RouteTable>,
    /// How many tables have been in force; unlike versions it only grows.
    turn: u64,
    live: HashMap<Target, Arc<Upstream>>,
    backends: HashMap<AppName, Arc<Backend>>,
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
            lines: Lines::default(),
            meters: Meters::default(),
            waiting: Waiting::default(),
            idleness: Mutex::default(),
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
        let mut routing = Routing::default();
        let mut former = std::mem::take(&mut state.backends);
        for route in table.routes.values() {
            let before = former.remove(&route.app);
            let counted = (&self.counts, &self.lines, &self.meters);
            let backend = Arc::new(Backend::new(route, &live, counted, before.as_deref()));
            routing.add(route, &backend);
            state.backends.insert(route.app.clone(), backend);
        }
        self.routing.store(Arc::new(routing));
        former.values().for_each(|gone| gone.end());
        self.waiting.all_changed();
        let before = std::mem::replace(&mut state.live, live);
        state.turn += 1;
        let gone = before.into_iter().filter(|(target, _)| !state.live.contains_key(target));
        let gone: Vec<_> = gone.map(|(_, upstream)| upstream).collect();
        state.retire(gone);
        self.meters.keep(|app| table.routes.contains_key(app));
        state.table = table;
        state.turn
    }

    /// Changes the table; as [`Self::put_in_force`] at the cost of what changes. `None`
    /// if the changes are of another version than that in force.
    pub(super) fn change(&self, changes: &RouteChanges) -> Option<u64> {
        let mut state = self.state();
        if state.table.version != changes.from {
            return None;
        }
        let mut routing = Routing::clone(&self.routing.load());
        let mut left = Vec::new();
        for (app, route) in &changes.routes {
            left.extend(state.replace(app, route.as_deref(), &mut routing, self));
        }
        Arc::make_mut(&mut state.table).change(changes);
        changes
            .routes
            .iter()
            .filter(|(_, route)| route.is_none())
            .for_each(|(app, _)| self.meters.forget(app));
        for route in left.iter().filter(|left| left.1).flat_map(|left| state.rivals(&left.0)) {
            if let Some(backend) = state.backends.get(&route.app) {
                routing.add(&route, backend);
            }
        }
        self.routing.store(Arc::new(routing));
        changes.routes.keys().for_each(|app| self.waiting.changed(app));
        state.turn += 1;
        let stay = |target: &Target| {
            let mut now = changes.routes.values().flatten();
            now.any(|route| route.targets.contains(target))
        };
        let gone: Vec<Target> =
            left.iter().flat_map(|left| &left.0.targets).filter(|target| !stay(target)).cloned().collect();
        let gone: Vec<_> = gone.iter().filter_map(|target| state.live.remove(target)).collect();
        state.retire(gone);
        Some(state.turn)
    }

    /// Picks a target and counts the request there; never one that a table has
    /// removed, however late this comes.
    pub(super) fn choose(
        &self,
        entry: Entry,
        (host, path): (&str, &str),
        asked: &Asked,
        headers: &HeaderMap,
    ) -> Choice {
        loop {
            let routing = self.routing.load();
            let Some(backend) = routing.find(entry, host, path) else {
                return Choice::Unknown;
            };
            match backend.pick(asked, headers) {
                Pick::In(in_flight) => return Choice::Target { backend: Arc::clone(backend), in_flight },
                Pick::Wait(only) => return Choice::Wait(Arc::clone(backend), only),
                Pick::None => return Choice::Outage(Arc::clone(backend)),
                Pick::Gone => {}
            }
        }
    }

    /// An app's place now.
    pub(super) fn backend(&self, entry: Entry, (host, path): (&str, &str)) -> Option<Arc<Backend>> {
        self.routing.load().find(entry, host, path).cloned()
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

    /// For how many seconds nobody has used each app that may fall asleep.
    pub(super) fn idle(&self) -> BTreeMap<AppName, u32> {
        let state = self.state();
        let awake = state.backends.values().filter(|backend| backend.sleeps == Sleeps::Awake);
        let usages: Vec<_> = awake.map(|backend| (backend.app.clone(), backend.usage())).collect();
        drop(state);
        self.idleness.lock().unwrap_or_else(PoisonError::into_inner).look(usages, clock())
    }

    /// Lets go of all idle connections.
    pub(super) fn close_idle(&self) {
        let live: Vec<_> = self.state().live.values().cloned().collect();
        live.iter().for_each(|upstream| upstream.close_idle());
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

    /// An app's new route in `routing`; its old one, and whether others may claim what
    /// it has given up.
    fn replace(
        &mut self,
        app: &AppName,
        route: Option<&Route>,
        routing: &mut Routing,
        board: &Board,
    ) -> Option<(Arc<Route>, bool)> {
        let before = self.table.routes.get(app).cloned();
        let given_up = before.as_ref().is_some_and(|before| routing.remove(before, route));
        let former = self.backends.remove(app);
        if let Some(route) = route {
            for target in &route.targets {
                if !self.live.contains_key(target) {
                    let upstream = self.upstream(target, &board.drained);
                    self.live.insert(target.clone(), upstream);
                }
            }
            let counted = (&board.counts, &board.lines, &board.meters);
            let backend = Arc::new(Backend::new(route, &self.live, counted, former.as_deref()));
            routing.add(route, &backend);
            self.backends.insert(app.clone(), backend);
        } else {
            former.iter().for_each(|gone| gone.end());
        }
        before.map(|before| (before, given_up))
    }

    /// Routes that claim what this one had.
    fn rivals(&self, gone: &Route) -> Vec<Arc<Route>> {
        let others = self.table.routes.values().filter(|route| compete(gone, route));
        others.cloned().collect()
    }

    /// Retires what the table in force has no more.
    fn retire(&mut self, gone: Vec<Arc<Upstream>>) {
        for upstream in gone {
            upstream.retire();
            self.gone.push_back(Gone { upstream, turn: self.turn, reported: false });
        }
        while self.gone.len() > GONE_LIMIT && self.gone.front().is_some_and(|gone| gone.reported) {
            self.gone.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{Domain, HttpsPolicy, Traffic};
    use proptest::prelude::*;

    const HOSTS: [&str; 4] = ["a.example", "b.example", "*.example", "c.a.example"];

    fn route(app: u8, hosts: &[usize], port: Option<u16>, release: u32) -> Route {
        let address = format!("10.0.{app}.2:5000").parse().unwrap();
        Route {
            app: AppName::parse(&format!("app{app}")).unwrap(),
            hosts: hosts.iter().map(|&host| Domain::parse(HOSTS[host]).unwrap()).collect(),
            https: HttpsPolicy::default(),
            traffic: Traffic::default(),
            port,
            release,
            targets: vec![Target { address, process: "web.1".into(), release }],
            outage: "H10".into(),
        }
    }

    /// Which app and release answer each name and port.
    fn answers(board: &Board) -> Vec<String> {
        let asked = HOSTS.map(|host| (Entry::Hosts, host)).into_iter();
        let asked = asked.chain([7000, 7001].map(|port| (Entry::Port(port), "")));
        let answer =
            |(entry, host)| match board.choose(entry, (host, "/"), &Asked::default(), &HeaderMap::new()) {
                Choice::Target { backend, in_flight } => {
                    format!("{} v{}", backend.app, in_flight.upstream().target.release)
                }
                Choice::Outage(backend) | Choice::Wait(backend, _) => format!("{} is out", backend.app),
                Choice::Unknown => "unknown".to_owned(),
            };
        asked.map(answer).collect()
    }

    /// Hosts, port and release of an app, if it is to have a route.
    type Made = Option<(Vec<usize>, Option<u16>, u32)>;
    type Step = Vec<(u8, Made)>;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let hosts = prop::collection::vec(0..HOSTS.len(), 0..3);
        let port = prop::option::of(7000_u16..7002);
        let route = prop::option::weighted(0.8, (hosts, port, 1_u32..4));
        prop::collection::vec(prop::collection::vec((0_u8..4, route), 1..3), 1..12)
    }

    proptest! {
        #[test]
        fn changes_make_the_table_that_they_describe(steps in steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _entered = runtime.enter();
            let board = Board::new(RouteTable::default(), Vec::new());
            for (version, step) in steps.into_iter().enumerate() {
                let version = version as u64;
                let new = |(app, made): (u8, Made)| {
                    let name = AppName::parse(&format!("app{app}")).unwrap();
                    (name, made.map(|(hosts, port, release)| Arc::new(route(app, &hosts, port, release))))
                };
                let routes: BTreeMap<_, _> = step.into_iter().map(new).collect();
                let of_another = RouteChanges { from: version + 1, version, routes: BTreeMap::new() };
                prop_assert_eq!(board.change(&of_another), None);
                board.change(&RouteChanges { from: version, version: version + 1, routes }).unwrap();
                let whole = Board::new(RouteTable::clone(&board.table()), Vec::new());
                prop_assert_eq!(answers(&board), answers(&whole));
                let targets = |board: &Board| {
                    board.state().live.keys().cloned().collect::<std::collections::BTreeSet<_>>()
                };
                prop_assert_eq!(targets(&board), targets(&whole));
            }
        }
    }
}
