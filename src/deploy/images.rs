//! Which images of an app are kept, and why: what can be rolled back to.

use super::{DeployError, Pipeline};
use crate::failpoint::effect;
use crate::git::repository;
use crate::model::{App, Release, ReleaseState};
use crate::settings::Retention;
use crate::store;
use std::collections::{BTreeMap, BTreeSet};

/// So many of an app's last releases are listed; older ones only if their image is kept.
const REMEMBERED: u32 = if cfg!(test) { 20 } else { 500 };

/// So many of the others are struck off at a time.
const AT_ONCE: u32 = 200;

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

    /// Removes the images that nothing keeps; what was removed. That nobody goes back to
    /// them is settled in the app's turn. Removing them may take long, and needs none.
    pub async fn prune_images(&self, app: &App, who: &str) -> Result<Vec<ImageVerdict>, DeployError> {
        let due = self.due(app).await?;
        let mut gone = Vec::new();
        if !due.going.is_empty() || !due.forgettable.is_empty() {
            let going = self.settle_fates(app, due, who).await?;
            gone = self.remove_images(going).await;
        }
        if let Err(error) = self.strike_oldest(app).await {
            tracing::warn!(app = %app.name, %error, "very old releases are still listed");
        }
        Ok(gone)
    }

    /// What is to go, if nothing happens to the app meanwhile.
    async fn due(&self, app: &App) -> Result<Due, DeployError> {
        let verdicts = self.judge_images(app).await?;
        let id = app.id;
        let (kept, going): (Vec<_>, Vec<_>) =
            verdicts.into_iter().partition(|verdict| verdict.kept.is_some());
        let mut keep: BTreeSet<u32> = kept.iter().flat_map(|verdict| verdict.releases.clone()).collect();
        let read = self.store().read(move |db| {
            let window = store::windows::of(db, id)?;
            keep.extend(window.into_iter().flat_map(|window| [window.before, window.standby]));
            keep.extend(store::releases::current(db, id)?.map(|current| current.label()));
            store::releases::forgettable(db, id, &keep)
        });
        let forgettable = read.await?;
        Ok(Due { there: kept.into_iter().map(|verdict| verdict.image).collect(), going, forgettable })
    }

    /// Of releases whose image goes, or is gone, nobody needs the config vars. Whoever has
    /// waited for the turn may find that one of them serves again.
    async fn settle_fates(&self, app: &App, due: Due, who: &str) -> Result<Vec<ImageVerdict>, DeployError> {
        let Due { mut going, there, forgettable } = due;
        let (app, _turn) = self.begin(app, "settling which images go", who).await?;
        let (id, retention, now) = (app.id, self.workers.settings.retention, store::now());
        let settled = self.store().write(move |db| {
            let releases = store::releases::history(db, id)?;
            let standby = store::windows::of(db, id)?.map(|window| window.before);
            let reasons = reasons(&releases, standby, retention, now);
            let listed =
                |image: &String| there.contains(image) || going.iter().any(|verdict| verdict.image == *image);
            let kept = |number: &u32| {
                let release = releases.iter().find(|release| release.number == *number);
                release.is_some_and(|release| reasons.contains_key(&release.image) && listed(&release.image))
            };
            let forget: Vec<u32> = forgettable.into_iter().filter(|number| !kept(number)).collect();
            store::releases::forget(db, id, &forget)?;
            going.retain(|verdict| !reasons.contains_key(&verdict.image));
            Ok(going)
        });
        Ok(settled.await?)
    }

    async fn remove_images(&self, going: Vec<ImageVerdict>) -> Vec<ImageVerdict> {
        let mut gone = Vec::new();
        for verdict in going {
            match self.engine().remove_image(&verdict.image).await {
                Ok(()) => gone.push(verdict),
                // A container of it may be finishing its last requests.
                Err(error) => tracing::debug!(image = verdict.image, %error, "an old image stays"),
            }
        }
        gone
    }

    /// Of very old ones nothing stays. First their refs: whoever is cut off here finds the
    /// rows, and begins anew.
    async fn strike_oldest(&self, app: &App) -> Result<(), DeployError> {
        let id = app.id;
        loop {
            let read = move |db: &_| store::releases::oldest(db, id, REMEMBERED, AT_ONCE);
            let numbers = self.store().read(read).await?;
            if numbers.is_empty() {
                return Ok(());
            }
            let (path, names) = (self.repository(&app.repository), numbers.clone());
            let unnamed = super::prepare::blocking(move || {
                Ok(names.iter().try_for_each(|number| repository::forget_release(&path, *number))?)
            });
            unnamed.await?;
            effect("refs removed");
            self.store().write(move |db| store::releases::strike(db, id, &numbers)).await?;
        }
    }
}

/// What nothing keeps.
struct Due {
    going: Vec<ImageVerdict>,
    /// Images that are kept.
    there: BTreeSet<String>,
    /// Releases that can't run again.
    forgettable: Vec<u32>,
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
