//! What the pipeline works with.

use super::amiss::Amiss;
use super::canary::Share;
use super::collect::Collector;
use super::crashes::Crashes;
use super::doubt::Doubts;
use super::line::Line;
use super::orders::Orders;
use super::pins::Pins;
use super::pushes::Pushes;
use super::queue::Queue;
use super::sleep::Sleepers;
use super::watch::Watched;
use super::{AccessLogs, Certificates, DeployError, Routes};
use crate::buildpack::{CacheScope, Catalog, Choice};
use crate::engine::Engine;
use crate::logs::Logs;
use crate::model::{App, AppId, AppName, ImageSource, ProcessName, Release, ReleaseId};
use crate::settings::Settings;
use crate::store::{self, Store};
use crate::webhook::Courier;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The workers that the pipeline sequences.
pub struct Workers {
    /// State.
    pub store: Store,
    /// Containers.
    pub engine: Arc<dyn Engine>,
    /// App logs.
    pub logs: Logs,
    /// Settings.
    pub settings: Settings,
    /// Where base images come from.
    pub source: ImageSource,
    /// The directory of the shipped hooks.
    pub hooks: PathBuf,
    /// This binary, for the hooks.
    pub executable: PathBuf,
}

/// The pipeline; one per server, shared by all entrances.
pub struct Pipeline {
    /// The workers.
    pub workers: Workers,
    /// The route table.
    pub routes: Routes,
    /// Certificates and challenges.
    pub certificates: Certificates,
    pub(super) orders: Orders,
    pub(super) queue: Queue,
    /// Places for builds.
    pub(super) slots: Arc<Line>,
    pub(super) pushes: Pushes,
    pub(super) collector: Collector,
    pub(super) background: TaskTracker,
    /// Those who watch new releases.
    pub(super) watches: TaskTracker,
    pub(super) stop: CancellationToken,
    /// Containers that finish their last requests.
    pub(super) retiring: std::sync::Mutex<HashSet<String>>,
    /// Web processes of a release beyond the formation, which stand in for one that is
    /// restarted. By the number that their containers bear.
    pub(super) spares: std::sync::Mutex<HashMap<AppId, (u32, ProcessName)>>,
    /// Releases that have failed though the store says otherwise yet.
    pub(super) given_up: std::sync::Mutex<HashSet<ReleaseId>>,
    /// Apps of which something is known to be wrong.
    pub(super) amiss: Amiss,
    /// Web processes that have not answered since they started.
    pub(super) doubts: std::sync::Mutex<Doubts>,
    /// Sends messages to webhooks.
    pub(super) courier: Courier,
    /// Rung when there is something to be told.
    pub(super) bell: tokio::sync::Notify,
    /// Releases that are tried beside what serves.
    pub(super) canaries: std::sync::Mutex<HashMap<AppId, Share>>,
    /// Why apps can reach the host, if they can.
    pub(super) exposed: std::sync::Mutex<Option<String>>,
    /// Processes that have ended, and when.
    pub(super) crashes: std::sync::Mutex<Crashes>,
    /// Web processes that are asked after their start.
    pub(super) watched: std::sync::Mutex<Watched>,
    /// Apps that are asleep.
    pub(super) sleepers: std::sync::Mutex<Sleepers>,
    /// Why builds can take all of the host, if they can.
    pub(super) unlimited: std::sync::Mutex<Option<String>>,
    /// Held while the build cache is pruned.
    pub(super) pruning: Arc<tokio::sync::Mutex<()>>,
}

impl Pipeline {
    /// A pipeline that ends its background work when `stop` is cancelled.
    pub fn new(workers: Workers, stop: CancellationToken) -> Arc<Self> {
        let slots = Line::new(workers.settings.build.parallel);
        let collector = Collector::new(workers.engine.clone(), workers.logs.clone());
        let settings = &workers.settings;
        let courier = Courier::new(&settings.webhooks_allow, settings.build.ca_bundle.as_deref());
        Arc::new(Self {
            courier,
            bell: tokio::sync::Notify::new(),
            workers,
            routes: Routes::new(),
            certificates: Certificates::new(),
            orders: Orders::default(),
            queue: Queue::default(),
            slots,
            pushes: Pushes::default(),
            collector,
            background: TaskTracker::new(),
            watches: TaskTracker::new(),
            stop,
            retiring: std::sync::Mutex::default(),
            spares: std::sync::Mutex::default(),
            given_up: std::sync::Mutex::default(),
            amiss: Amiss::default(),
            doubts: std::sync::Mutex::default(),
            canaries: std::sync::Mutex::default(),
            exposed: std::sync::Mutex::default(),
            crashes: std::sync::Mutex::default(),
            watched: std::sync::Mutex::default(),
            sleepers: std::sync::Mutex::default(),
            unlimited: std::sync::Mutex::default(),
            pruning: Arc::default(),
        })
    }

