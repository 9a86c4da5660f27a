//! A host with its engine, its proxy and one server after the other.
//!
//! When the server is "killed", what is on disk and in the engine at that
//! instant is copied, and the next server begins with the copy. What the killed
//! one still does until its runtime is dropped happens to the original, and to
//! an engine that does not answer it any more.

use super::engine::{FakeEngine, Notes};
use super::script::{self, Mishap};
use crate::clock;
use crate::deploy::{Pipeline, Workers};
use crate::logs::Logs;
use crate::model::{AppName, FromProxy, ImageSource, Route, RouteTable, Sleeps, Target};
use crate::settings::{Flags, Settings};
use crate::store::{self, Store};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// How long background work may take; nothing here is slow.
const REST: Duration = Duration::from_secs(20);

/// What outlives a server.
struct Host {
    home: TempDir,
    engine: FakeEngine,
    /// In force while no server is there.
    proxy: Arc<Mutex<Proxy>>,
}

/// What a proxy knows.
#[derive(Clone, Default)]
struct Proxy {
    table: RouteTable,
    /// Targets that it sends nothing new to.
    gone: Vec<Target>,
    /// A request waits for the app to wake.
    waits: bool,
}

/// Somebody who asks the proxy for the app.
#[derive(Clone)]
pub(super) struct Client {
    proxy: Arc<Mutex<Proxy>>,
}

impl Client {
    /// Waits for an answer, which a proxy gives that outlives the server; whether it was
    /// the app's.
    pub async fn ask(&self) -> bool {
        self.proxy.lock().unwrap().waits = true;
        while self.is_waiting() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        !targets(&self.proxy.lock().unwrap().table).is_empty()
    }

    pub fn is_waiting(&self) -> bool {
        self.proxy.lock().unwrap().waits
    }
}

pub(crate) struct World {
    host: Host,
    runtime: Runtime,
    pub pipeline: Arc<Pipeline>,
    killed: Rc<RefCell<Option<Host>>>,
    kill: CancellationToken,
    /// The user's connection of the command at hand.
    pub gone: CancellationToken,
}

/// A command was carried out to its end, or the server was killed in it.
pub(super) enum Carried<T> {
    Out(T),
    Killed,
}

pub(crate) fn app_name() -> AppName {
    AppName::parse("shop").unwrap()
}

impl World {
    /// A new host and its first server. Nothing stands by after a promotion.
    pub fn new() -> Result<Self, String> {
        Self::watching("0")
    }

    /// The same, where the release before stands by for a while after a promotion.
    pub fn watching(watch: &str) -> Result<Self, String> {
        clock::in_tests::set_ahead(0);
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let home = home.unwrap();
        for name in ["repos", "logs", "hooks", "tmp"] {
            std::fs::create_dir(home.path().join(name)).unwrap();
        }
        std::fs::write(home.path().join("server.toml"), settings_of_a_new_host(watch)).unwrap();
        Self::begin(Host { home, engine: FakeEngine::default(), proxy: Arc::default() })
    }

    /// Starts a server on what is there, as `paas serve` does.
    fn begin(host: Host) -> Result<Self, String> {
        Self::begin_with(host, None)
    }

