//! Names of apps, whether they are to be reached by HTTPS alone, and the certificates
//! that are shown for them.

use super::{DeployError, Pipeline};
use crate::model::{
    App, AppId, AppName, CertificateOrigin, Domain, HttpsChoice, MOST_DOMAINS, Mount, Redirect,
    ServedCertificate, StoredCertificate,
};
use crate::store::{self, StoreError};
use crate::x509::{self, CertificateFault};
use std::sync::Arc;
use std::time::Duration;

/// How long a change waits for the proxies.
const PROXIES: Duration = Duration::from_secs(5);
/// Between two looks at which certificates count.
const LOOK: Duration = Duration::from_secs(60);
/// Renew the certificate of localhost this long before its end, in seconds.
const MONTH: i64 = 30 * 86_400;

/// How a name does with HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameState {
    /// There is a certificate.
    Covered {
        /// Where it is from.
        origin: CertificateOrigin,
        /// Until when it counts.
        until: i64,
    },
    /// None could be had; why, and when it is tried again.
    Failed {
        /// In one line.
        problem: String,
        /// Seconds since the epoch.
        next_at: i64,
    },
    /// One is being ordered.
    Due,
    /// None will be ordered; why.
    None(&'static str),
}

impl Pipeline {
    /// All names of an app; the one that it has of the server first.
    pub fn names(&self, app: &App) -> Vec<Domain> {
        let own = Domain::parse(&self.host(app)).ok();
        own.into_iter().chain(app.domains.iter().cloned()).collect()
    }

    /// Gives an app names; returns those that it did not have yet. One that is
    /// refused changes nothing.
    pub async fn add_domains(&self, app: &App, names: Vec<Domain>) -> Result<Vec<Domain>, DeployError> {
        if app.domains.len() + names.len() > MOST_DOMAINS {
            return Err(DeployError::TooManyNames);
        }
        let id = app.id;
        let added = self.store().write(move |db| {
            let mut added = Vec::new();
            for name in names {
                if store::domains::add(db, id, &name)? {
                    added.push(name);
                }
            }
            Ok(added)
        });
        let added = added.await?;
        self.names_changed(id).await?;
        Ok(added)
    }

    /// Takes names from an app. One that it does not have changes nothing.
    pub async fn remove_domains(&self, app: &App, names: Vec<Domain>) -> Result<(), DeployError> {
        let id = app.id;
        let removed = self.store().write(move |db| {
            names.iter().try_for_each(|name| {
                let removed = store::domains::remove(db, id, name)?;
                removed.then_some(()).ok_or_else(|| StoreError::NoDomain(name.to_string()))
            })
        });
        removed.await?;
        self.names_changed(id).await
    }

    /// Gives an app paths under names; one that is refused changes nothing.
    pub async fn add_mounts(&self, app: &App, mounts: Vec<Mount>) -> Result<(), DeployError> {
        let id = app.id;
        let added = self
            .store()
            .write(move |db| mounts.iter().try_for_each(|mount| store::mounts::set(db, id, mount)));
        added.await?;
        self.publish_rules(app).await
    }

    /// Takes them from it; one that it does not have changes nothing.
    pub async fn remove_mounts(&self, app: &App, mounts: Vec<Mount>) -> Result<(), DeployError> {
        let id = app.id;
        let removed = self.store().write(move |db| {
            mounts.iter().try_for_each(|mount| {
                let removed = store::mounts::remove(db, id, mount)?;
                removed.then_some(()).ok_or_else(|| StoreError::NoDomain(mount.to_string()))
            })
        });
        removed.await?;
        self.publish_rules(app).await
    }

    /// The paths under an app's names that are other apps', and whose.
    pub async fn mounts_of_others(&self, app: &App) -> Result<Vec<(String, AppName)>, DeployError> {
        let id = app.id;
        Ok(self.store().read(move |db| store::mounts::of_others(db, id)).await?)
    }

    /// Has the requests of one of an app's names sent on to another name.
    pub async fn redirect(&self, app: &App, redirect: Redirect) -> Result<(), DeployError> {
        if !self.names(app).contains(&redirect.from) {
            return Err(StoreError::NoDomain(redirect.from.to_string()).into());
        }
        let id = app.id;
        self.store().write(move |db| store::redirects::set(db, id, &redirect)).await?;
        self.publish_rules(app).await
    }

    /// Lets the app answer to a name itself; `false` if it does.
    pub async fn end_redirect(&self, app: &App, name: Domain) -> Result<bool, DeployError> {
        let id = app.id;
        let ended = self.store().write(move |db| store::redirects::remove(db, id, &name)).await?;
        self.publish_rules(app).await?;
        Ok(ended)
    }

    /// Stores what `https:set` has said.
    pub async fn set_https(&self, app: &App, choice: HttpsChoice) -> Result<(), DeployError> {
        let id = app.id;
        self.store().write(move |db| store::apps::set_https(db, id, &choice)).await?;
        self.publish_rules(app).await
    }

