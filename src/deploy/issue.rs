//! Certificates that are ordered: which are due, and what becomes of the orders.
//! Deploys wait for none of it.

use super::domains::stored;
use super::{DeployError, Pipeline};
use crate::acme::{AcmeError, Answerer, Authority, Proof};
use crate::model::{App, AppId, CertificateOrigin, Domain, StoredCertificate};
use crate::settings::{AcmeSettings, ChallengeKind};
use crate::spawn;
use crate::store::{self, certificates::FailedOrder};
use crate::x509::Certificate;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Orders at once.
const SIDE_BY_SIDE: usize = 4;
/// At the latest after so many seconds it is looked what is due.
const EVERY: i64 = 60;
/// How long the proxies may take to answer a challenge.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the hook for DNS records may take.
const HOOK: Duration = Duration::from_secs(300);
/// The longest time between two attempts, in seconds.
const DAY: i64 = 86_400;

/// What orders share.
#[derive(Default)]
pub(super) struct Orders {
    news: Notify,
    /// Nothing is ordered before this time: the authority wants to be left alone.
    paused_until: AtomicI64,
    authority: tokio::sync::Mutex<Option<Arc<Authority>>>,
    /// Held from looking at the store until its certificates are published.
    pub(super) publishing: tokio::sync::Mutex<()>,
}

impl Orders {
    /// Something has changed: look what is due.
    pub(super) fn wake(&self) {
        self.news.notify_one();
    }
}

/// A name that wants a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    app: AppId,
    name: Domain,
    /// When it is to be ordered.
    at: i64,
    /// How often that has failed in a row.
    failures: u32,
}

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

    /// Orders what is due now; in how many seconds the next will be.
    async fn order_due(&self, acme: &AcmeSettings) -> Result<i64, DeployError> {
        let paused = self.orders.paused_until.load(Ordering::Relaxed) - store::now();
        if paused > 0 || !self.routes.connected() {
            return Ok(paused.max(1));
        }
        let due: Vec<Wanted> = self.wanted_names().await?;
        let now = store::now();
        let (due, later): (Vec<_>, Vec<_>) = due.into_iter().partition(|wanted| wanted.at <= now);
        let orders: Vec<BoxFuture<'_, ()>> =
            due.iter().map(|wanted| Box::pin(self.order(acme, wanted)) as BoxFuture<'_, ()>).collect();
        let ordering = futures_util::stream::iter(orders).buffer_unordered(SIDE_BY_SIDE).collect::<Vec<()>>();
        self.stop.run_until_cancelled(ordering).await;
        Ok(later.iter().map(|wanted| wanted.at - now).min().unwrap_or(EVERY))
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
        if self.orders.paused_until.load(Ordering::Relaxed) > store::now() {
            return;
        }
        let kind = kind(acme, wanted);
        tracing::info!(name = %wanted.name, ?kind, "ordering a certificate");
        let outcome = match self.authority(acme).await {
            Ok(authority) => authority.order(&wanted.name, kind, &Desk { pipeline: self, acme }).await,
            Err(error) => Err(error),
        };
        let noted = match outcome {
            Ok(certificate) => self.keep(acme, wanted, certificate).await,
            Err(error) => self.give_up_for_now(acme, wanted, &error).await,
        };
        if let Err(error) = noted {
            tracing::error!(name = %wanted.name, %error, "what came of an order could not be written down");
        }
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
        let now = store::now();
        if let Some(pause) = error.pause() {
            self.orders.paused_until.fetch_max(now + pause, Ordering::Relaxed);
        }
        if error.is_of_the_account() {
            let directory = acme.directory.clone();
            self.store().write(move |db| store::certificates::forget_account(db, &directory)).await?;
            *self.orders.authority.lock().await = None;
        }
        let failures = wanted.failures + 1;
        let next_at = now + delay(failures, &wanted.name).max(error.pause().unwrap_or(0));
        let problem = error.to_string();
        tracing::warn!(name = %wanted.name, problem, failures, "no certificate could be had");
        self.platform_line(wanted.app, &format!("no certificate for {}: {problem}", wanted.name));
        let order = FailedOrder { name: wanted.name.clone(), failures, next_at, problem };
        Ok(self.store().write(move |db| store::certificates::note_failure(db, &order)).await?)
    }
}

/// How a name is to be proven; with each failure another way is tried.
fn kind(acme: &AcmeSettings, wanted: &Wanted) -> ChallengeKind {
    if wanted.name.is_wildcard() {
        return ChallengeKind::Dns01;
    }
    let turn = usize::try_from(wanted.failures).unwrap_or(0) % acme.challenges.len().max(1);
    acme.challenges.get(turn).copied().unwrap_or(ChallengeKind::Http01)
}

/// Which names want a certificate, and when.
fn wanted(
    apps: &[(AppId, Vec<Domain>)],
    stored: &[StoredCertificate],
    failed: &[FailedOrder],
    now: i64,
) -> Vec<Wanted> {
    let mut all = Vec::new();
    for (app, names) in apps {
        for name in names {
            let covers = |one: &&StoredCertificate| one.names.iter().any(|own| own.covers(name));
            let brought = stored.iter().filter(covers).any(|one| {
                let ours = one.app.is_none_or(|owner| owner == *app);
                ours && one.origin == CertificateOrigin::Own && one.not_after > now
            });
            if brought {
                continue;
            }
            let ordered = stored.iter().filter(|one| {
                one.app == Some(*app) && one.origin == CertificateOrigin::Acme && one.names.contains(name)
            });
            let at = ordered.map(renew_at).max().unwrap_or(0);
            let failed = failed.iter().find(|failed| failed.name == *name);
            let failures = failed.map_or(0, |failed| failed.failures);
            let at = at.max(failed.map_or(0, |failed| failed.next_at));
            all.push(Wanted { app: *app, name: name.clone(), at, failures });
        }
    }
    all
}