    /// A server that has not begun.
    fn asleep(host: Host) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pipeline = {
            let _inside = runtime.enter();
            Pipeline::new(workers(&host), CancellationToken::new())
        };
        pipeline.routes.seed(host.proxy.lock().unwrap().table.clone());
        Self {
            host,
            runtime,
            pipeline,
            killed: Rc::default(),
            kill: CancellationToken::new(),
            gone: CancellationToken::new(),
        }
    }

    fn begin_with(host: Host, crash: Option<u8>) -> Result<Self, String> {
        let mut world = Self::asleep(host);
        if let Some(left) = crash {
            world.plan(Mishap::Crash, left);
        }
        let begun = world.begun();
        script::end();
        match begun? {
            Carried::Out(()) => Ok(world),
            Carried::Killed => world.next(),
        }
    }

    /// What `paas serve` does before it serves, and what follows of it.
    fn begun(&mut self) -> Result<Carried<()>, String> {
        match self.recover()? {
            Carried::Out(()) => self.rest(),
            Carried::Killed => Ok(Carried::Killed),
        }
    }

    fn recover(&mut self) -> Result<Carried<()>, String> {
        let pipeline = self.pipeline.clone();
        match self.carry_out(async move { pipeline.recover().await }) {
            Carried::Out(recovered) => recovered.map_err(|error| format!("recovery failed: {error}"))?,
            Carried::Killed => return Ok(Carried::Killed),
        }
        self.connect_proxy();
        self.runtime.spawn(self.pipeline.clone().follow_events());
        self.runtime.spawn(self.pipeline.clone().follow_wakes());
        Ok(Carried::Out(()))
    }

    /// Kills the server; the next one serves, and may still be putting things in order.
    pub fn killed(self) -> Self {
        written(&self.pipeline.workers.store);
        let copied = self.host.parts().copied();
        *self.killed.borrow_mut() = Some(copied);
        let mut world = Self::asleep(self.end().unwrap());
        assert!(matches!(world.recover().unwrap(), Carried::Out(())));
        world
    }

    /// The server after one that was killed, which may be killed too.
    pub fn after_a_crash(self, again: Option<u8>) -> Result<Self, String> {
        let host = self.end()?;
        Self::begin_with(host, again)
    }

    fn end(self) -> Result<Host, String> {
        let Self { runtime, pipeline, killed, host, .. } = self;
        drop((pipeline, runtime, host));
        killed.borrow_mut().take().ok_or_else(|| "nobody was killed".to_owned())
    }

    /// The server after one that was killed.
    fn next(self) -> Result<Self, String> {
        Self::begin(self.end()?)
    }

    /// Plans a mishap for what follows.
    pub(super) fn plan(&self, mishap: Mishap, left: u8) {
        self.plan_two(mishap, left, None);
    }

    /// Plans a mishap for what follows, and another that comes after it.
    pub(super) fn plan_two(&self, mishap: Mishap, left: u8, next: Option<(Mishap, u8)>) {
        script::plan(mishap, left, next, self.act());
    }

    /// Kills the server at a failpoint, when something has been done to its engine.
    pub(super) fn crash_at(&self, place: &'static str, before: impl Fn(&FakeEngine) + 'static) {
        let (act, engine) = (self.act(), self.engine());
        script::at(place, move || {
            before(&engine);
            act(Mishap::Crash);
        });
    }

    fn act(&self) -> impl Fn(Mishap) + 'static {
        let (host, killed, kill) = (self.host.parts(), self.killed.clone(), self.kill.clone());
        let (pipeline, gone) = (self.pipeline.clone(), self.gone.clone());
        let database = self.database();
        move |mishap| match mishap {
            Mishap::Crash => {
                written(&pipeline.workers.store);
                *killed.borrow_mut() = Some(host.copied());
                kill.cancel();
            }
            Mishap::Cancel => {
                if let Some(app) = app_number(&database) {
                    pipeline.queue.cancel(app, "ada");
                }
            }
            Mishap::Leave => gone.cancel(),
            Mishap::EngineFails | Mishap::StoreFails | Mishap::StoreHeld => {}
        }
    }

    /// Does something on the server until it ends or the server does.
    pub(super) fn carry_out<T>(&mut self, work: impl Future<Output = T>) -> Carried<T> {
        let kill = self.kill.clone();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = kill.cancelled() => Carried::Killed,
                outcome = work => Carried::Out(outcome),
            }
        })
    }

    /// Waits until nothing goes on in the background.
    pub(super) fn rest(&mut self) -> Result<Carried<()>, String> {
        let pipeline = self.pipeline.clone();
        let (begun, client) = (Instant::now(), self.client());
        let resting = async {
            let mut quiet = 0;
            while quiet < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let answered = !client.is_waiting();
                let rests = answered && pipeline.background.is_empty() && activity(&pipeline).await.is_none();
                quiet = if rests { quiet + 1 } else { 0 };
                if begun.elapsed() > REST {
                    return Err(format!("it never comes to rest: {:?}", activity(&pipeline).await));
                }
            }
            Ok(())
        };
        match self.carry_out(resting) {
            Carried::Out(result) => result.map(Carried::Out),
            Carried::Killed => Ok(Carried::Killed),
        }
    }

    /// Reads the store.
    pub fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> Result<T, store::StoreError> + Send + 'static,
    ) -> T {
        self.runtime.block_on(self.pipeline.workers.store.read(query)).unwrap()
    }

    /// Where something is started that goes on beside the rest.
    pub(super) fn handle(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    /// Runs something to its end, mishaps aside.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) fn engine(&self) -> FakeEngine {
        self.host.engine.clone()
    }

    pub(super) fn notes(&self) -> Notes {
        self.host.engine.notes.clone()
    }

    pub fn home(&self) -> &Path {
        self.host.home.path()
    }

    /// The table that the proxy uses.
    pub fn table(&self) -> RouteTable {
        self.host.proxy.lock().unwrap().table.clone()
    }

    /// Has web processes asked after their start, too.
    pub fn watch_health(&self) {
        self.runtime.spawn(self.pipeline.clone().watch_health());
    }

    pub(super) fn client(&self) -> Client {
        Client { proxy: self.host.proxy.clone() }
    }

    /// Whether the app was to wake just now, and did not: nobody tries for a while.
    pub fn has_just_failed(&self) -> bool {
        let app = self.block_on(self.pipeline.find(&app_name())).unwrap();
        app.is_some_and(|app| self.pipeline.has_just_failed(app.id))
    }

    fn database(&self) -> PathBuf {
        self.home().join("paas.db")
    }

    /// A proxy that is never slow. It tells of each target once on a connection, when
    /// no request to it is under way any more.
    fn connect_proxy(&self) {
        let routes = self.pipeline.routes.clone();
        let (engine, proxy) = (self.host.engine.clone(), self.host.proxy.clone());
        let id = routes.join();
        let hello = FromProxy::Hello {
            pid: 1,
            version: 0,
            tls: false,
            changes: false,
            loads: false,
            weights: true,
            sleep: true,
        };
        routes.hear(id, hello);
        let mut tables = routes.subscribe();
        tables.mark_changed();
        self.runtime.spawn(async move {
            let mut told: Vec<Target> = Vec::new();
            loop {
                let changed = tokio::select! {
                    changed = tables.changed() => match changed {
                        Ok(()) => true,
                        Err(_) => return,
                    },
                    () = tokio::time::sleep(Duration::from_millis(2)) => false,
                };
                if changed {
                    let table = tables.borrow_and_update().clone();
                    let before = proxy.lock().unwrap().take(&table);
                    told.retain(|target| proxy.lock().unwrap().gone.contains(target));
                    check_route(&engine, &before, &table);
                    engine.state().routed = addresses(&table);
                    routes.hear(id, FromProxy::Ack { version: table.version, refused_ports: [].into() });
                }
                if let Some(app) = proxy.lock().unwrap().wakes() {
                    routes.hear(id, FromProxy::Wake { app });
                }
                let gone = proxy.lock().unwrap().gone.clone();
                for target in gone.into_iter().filter(|target| !engine.is_busy(target.address)) {
                    if !told.contains(&target) {
                        told.push(target.clone());
                        routes.hear(id, FromProxy::Drained { target });
                    }
                }
            }
        });
    }
}

