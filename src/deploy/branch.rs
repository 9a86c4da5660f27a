//! Keeps the repository's names true: the deploy branch names what runs, and
//! `refs/releases/vN` what each release was built from.

use super::{DeployError, Pipeline};
use crate::git::repository;
use crate::model::{App, CommitId, Release};

/// How the branch has moved for a release that is not live yet.
pub(super) struct Moved {
    pub branch: String,
    /// Zero: there was none.
    pub from: CommitId,
    pub to: CommitId,
}

impl Pipeline {
    /// Moves the branch back, so that it goes on naming what runs and the same commit
    /// can be pushed again. Only with the app's turn.
    pub(super) fn put_back(&self, app: &App, moved: &Moved) {
        let path = self.repository(&app.repository);
        if let Err(error) = repository::move_branch(&path, &moved.branch, &moved.to, &moved.from) {
            tracing::error!(app = %app.name, %error, "the branch could not be put back");
            self.is_amiss(app.id);
        }
    }

    /// Writes down which commit a release is, for `git fetch`. Not worth failing
    /// a deploy that is live.
    pub(super) fn name_release(&self, app: &App, release: &Release) {
        let path = self.repository(&app.repository);
        if let Err(error) = repository::name_release(&path, release.number, &release.commit) {
            tracing::warn!(app = %app.name, release = release.number, %error, "its ref could not be written");
        }
    }

    /// Puts a deploy branch right that does not name what runs: what is left if
    /// the host went down between the branch's move and the commit point, in
    /// either order. Only with the app's turn, and nothing unfinished.
    pub(super) fn put_branch_right(&self, app: &App, current: Option<&Release>) -> Result<(), DeployError> {
        let path = self.repository(&app.repository);
        for branch in deploy_branches(app) {
            let wanted = current.map(|release| release.commit.clone());
            let there = repository::branch(&path, &branch)?;
            if there == wanted {
                continue;
            }
            tracing::warn!(app = %app.name, branch, "the branch does not name what runs; it is put right");
            let from = there.map_or_else(nothing, Ok)?;
            repository::move_branch(&path, &branch, &from, &wanted.map_or_else(nothing, Ok)?)?;
        }
        Ok(())
    }
}

/// What a branch names that does not exist.
pub(super) fn nothing() -> Result<CommitId, DeployError> {
    CommitId::parse(&"0".repeat(40)).map_err(|_| DeployError::NoRelease)
}

/// The deploy branch; before the first release, those that could become it.
fn deploy_branches(app: &App) -> Vec<String> {
    match &app.deploy_branch {
        Some(branch) => vec![branch.clone()],
        None => ["main", "master"].map(str::to_owned).into(),
    }
}
