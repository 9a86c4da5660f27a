//! The route table as wanted now, and what the proxies have made of it.

use super::loads::Loads;
use super::tally::Tally;
use crate::model::{AppName, FromProxy, Route, RouteChanges, RouteTable, Sleeps, Target, ToProxy};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a promotion waits for the proxies.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

/// Finished targets that are remembered of each proxy, far more than are waited for at a time.
const DRAINED_LIMIT: usize = 4096;

/// What a proxy has said of who is idle holds for so long: several times as long as it is
/// silent.
const FRESH: Duration = Duration::from_secs(10);

/// Changes that are remembered, for proxies that have heard of all before them.
const JOURNAL: usize = 1024;

/// Number of a proxy's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyId(u64);

#[cfg(test)]
impl ProxyId {
    /// One of a number.
    pub(super) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// What a change of the table means.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// The version in which it holds.
    pub version: u64,
    /// Targets that take no new requests from then on.
    pub removed: Vec<Target>,
}

/// The table and its readers; clones share it.
#[derive(Clone)]
pub struct Routes {
    table: Arc<watch::Sender<Arc<RouteTable>>>,
    /// Which app's route each of the last versions has changed. Written while the table is.
    journal: Arc<Mutex<VecDeque<(u64, AppName)>>>,
    proxies: Arc<watch::Sender<Proxies>>,
    next: Arc<Mutex<u64>>,
    /// What was seen of the releases.
    pub(super) tally: Tally,
    /// What the apps have to do.
    pub loads: Loads,
    /// Apps for which requests wait.
    wakes: Arc<watch::Sender<BTreeSet<AppName>>>,
}

/// What connected proxies have said.
#[derive(Debug, Clone, Default)]
struct Proxies {
    acknowledged: HashMap<ProxyId, u64>,
    /// Targets that each proxy has finished with since its last table with them.
    /// Whoever waits for one finds it here, however many do: it is told once.
    drained: HashMap<ProxyId, VecDeque<Target>>,
    refused_ports: HashMap<ProxyId, BTreeMap<u16, String>>,
    /// Those that accept no more: they still have requests, and follow the table.
    retiring: HashSet<ProxyId>,
    /// Those that know weights.
    weighing: HashSet<ProxyId>,
    /// Those that hold requests to apps that sleep.
    hold: HashSet<ProxyId>,
    /// For how many seconds nobody has used an app by way of each, and when it said so.
    idle: HashMap<ProxyId, (Instant, BTreeMap<AppName, u32>)>,
    /// When apps woke that have slept: what was said before is of the time before.
    woke: HashMap<AppName, Instant>,
}

impl Proxies {
    /// Whether anybody accepts connections.
    fn accepting(&self) -> bool {
        self.acknowledged.keys().any(|id| !self.retiring.contains(id))
    }

    fn hold_requests(&self) -> bool {
        self.accepting() && self.acknowledged.keys().all(|id| self.hold.contains(id))
    }

    fn idle_for(&self, app: &AppName) -> Option<Duration> {
        let by = |id: &ProxyId| {
            let (said, apps) = self.idle.get(id)?;
            apps.get(app).copied().filter(|_| said.elapsed() < FRESH)
        };
        let all: Option<Vec<u32>> = self.acknowledged.keys().map(by).collect();
        let idle = all?.into_iter().min().map(|seconds| Duration::from_secs(seconds.into()))?;
        Some(self.woke.get(app).map_or(idle, |woke| idle.min(woke.elapsed())))
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self::new()
    }
}

impl Routes {
    /// An empty table. Versions go on growing over restarts because they start
    /// from the clock (milliseconds), at far less than one change a millisecond.
    pub fn new() -> Self {
        let version = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(1);
        let table = RouteTable { version, routes: BTreeMap::new() };
        Self {
            table: Arc::new(watch::Sender::new(Arc::new(table))),
            journal: Arc::default(),
            proxies: Arc::default(),
            next: Arc::default(),
            tally: Tally::default(),
            loads: Loads::default(),
            wakes: Arc::default(),
        }
    }