impl Proxy {
    /// The app that is to be woken: a request waits for it. Who waits for one that is not
    /// asleep has been answered.
    fn wakes(&mut self) -> Option<AppName> {
        let asleep = |route: &Route| route.traffic.sleeps == Sleeps::Asleep;
        let route = self.table.routes.get(&app_name()).filter(|route| asleep(route));
        self.waits &= route.is_some();
        route.filter(|_| self.waits).map(|route| route.app.clone())
    }

    /// Puts a table in force; the one before.
    fn take(&mut self, table: &RouteTable) -> RouteTable {
        let before = std::mem::replace(&mut self.table, table.clone());
        let now = targets(table);
        self.gone.extend(targets(&before));
        self.gone.retain(|target| !now.contains(target));
        self.gone.dedup();
        before
    }
}

fn targets(table: &RouteTable) -> Vec<Target> {
    table.routes.values().flat_map(|route| route.targets.clone()).collect()
}

/// Old or new answers, never none.
fn check_route(engine: &FakeEngine, before: &RouteTable, now: &RouteTable) {
    let (had, has) = (addresses(before), addresses(now));
    let waits = now.routes.values().any(|route| route.traffic.sleeps == Sleeps::Asleep);
    if has.is_empty() && !had.is_empty() && !waits {
        engine.notes.unless_outage(|| "nothing takes requests any more".to_owned());
    }
    for at in has.iter().filter(|at| !had.contains(at) && !engine.serves(**at)) {
        let text = format!("{at} is to take requests, but nobody is there, or is not ready");
        engine.notes.broken.lock().unwrap().push(text);
    }
}