/// Two thirds of its life, and up to a thirtieth more, so that those of one day are not
/// all renewed on one day again.
fn renew_at(one: &StoredCertificate) -> i64 {
    let life = one.not_after - one.not_before;
    one.not_before + life / 3 * 2 + chance(&one.id, life / 30)
}

/// Seconds until the next attempt: soon another way is tried, then ever later.
fn delay(failures: u32, name: &Domain) -> i64 {
    let base = match failures {
        0 | 1 => 60,
        more => (600 << (more - 2).min(8)).min(DAY),
    };
    base + chance(&(name, failures), base / 10)
}

/// A number below `most` that is another for each thing, and always the same.
fn chance(thing: &impl Hash, most: i64) -> i64 {
    let mut hasher = DefaultHasher::new();
    thing.hash(&mut hasher);
    let number = i64::try_from(hasher.finish() >> 1).unwrap_or(0);
    if most > 0 { number % most } else { 0 }
}

/// Puts proofs where the authority looks for them.
struct Desk<'a> {
    pipeline: &'a Pipeline,
    acme: &'a AcmeSettings,
}

impl Desk<'_> {
    async fn put_up(&self, proof: &Proof) -> Result<(), String> {
        let certificates = &self.pipeline.certificates;
        let version = certificates.change_challenges(|challenges| match proof {
            Proof::Http(challenge) => challenges.http.push(challenge.clone()),
            Proof::Tls(challenge) => challenges.tls.push(challenge.clone()),
            Proof::Dns { .. } => {}
        });
        if let Proof::Dns { name, value } = proof {
            return self.hook("present", name, value).await;
        }
        if certificates.answered(version, ANSWER).await {
            return Ok(());
        }
        Err("the proxy does not answer the challenge: it is away, or of an older version".to_owned())
    }

    async fn take_down(&self, proof: &Proof) {
        self.pipeline.certificates.change_challenges(|challenges| match proof {
            Proof::Http(gone) => challenges.http.retain(|challenge| challenge != gone),
            Proof::Tls(gone) => challenges.tls.retain(|challenge| challenge != gone),
            Proof::Dns { .. } => {}
        });
        if let Proof::Dns { name, value } = proof
            && let Err(error) = self.hook("cleanup", name, value).await
        {
            tracing::warn!(name, error, "a DNS record may be left");
        }
    }

    /// Runs the administrator's program: `present NAME VALUE`, `cleanup NAME VALUE`.
    async fn hook(&self, phase: &'static str, name: &str, value: &str) -> Result<(), String> {
        let Some(program) = &self.acme.dns_hook else { return Err("acme.dns_hook is not set".to_owned()) };
        let said = |what: &str| format!("acme.dns_hook ({}): {what}", program.display());
        let running = spawn::dns_hook(program, [phase, name, value]).output();
        let output = tokio::time::timeout(HOOK, running).await.map_err(|_| said("it did not end in time"))?;
        let output = output.map_err(|error| said(&error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed");
        let last: String = crate::output::tame(last).chars().take(200).collect();
        Err(said(&last))
    }
}

impl Answerer for Desk<'_> {
    fn present<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.put_up(proof))
    }

    fn withdraw<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, ()> {
        Box::pin(self.take_down(proof))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::PrivateKeyPem;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn certificate(app: Option<i64>, origin: CertificateOrigin, name: &str) -> StoredCertificate {
        StoredCertificate {
            id: "1".into(),
            app: app.map(AppId),
            origin,
            names: vec![domain(name)],
            chain: String::new(),
            key: PrivateKeyPem::new(String::new()),
            issuer: "Test".into(),
            trusted: true,
            not_before: 0,
            not_after: 90 * DAY,
            created_at: 0,
        }
    }

    #[test]
    fn names_are_ordered_that_have_none_and_renewed_after_two_thirds() {
        use CertificateOrigin::{Acme, Own};
        let apps = [(AppId(1), vec![domain("new.a"), domain("old.a"), domain("own.a"), domain("bad.a")])];
        let stored = [
            certificate(Some(1), Acme, "old.a"),
            certificate(Some(1), Own, "own.a"),
            // Another app's helps nobody.
            certificate(Some(2), Own, "new.a"),
        ];
        let order = FailedOrder { name: domain("bad.a"), failures: 3, next_at: 500, problem: "no".into() };
        let all = wanted(&apps, &stored, &[order], 100);
        let at: Vec<_> = all.iter().map(|one| (one.name.to_string(), one.at, one.failures)).collect();
        assert_eq!(at[0], ("new.a".into(), 0, 0));
        assert_eq!(at[2], ("bad.a".into(), 500, 3));
        let renewal = at[1].1;
        assert!((60 * DAY..63 * DAY).contains(&renewal), "{renewal}");
        // What was brought and is over is ordered.
        assert_eq!(wanted(&apps, &stored, &[], 91 * DAY).len(), 4);
    }

    #[test]
    fn attempts_are_further_and_further_apart() {
        let name = domain("a.example");
        let delays: Vec<i64> = (1..14).map(|failures| delay(failures, &name)).collect();
        for (failures, delay) in delays.iter().enumerate() {
            assert!((60..=DAY + DAY / 10).contains(delay), "{failures}: {delay}");
        }
        // Five failures an hour is what the largest authority forgives.
        assert!(delays[..5].iter().sum::<i64>() > 3600, "{delays:?}");
        assert_eq!(delays.iter().rposition(|delay| *delay < DAY), Some(8));
    }
}
