//! Pushes under way, found by their one-time ids.

use super::DeployError;
use super::prepare::Prepared;
use super::push::PushId;
use super::record::Note;
use crate::git::{Lease, RefUpdate};
use crate::model::AppName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, OnceLock, PoisonError};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Pushes under way.
#[derive(Default)]
pub(super) struct Pushes {
    running: StdMutex<HashMap<PushId, Arc<Push>>>,
}

pub(super) struct Push {
    pub app: AppName,
    pub repository: String,
    pub who: String,
    /// There was no such app when git began.
    pub is_first: bool,
    pub gone: CancellationToken,
    /// Git's process group.
    pub group: OnceLock<u32>,
    /// Cancelled as soon as the hook has come.
    pub arrived: CancellationToken,
    /// Cancelled when it has its turn, or needs none.
    pub placed: CancellationToken,
    /// Cancelled when git has ended.
    pub ended: CancellationToken,
    pub state: Mutex<State>,
}

/// How far a push has come.
pub(super) struct State {
    pub lease: Lease,
    pub phase: Phase,
    pub note: Option<Note>,
}

pub(super) enum Phase {
    Waiting,
    /// The refs may move; nothing was due.
    Stored,
    Refused,
    /// The release is ready and will be promoted when the branch has moved.
    Prepared(Box<Prepared>, RefUpdate),
    Promoted,
    Failed,
}

impl Pushes {
    pub fn get(&self, id: &str) -> Option<Arc<Push>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub fn insert(&self, push: Push) -> Result<(PushId, Arc<Push>), DeployError> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| DeployError::Internal(error.to_string()))?;
        let id: PushId = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let push = Arc::new(push);
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), push.clone());
        Ok((id, push))
    }

    /// Whether no other push is on its way to this repository: the quarantine of
    /// one is for it alone to remove.
    pub fn is_last(&self, repository: &str) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.values().all(|push| push.repository != repository)
    }

    pub fn remove(&self, id: &str) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
