//! Which images of an app are kept, and why: what can be rolled back to.

use super::{DeployError, Pipeline};
use crate::git::repository;
use crate::model::{App, Release, ReleaseState};
use crate::settings::Retention;
use crate::store;
use std::collections::{BTreeMap, BTreeSet};

/// So many of an app's last releases are listed; older ones only if their image is kept.
const REMEMBERED: u32 = 500;

/// Why an image is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptFor {
    /// It is what serves.
    Serving,
    /// A release of it is being prepared.
    Preparing,
    /// It takes over again if its successor does worse.
    Standby,
    /// It is among the last ones that served.
    Recent,
    /// It served until not long ago.
    Young,
}

/// One image of an app and its fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageVerdict {
    /// `paas/shop:v3`
    pub image: String,
    /// Bytes, layers shared with others included.
    pub size: i64,
    /// The releases that ran it, newest first.
    pub releases: Vec<u32>,
    /// `None`: it goes.
    pub kept: Option<KeptFor>,
}

impl Pipeline {
    /// Every image of an app, with why it is kept or that it goes.
    pub async fn judge_images(&self, app: &App) -> Result<Vec<ImageVerdict>, DeployError> {
        // First: what is built meanwhile has its release by then.
        let images = self.engine().app_images(app.id, &app.name).await?;
        let id = app.id;
        let read = move |db: &_| Ok((store::releases::history(db, id)?, store::windows::of(db, id)?));
        let (releases, window) = self.store().read(read).await?;
        let standby = window.map(|window| window.before);
        let reasons = reasons(&releases, standby, self.workers.settings.retention, store::now());
        let verdict = |image: crate::engine::AppImage| ImageVerdict {
            releases: numbers(&releases, &image.reference),
            kept: reasons.get(&image.reference).copied(),
            image: image.reference,
            size: image.size,
        };
        Ok(images.into_iter().map(verdict).collect())
    }

    /// Removes the images that nothing keeps; what was removed. With the app's turn: nobody
    /// goes back to one of them meanwhile.
    pub async fn prune_images(&self, app: &App, who: &str) -> Result<Vec<ImageVerdict>, DeployError> {
        let (app, _turn) = self.begin(app, "removing old images", who).await?;
        self.prune(&app).await
    }

    async fn prune(&self, app: &App) -> Result<Vec<ImageVerdict>, DeployError> {
        let gone = self.remove_unkept(app).await?;
        if let Err(error) = self.forget_releases(app).await {
            tracing::warn!(app = %app.name, %error, "what old releases ran with stays");
        }
        Ok(gone)
    }

    /// Of releases whose image is gone nobody needs the config vars, and of very old ones
    /// nothing.
    async fn forget_releases(&self, app: &App) -> Result<(), DeployError> {
        let verdicts = self.judge_images(app).await?;
        let id = app.id;
        let write = self.store().write(move |db| {
            let mut keep: BTreeSet<u32> =
                verdicts.iter().flat_map(|verdict| verdict.releases.clone()).collect();
            keep.extend(
                store::windows::of(db, id)?.into_iter().flat_map(|window| [window.before, window.standby]),
            );
            keep.extend(store::releases::current(db, id)?.map(|current| current.label()));
            store::releases::forget(db, id, &keep, REMEMBERED)
        });
        let gone = write.await?;
        let path = self.repository(&app.repository);
        for number in gone {
            if let Err(error) = repository::forget_release(&path, number) {
                tracing::warn!(app = %app.name, release = number, %error, "its ref stays");
            }
        }
        Ok(())
    }

    async fn remove_unkept(&self, app: &App) -> Result<Vec<ImageVerdict>, DeployError> {
        let mut verdicts = self.judge_images(app).await?;
        verdicts.retain(|verdict| verdict.kept.is_none());
        let mut gone = Vec::new();
        for verdict in verdicts {
            match self.engine().remove_image(&verdict.image).await {
                Ok(()) => gone.push(verdict),
                // A container of it may be finishing its last requests.
                Err(error) => tracing::debug!(image = verdict.image, %error, "an old image stays"),
            }
        }
        Ok(gone)
    }
}

fn numbers(releases: &[Release], image: &str) -> Vec<u32> {
    releases.iter().filter(|release| release.image == image).map(|release| release.number).collect()
}

/// What keeps each image; an image that is not in here goes. `releases` are
/// sorted, newest first.
pub(super) fn reasons(
    releases: &[Release],
    standby: Option<u32>,
    keep: Retention,
    now: i64,
) -> BTreeMap<String, KeptFor> {
    let since = now - i64::try_from(keep.time.as_secs()).unwrap_or(i64::MAX);
    let mut served = 0;
    let mut reasons = BTreeMap::new();
    for release in releases.iter().filter(|release| !release.image.is_empty()) {
        let reason = match release.state {
            ReleaseState::Current => Some(KeptFor::Serving),
            ReleaseState::Preparing | ReleaseState::Ready => Some(KeptFor::Preparing),
            ReleaseState::Failed => None,
            _ if standby == Some(release.number) => Some(KeptFor::Standby),
            ReleaseState::Retired | ReleaseState::RolledBack => {
                served += 1;
                let young = release.retired_at.is_some_and(|at| at > since);
                (served <= keep.releases).then_some(KeptFor::Recent).or(young.then_some(KeptFor::Young))
            }
        };
        if let Some(reason) = reason {
            let strongest = reasons.entry(release.image.clone()).or_insert(reason);
            *strongest = (*strongest).min(reason);
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn release(number: u32, image: u32, state: ReleaseState, retired_at: Option<i64>) -> Release {
        let image = format!("i{image}");
        Release { number, image, state, retired_at, ..super::super::environment::tests::release(&[]) }
    }

    #[test]
    fn an_image_is_kept_while_it_serves_is_prepared_recent_or_young() {
        use ReleaseState::{Current, Failed, Ready, Retired};
        let releases = [
            release(9, 9, Ready, None),
            release(8, 3, Current, None),
            release(7, 7, Failed, None),
            release(6, 6, Retired, Some(10)),
            release(5, 5, Retired, Some(990)),
            release(4, 4, Retired, Some(10)),
            release(3, 3, Retired, Some(10)),
            release(2, 4, Retired, None),
        ];
        let keep = Retention { releases: 1, time: Duration::from_secs(100) };
        let kept = reasons(&releases, Some(2), keep, 1000);
        let kept: Vec<(&str, KeptFor)> = kept.iter().map(|(image, why)| (image.as_str(), *why)).collect();
        let expected = [
            ("i3", KeptFor::Serving),
            ("i4", KeptFor::Standby),
            ("i5", KeptFor::Young),
            ("i6", KeptFor::Recent),
            ("i9", KeptFor::Preparing),
        ];
        assert_eq!(kept, expected);
    }
}