    /// Begins with the table that the proxies had last, so that a restart takes no
    /// app off the air before its processes have been looked at.
    pub fn seed(&self, last: RouteTable) {
        self.table.send_modify(|table| {
            self.journal().clear();
            let version = table.version.max(last.version) + 1;
            *table = Arc::new(RouteTable { version, ..last });
        });
    }

    /// The table now and whenever it changes, for a proxy's connection.
    pub fn subscribe(&self) -> watch::Receiver<Arc<RouteTable>> {
        self.table.subscribe()
    }

    /// What a proxy has to hear that was told of the version `told` last: what has
    /// changed since, or everything.
    pub fn news(&self, table: &RouteTable, told: Option<u64>) -> ToProxy {
        let journal = self.journal();
        let known = |told: &u64| journal.front().is_some_and(|(first, _)| *first <= told + 1);
        let Some(from) = told.filter(known) else { return ToProxy::Table(table.clone()) };
        let since = journal.iter().rev().take_while(|(version, _)| *version > from);
        let routes = since.map(|(_, app)| (app.clone(), table.routes.get(app).cloned())).collect();
        ToProxy::Changes(RouteChanges { from, version: table.version, routes })
    }

    fn journal(&self) -> MutexGuard<'_, VecDeque<(u64, AppName)>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table now.
    pub fn table(&self) -> Arc<RouteTable> {
        self.table.borrow().clone()
    }

    /// Sets or removes an app's route.
    pub fn publish(&self, app: &AppName, route: Option<Route>) -> Published {
        let mut removed = Vec::new();
        if route.is_none() {
            self.tally.forget(app);
            self.loads.forget(app);
        }
        let targets = route.as_ref().map(|route| route.targets.clone()).unwrap_or_default();
        let sleeps = |route: &Route| route.traffic.sleeps == Sleeps::Asleep;
        let (gone, still) = (route.is_none(), route.as_ref().is_some_and(sleeps));
        let mut wakes = false;
        self.table.send_if_modified(|table| {
            if table.routes.get(app).map(|there| &**there) == route.as_ref() {
                return false;
            }
            wakes = !still && table.routes.get(app).is_some_and(|there| sleeps(there));
            let stay = route.as_ref().map_or(&[][..], |route| &route.targets);
            let before = table.routes.get(app).map_or(&[][..], |route| &route.targets);
            removed = before.iter().filter(|target| !stay.contains(target)).cloned().collect();
            let changes = RouteChanges {
                from: table.version,
                version: table.version + 1,
                routes: BTreeMap::from([(app.clone(), route.map(Arc::new))]),
            };
            // In place, unless somebody reads it just now.
            Arc::make_mut(table).change(&changes);
            let mut journal = self.journal();
            journal.push_back((changes.version, app.clone()));
            if journal.len() > JOURNAL {
                journal.pop_front();
            }
            true
        });
        // A process that came back under its old name and address is not finished
        // any more. After the table: what is heard from now on is of this one.
        self.proxies.send_modify(|proxies| {
            for drained in proxies.drained.values_mut() {
                drained.retain(|target| !targets.contains(target));
            }
            if wakes && !gone {
                proxies.woke.insert(app.clone(), Instant::now());
            } else if gone || still {
                proxies.woke.remove(app);
            }
        });
        Published { version: self.table.borrow().version, removed }
    }

    /// Waits until every connected proxy uses `version` or a later one; `false`
    /// if none is connected or one does not answer in time.
    pub async fn acknowledged(&self, version: u64) -> bool {
        self.connected() && tokio::time::timeout(ACKNOWLEDGE, self.all_have(version)).await.is_ok()
    }

    /// The same, for as long as it takes, if there is anything that `targets` wait for.
    pub async fn in_force(&self, version: u64, targets: &[Target]) {
        if !targets.is_empty() {
            self.all_have(version).await;
        }
    }

