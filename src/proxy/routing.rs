//! Which app a request is for, and which of its processes takes it.

use super::asked::Asked;
use super::balance::Processes;
use super::counts::{Counter, Counts};
use super::guard::Guard;
use super::idle::Usage;
use super::lines::{Lane, Lines};
use super::meter::{Meter, Meters};
use super::names::ByName;
use super::pages::Page;
use super::queue::{Entered, Queue};
use super::sticky::Sticky;
use super::upstream::{InFlight, Upstream};
use crate::model::{
    AppName, Domain, HttpSettings, HttpsPolicy, Maintenance, Mount, PathPrefix, Redirect, Route, Sleeps,
    Target,
};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use std::collections::HashMap;
use std::sync::Arc;

/// By which address a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// What the app has to do.
    pub(super) meter: Arc<Meter>,
    /// Whether plain requests are sent on.
    pub(super) https: HttpsPolicy,
    /// What the app says of its requests.
    pub(super) http: HttpSettings,
    /// Its names, with where those are sent on to that are; nothing if none is.
    pub(super) redirects: Option<ByName<Option<Redirect>>>,
    /// Its paths under names.
    pub(super) mounts: Vec<Mount>,
    /// Who may come in, unless it is everybody.
    pub(super) guard: Option<Guard>,
    /// Whether everybody gets a page, and the app's own for that.
    #[allow(clippy::option_option)]
    pub(super) maintenance: Option<Option<Bytes>>,
    /// Whether it sleeps.
    pub(super) sleeps: Sleeps,
    /// Of the answers' release.
    release: u32,
    outage: String,
    processes: Processes,
    /// A release that is tried beside the one that serves.
    canary: Option<(u32, Arc<Counter>)>,
    /// Where requests wait, if processes have only so many at a time.
    queue: Option<Arc<Queue>>,
    /// Unless any process will do for any request.
    sticky: Option<Sticky>,
}

/// Which of an app's processes a request goes to.
pub(super) enum Pick {
    /// It is in flight there.
    In(InFlight),
    /// To any or this one when it has time.
    Wait(Option<Arc<Upstream>>),
    /// To none: there is none.
    None,
    /// The table that has it is no more.
    Gone,
}

/// Names and ports with the apps behind them. A clone shares all of them, so that a
/// change costs little with ten thousand, too.
#[derive(Default, Clone)]
pub(super) struct Routing {
    hosts: ByName<Arc<Backend>>,
    ports: HashMap<u16, Arc<Backend>>,
    /// By name, the paths under it that are some app's for themselves; the longest first.
    mounts: HashMap<Arc<str>, Arc<Vec<Mounted>>>,
}

/// A path, and the app that answers there.
type Mounted = (PathPrefix, Arc<Backend>);

impl Routing {
    /// Where requests of a name and a path, or of a port, go.
    pub(super) fn find(&self, entry: Entry, host: &str, path: &str) -> Option<&Arc<Backend>> {
        match entry {
            Entry::Hosts | Entry::Https if self.mounts.is_empty() => self.hosts.get(host),
            Entry::Hosts | Entry::Https => self.mounted(host, path).or_else(|| self.hosts.get(host)),
            Entry::Port(port) => self.ports.get(&port),
        }
    }

    fn mounted(&self, host: &str, path: &str) -> Option<&Arc<Backend>> {
        let (_, backend) = self.mounts.get(host)?.iter().find(|(prefix, _)| prefix.rest(path).is_some())?;
        Some(backend)
    }

    fn mount(&mut self, route: &Route, backend: &Arc<Backend>) {
        for mount in &route.traffic.mounts {
            let there = self.mounts.entry(mount.host.host().as_str().into()).or_default();
            let there = Arc::make_mut(there);
            there.retain(|(prefix, of)| of.app != route.app || *prefix != mount.path);
            there.push((mount.path.clone(), Arc::clone(backend)));
            // Of two apps with one path the first by name counts.
            let rank = |(prefix, of): &Mounted| (std::cmp::Reverse(prefix.as_str().len()), of.app.clone());
            there.sort_by_cached_key(rank);
        }
    }

