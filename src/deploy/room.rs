//! Room on the disks: none is filled up by builds.

use super::{DeployError, Pipeline};
use crate::engine::Space;
use crate::settings::LeastFree;
use std::path::{Path, PathBuf};

/// A disk on which a build would end badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cramped {
    /// What lies there, in words.
    pub what: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Bytes left.
    pub free: u64,
    /// Bytes that a build wants to see.
    pub floor: u64,
}

impl Pipeline {
    /// Refuses a build while the engine's disk or that of the data is nearly full:
    /// a build that fills it takes the apps' logs and the state with it.
    pub(super) async fn expect_room(&self) -> Result<(), DeployError> {
        let storage = self.engine().storage().await?;
        let data = self.workers.settings.data_dir.clone();
        let places = [("its images", storage), ("repositories and state", Some(data))];
        let found = places.into_iter().filter_map(|(what, path)| self.cramped(what, path?.as_path()));
        match found.reduce(|a, b| if a.free <= b.free { a } else { b }) {
            Some(cramped) => Err(DeployError::DiskFull(cramped)),
            None => Ok(()),
        }
    }

    /// The same of the data alone, before git is let write to it: what it says of a
    /// full disk is for those who know git.
    pub(super) fn expect_room_for_a_pack(&self) -> Result<(), DeployError> {
        let cramped = self.cramped("repositories and state", &self.workers.settings.data_dir);
        cramped.map_or(Ok(()), |cramped| Err(DeployError::DiskFull(cramped)))
    }

    fn cramped(&self, what: &'static str, path: &Path) -> Option<Cramped> {
        // The engine may be another machine's: then it is that one's affair.
        let space = Space::of(path).ok()?;
        let floor = floor(self.workers.settings.build.least_free, space.total);
        (space.free < floor).then(|| Cramped { what, path: path.to_owned(), free: space.free, floor })
    }

    /// Brings the build cache under its bound, unless somebody is doing it. It is
    /// nobody's business but the administrator's if that fails.
    pub(super) fn prune_cache(&self) {
        let Some(keep) = self.workers.settings.build.cache else { return };
        let Ok(alone) = self.pruning.clone().try_lock_owned() else { return };
        let (engine, stop) = (self.workers.engine.clone(), self.stop.clone());
        self.background.spawn(async move {
            let _alone = alone;
            tokio::select! {
                pruned = engine.prune_build_cache(keep) => match pruned {
                    Ok(0) => {}
                    Ok(freed) => tracing::info!(mib = freed >> 20, "the build cache was pruned"),
                    Err(error) => tracing::warn!(%error, "the build cache could not be pruned"),
                },
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Bytes that must be free on a disk of this size.
fn floor(least: LeastFree, total: u64) -> u64 {
    match least {
        LeastFree::Auto => (total / 20).min(1 << 30),
        LeastFree::Bytes(bytes) => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_keeps_a_share_free_and_a_large_one_a_gibibyte() {
        assert_eq!(floor(LeastFree::Auto, 10 << 30), (10 << 30) / 20);
        assert_eq!(floor(LeastFree::Auto, 4 << 40), 1 << 30);
        assert_eq!(floor(LeastFree::Bytes(0), 4 << 40), 0);
    }
}
