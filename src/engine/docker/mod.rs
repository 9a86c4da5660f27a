//! Docker, the one engine that we know; the sole importer of bollard.
//!
//! Only objects that bear our labels are ever touched. A call that is dropped
//! leaves nothing half-made behind.

mod base;
mod build;
mod build_limits;
mod cache;
mod connect;
mod container;
mod debootstrap;
mod event;
mod exec;
mod image;
mod isolation;
mod listen;
mod log;
mod network;
mod pin;
mod process;
mod progress;
mod rootfs;
mod secrets;
mod session;
mod usage;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use connect::DEFAULT_SOCKETS;
pub use network::{host_routes, is_free};

use super::{
    Answer, AppImage, BuildLine, BuildRequest, BuiltImage, Engine, EngineError, Event, Identity, LogLine,
    Refusal, Usage,
};
use crate::model::{AppId, AppName, BaseImage, BuildLimits, ProcessState, Restart, Workload};
use crate::settings::BuildSettings;
use bollard::Docker;
use futures_util::stream::BoxStream;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Longest that an ordinary call may take. Engines under load need seconds
/// to create a container; a minute means that something is stuck.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A Docker engine; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct DockerEngine {
    docker: Docker,
    address: session::Address,
    shared: Arc<Shared>,
}

/// What all clones share.
#[derive(Default)]
struct Shared {
    /// Networks known to exist; forgotten when a call says otherwise.
    networks: Mutex<HashMap<AppId, ipnet::Ipv4Net>>,
    network_locks: Locks<AppId>,
    base_locks: Locks<String>,
    /// Where images are, once it was asked: that answer takes the engine long.
    storage: tokio::sync::OnceCell<Option<PathBuf>>,
}

/// One async lock per key, so that the same thing is made once.
struct Locks<K>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Locks<K> {
    async fn lock(&self, key: K) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        lock.lock_owned().await
    }
}

/// Runs one call with the ordinary limit, and names it in its error.
async fn call<T>(
    doing: impl FnOnce() -> String,
    future: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(CALL_LIMIT, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(EngineError::Api { doing: doing(), source: source.into() }),
        Err(_) => Err(EngineError::Slow { doing: doing(), limit: CALL_LIMIT }),
    }
}

/// `Ok` for a call whose object is gone already.
fn or_missing(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

impl From<bollard::errors::Error> for Refusal {
    fn from(error: bollard::errors::Error) -> Self {
        let status = match &error {
            bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
            _ => None,
        };
        Self { status, message: message_of(&error) }
    }
}

/// The engine's own words in an error of the client's.
fn message_of(error: &bollard::errors::Error) -> String {
    match error {
        bollard::errors::Error::DockerResponseServerError { message, .. } => message.clone(),
        bollard::errors::Error::DockerStreamError { error } => error.clone(),
        other => other.to_string(),
    }
}

/// Each method is this engine's own of the same name.
impl Engine for DockerEngine {
    fn has_image<'a>(&'a self, reference: &'a str) -> Answer<'a, bool> {
        Box::pin(self.has_image(reference))
    }

    fn identity<'a>(&'a self, reference: &'a str) -> Answer<'a, Option<Identity>> {
        Box::pin(self.identity(reference))
    }

    fn name_locally<'a>(&'a self, image: &'a str, digest: &'a str) -> Answer<'a, String> {
        Box::pin(self.name_locally(image, digest))
    }

    fn pull_again<'a>(&'a self, image: &'a str, digest: &'a str) -> Answer<'a, ()> {
        Box::pin(self.pull_again(image, digest))
    }

    fn remove_image<'a>(&'a self, reference: &'a str) -> Answer<'a, ()> {
        Box::pin(self.remove_image(reference))
    }

    fn app_images<'a>(&'a self, app: AppId, name: &'a AppName) -> Answer<'a, Vec<AppImage>> {
        Box::pin(self.app_images(app, name))
    }

    fn ensure_base<'a>(
        &'a self,
        base: &'a BaseImage,
        settings: &'a BuildSettings,
        scratch_dir: &'a Path,
        lines: mpsc::Sender<String>,
    ) -> Answer<'a, ()> {
        self.ensure_base(base, settings, scratch_dir, lines)
    }

    fn build(&self, request: BuildRequest, lines: mpsc::Sender<BuildLine>) -> Answer<'_, BuiltImage> {
        Box::pin(self.build(request, lines))
    }

    fn build_local(&self, request: BuildRequest, lines: mpsc::Sender<BuildLine>) -> Answer<'_, BuiltImage> {
        Box::pin(self.build_local(request, lines))
    }

    fn limit_builds(&self, limits: BuildLimits) -> Result<(), String> {
        build_limits::limit_builds(limits)
    }

    fn prune_build_cache(&self, keep: u64) -> Answer<'_, u64> {
        Box::pin(self.prune_build_cache(keep))
    }

    fn storage(&self) -> Answer<'_, Option<PathBuf>> {
        Box::pin(self.storage())
    }

    fn ensure_network(&self, app: AppId, subnet: ipnet::Ipv4Net) -> Answer<'_, ()> {
        Box::pin(self.ensure_network(app, subnet))
    }

    fn remove_network(&self, app: AppId) -> Answer<'_, ()> {
        Box::pin(self.remove_network(app))
    }

    fn isolate(
        &self,
        public_ports: Vec<u16>,
        builds: bool,
    ) -> futures_util::future::BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let bridge = self.default_bridge().await.map_err(|error| error.to_string())?;
            let networks = self.bridges().await.map_err(|error| error.to_string())?;
            isolation::isolate(&public_ports, bridge.map(|bridge| (bridge, builds)), &networks).await
        })
    }

    fn start<'a>(&'a self, workload: &'a Workload) -> Answer<'a, String> {
        Box::pin(self.start(workload))
    }

    fn run_once<'a>(
        &'a self,
        workload: &'a Workload,
        lines: mpsc::Sender<LogLine>,
        cancel: CancellationToken,
        timeout: Duration,
    ) -> Answer<'a, i64> {
        Box::pin(self.run_once(workload, lines, cancel, timeout))
    }

    fn run_in<'a>(&'a self, container: &'a str, words: &'a [&'a str]) -> Answer<'a, i64> {
        Box::pin(self.run_in(container, words))
    }

    fn stop<'a>(&'a self, container: &'a str, grace: Duration) -> Answer<'a, ()> {
        Box::pin(self.stop(container, grace))
    }

    fn set_restart<'a>(&'a self, container: &'a str, restart: Restart) -> Answer<'a, ()> {
        Box::pin(self.set_restart(container, restart))
    }

    fn remove<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        Box::pin(self.remove(container))
    }

    fn processes(&self, app: Option<AppId>) -> Answer<'_, Vec<ProcessState>> {
        Box::pin(self.processes(app))
    }

    fn inspect<'a>(&'a self, container: &'a str) -> Answer<'a, ProcessState> {
        Box::pin(self.inspect(container))
    }

    fn usage<'a>(&'a self, container: &'a str) -> Answer<'a, Option<Usage>> {
        Box::pin(self.usage(container))
    }

    fn listening<'a>(&'a self, container: &'a str) -> Answer<'a, Vec<SocketAddr>> {
        Box::pin(self.listening(container))
    }

    fn logs(
        &self,
        container: &str,
        since: Option<i64>,
        follow: bool,
    ) -> BoxStream<'static, Result<LogLine, EngineError>> {
        self.logs(container, since, follow)
    }

    fn events(&self) -> BoxStream<'static, Result<Event, EngineError>> {
        self.events()
    }
}
