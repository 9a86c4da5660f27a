//! A push from the session's side; [`hook`](super::hook) is the hooks' side.
//!
//! The two meet in [`Pushes`](super::pushes::Pushes) by a one-time id that only
//! git's environment has.

use super::line::{Spot, place};
use super::prepare::Prepared;
use super::pushes::{Phase, Push, State};
use super::{DeployError, Pipeline, Report};
use crate::git::service::{self, HookEnvironment};
use crate::git::{GitError, Lease, RefUpdate, repository};
use crate::model::{App, AppName, Problem};
use crate::output::{self, Streams};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

/// How long a push may idle before its hook; then it is dropped. It holds nothing
/// that others wait for, only a process.
const IDLE: Duration = Duration::from_secs(600);

/// How long the pushes that wait give the one before them to bring what it pushes.
const ARRIVAL: Duration = Duration::from_secs(10);

/// The one-time id of a push: 64 hex digits.
pub type PushId = String;

/// Who pushes.
#[derive(Debug, Clone)]
pub struct Authorship {
    /// A key's name, or `local`.
    pub who: String,
}

impl Pipeline {
    /// One `git push`, start to end; returns the exit status.
    pub async fn receive_pack(
        self: &Arc<Self>,
        name: &AppName,
        by: Authorship,
        protocol: Option<&str>,
        mut streams: Streams,
    ) -> u32 {
        match self.receive(name, by, protocol, &mut streams).await {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(error) => {
                tracing::error!(app = %name, %error, "a push failed");
                let _ = say(&mut streams, &error.problem().of_a_push()).await;
                1
            }
        }
    }

    async fn receive(
        self: &Arc<Self>,
        name: &AppName,
        by: Authorship,
        protocol: Option<&str>,
        streams: &mut Streams,
    ) -> Result<bool, DeployError> {
        self.expect_room_for_a_pack()?;
        let mut app = self.find(name).await?;
        let mut waited = None;
        if let Some(known) = &app {
            waited = self.wait_idle(known, streams).await;
            // Whoever was waited for may have removed it.
            app = self.find(name).await?;
        }
        let gone = streams.gone.child_token();
        let (id, push, inherited) = self.open_push(name, by, app.as_ref(), gone).await?;
        if let Some(spot) = waited {
            tokio::spawn(keep_door(spot, push.placed.clone()));
        }
        let result = self.run_git(&id, &push, protocol, inherited, streams).await;
        let promoted = self.close_push(&id, &push).await?;
        self.note_end(&push, promoted && matches!(result, Ok(true))).await;
        Ok(result? && promoted)
    }

    /// Makes a push known to the hooks to come; its id, and the lease for git.
    pub(super) async fn open_push(
        &self,
        name: &AppName,
        by: Authorship,
        app: Option<&App>,
        gone: CancellationToken,
    ) -> Result<(PushId, Arc<Push>, OwnedFd), DeployError> {
        let repository = match app {
            Some(app) => app.repository.clone(),
            None => self.new_repository().await?,
        };
        let lease = Lease::open(&self.repository(&repository))?;
        let inherited = lease.share()?;
        let push = Push {
            app: name.clone(),
            repository,
            who: by.who,
            is_first: app.is_none(),
            gone,
            group: OnceLock::new(),
            arrived: CancellationToken::new(),
            placed: CancellationToken::new(),
            ended: CancellationToken::new(),
            state: Mutex::new(State { lease, phase: Phase::Waiting, note: None }),
        };
        let (id, push) = self.pushes.insert(push).await?;
        Ok((id, push, inherited))
    }

    /// After git has ended: whether the push has come to a good end. A repository
    /// that became no app's goes.
    pub(super) async fn close_push(self: &Arc<Self>, id: &str, push: &Push) -> Result<bool, DeployError> {
        self.pushes.remove(id);
        push.placed.cancel();
        push.ended.cancel();
        let settled = self.settle(push).await;
        match self.find(&push.app).await {
            Ok(Some(app)) if app.repository == push.repository => {}
            Ok(_) => drop(tokio::fs::remove_dir_all(self.repository(&push.repository)).await),
            // What is live is live; the next start looks for repositories of nobody.
            Err(error) => tracing::warn!(app = %push.app, %error, "it is not known whose the repository is"),
        }
        settled
    }

    async fn run_git(
        &self,
        id: &str,
        push: &Push,
        protocol: Option<&str>,
        inherited: OwnedFd,
        streams: &mut Streams,
    ) -> Result<bool, DeployError> {
        let gone = push.gone.clone();
        let workers = &self.workers;
        let socket = workers.settings.socket();
        let hooks = HookEnvironment {
            hooks: &workers.hooks,
            executable: &workers.executable,
            socket: &socket,
            push: id,
        };
        let child = service::receive_pack(&self.repository(&push.repository), protocol, inherited, &hooks)?;
        if let Some(group) = child.id() {
            let _ = push.group.set(group);
        }
        let received = Arc::new(AtomicU64::new(0));
        let idle = tokio::spawn(drop_when_idle(received.clone(), push.arrived.clone(), gone.clone()));
        let mut given = std::mem::replace(streams, Streams::none());
        given.gone = gone;
        let ended = service::bridge(child, given, &received).await?;
        *streams = ended.streams;
        idle.abort();
        if ended.disk_full && !push.arrived.is_cancelled() {
            return Err(GitError::Io("receive", std::io::ErrorKind::StorageFull.into()).into());
        }
        Ok(ended.status.success())
    }