    async fn names_changed(&self, id: AppId) -> Result<(), DeployError> {
        // First the route: a name that is gone must not be sent on to a certificate
        // that is.
        let published = self.publish_running(id).await?;
        self.publish_certificates().await?;
        self.routes.acknowledged(published.version).await;
        self.orders.wake();
        Ok(())
    }

    /// Takes a certificate that somebody brings, for an app or (`None`) for all names that
    /// have none. Those of the same owner that it covers are replaced; their number.
    pub async fn add_certificate(
        &self,
        app: Option<&App>,
        text: &str,
    ) -> Result<(StoredCertificate, usize), DeployError> {
        let bundle = crate::settings::host_ca_bundle();
        let roots = if bundle.exists() { crate::https::roots(bundle)? } else { Vec::new() };
        let read = x509::read(text, &roots, store::now()).map_err(DeployError::Certificate)?;
        if let Some(app) = app {
            let covered = self.names(app).iter().any(|name| read.names.iter().any(|own| own.covers(name)));
            if !covered {
                return Err(DeployError::Certificate(CertificateFault::OtherNames(read.names)));
            }
        }
        let stored = stored(app.map(|app| app.id), CertificateOrigin::Own, read)?;
        let kept = stored.clone();
        let replaced = self.store().write(move |db| {
            let mut replaced = 0;
            for old in store::certificates::list(db)? {
                if old.app == kept.app && old.origin == kept.origin && covers_all(&kept, &old) {
                    store::certificates::remove(db, &old.id)?;
                    replaced += 1;
                }
            }
            store::certificates::add(db, &kept)?;
            Ok(replaced)
        });
        let replaced = replaced.await?;
        self.publish_certificates().await?;
        Ok((stored, replaced))
    }

    /// Removes a certificate; `false` if its owner has none of that number.
    pub async fn remove_certificate(&self, app: Option<AppId>, id: &str) -> Result<bool, DeployError> {
        let id = id.to_owned();
        let removed = self.store().write(move |db| {
            let known = store::certificates::list(db)?;
            if !known.iter().any(|one| one.id == id && one.app == app) {
                return Ok(false);
            }
            store::certificates::remove(db, &id)
        });
        let removed = removed.await?;
        self.publish_certificates().await?;
        self.orders.wake();
        Ok(removed)
    }

    /// Shows what the store has from now on.
    pub async fn publish_certificates(&self) -> Result<(), DeployError> {
        let publishing = self.orders.publishing.lock().await;
        let (apps, stored) =
            self.store().read(|db| Ok((store::apps::list(db)?, store::certificates::list(db)?))).await?;
        let apps: Vec<_> = apps.iter().map(|app| (app.id, self.names(app))).collect();
        let version = self.certificates.publish(served(&apps, &stored, store::now()));
        drop(publishing);
        if self.certificates.followed() {
            self.certificates.shown(version, PROXIES).await;
        }
        Ok(())
    }

    /// Certificates end without anybody's doing: shows others then, and renews our own.
    pub(super) async fn watch_certificates(self: Arc<Self>) {
        while self.stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let looked = match self.certify_localhost().await {
                Ok(()) => self.publish_certificates().await,
                Err(error) => Err(error),
            };
            if let Err(error) = looked {
                tracing::error!(%error, "it could not be looked which certificates count");
            }
        }
    }

    /// Makes a certificate for this machine's own names, for which no authority vouches.
    pub async fn certify_localhost(&self) -> Result<(), DeployError> {
        let settings = &self.workers.settings;
        if settings.https_listen.is_none() || !settings.domain.is_local() {
            return Ok(());
        }
        let names = ["localhost", "*.localhost"].map(str::to_owned).to_vec();
        let until = store::now() + 397 * 86_400;
        let made = self.store().write(move |db| {
            let known = store::certificates::list(db)?;
            let (ours, _): (Vec<_>, Vec<_>) =
                known.into_iter().partition(|one| one.origin == CertificateOrigin::Selfmade);
            if ours.iter().any(|one| one.not_after > store::now() + MONTH) {
                return Ok(());
            }
            let made = x509::selfmade(names, until).map_err(|error| StoreError::Value(error.to_string()))?;
            for old in ours {
                store::certificates::remove(db, &old.id)?;
            }
            let stored = stored(None, CertificateOrigin::Selfmade, made)?;
            store::certificates::add(db, &stored)
        });
        Ok(made.await?)
    }

    /// How each name of an app does.
    pub async fn name_states(&self, app: &App) -> Result<Vec<(Domain, NameState)>, DeployError> {
        let (stored, failed) = self
            .store()
            .read(|db| Ok((store::certificates::list(db)?, store::certificates::failed_orders(db)?)))
            .await?;
        let names = self.names(app);
        let shown = served(&[(app.id, names.clone())], &stored, store::now());
        let state = |name: &Domain| {
            // Of two for one name the first counts; the table says no more whose it was.
            let chain = shown.iter().find(|one| one.names.iter().any(|own| own.covers(name)));
            let stored = chain.and_then(|one| stored.iter().find(|stored| stored.chain == one.chain));
            if let Some(stored) = stored.filter(|stored| stored.not_after > store::now()) {
                return NameState::Covered { origin: stored.origin, until: stored.not_after };
            }
            if let Some(why) = self.orders_none(name) {
                return NameState::None(why);
            }
            let failed = failed.iter().find(|failed| failed.name == *name && !failed.problem.is_empty());
            failed.map_or(NameState::Due, |failed| NameState::Failed {
                problem: failed.problem.clone(),
                next_at: failed.next_at,
            })
        };
        Ok(names.iter().map(|name| (name.clone(), state(name))).collect())
    }

    /// Why no certificate is ordered for a name.
    pub(super) fn orders_none(&self, name: &Domain) -> Option<&'static str> {
        let settings = &self.workers.settings;
        if settings.https_listen.is_none() {
            return Some("HTTPS is off (tls, https_listen)");
        }
        if name.host().is_local() {
            return Some("no authority vouches for this machine's own names");
        }
        let Some(acme) = &settings.acme else { return Some("none is ordered (acme.email is not set)") };
        (name.is_wildcard() && acme.dns_hook.is_none())
            .then_some("a wildcard needs acme.dns_hook, or certs:add")
    }
}