    fn unmount(&mut self, before: &Route) {
        for mount in &before.traffic.mounts {
            let host = mount.host.host().as_str();
            let Some(there) = self.mounts.get_mut(host) else { continue };
            Arc::make_mut(there).retain(|(_, of)| of.app != before.app);
            if there.is_empty() {
                self.mounts.remove(host);
            }
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
        self.mount(route, backend);
        if let Some(port) = route.port.filter(|port| is_ours(self.ports.get(port))) {
            self.ports.insert(port, Arc::clone(backend));
        }
    }

    /// Takes out what an app had and has no more. Whoever else claims it has to be
    /// [added](Self::add) again: whether there may be somebody.
    pub(super) fn remove(&mut self, before: &Route, now: Option<&Route>) -> bool {
        let mut some = false;
        self.unmount(before);
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

fn redirects(route: &Route) -> Option<ByName<Option<Redirect>>> {
    let all = &route.traffic.redirects;
    if all.is_empty() {
        return None;
    }
    let mut names = ByName::default();
    for host in &route.hosts {
        names.add(host, all.iter().find(|one| one.from == *host).cloned());
    }
    Some(names)
}

/// The app's own page, if it has one.
fn page(maintenance: &Maintenance) -> Option<Bytes> {
    maintenance.page.as_ref().map(|page| Bytes::copy_from_slice(page.as_bytes()))
}

/// Whether two routes claim one name or port.
pub(super) fn compete(one: &Route, other: &Route) -> bool {
    let claims = |host: &Domain| other.hosts.contains(host);
    one.hosts.iter().any(claims) || one.port.is_some() && one.port == other.port
}

impl Backend {
    /// In place of `before`, if there was one: who waits there goes on to wait here.
    pub(super) fn new(
        route: &Route,
        upstreams: &HashMap<Target, Arc<Upstream>>,
        (counts, lines, meters): (&Counts, &Lines, &Meters),
        before: Option<&Self>,
    ) -> Self {
        let its = route.targets.iter().filter_map(|target| upstreams.get(target).cloned());
        let traffic = &route.traffic;
        let processes = Processes::new(its.collect(), &traffic.weights);
        let sticky = traffic.sticky_key.as_ref().filter(|_| traffic.http.sticky);
        Self {
            app: route.app.clone(),
            counter: counts.of(&route.app, route.release),
            lane: route.traffic.access_log.map(|log| lines.of(&route.app, log)),
            meter: meters.of(&route.app),
            https: route.https,
            http: traffic.http,
            redirects: redirects(route),
            mounts: traffic.mounts.clone(),
            guard: Guard::of(&route.app, &route.traffic.users),
            maintenance: route.traffic.maintenance.as_ref().map(page),
            sleeps: route.traffic.sleeps,
            release: route.release,
            outage: route.outage.clone(),
            canary: traffic.canary.map(|release| (release, counts.of(&route.app, release))),
            queue: queue(&traffic.http, processes.all(), before.and_then(|before| before.queue.as_ref())),
            sticky: sticky.map(|key| Sticky::new(&key.0, processes.all())),
            processes,
        }
    }

    /// Nobody waits here any more.
    pub(super) fn end(&self) {
        self.queue.iter().for_each(|queue| queue.end());
    }

    /// Where requests wait, if they do.
    pub(super) fn queue(&self) -> Option<&Arc<Queue>> {
        self.queue.as_ref()
    }

    /// Of the release that has this process.
    pub(super) fn counter_of(&self, upstream: &Upstream) -> &Arc<Counter> {
        match &self.canary {
            Some((release, counter)) if *release == upstream.target.release => counter,
            _ => &self.counter,
        }
    }

    /// Counts a request that this process has failed and another one answers, if it is
    /// one of a release that is tried: it would be judged by its good answers alone.
    pub(super) fn charge_canary(&self, upstream: &Upstream) {
        if let Some((release, counter)) = &self.canary
            && *release == upstream.target.release
        {
            counter.note(StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    /// What has a client's next request come to this process, if it is to.
    pub(super) fn cookie(&self, headers: &HeaderMap, upstream: &Arc<Upstream>) -> Option<HeaderValue> {
        self.sticky.as_ref()?.cookie(headers, upstream)
    }

    /// The page in place of an answer, and its counting.
    pub(super) fn instead(&self, page: Page) -> Page {
        self.counter.note(page.status());
        page
    }

    /// The same in place of this process's answer.
    pub(super) fn instead_of(&self, upstream: &Upstream, page: Page) -> Page {
        self.counter_of(upstream).note(page.status());
        page
    }

    /// The page while there is no process. That somebody wants none (H14) is no
    /// fault of the release.
    pub(super) fn outage(&self) -> Page {
        let page = Page::Outage(self.outage.clone());
        if self.outage == "H14" { page } else { self.instead(page) }
    }

    /// How much it has been used so far.
    pub(super) fn usage(&self) -> Usage {
        let of = |one: fn(&Upstream) -> u64| self.processes.all().iter().map(|upstream| one(upstream)).sum();
        Usage { release: self.release, requests: of(Upstream::uses), under_way: of(Upstream::under_way) }
    }

    /// Whether there is another target that was not asked.
    pub(super) fn has_another(&self, than: &Arc<Upstream>, asked: &Asked) -> bool {
        let mut all = self.processes.all().iter();
        all.any(|upstream| !Arc::ptr_eq(upstream, than) && !asked.has(upstream))
    }

    /// The process for a request: the one that its cookie names, if that is there and
    /// well, else one that has little to do.
    pub(super) fn pick(&self, asked: &Asked, headers: &HeaderMap) -> Pick {
        let named = self.sticky.as_ref().and_then(|sticky| sticky.asked_for(headers));
        let named = named.filter(|upstream| !asked.has(upstream) && !upstream.is_ejected());
        let Some(upstream) = named.or_else(|| self.processes.pick(asked)) else { return Pick::None };
        match &self.queue {
            // One that was asked before says only that all were.
            Some(queue) if !asked.has(upstream) => self.pick_in_queue(queue, upstream, named, asked),
            _ => upstream.enter().map_or(Pick::Gone, Pick::In),
        }
    }

    /// The same where processes have so many requests and no more.
    fn pick_in_queue(
        &self,
        queue: &Arc<Queue>,
        best: &Arc<Upstream>,
        named: Option<&Arc<Upstream>>,
        asked: &Asked,
    ) -> Pick {
        let others = self.processes.all().iter().filter(|one| named.is_none() && !asked.has(one));
        for upstream in std::iter::once(best).chain(others) {
            match queue.enter(upstream) {
                Entered::In(in_flight) => return Pick::In(in_flight),
                Entered::Gone => return Pick::Gone,
                Entered::Full => {}
            }
        }
        Pick::Wait(named.cloned())
    }
}

/// An app's queue, which goes on from one table to the next.
fn queue(
    http: &HttpSettings,
    upstreams: &[Arc<Upstream>],
    before: Option<&Arc<Queue>>,
) -> Option<Arc<Queue>> {
    let Some(concurrency) = http.concurrency() else {
        before.iter().for_each(|queue| queue.end());
        return None;
    };
    let queue = before.map_or_else(Arc::default, Arc::clone);
    queue.renew(upstreams, concurrency);
    Some(queue)
}