    /// After git has ended: nothing prepared may be left hanging. A branch that
    /// moved is promoted (the hook was killed in between), anything else undone.
    async fn settle(self: &Arc<Self>, push: &Push) -> Result<bool, DeployError> {
        let mut state = push.state.lock().await;
        let phase = std::mem::replace(&mut state.phase, Phase::Refused);
        let good = match phase {
            Phase::Stored | Phase::Promoted | Phase::Waiting => Ok(true),
            Phase::Refused | Phase::Failed => Ok(false),
            Phase::Prepared(prepared, update) => self.settle_prepared(push, *prepared, &update).await,
        };
        if let Some(_alone) = self.pushes.alone(&push.repository)
            && state.lease.lock().unwrap_or(false)
        {
            let path = self.repository(&push.repository);
            let swept = super::prepare::blocking(move || {
                repository::sweep(&path).map_err(|error| GitError::Io("sweep", error).into())
            });
            if let Err(error) = swept.await {
                tracing::warn!(app = %push.app, %error, "the repository could not be swept");
            }
            state.lease.unlock();
        }
        good
    }

    async fn settle_prepared(
        self: &Arc<Self>,
        push: &Push,
        prepared: Prepared,
        update: &RefUpdate,
    ) -> Result<bool, DeployError> {
        // If nobody can tell, all of it stays, and is seen to when somebody can.
        let moved = self.has_moved(push, update).inspect_err(|_| self.is_amiss(prepared.app.id))?;
        if moved {
            return Ok(self.go_live(push, prepared, update, &Report::channel().0).await);
        }
        self.discard(&prepared.app, &prepared.release, &DeployError::Cancelled).await;
        // Git has said that it could not write, and not why.
        self.expect_room_for_a_pack()?;
        Ok(false)
    }

    /// Whether the branch names the pushed commit now.
    pub(super) fn has_moved(&self, push: &Push, update: &RefUpdate) -> Result<bool, DeployError> {
        let branch = update.branch().unwrap_or_default();
        let now = repository::branch(&self.repository(&push.repository), branch)?;
        Ok(now.as_ref() == Some(&update.new))
    }

    /// Waits while a deploy of this app runs, before git starts, so that git
    /// advertises what is true then. Says so, and how many wait before this one; the
    /// place among them, if it had to wait.
    async fn wait_idle(&self, app: &App, streams: &mut Streams) -> Option<Spot> {
        if self.queue.activity(app.id).is_none() && !self.queue.is_door_taken(app.id) {
            return None;
        }
        let mut spot = self.queue.door(app.id);
        let (said, mut to_say) = mpsc::unbounded_channel();
        let say = |before| drop(said.send(place(&self.waited_for(app), before)));
        let waiting = async {
            // The one that has the door waits as well.
            spot.served(|before| say(before + 1)).await;
            if self.queue.activity(app.id).is_some() {
                say(0);
            }
            self.queue.idle(app.id).await;
        };
        let show = async {
            while let Some(text) = to_say.recv().await {
                let line = format!("{}\n", output::step(&text));
                let _ = streams.stderr.write_all(line.as_bytes()).await;
                let _ = streams.stderr.flush().await;
            }
        };
        tokio::select! {
            () = waiting => {}
            () = show => {}
            () = streams.gone.cancelled() => {}
        }
        Some(spot)
    }

    /// One `git clone` or `git fetch`; returns the exit status.
    pub async fn upload_pack(&self, name: &AppName, protocol: Option<&str>, mut streams: Streams) -> u32 {
        let result = async {
            let app = self.find(name).await?.ok_or(DeployError::NoApp)?;
            let child = service::upload_pack(&self.repository(&app.repository), protocol)?;
            let ended =
                service::bridge(child, std::mem::replace(&mut streams, Streams::none()), &Arc::default())
                    .await?;
            Ok::<_, DeployError>(ended.status.success())
        };
        match result.await {
            Ok(success) => u32::from(!success),
            Err(error) => {
                let _ = say(&mut streams, &error.problem().of_a_command()).await;
                1
            }
        }
    }
}

/// The next push that waits goes on when this one has its turn, so that it finds the
/// branch as this one leaves it. One whose client takes its time keeps nobody waiting.
async fn keep_door(spot: Spot, placed: CancellationToken) {
    let _ = tokio::time::timeout(ARRIVAL, placed.cancelled()).await;
    drop(spot);
}

/// Ends a push from which nothing has come for long, before its hook.
async fn drop_when_idle(received: Arc<AtomicU64>, arrived: CancellationToken, gone: CancellationToken) {
    let mut seen = 0;
    while tokio::time::timeout(IDLE, arrived.cancelled()).await.is_err() {
        let now = received.load(Ordering::Relaxed);
        if now == seen {
            tracing::info!("a push that idled for {} s is dropped", IDLE.as_secs());
            gone.cancel();
            return;
        }
        seen = now;
    }
}

async fn say(streams: &mut Streams, problem: &Problem) -> std::io::Result<()> {
    for line in output::problem(problem) {
        streams.stderr.write_all(format!("{line}\n").as_bytes()).await?;
    }
    streams.stderr.flush().await
}