    async fn all_have(&self, version: u64) {
        let all = |proxies: &Proxies| {
            proxies.accepting() && proxies.acknowledged.values().all(|&seen| seen >= version)
        };
        // The sender lives as long as we do.
        let _ = self.proxies.subscribe().wait_for(all).await;
    }

    /// Waits until every connected proxy has finished its requests to `targets`;
    /// one that is away may still be sending them some.
    pub async fn drained(&self, targets: &[Target], within: Duration) -> bool {
        let done = |proxies: &Proxies| {
            proxies.accepting()
                && proxies.acknowledged.keys().all(|id| {
                    let drained = proxies.drained.get(id);
                    targets.iter().all(|target| drained.is_some_and(|drained| drained.contains(target)))
                })
        };
        if targets.is_empty() {
            return true;
        }
        let mut proxies = self.proxies.subscribe();
        tokio::time::timeout(within, proxies.wait_for(done)).await.is_ok_and(|result| result.is_ok())
    }

    /// Whether any proxy is connected.
    pub fn connected(&self) -> bool {
        self.proxies.borrow().accepting()
    }

    /// Waits until a proxy is connected.
    pub async fn wait_connected(&self, within: Duration) -> bool {
        let mut proxies = self.proxies.subscribe();
        let any = proxies.wait_for(Proxies::accepting);
        tokio::time::timeout(within, any).await.is_ok_and(|result| result.is_ok())
    }

    /// Whether every proxy holds requests to apps that sleep: older ones do not.
    pub fn hold_requests(&self) -> bool {
        self.proxies.borrow().hold_requests()
    }

    /// For how long nobody has used an app, by all proxies; none if one does not know, or
    /// has not said so of late.
    pub fn idle_for(&self, app: &AppName) -> Option<Duration> {
        let proxies = self.proxies.borrow();
        proxies.idle_for(app).filter(|_| proxies.hold_requests())
    }

    /// Waits until requests wait for apps that sleep, which are these.
    pub async fn wake_asked(&self) -> BTreeSet<AppName> {
        // The sender lives as long as we do.
        let _ = self.wakes.subscribe().wait_for(|wakes| !wakes.is_empty()).await;
        self.wakes.send_replace(BTreeSet::new())
    }

    /// Stable ports that a proxy could not listen on, with the reason.
    pub fn refused_port(&self, port: u16) -> Option<String> {
        self.proxies.borrow().refused_ports.values().find_map(|ports| ports.get(&port).cloned())
    }

    /// A proxy has connected.
    ///
    /// Its table may be of another server's life: nothing counts as acknowledged
    /// until it has taken ours.
    pub fn join(&self) -> ProxyId {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        let id = ProxyId(*next);
        self.proxies.send_modify(|proxies| {
            proxies.acknowledged.insert(id, 0);
        });
        id
    }

    /// Whether every proxy does.
    pub fn all_weigh(&self) -> bool {
        let proxies = self.proxies.borrow();
        proxies.acknowledged.keys().all(|id| proxies.weighing.contains(id))
    }

    /// A proxy has said something.
    pub fn hear(&self, id: ProxyId, message: FromProxy) {
        if let FromProxy::Counts { counts, loads } = message {
            counts.iter().for_each(|count| self.tally.answered(count));
            self.loads.hear(id, loads);
            return;
        }
        if let FromProxy::Wake { app } = message {
            self.wakes.send_if_modified(|wakes| wakes.insert(app));
            return;
        }
        self.proxies.send_modify(|proxies| match message {
            FromProxy::Hello { sleep, weights, .. } => {
                if sleep {
                    proxies.hold.insert(id);
                }
                if weights {
                    proxies.weighing.insert(id);
                }
            }
            FromProxy::Idle { apps } => {
                proxies.idle.insert(id, (Instant::now(), apps));
            }
            FromProxy::Counts { .. }
            | FromProxy::Lines { .. }
            | FromProxy::Wake { .. }
            | FromProxy::Certified { .. }
            | FromProxy::Challenged { .. } => {}
            FromProxy::Ack { version, refused_ports } => {
                proxies.acknowledged.insert(id, version);
                proxies.refused_ports.insert(id, refused_ports);
            }
            FromProxy::Retiring => {
                proxies.retiring.insert(id);
            }
            FromProxy::Drained { target } if self.is_routed(&target) => {}
            FromProxy::Drained { target } => {
                let drained = proxies.drained.entry(id).or_default();
                drained.push_back(target);
                if drained.len() > DRAINED_LIMIT {
                    drained.pop_front();
                }
            }
        });
    }

