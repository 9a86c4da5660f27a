//! A push from the hooks' side: before git moves the branch, and after.

use super::branch::Moved;
use super::line::place;
use super::prepare::{Job, Prepared};
use super::pushes::{Phase, Push, State};
use super::queue::Activity;
use super::{DeployError, Pipeline, Report};
use crate::failpoint::reached;
use crate::git::{GitError, Lease, RefUpdate, Verdict, refs, repository};
use crate::model::{App, AppName, Problem};
use crate::store::{self, StoreError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long git may take to move the branch of a release that is ready.
const MOVE: Duration = if cfg!(test) { Duration::from_secs(6) } else { Duration::from_secs(60) };

/// What a hook brings.
#[derive(Debug)]
pub enum Hook {
    /// Before any ref moves.
    PreReceive {
        /// All that the push asks for.
        updates: Vec<RefUpdate>,
        /// Where git keeps the pushed objects until the hook agrees.
        quarantine: Option<PathBuf>,
    },
    /// After the refs have moved.
    PostReceive,
}

impl Pipeline {
    /// One hook of a push; `true` lets git go on. Cancelled when the hook is gone.
    pub async fn hook(
        self: &Arc<Self>,
        id: &str,
        hook: Hook,
        report: Report,
        hook_gone: CancellationToken,
    ) -> bool {
        let Some(push) = self.pushes.get(id) else {
            report.problem(&Problem::new("This push is not known to the server.", "", "Push again."));
            return false;
        };
        push.arrived.cancel();
        let outcome = match hook {
            Hook::PreReceive { updates, quarantine } => {
                let agreed = self.pre_receive(&push, &updates, quarantine, &report, hook_gone).await;
                push.placed.cancel();
                agreed
            }
            Hook::PostReceive => Ok(self.post_receive(&push, &report).await),
        };
        outcome.unwrap_or_else(|error| {
            tracing::info!(app = %push.app, %error, "a push was refused");
            report.problem(&error.problem());
            false
        })
    }

    async fn pre_receive(
        self: &Arc<Self>,
        push: &Arc<Push>,
        updates: &[RefUpdate],
        quarantine: Option<PathBuf>,
        report: &Report,
        hook_gone: CancellationToken,
    ) -> Result<bool, DeployError> {
        let mut state = push.state.lock().await;
        if !matches!(state.phase, Phase::Waiting) {
            return Ok(false);
        }
        state.phase = Phase::Refused;
        let known = self.find(&push.app).await?;
        if known.is_some() {
            self.note_push(push, &mut state, updates).await?;
        }
        let branch = known.as_ref().and_then(|app| app.deploy_branch.clone());
        let update = match refs::judge(updates, branch.as_deref()) {
            Verdict::Refuse(problem) => {
                report.problem(&problem);
                return Ok(false);
            }
            Verdict::Store(lines) => {
                self.app_of(push, known).await?;
                self.note_push(push, &mut state, updates).await?;
                lines.iter().for_each(|line| report.warning(line));
                state.phase = Phase::Stored;
                return Ok(true);
            }
            Verdict::Deploy(update) => update.clone(),
        };
        let app = self.app_of(push, known).await?;
        self.note_push(push, &mut state, updates).await?;
        let report = report.clone().kept(self.workers.logs.clone(), app.id);
        let gone = either(push.gone.clone(), hook_gone);
        let prepared = self.prepare_push(push, &mut state, app, &update, quarantine, &report, gone).await;
        if prepared.is_err() {
            state.lease.unlock();
        }
        let prepared = prepared?;
        state.phase = Phase::Prepared(Box::new(prepared), update);
        self.expect_move(push);
        Ok(true)
    }

    /// Git moves the branch at once, unless its client reads nothing of what it is
    /// told: that must not keep the app from everybody else.
    fn expect_move(self: &Arc<Self>, push: &Arc<Push>) {
        let (pipeline, push) = (self.clone(), push.clone());
        self.background.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(MOVE) => {}
                () = push.ended.cancelled() => return,
                () = pipeline.stop.cancelled() => return,
            }
            if matches!(push.state.lock().await.phase, Phase::Prepared(..)) {
                tracing::warn!(app = %push.app, "git does not move the branch; its push is dropped");
                push.gone.cancel();
            }
        });
    }

    #[allow(clippy::too_many_arguments)] // one call, from right above
    async fn prepare_push(
        &self,
        push: &Push,
        state: &mut State,
        app: App,
        update: &RefUpdate,
        quarantine: Option<PathBuf>,
        report: &Report,
        gone: CancellationToken,
    ) -> Result<Prepared, DeployError> {
        let activity = Activity {
            release: None,
            commit: Some(update.new.clone()),
            step: "detecting",
            who: push.who.clone(),
            since: Instant::now(),
        };
        let standing = self.queue.stand(app.id);
        let ending = standing.may_be_cancelled();
        let said = |before| report.step(&place(&self.waited_for(&app), before));
        let turn = tokio::select! {
            turn = standing.turn(activity, said) => turn,
            () = gone.cancelled() => return Err(DeployError::Cancelled),
            error = ending.asked() => return Err(error),
        };
        push.placed.cancel();
        reached("turn-taken");
        // Whoever had the turn before may have destroyed it.
        let app = self.refreshed(&app).await?;
        if let Some(branch) = app.deploy_branch.as_ref().filter(|branch| update.branch() != Some(branch)) {
            return Err(DeployError::OtherBranch(branch.clone()));
        }
        self.say_what_happened(&app, report).await?;
        let path = self.repository(&push.repository);
        let branch = update.branch().unwrap_or_default();
        let here = repository::branch(&path, branch)?;
        let moved = here.as_ref().map_or(!update.old.is_zero(), |here| *here != update.old);
        if moved || !take_lease(&mut state.lease, push.group.get().copied()).await? {
            return Err(GitError::Moved(branch.to_owned()).into());
        }
        let job = Job {
            app,
            repository: path,
            quarantine,
            commit: update.new.clone(),
            who: push.who.clone(),
            turn,
            report: report.clone(),
            gone,
        };
        self.prepare(job).await
    }

    async fn post_receive(self: &Arc<Self>, push: &Push, report: &Report) -> bool {
        let mut state = push.state.lock().await;
        match std::mem::replace(&mut state.phase, Phase::Failed) {
            // Git says that it has moved something; if nobody can tell what, it is this.
            Phase::Prepared(prepared, update) if !self.has_moved(push, &update).unwrap_or(true) => {
                self.discard(&prepared.app, &prepared.release, &DeployError::Cancelled).await;
                false
            }
            Phase::Prepared(prepared, update) => {
                let report = report.clone().kept(self.workers.logs.clone(), prepared.app.id);
                report.of_release(prepared.release.number);
                reached("branch-moved");
                let live = self.go_live(push, *prepared, &update, &report).await;
                state.phase = if live { Phase::Promoted } else { Phase::Failed };
                // A client that is slow to read its last lines blocks nobody.
                state.lease.unlock();
                live
            }
            other => {
                state.phase = other;
                true
            }
        }
    }

    /// Promotes, and says what came of it.
    pub(super) async fn go_live(
        self: &Arc<Self>,
        push: &Push,
        prepared: Prepared,
        update: &RefUpdate,
        report: &Report,
    ) -> bool {
        let branch = update.branch().unwrap_or_default().to_owned();
        let first = prepared.app.deploy_branch.is_none();
        let (name, number, port) = (prepared.app.name.clone(), prepared.release.number, prepared.app.port);
        let routed = !prepared.targets.is_empty();
        // Nothing but web starts by itself.
        let idle = prepared.release.processes.keys().next().filter(|_| first && !routed).cloned();
        let path = self.repository(&push.repository);
        let moved = Moved { branch: branch.clone(), from: update.old.clone(), to: update.new.clone() };
        if let Err(error) = self.promote(prepared, Some(&moved), report).await {
            tracing::error!(app = %push.app, %error, "a release could not be promoted");
            report.problem(&error.problem());
            return false;
        }
        if first && let Err(error) = repository::set_head(&path, &branch) {
            tracing::warn!(app = %push.app, %error, "HEAD could not be set");
        }
        self.say_deployed(report, &name, number, port, routed);
        if let Some(kind) = idle {
            report.detail(&format!("ps:scale {name} {kind}=1 starts {kind}."));
        }
        true
    }

    /// What has happened without anybody's doing since the last push that went live.
    async fn say_what_happened(&self, app: &App, report: &Report) -> Result<(), DeployError> {
        let id = app.id;
        let untold = self.store().read(move |db| store::releases::untold(db, id)).await?;
        untold.iter().for_each(|taken_back| report.warning(&super::words::taken_back(taken_back)));
        Ok(())
    }

    fn say_deployed(&self, report: &Report, name: &AppName, number: u32, port: u16, routed: bool) {
        report.line(format!("=====> Application deployed: v{number}"));
        if routed {
            report.detail(&self.url(name));
            if self.routes.refused_port(port).is_none() {
                report.detail(&format!("http://127.0.0.1:{port} on the server itself"));
            }
        } else {
            report.detail("No web process runs, so nothing is routed to it.");
        }
        report.line(String::new());
    }

    /// The app that a push is for, created if this is the first one.
    async fn app_of(&self, push: &Push, known: Option<App>) -> Result<App, DeployError> {
        let app = match known {
            Some(app) => self.refreshed(&app).await?,
            None if push.is_first => match self.create(&push.app, &push.repository).await {
                Err(DeployError::Store(StoreError::NameTaken(_))) => {
                    self.find(&push.app).await?.ok_or(DeployError::NoApp)?
                }
                created => created?,
            },
            // Removed since git began, with the repository that git writes to.
            None => return Err(DeployError::NoApp),
        };
        if app.repository == push.repository {
            return Ok(app);
        }
        // Two first pushes at once: the other one's repository is the app's now.
        Err(GitError::Moved(push.app.to_string()).into())
    }
}

/// Locks the lease, which the push before may hold for a moment after its turn,
/// and writes down who has it.
async fn take_lease(lease: &mut Lease, group: Option<u32>) -> Result<bool, DeployError> {
    let begin = std::time::Instant::now();
    while !lease.lock()? {
        if begin.elapsed() > Duration::from_secs(5) {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if let Some(group) = group {
        lease.record(group)?;
    }
    Ok(true)
}

/// A token that is cancelled with either of two.
fn either(one: CancellationToken, other: CancellationToken) -> CancellationToken {
    let both = one.child_token();
    let cancelled = both.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = other.cancelled() => cancelled.cancel(),
            () = cancelled.cancelled() => {}
        }
    });
    both
}
