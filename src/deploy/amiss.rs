//! Apps of which something is known to be wrong that could not be put right at once, as
//! on a full disk: that is tried again every few seconds, not only within the minute.

use super::Pipeline;
use crate::model::AppId;
use crate::store;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How often it is tried.
const AGAIN: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(5) };

#[derive(Default)]
pub(super) struct Amiss {
    apps: Mutex<BTreeSet<AppId>>,
    more: Notify,
}

impl Amiss {
    fn apps(&self) -> MutexGuard<'_, BTreeSet<AppId>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipeline {
    /// Something of an app is not as it should be: its branch, or a release that is to be
    /// undone.
    pub(super) fn is_amiss(&self, app: AppId) {
        if self.amiss.apps().insert(app) {
            self.amiss.more.notify_one();
        }
    }

    /// Everything of it is in order.
    pub(super) fn is_right(&self, app: AppId) {
        self.amiss.apps().remove(&app);
    }

    /// Puts such apps in order as soon as that is possible, until the server stops.
    pub async fn mend(self: Arc<Self>) {
        loop {
            let some = !self.amiss.apps().is_empty();
            tokio::select! {
                () = self.amiss.more.notified(), if !some => {}
                () = tokio::time::sleep(AGAIN), if some => {}
                () = self.stop.cancelled() => return,
            }
            if some {
                self.mend_once().await;
            }
        }
    }

    async fn mend_once(self: &Arc<Self>) {
        let apps = self.amiss.apps().clone();
        for id in apps {
            match self.store().read(move |db| store::apps::get(db, id)).await {
                Ok(Some(app)) => self.put_in_order_if_idle(&app).await,
                Ok(None) => self.is_right(id),
                Err(error) => tracing::warn!(%error, "it is not known what is to be put right"),
            }
        }
    }
}
