//! Releases of an image that is there: config changes, restarts and rollbacks.
//! No build, no release command; the same prepare and promote.

use super::branch::Moved;
use super::prepare::{DEFAULT_PORT, Prepared, configured_port};
use super::queue::Turn;
use super::window::Standby;
use super::{DeployError, Pipeline, Report};
use crate::failpoint::reached;
use crate::git::repository;
use crate::model::{App, ConfigVars, Evidence, ProcessType, Release, ReleaseState, Size, Why};
use crate::store::{self, releases::NewRelease};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is to run once more.
pub(super) struct Again {
    /// Whose image and commands.
    pub source: Release,
    /// With which config. It is stored as the app's only when it is live.
    pub config: ConfigVars,
    /// With which sizes, if not the app's. They are stored likewise.
    pub sizes: Option<BTreeMap<ProcessType, Size>>,
    pub why: Why,
    pub who: String,
    /// For which the current release is taken back.
    pub evidence: Option<Evidence>,
}

/// What a rollback has done.
pub struct RolledBack {
    /// The new release's number.
    pub number: u32,
    /// What it repeats.
    pub source: Release,
    /// Whether config vars are others than before.
    pub config_changed: bool,
}

impl Pipeline {
    /// Both phases of a release that leaves the branch where it is; its number.
    pub(super) async fn repeat(
        self: &Arc<Self>,
        app: &App,
        again: Again,
        turn: Turn,
        report: &Report,
    ) -> Result<u32, DeployError> {
        let prepared = self.prepare_again(app, again, turn, report).await?;
        let number = prepared.release.number;
        self.promote(prepared, None, report).await?;
        Ok(number)
    }

    /// Runs what an earlier release ran: its image, its commands and, unless
    /// today's is to be kept, its config. The branch moves to its commit, so that
    /// a fix, or the same commit again, can be pushed at once.
    pub async fn rollback(
        self: &Arc<Self>,
        app: &App,
        to: Option<u32>,
        keep_config: bool,
        who: &str,
        report: &Report,
    ) -> Result<RolledBack, DeployError> {
        let (app, turn) = self.begin(app, "rolling back", who).await?;
        let (current, source, today) = self.rollback_target(&app, to).await?;
        let config_changed = !keep_config && source.config != today;
        let config = if keep_config { today } else { source.config.clone() };
        let (why, who) = (Why::Rollback, who.to_owned());
        let again = Again { source: source.clone(), config, sizes: None, why, who, evidence: None };
        let prepared = self.prepare_back(&app, again, turn, report).await?;
        let number = prepared.release.number;
        self.go_back(&app, prepared, &current, report).await?;
        Ok(RolledBack { number, source, config_changed })
    }

    /// What serves, what shall serve again, and today's config.
    async fn rollback_target(
        &self,
        app: &App,
        to: Option<u32>,
    ) -> Result<(Release, Release, ConfigVars), DeployError> {
        let id = app.id;
        let read = move |db: &_| {
            let (current, releases) = (store::releases::current(db, id)?, store::releases::history(db, id)?);
            Ok((current, releases, store::config::load(db, id)?))
        };
        let (current, releases, config) = self.store().read(read).await?;
        let current = current.ok_or(DeployError::NoRelease)?;
        let chosen = target(&releases, to)?;
        let (row, number) = (chosen.id, chosen.number);
        let whole = move |db: &_| {
            Ok((store::releases::can_run(db, row)?, store::releases::numbered(db, id, number)?))
        };
        match self.store().read(whole).await? {
            (true, Some(source)) => Ok((current, source, config)),
            _ => Err(DeployError::ImageGone(number, chosen.commit.clone())),
        }
    }

    /// The first phase of going back: by the processes that stand by, if there are
    /// any of it, else by new ones.
    pub(super) async fn prepare_back(
        &self,
        app: &App,
        again: Again,
        turn: Turn,
        report: &Report,
    ) -> Result<Prepared, DeployError> {
        if let Some(standby) = self.standby(app, &again).await? {
            return self.prepare_standby(app, again, standby, turn).await;
        }
        if !self.engine().has_image(&again.source.image_id).await? {
            return Err(DeployError::ImageGone(again.source.number, again.source.commit));
        }
        self.prepare_again(app, again, turn, report).await
    }