fn addresses(table: &RouteTable) -> BTreeSet<SocketAddr> {
    targets(table).into_iter().map(|target| target.address).collect()
}

/// Every host has a part of the loopback network for its apps.
fn settings_of_a_new_host(watch: &str) -> String {
    static HOSTS: AtomicU32 = AtomicU32::new(0);
    let number = HOSTS.fetch_add(1, Ordering::Relaxed);
    let (process, host) = (16 + std::process::id() % 230, number % 250);
    format!(
        "network_range = \"127.{process}.{host}.0/24\"\n[build]\nfree_mib = 0\n[deploy]\nwatch = \"{watch}\"\n"
    )
}

fn workers(host: &Host) -> Workers {
    let home = host.home.path().to_owned();
    let settings = settings(&home);
    Workers {
        store: Store::open(&home.join("paas.db"), &settings.secrets_key()).unwrap(),
        engine: Arc::new(host.engine.clone()),
        logs: Logs::open(&home.join("logs"), settings.logs).unwrap(),
        settings,
        source: ImageSource::Registry,
        hooks: home.join("hooks"),
        executable: "paas".into(),
    }
}

fn settings(home: &Path) -> Settings {
    let flags =
        Flags { config: Some(home.join("server.toml")), data_dir: Some(home.to_owned()), ..Flags::default() };
    crate::settings::load(&flags).map(|located| located.settings).unwrap()
}

async fn activity(pipeline: &Pipeline) -> Option<crate::deploy::Activity> {
    let app = pipeline.find(&app_name()).await.ok().flatten()?;
    pipeline.queue.activity(app.id)
}

/// What was handed to the store's writer is written.
fn written(store: &Store) {
    let store = store.clone();
    let barrier = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.write(|_| Ok(())))
    };
    std::thread::spawn(barrier).join().unwrap().unwrap();
}

fn app_number(database: &Path) -> Option<crate::model::AppId> {
    let database = rusqlite::Connection::open(database).ok()?;
    database.query_row("SELECT id FROM apps", [], |row| row.get(0)).map(crate::model::AppId).ok()
}

/// What a copy of a host is made from.
struct Parts {
    home: PathBuf,
    engine: FakeEngine,
    proxy: Arc<Mutex<Proxy>>,
}

impl Host {
    fn parts(&self) -> Parts {
        Parts { home: self.home.path().to_owned(), engine: self.engine.clone(), proxy: self.proxy.clone() }
    }
}

impl Parts {
    fn copied(&self) -> Host {
        let beside = self.home.parent().unwrap();
        let home = tempfile::tempdir_in(beside).unwrap();
        copy(&self.home, home.path());
        let proxy = Arc::new(Mutex::new(self.proxy.lock().unwrap().clone()));
        Host { home, engine: self.engine.outlives_its_server(), proxy }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            std::fs::create_dir_all(&copied).unwrap();
            copy(&path, &copied);
        } else if path.extension().is_none_or(|end| end != "db-shm") {
            // A file may go while this is done: git's and SQLite's own.
            let _ = std::fs::copy(&path, &copied);
        }
    }
}
