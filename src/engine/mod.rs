//! The container engine; the sole importer of bollard.
//!
//! Only objects that bear our labels are ever touched. A call that is dropped
//! leaves nothing half-made behind.

mod base;
mod build;
mod build_limits;
mod connect;
mod container;
mod debootstrap;
mod error;
mod event;
mod exec;
mod image;
mod isolation;
mod listen;
mod log;
mod network;
mod process;
mod progress;
mod rootfs;
mod secrets;
mod session;
mod words;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use build::{BuildRequest, BuiltImage, Context};
pub use build_limits::limit_builds;
pub use connect::DEFAULT_SOCKETS;
pub use error::{BuildFailure, EngineError};
pub use event::{Event, EventKind};
pub use image::AppImage;
pub use isolation::isolate;
pub use log::{LogLine, Output};
pub use network::{host_routes, is_free};
pub use progress::BuildLine;

use crate::model::AppId;
use bollard::Docker;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Label: the app's number.
pub const LABEL_APP: &str = "paas.app";
/// Label: the app's name.
pub const LABEL_NAME: &str = "paas.name";
/// Label: `3` for `v3`.
pub const LABEL_RELEASE: &str = "paas.release";
/// Label: `web.1`.
pub const LABEL_PROCESS: &str = "paas.process";

/// Longest that an ordinary call may take. Engines under load need seconds
/// to create a container; a minute means that something is stuck.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// The engine at hand; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Engine {
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
        Ok(Err(source)) => Err(EngineError::Api { doing: doing(), source }),
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
