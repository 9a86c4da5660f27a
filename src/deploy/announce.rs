//! Tells webhooks what has happened. What is to be told is written down by the
//! transaction that makes it happen, and sent until it has arrived.

use super::{DeployError, Pipeline};
use crate::model::{Announcement, App, AppId, Delivery, Endpoint, EventKind, MOST_WEBHOOKS, Webhook};
use crate::store;
use crate::store::webhooks::Fate;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Messages that are sent side by side.
const SIDE_BY_SIDE: u32 = 16;

/// Longest time without a look at what is due.
const LOOK: Duration = Duration::from_secs(60);

/// A webhook, its last messages and how many wait.
pub struct Told {
    /// The webhook.
    pub webhook: Webhook,
    /// The newest first.
    pub fates: Vec<Fate>,
    /// How many are on their way.
    pub waiting: u32,
}

impl Pipeline {
    /// Adds a webhook if messages may go there; its number.
    pub async fn add_webhook(
        &self,
        app: &App,
        endpoint: Endpoint,
        events: BTreeSet<EventKind>,
        who: &str,
    ) -> Result<i64, DeployError> {
        self.courier.check(&endpoint.url).await.map_err(DeployError::NoWebhook)?;
        let (id, who) = (app.id, who.to_owned());
        let add = self.store().write(move |db| {
            let there = store::webhooks::list(db, id)?;
            if there.len() >= MOST_WEBHOOKS {
                return Ok(None);
            }
            store::webhooks::add(db, id, &endpoint, &events, &who).map(Some)
        });
        let number = add.await?.ok_or(DeployError::TooManyWebhooks)?;
        self.ring();
        Ok(number)
    }

    /// An app's webhooks, and how the last messages to them fared.
    pub async fn webhooks(&self, app: AppId) -> Result<Vec<Told>, DeployError> {
        let read = move |db: &_| {
            let all = store::webhooks::list(db, app)?.into_iter();
            all.map(|webhook| {
                let (fates, waiting) = store::webhooks::fates(db, webhook.id)?;
                Ok(Told { webhook, fates, waiting })
            })
            .collect()
        };
        Ok(self.store().read(read).await?)
    }

    /// Has webhooks told of what has happened without a change of the store's.
    pub(super) async fn announce(&self, app: AppId, announcement: Announcement) {
        let written = self.store().write(move |db| store::webhooks::announce(db, app, &announcement)).await;
        if let Err(error) = written {
            tracing::error!(%error, "what webhooks are to be told could not be written down");
        }
        self.ring();
    }

    /// Has somebody look at what is to be told.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Sends what is due, until the server stops.
    pub(super) async fn tell_webhooks(self: Arc<Self>) {
        loop {
            let pause = match self.tell_what_is_due().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "webhooks could not be told");
                    LOOK
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.bell.notified() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Sends the messages that are due now; how long until the next is.
    async fn tell_what_is_due(&self) -> Result<Duration, DeployError> {
        loop {
            let (due, next) = self.store().read(|db| store::webhooks::due(db, SIDE_BY_SIDE)).await?;
            if due.is_empty() {
                let left = next.and_then(|at| u64::try_from(at - store::now()).ok());
                return Ok(left.map_or(LOOK, |left| Duration::from_secs(left.max(1)).min(LOOK)));
            }
            let sent = futures_util::future::join_all(due.iter().map(|delivery| self.tell(delivery)));
            tokio::select! {
                results = sent => results.into_iter().collect::<Result<(), DeployError>>()?,
                // What has arrived and is not written down is sent once more.
                () = self.stop.cancelled() => return Ok(LOOK),
            }
        }
    }

    async fn tell(&self, delivery: &Delivery) -> Result<(), DeployError> {
        let (delivered, outcome) = match self.courier.deliver(delivery).await {
            Ok(status) => (true, status.to_string()),
            Err(error) => (false, error.to_string()),
        };
        let (message, said) = (delivery.clone(), outcome.clone());
        let written = self.store().write(move |db| store::webhooks::tried(db, &message, delivered, &said));
        if written.await? {
            let Delivery { name, kind, endpoint, .. } = delivery;
            let text = format!(
                "the webhook {} was not told of a {kind} (delivery {name}): {outcome}; given up",
                endpoint.shown()
            );
            self.platform_line(delivery.app, &text);
        }
        Ok(())
    }
}
