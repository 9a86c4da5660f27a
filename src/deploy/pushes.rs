//! Pushes under way, found by their one-time ids.

use super::DeployError;
use super::prepare::Prepared;
use super::push::PushId;
use super::record::Note;
use crate::git::{Lease, RefUpdate};
use crate::model::AppName;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

/// Pushes under way.
#[derive(Default)]
pub(super) struct Pushes {
    known: StdMutex<Known>,
    /// Somebody has a repository alone no longer.
    freed: Notify,
}

#[derive(Default)]
struct Known {
    running: HashMap<PushId, Arc<Push>>,
    /// Repositories to which no push may begin just now.
    alone: HashSet<String>,
}

/// No push begins to a repository as long as somebody has this: what lies around in it
/// is nobody's.
pub(super) struct Alone<'a> {
    pushes: &'a Pushes,
    repository: String,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.pushes.known().alone.remove(&self.repository);
        self.pushes.freed.notify_waiters();
    }
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
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, id: &str) -> Option<Arc<Push>> {
        self.known().running.get(id).cloned()
    }

    /// Makes a push known, as soon as nobody has its repository alone.
    pub async fn insert(&self, push: Push) -> Result<(PushId, Arc<Push>), DeployError> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| DeployError::Internal(error.to_string()))?;
        let id: PushId = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let push = Arc::new(push);
        loop {
            let freed = self.freed.notified();
            if self.try_insert(&id, &push) {
                return Ok((id, push));
            }
            freed.await;
        }
    }

    fn try_insert(&self, id: &PushId, push: &Arc<Push>) -> bool {
        let mut known = self.known();
        let free = !known.alone.contains(&push.repository);
        if free {
            known.running.insert(id.clone(), push.clone());
        }
        free
    }

    /// The repository alone, if no push to it is on its way: the quarantine of one is for
    /// it alone to remove.
    pub fn alone(&self, repository: &str) -> Option<Alone<'_>> {
        let mut known = self.known();
        let used = known.running.values().any(|push| push.repository == repository);
        (!used && known.alone.insert(repository.to_owned()))
            .then(|| Alone { pushes: self, repository: repository.to_owned() })
    }

    pub fn remove(&self, id: &str) {
        self.known().running.remove(id);
    }
}