    /// Nothing is started: it is ready as soon as it is written down.
    async fn prepare_standby(
        &self,
        app: &App,
        again: Again,
        standby: Standby,
        turn: Turn,
    ) -> Result<Prepared, DeployError> {
        if !self.routes.connected() {
            return Err(DeployError::NoProxy);
        }
        self.undo_unfinished(app).await?;
        let Standby { label, targets } = standby;
        let open = self.store().write(move |db| {
            let mut release = open(db, again)?;
            release.took_over = Some(label);
            release.state = ReleaseState::Ready;
            store::releases::update(db, &release)?;
            Ok(release)
        });
        let release = open.await?;
        turn.release(release.number);
        reached("ready");
        Ok(Prepared { app: app.clone(), release, targets, turn })
    }

    /// The branch moves before the commit point, as in a push: after a crash in
    /// between, a ready release whose commit the branch names is promoted.
    pub(super) async fn go_back(
        self: &Arc<Self>,
        app: &App,
        prepared: Prepared,
        current: &Release,
        report: &Report,
    ) -> Result<(), DeployError> {
        let path = self.repository(&app.repository);
        let branch = app.deploy_branch.clone().unwrap_or_default();
        let (from, to) = (current.commit.clone(), prepared.release.commit.clone());
        if let Err(error) = repository::move_branch(&path, &branch, &from, &to) {
            let error = error.into();
            self.discard(app, &prepared.release, &error).await;
            return Err(error);
        }
        reached("branch-moved");
        self.promote(prepared, Some(&Moved { branch, from, to }), report).await
    }

    /// The first phase, as far as there is one: start, health, ready.
    async fn prepare_again(
        &self,
        app: &App,
        again: Again,
        turn: Turn,
        report: &Report,
    ) -> Result<Prepared, DeployError> {
        if !self.routes.connected() {
            return Err(DeployError::NoProxy);
        }
        self.undo_unfinished(app).await?;
        let mut release = self.store().write(move |db| open(db, again)).await?;
        turn.release(release.number);
        reached("release-opened");
        let ending = turn.may_be_cancelled();
        let steps = async {
            let targets = self.start_and_check(app, &mut release, report).await?;
            release.state = ReleaseState::Ready;
            self.save(&release).await?;
            reached("ready");
            Ok::<_, DeployError>(targets)
        };
        let outcome = tokio::select! {
            outcome = steps => outcome,
            error = ending.asked() => Err(error),
        };
        let committed = turn.commit();
        match committed.and(outcome) {
            Ok(targets) => Ok(Prepared { app: app.clone(), release, targets, turn }),
            Err(error) => {
                self.discard(app, &release, &error).await;
                Err(error)
            }
        }
    }
}

/// The release to go back to: the one of that number, or the last one that
/// served before the current one did.
fn target(releases: &[Release], to: Option<u32>) -> Result<&Release, DeployError> {
    let served =
        |release: &&Release| matches!(release.state, ReleaseState::Retired | ReleaseState::RolledBack);
    let Some(number) = to else {
        let good = |release: &&Release| release.state == ReleaseState::Retired;
        return releases.iter().find(good).ok_or(DeployError::NothingBefore);
    };
    let known = || releases.iter().filter(served).map(|release| release.number).collect();
    match releases.iter().find(|release| release.number == number) {
        Some(release) if release.state == ReleaseState::Current => Err(DeployError::ServesAlready(number)),
        Some(release) if served(&release) => Ok(release),
        Some(_) => Err(DeployError::NeverServed(number, known())),
        None => Err(DeployError::NoSuchRelease(number, known())),
    }
}

/// Opens a release that has everything of its source but config and number.
fn open(db: &rusqlite::Connection, again: Again) -> Result<Release, store::StoreError> {
    let Again { source, config, sizes, why, who, evidence } = again;
    let new = NewRelease {
        app: source.app,
        commit: source.commit.clone(),
        config,
        sizes,
        why,
        who,
        source: Some(source.number),
    };
    let fresh = store::releases::create(db, &new)?;
    let had_port = configured_port(&source);
    let mut release = Release {
        id: fresh.id,
        number: fresh.number,
        config: fresh.config,
        global: fresh.global,
        sizes: fresh.sizes,
        why: fresh.why,
        who: fresh.who,
        state: fresh.state,
        created_at: fresh.created_at,
        source: fresh.source,
        retired_at: None,
        took_over: None,
        stopped: fresh.stopped,
        evidence,
        ..source
    };
    if let Some(port) = configured_port(&release) {
        release.port = port;
    } else if had_port.is_some() {
        release.port = DEFAULT_PORT;
    }
    store::releases::update(db, &release)?;
    Ok(release)
}
