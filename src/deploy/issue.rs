//! Certificates that are ordered, and what becomes of the orders. Deploys wait for
//! none of it.

use super::desk::Desk;
use super::domains::stored;
use super::orders::{DAY, Wanted, delay, due, kind, wanted};
use super::{DeployError, Pipeline};
use crate::acme::{AcmeError, Authority};
use crate::model::{App, AppId, CertificateOrigin};
use crate::settings::AcmeSettings;
use crate::store::{self, certificates::FailedOrder};
use crate::x509::Certificate;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Orders at once.
const SIDE_BY_SIDE: usize = 4;
/// At the latest after so many seconds it is looked what is due.
const EVERY: i64 = 60;
/// Between two attempts to store a certificate, and how often it is tried.
const AGAIN: Duration = Duration::from_secs(10);
const TRIES: u32 = 360;

impl Pipeline {
    /// Orders what is due, until the server stops.
    pub(super) async fn order_certificates(self: Arc<Self>) {
        let Some(acme) = self.workers.settings.acme.clone() else { return };
        loop {
            let next = self.order_due(&acme).await.unwrap_or_else(|error| {
                tracing::error!(%error, "it could not be looked which certificates are due");
                EVERY
            });
            let pause = Duration::from_secs(u64::try_from(next.clamp(1, EVERY)).unwrap_or(1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.orders.news.notified() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Orders what is due now; in how many seconds to look again.
    async fn order_due(&self, acme: &AcmeSettings) -> Result<i64, DeployError> {
        if let Some(pause) = self.orders.pause() {
            return Ok(i64::try_from(pause.as_secs()).unwrap_or(EVERY) + 1);
        }
        if !self.routes.connected() {
            return Ok(1);
        }
        let (due, next) = due(self.wanted_names().await?, store::now());
        let orders: Vec<BoxFuture<'_, ()>> =
            due.iter().map(|wanted| Box::pin(self.order(acme, wanted)) as BoxFuture<'_, ()>).collect();
        let ordering = futures_util::stream::iter(orders).buffer_unordered(SIDE_BY_SIDE).collect::<Vec<()>>();
        self.stop.run_until_cancelled(ordering).await;
        Ok(next.unwrap_or(EVERY))
    }

    async fn wanted_names(&self) -> Result<Vec<Wanted>, DeployError> {
        let read = self.store().read(|db| {
            let failed = store::certificates::failed_orders(db)?;
            Ok((store::apps::list(db)?, store::certificates::list(db)?, failed))
        });
        let (apps, stored, failed) = read.await?;
        let names = |app: &App| {
            let names = self.names(app).into_iter().filter(|name| self.orders_none(name).is_none());
            (app.id, names.collect::<Vec<_>>())
        };
        let apps: Vec<_> = apps.iter().map(names).collect();
        Ok(wanted(&apps, &stored, &failed, store::now()))
    }

    async fn order(&self, acme: &AcmeSettings, wanted: &Wanted) {
        // Others may have learnt meanwhile that the authority wants to be left alone.
        if self.orders.pause().is_some() {
            return;
        }
        // Counts as failed until it has not: what can't be written down would be ordered
        // again and again, and authorities give a name few certificates.
        if let Err(error) = self.note_order(wanted, 0, String::new()).await {
            tracing::error!(name = %wanted.name, %error, "nothing is ordered while it can't be written down");
            return;
        }
        let kind = kind(acme, wanted);
        tracing::info!(name = %wanted.name, ?kind, "ordering a certificate");
        let outcome = match self.authority(acme).await {
            Ok(authority) => authority.order(&wanted.name, kind, &Desk { pipeline: self, acme }).await,
            Err(error) => Err(error),
        };
        self.orders.heed(outcome.as_ref().err());
        let noted = match outcome {
            Ok(certificate) => self.keep_at_last(acme, wanted, &certificate).await,
            Err(error) => self.give_up_for_now(acme, wanted, &error).await,
        };
        if let Err(error) = noted {
            tracing::error!(name = %wanted.name, %error, "what came of an order could not be written down");
        }
    }

    /// Writes down that an order has failed (or has begun, without a `problem`).
    async fn note_order(&self, wanted: &Wanted, pause: i64, problem: String) -> Result<(), DeployError> {
        let failures = wanted.failures.saturating_add(1);
        let next_at = store::now() + delay(failures, &wanted.name).max(pause);
        let order = FailedOrder { name: wanted.name.clone(), failures, next_at, problem };
        Ok(self.store().write(move |db| store::certificates::note_failure(db, &order)).await?)
    }

    /// Our account, made if there is none.
    async fn authority(&self, acme: &AcmeSettings) -> Result<Arc<Authority>, AcmeError> {
        let mut known = self.orders.authority.lock().await;
        if let Some(authority) = &*known {
            return Ok(Arc::clone(authority));
        }
        let failed = |error: store::StoreError| AcmeError::Answer(error.to_string());
        let directory = acme.directory.clone();
        let stored = self.store().read(move |db| store::certificates::account(db, &directory)).await;
        let stored = stored.map_err(failed)?;
        let bundle = crate::settings::host_ca_bundle();
        let (authority, new) = Authority::enter(acme, bundle, stored.as_deref()).await?;
        if let Some(account) = new {
            let directory = acme.directory.clone();
            let kept =
                self.store().write(move |db| store::certificates::set_account(db, &directory, &account));
            kept.await.map_err(failed)?;
        }
        Ok(Arc::clone(known.insert(Arc::new(authority))))
    }

    /// Stores a certificate as soon as that can be done: a disk may be full for a while.
    async fn keep_at_last(
        &self,
        acme: &AcmeSettings,
        wanted: &Wanted,
        certificate: &Certificate,
    ) -> Result<(), DeployError> {
        let mut tries = 0;
        loop {
            let kept = self.keep(acme, wanted, certificate.clone()).await;
            tries += 1;
            let Err(DeployError::Store(error)) = &kept else { return kept };
            if tries == TRIES {
                return kept;
            }
            tracing::warn!(name = %wanted.name, %error, "a certificate can't be stored yet");
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Stores a certificate, unless its name has another owner by now.
    async fn keep(
        &self,
        acme: &AcmeSettings,
        wanted: &Wanted,
        certificate: Certificate,
    ) -> Result<(), DeployError> {
        let mut new = stored(Some(wanted.app), CertificateOrigin::Acme, certificate)?;
        new.trusted = !acme.is_staging();
        let Some(app) = self.app_numbered(wanted.app).await? else { return Ok(()) };
        if !self.names(&app).contains(&wanted.name) {
            return Ok(());
        }
        let told = format!("a certificate for {} was issued by {}", wanted.name, new.issuer);
        let name = wanted.name.clone();
        let kept = self.store().write(move |db| {
            for old in store::certificates::list(db)? {
                if old.app == new.app && old.origin == new.origin && old.names == new.names {
                    store::certificates::remove(db, &old.id)?;
                }
            }
            store::certificates::forget_order(db, &name)?;
            store::certificates::add(db, &new)
        });
        kept.await?;
        tracing::info!("{told}");
        self.platform_line(wanted.app, &told);
        self.publish_certificates().await
    }

    async fn app_numbered(&self, id: AppId) -> Result<Option<App>, DeployError> {
        Ok(self.store().read(move |db| store::apps::get(db, id)).await?)
    }

    /// Notes why there is none, and when it is tried again.
    async fn give_up_for_now(
        &self,
        acme: &AcmeSettings,
        wanted: &Wanted,
        error: &AcmeError,
    ) -> Result<(), DeployError> {
        if error.is_of_the_account() {
            let directory = acme.directory.clone();
            self.store().write(move |db| store::certificates::forget_account(db, &directory)).await?;
            *self.orders.authority.lock().await = None;
        }
        let problem = error.to_string();
        tracing::warn!(name = %wanted.name, problem, failures = wanted.failures + 1, "no certificate could be had");
        self.platform_line(wanted.app, &format!("no certificate for {}: {problem}", wanted.name));
        self.note_order(wanted, error.retry_after().unwrap_or(0).min(DAY), problem).await
    }
}