/// Whether the newer one is for every name of the older.
fn covers_all(new: &StoredCertificate, old: &StoredCertificate) -> bool {
    old.names.iter().all(|name| new.names.iter().any(|own| own.covers(name)))
}

/// A row for a certificate.
pub(super) fn stored(
    app: Option<AppId>,
    origin: CertificateOrigin,
    read: x509::Certificate,
) -> Result<StoredCertificate, StoreError> {
    Ok(StoredCertificate {
        id: store::certificates::new_id()?,
        app,
        origin,
        names: read.names,
        chain: read.chain,
        key: read.key,
        issuer: read.issuer,
        trusted: read.trusted && origin != CertificateOrigin::Selfmade,
        not_before: read.not_before,
        not_after: read.not_after,
        created_at: store::now(),
    })
}

/// What proxies are to show: of each certificate the names that its owner has. First
/// those that count still, then by where they are from; of equals the newest.
pub(super) fn served(
    apps: &[(AppId, Vec<Domain>)],
    stored: &[StoredCertificate],
    now: i64,
) -> Vec<ServedCertificate> {
    let mut ranked: Vec<&StoredCertificate> = stored.iter().collect();
    ranked.sort_by_key(|one| (one.not_after <= now, one.app.is_none(), one.origin));
    let names = |one: &StoredCertificate| match one.app {
        None => one.names.clone(),
        Some(app) => {
            let own = apps.iter().filter(|(id, _)| *id == app).flat_map(|(_, names)| names);
            own.filter(|name| one.names.iter().any(|wide| wide.covers(name))).cloned().collect()
        }
    };
    let all = ranked.into_iter().map(|one| ServedCertificate {
        names: names(one),
        chain: one.chain.clone(),
        key: one.key.clone(),
        fallback: one.app.is_none(),
        trusted: one.trusted && one.not_after > now,
    });
    all.filter(|one| !one.names.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::PrivateKeyPem;

    fn one(id: &str, app: Option<i64>, origin: CertificateOrigin, names: &[&str]) -> StoredCertificate {
        StoredCertificate {
            id: id.into(),
            app: app.map(AppId),
            origin,
            names: names.iter().map(|name| Domain::parse(name).unwrap()).collect(),
            chain: id.into(),
            key: PrivateKeyPem::new(String::new()),
            issuer: "Test".into(),
            trusted: origin != CertificateOrigin::Selfmade,
            not_before: 0,
            not_after: 100,
            created_at: 0,
        }
    }

    #[test]
    fn a_certificate_is_shown_for_names_of_its_owner_alone() {
        use CertificateOrigin::{Acme, Own, Selfmade};
        let names =
            |names: &[&str]| names.iter().map(|name| Domain::parse(name).unwrap()).collect::<Vec<_>>();
        let apps =
            [(AppId(1), names(&["a.apps.example", "www.a.example"])), (AppId(2), names(&["b.apps.example"]))];
        let mut over = one("over", Some(1), Own, &["www.a.example"]);
        over.not_after = 10;
        let stored = [
            over,
            one("self", None, Selfmade, &["localhost"]),
            one("default", None, Own, &["*.apps.example"]),
            one("ordered", Some(1), Acme, &["www.a.example"]),
            one("brought", Some(1), Own, &["*.a.example", "b.apps.example"]),
            one("foreign", Some(2), Own, &["www.a.example"]),
        ];
        let shown = served(&apps, &stored, 50);
        let told: Vec<String> = shown
            .iter()
            .map(|one| {
                format!("{} {:?} fallback {} trusted {}", one.chain, one.names, one.fallback, one.trusted)
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        brought ["www.a.example"] fallback false trusted true
        ordered ["www.a.example"] fallback false trusted true
        default ["*.apps.example"] fallback true trusted true
        self ["localhost"] fallback true trusted false
        over ["www.a.example"] fallback false trusted false
        "#);
    }
}