    /// Where access lines go.
    pub fn access_logs(&self) -> AccessLogs {
        AccessLogs { routes: self.routes.clone(), logs: self.workers.logs.clone() }
    }

    pub(super) fn store(&self) -> &Store {
        &self.workers.store
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        self.workers.engine.as_ref()
    }

    /// The app of this name.
    pub async fn find(&self, name: &AppName) -> Result<Option<App>, DeployError> {
        let name = name.clone();
        Ok(self.store().read(move |db| store::apps::find(db, &name)).await?)
    }

    /// Where an app's repository is.
    pub fn repository(&self, directory: &str) -> PathBuf {
        self.workers.settings.repositories().join(directory)
    }

    /// What builds of an app may choose from.
    pub(super) fn catalog(&self, cache_scope: CacheScope, choice: Choice) -> Catalog {
        let ca_bundle = self.workers.settings.build.ca_bundle.clone();
        let allow = self.workers.settings.allow.clone();
        Catalog { source: self.workers.source, ca_bundle, cache_scope, allow, choice }
    }

    /// What the server itself may prepare, and a new app gets: the newest known.
    pub async fn base_catalog(&self) -> Result<Catalog, DeployError> {
        let known = self.store().read(store::bases::known).await?;
        Ok(self.catalog(CacheScope::nobody(), Pins::new(&[], &[], &known).choice()))
    }

    /// What a release was chosen from, as far as its bases go.
    pub fn catalog_of(&self, release: &Release) -> Catalog {
        self.catalog(CacheScope::nobody(), Pins::new(&release.bases, &[], &[]).choice())
    }

    /// The ranges from which a new app gets its port and subnet.
    pub(super) fn pools(&self) -> store::apps::Pools {
        let settings = &self.workers.settings;
        store::apps::Pools {
            ports: settings.port_range.clone(),
            networks: settings.network_range,
            taken: crate::engine::host_routes(),
        }
    }

    /// Where people reach an app.
    pub fn url(&self, name: &AppName) -> String {
        let settings = &self.workers.settings;
        let host = format!("{name}.{}", settings.domain);
        if let Some(https) = settings.https_listen.filter(|_| self.certificates.vouch_for(&host)) {
            return match https.port() {
                443 => format!("https://{host}"),
                port => format!("https://{host}:{port}"),
            };
        }
        match settings.http_listen.port() {
            80 => format!("http://{host}"),
            port => format!("http://{host}:{port}"),
        }
    }

    /// The host name by which an app is asked for its health.
    pub(super) fn host(&self, app: &App) -> String {
        format!("{}.{}", app.name, self.workers.settings.domain)
    }

    /// What `git remote add` wants, for this server's own address.
    pub fn remote(&self, name: &AppName) -> String {
        let settings = &self.workers.settings;
        format!("ssh://paas@{}:{}/{name}", settings.domain, settings.ssh_listen.port())
    }

    /// Why apps can reach the host by their gateway, if they can: the rules that
    /// forbid it need root and iptables.
    pub fn exposed(&self) -> Option<String> {
        self.exposed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Why builds are not limited in memory and processes, if they are not.
    pub fn unlimited(&self) -> Option<String> {
        self.unlimited.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Waits for all background work; call after `stop` is cancelled.
    pub async fn close(&self) {
        self.watches.close();
        self.watches.wait().await;
        self.background.close();
        self.background.wait().await;
        let _ = self.workers.logs.flush().await;
    }
}

impl Pipeline {
    /// Starts what goes on for as long as the server does.
    pub fn background_work(self: &Arc<Self>) {
        self.background.spawn(self.clone().follow_events());
        self.background.spawn(self.clone().keep_in_order());
        self.background.spawn(self.clone().mend());
        self.background.spawn(self.clone().watch_health());
        self.background.spawn(self.clone().follow_wakes());
        self.background.spawn(self.clone().watch_idleness());
        self.background.spawn(self.clone().tell_webhooks());
        self.background.spawn(self.clone().order_certificates());
        self.background.spawn(self.clone().watch_certificates());
    }
}
