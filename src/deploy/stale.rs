//! `builds --stale`: apps that run on a base image which should be another.

use super::pins::moment;
use super::{DeployError, Pipeline};
use crate::buildpack::{self, Catalog, Offered};
use crate::model::{App, BasePin, Release};
use crate::store;
use std::collections::BTreeMap;

/// Why a build should be made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staleness {
    /// A newer base of the same version is known here.
    Newer {
        /// `python 3.11`
        title: String,
        /// When the app's was made.
        of: i64,
        /// When the newest was made.
        newest: i64,
    },
    /// The version is not to be had any more from the image source in use.
    NotOffered(String),
    /// What built it may not build any more.
    NotAllowed(String),
}

impl std::fmt::Display for Staleness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Newer { title, of, newest } => {
                write!(f, "{title} of {}; there is one of {}", moment(*of), moment(*newest))
            }
            Self::NotOffered(title) => write!(f, "{title} is not offered any more"),
            Self::NotAllowed(builder) => write!(f, "{builder} is not allowed any more"),
        }
    }
}

impl Pipeline {
    /// Every app that serves on a base which should be another, with the reasons.
    pub async fn stale(&self) -> Result<Vec<(App, Release, Vec<Staleness>)>, DeployError> {
        let catalog = self.base_catalog().await?;
        let read = self.store().read(|db| {
            let known = store::bases::known(db)?;
            let serving = store::apps::list(db)?.into_iter().map(|app| {
                let release = store::releases::current(db, app.id)?;
                Ok(release.map(|release| (app, release)))
            });
            Ok((known, serving.collect::<Result<Vec<_>, store::StoreError>>()?))
        });
        let (known, serving) = read.await?;
        let mut newest = BTreeMap::new();
        for base in known {
            newest.entry(base.pin.title()).or_insert(base.pin);
        }
        let offered = Offered::of(&catalog).map_err(DeployError::Detect)?;
        let mut found = Vec::new();
        for (app, release) in serving.into_iter().flatten() {
            let reasons = reasons(&release, &newest, &offered, &catalog)?;
            if !reasons.is_empty() {
                found.push((app, release, reasons));
            }
        }
        Ok(found)
    }
}

fn reasons(
    release: &Release,
    newest: &BTreeMap<String, BasePin>,
    offered: &Offered,
    catalog: &Catalog,
) -> Result<Vec<Staleness>, DeployError> {
    let mut reasons = Vec::new();
    let builder = buildpack::builder_of(&release.runtime).map_err(DeployError::Detect)?;
    if let Some(builder) = builder.filter(|builder| !catalog.allows(builder)) {
        reasons.push(Staleness::NotAllowed(builder));
    }
    // What has no id in the engine is the repository's own affair.
    for pin in release.bases.iter().filter(|pin| !pin.image_id.is_empty()) {
        let title = pin.title();
        if !offered.has(&title) {
            reasons.push(Staleness::NotOffered(title));
        } else if let Some(other) = newest.get(&title).filter(|other| is_newer(other, pin)) {
            reasons.push(Staleness::Newer { title, of: pin.made_at, newest: other.made_at });
        }
    }
    Ok(reasons)
}

fn is_newer(other: &BasePin, pin: &BasePin) -> bool {
    other.image_id != pin.image_id && other.made_at > pin.made_at
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::buildpack::{CacheScope, Choice};
    use crate::model::ImageSource;

    fn pin(name: &str, made_at: i64) -> BasePin {
        let (name, image_id) = (name.to_owned(), format!("sha256:{made_at}"));
        BasePin { reference: format!("{name}-{made_at}"), name, image_id, digest: None, made_at }
    }

    fn said(runtime: &str, bases: Vec<BasePin>, allow: Option<&[&str]>) -> Vec<String> {
        let newest = pin("paas/base-python:3.11-b", 5 * 24 * 60 * 60);
        let newest = BTreeMap::from([(newest.title(), newest)]);
        let runtime = runtime.to_owned();
        let release = Release { runtime, bases, ..super::super::environment::tests::release(&[]) };
        let catalog = Catalog {
            source: ImageSource::Debian,
            ca_bundle: None,
            cache_scope: CacheScope::parse("test").unwrap(),
            allow: allow.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            choice: Choice::default(),
        };
        let offered = Offered::of(&catalog).unwrap();
        reasons(&release, &newest, &offered, &catalog).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_build_is_stale_by_a_newer_base_an_old_version_or_the_administrators_will() {
        let python = || pin("paas/base-python:3.11-a", 1);
        assert_eq!(
            said("Python 3.11", vec![python()], None),
            ["python 3.11 of 1970-01-01 00:00; there is one of 1970-01-06 00:00"]
        );
        assert_eq!(
            said("Python 3.11", vec![pin("paas/base-python:3.11-b", 5 * 24 * 60 * 60)], None),
            [""; 0]
        );
        let old = pin("paas/base-python:2.7-a", 1);
        assert_eq!(said("Python 2.7", vec![old], None), ["python 2.7 is not offered any more"]);
        let go = || pin("paas/base-go-build:1.27-a", 1);
        assert_eq!(said("Go 1.27", vec![go()], Some(&["python"])), ["go is not allowed any more"]);
        assert_eq!(said("Dockerfile", vec![go()], Some(&["go"])), ["dockerfile is not allowed any more"]);
        let exact = pin("paas/base-node:20.11.1-a", 1);
        assert_eq!(said("Node 20.11.1", vec![exact], None), [""; 0], "any release of Node can be had");
        let theirs = BasePin { image_id: String::new(), ..pin("docker.io/library/busybox:1", 1) };
        assert_eq!(said("Dockerfile", vec![theirs], None), [""; 0]);
    }
}