    /// Whether a target takes requests by the table of now.
    fn is_routed(&self, target: &Target) -> bool {
        self.table.borrow().routes.values().any(|route| route.targets.contains(target))
    }

    /// A proxy's connection has ended.
    pub fn leave(&self, id: ProxyId) {
        self.loads.leave(id);
        self.proxies.send_modify(|proxies| {
            proxies.acknowledged.remove(&id);
            proxies.drained.remove(&id);
            proxies.refused_ports.remove(&id);
            proxies.retiring.remove(&id);
            proxies.weighing.remove(&id);
            proxies.hold.remove(&id);
            proxies.idle.remove(&id);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{HttpsPolicy, Traffic};

    fn target(release: u32) -> Target {
        Target { address: "10.0.0.2:5000".parse().unwrap(), process: "web.1".into(), release }
    }

    fn route(release: u32) -> Route {
        let app = AppName::parse("a").unwrap();
        Route {
            app,
            hosts: vec![],
            https: HttpsPolicy::default(),
            traffic: Traffic::default(),
            port: None,
            release,
            targets: vec![target(release)],
            outage: "H14".into(),
        }
    }

    #[tokio::test]
    async fn a_version_is_acknowledged_when_every_proxy_has_it() {
        let routes = Routes::new();
        let app = AppName::parse("a").unwrap();
        let version = routes.publish(&app, Some(route(1))).version;
        assert_eq!(routes.publish(&app, Some(route(1))).version, version, "no change, no version");
        let (one, two) = (routes.join(), routes.join());
        let ack = |version| FromProxy::Ack { version, refused_ports: BTreeMap::new() };
        routes.hear(one, ack(version));
        let wait = routes.clone();
        let waiting = tokio::spawn(async move { wait.acknowledged(version).await });
        routes.hear(two, ack(version));
        assert!(waiting.await.unwrap());
    }

    #[test]
    fn a_change_tells_which_targets_it_removes() {
        let routes = Routes::new();
        let app = AppName::parse("a").unwrap();
        assert_eq!(routes.publish(&app, Some(route(1))).removed, []);
        assert_eq!(routes.publish(&app, Some(route(2))).removed, [target(1)]);
        assert_eq!(routes.publish(&app, None).removed, [target(2)]);
    }

    #[test]
    fn a_proxy_hears_what_has_changed_since_it_was_told() {
        let routes = Routes::new();
        let name = |name: &str| AppName::parse(name).unwrap();
        let told = routes.publish(&name("a"), Some(route(1))).version;
        assert!(matches!(routes.news(&routes.table(), None), ToProxy::Table(_)), "it knows nothing yet");
        routes.publish(&name("b"), Some(route(1)));
        routes.publish(&name("a"), None);
        let table = routes.table();
        let ToProxy::Changes(changes) = routes.news(&table, Some(told)) else { panic!("all of it") };
        let all = [(name("a"), None), (name("b"), Some(Arc::new(route(1))))];
        assert_eq!((changes.from, changes.version), (told, told + 2));
        assert_eq!(changes.routes, BTreeMap::from(all));
        for release in 0..=u32::try_from(JOURNAL).unwrap() {
            routes.publish(&name("a"), Some(route(release + 5)));
        }
        assert!(matches!(routes.news(&routes.table(), Some(told)), ToProxy::Table(_)), "too long ago");
    }

    #[tokio::test]
    async fn one_that_accepts_no_more_is_waited_for_and_does_not_count_as_a_proxy() {
        let routes = Routes::new();
        let version = routes.publish(&AppName::parse("a").unwrap(), Some(route(1))).version;
        let ack = |version| FromProxy::Ack { version, refused_ports: BTreeMap::new() };
        let (old, new) = (routes.join(), routes.join());
        routes.hear(old, FromProxy::Retiring);
        routes.hear(new, ack(version));
        let waiting = tokio::spawn({
            let routes = routes.clone();
            async move { routes.acknowledged(version).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "it still has requests of the old table");
        routes.hear(old, ack(version));
        assert!(waiting.await.unwrap());
        routes.leave(new);
        assert!(!routes.connected());
    }

    #[test]
    fn an_app_is_idle_if_all_proxies_have_just_said_so_and_would_hold_its_requests() {
        let routes = Routes::new();
        let app = AppName::parse("a").unwrap();
        let hello = |sleep| FromProxy::Hello {
            pid: 1,
            version: 0,
            tls: false,
            changes: true,
            loads: true,
            weights: true,
            sleep,
        };
        let idle = |seconds| FromProxy::Idle { apps: BTreeMap::from([(app.clone(), seconds)]) };
        assert!(!routes.hold_requests(), "there is no proxy");
        let (one, two) = (routes.join(), routes.join());
        routes.hear(one, hello(true));
        routes.hear(one, idle(90));
        assert_eq!((routes.hold_requests(), routes.idle_for(&app)), (false, None), "the other one is older");
        routes.hear(two, hello(true));
        assert_eq!((routes.hold_requests(), routes.idle_for(&app)), (true, None), "it has not said yet");
        routes.hear(two, idle(30));
        assert_eq!(routes.idle_for(&app), Some(Duration::from_secs(30)));
        routes.hear(two, idle(0));
        assert_eq!(routes.idle_for(&app), Some(Duration::ZERO), "somebody uses it by way of that one");
        routes.leave(two);
        assert_eq!(routes.idle_for(&app), Some(Duration::from_secs(90)));
        // That was said before it slept, or before the proxy knew that it woke.
        let mut route = route(1);
        for sleeps in [Sleeps::Asleep, Sleeps::Awake] {
            route.traffic.sleeps = sleeps;
            routes.publish(&app, Some(route.clone()));
        }
        assert!(routes.idle_for(&app).unwrap() < Duration::from_secs(60), "it has just woken");
    }

    #[tokio::test]
    async fn a_proxy_that_left_is_not_waited_for() {
        let routes = Routes::new();
        let (one, two) = (routes.join(), routes.join());
        routes.hear(one, FromProxy::Drained { target: target(1) });
        assert!(!routes.drained(&[target(1)], Duration::from_millis(10)).await);
        routes.leave(two);
        assert!(routes.drained(&[target(1)], Duration::from_millis(10)).await);
    }

    /// After a crash, who ends leftovers and who ends a watch may wait for the same
    /// process. The second one waited for as long as a request may take.
    #[tokio::test]
    async fn that_a_process_is_finished_is_told_to_all_who_wait_for_it() {
        let routes = Routes::new();
        let app = AppName::parse("a").unwrap();
        let one = routes.join();
        for release in 1..=2 {
            routes.publish(&app, Some(route(release)));
        }
        routes.hear(one, FromProxy::Drained { target: target(1) });
        for _ in 0..2 {
            assert!(routes.drained(&[target(1)], Duration::from_millis(10)).await);
        }
        routes.publish(&app, Some(route(1)));
        routes.hear(one, FromProxy::Drained { target: target(1) });
        routes.publish(&app, Some(route(2)));
        assert!(!routes.drained(&[target(1)], Duration::from_millis(10)).await, "it has served since");
    }
}
