//! Processes of a release: what shall run, and starting and ending it.

use super::collect::Origin;
use super::{DeployError, Pipeline, environment};
use crate::engine::{EngineError, LogLine};
use crate::model::{
    Announcement, App, AppId, ProcessName, ProcessState, Release, ReleaseId, ReleaseState, RunCommand, Why,
    Workload,
};
use crate::store;
use futures_util::stream::{BoxStream, StreamExt};
use std::collections::{HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// Between SIGTERM and SIGKILL: as long as its type is given.
pub(super) const ITS_OWN: Duration = Duration::MAX;

/// Lines of a crashed process that `ps` shows.
const LAST_WORDS: usize = 10;

/// Lines of a process that a deploy failed with.
const LAST_LINES: usize = 200;

/// A process that was started.
pub(super) struct Running {
    pub container: String,
    pub address: Ipv4Addr,
}

impl Pipeline {
    /// The processes of a release that shall run now: those of the formation that are
    /// not stopped, and one that takes the requests of another meanwhile.
    pub(super) async fn wanted(&self, app: &App, release: &Release) -> Result<Vec<ProcessName>, DeployError> {
        let mut wanted = self.formed(app, release).await?;
        wanted.retain(|process| !release.stopped.has(process));
        wanted.extend(self.spare(release).filter(|spare| !wanted.contains(spare)));
        Ok(wanted)
    }

    /// The processes that a release has by the app's formation.
    pub(super) async fn formed(&self, app: &App, release: &Release) -> Result<Vec<ProcessName>, DeployError> {
        let id = app.id;
        let formation = self.store().read(move |db| store::apps::formation(db, id)).await?;
        let count = |kind| match release.first_count(kind) {
            Some(first) if !formation.0.contains_key(kind) => first,
            _ => formation.count(kind),
        };
        let names = release
            .processes
            .keys()
            .flat_map(|kind| (1..=count(kind)).map(|index| ProcessName { kind: kind.clone(), index }));
        Ok(names.collect())
    }

    /// One process as the engine shall run it; `command` overrides the release's.
    pub(super) async fn workload(
        &self,
        app: &App,
        release: &Release,
        process: &ProcessName,
        command: Option<RunCommand>,
    ) -> Result<Workload, DeployError> {
        let address = self.prepare_network(app, release, process).await?;
        let command = command.or_else(|| release.processes.get(&process.kind).cloned());
        let limits = release.size(&process.kind).limits(self.workers.settings.limits);
        Ok(Workload {
            app: app.id,
            app_name: app.name.clone(),
            release: release.label(),
            process: process.clone(),
            image: release.image_id.clone(),
            restart: release.restart(&process.kind),
            stop_timeout: release.stop_timeout(&process.kind),
            command: command.unwrap_or(RunCommand::Image),
            env: environment::of(&app.name, release, process, &limits),
            address,
            limits,
            root: release.root,
        })
    }

    /// The process's fixed address on the app's network, which is made if need
    /// be. A subnet that the engine finds taken is given up for another, as long
    /// as nothing of the app runs.
    async fn prepare_network(
        &self,
        app: &App,
        release: &Release,
        process: &ProcessName,
    ) -> Result<Ipv4Addr, DeployError> {
        let id = app.id;
        for _ in 0..8 {
            let subnet = self.store().read(move |db| store::apps::subnet(db, id)).await?;
            match self.engine().ensure_network(id, subnet).await {
                Ok(()) => break,
                Err(EngineError::SubnetTaken { .. }) => {
                    let mut pools = self.pools();
                    pools.taken.push(subnet);
                    self.store().write(move |db| store::apps::move_subnet(db, id, &pools)).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (number, process) = (release.label(), process.clone());
        Ok(self.store().write(move |db| store::apps::address(db, id, number, &process)).await?)
    }

    /// Starts one process and begins to collect what it prints.
    pub(super) async fn start_process(
        &self,
        app: &App,
        release: &Release,
        process: &ProcessName,
    ) -> Result<Running, DeployError> {
        let workload = self.workload(app, release, process, None).await?;
        self.begin_in_doubt(app.id, release.label(), process);
        let container = match self.engine().start(&workload).await {
            Err(error) if error.is_missing() && !self.engine().has_image(&release.image_id).await? => {
                return Err(DeployError::NoImage(release.image.clone()));
            }
            other => other?,
        };
        self.collector.follow(Origin {
            container: container.clone(),
            app: app.id,
            release: release.label(),
            process: process.clone(),
        });
        Ok(Running { container, address: workload.address })
    }

    /// Ends processes: SIGTERM, grace as their type has it and `most` at most, SIGKILL, last
    /// lines kept, container removed, address given up. Errors are logged: what is left is ended within a minute.
    /// Whether all have ended.
    pub(super) async fn end_processes(&self, app: &App, processes: &[ProcessState], most: Duration) -> bool {
        let ends = processes.iter().map(|state| async move {
            let result = async {
                self.engine().stop(&state.container, most.min(state.stop_timeout)).await?;
                self.collector.finish(&state.container).await;
                self.engine().remove(&state.container).await
            };
            let result = tokio::select! {
                result = result => result,
                // It may take its time; the next server sees to it.
                () = self.stop.cancelled(), if !most.is_zero() => return false,
            };
            if let Err(error) = result {
                tracing::warn!(app = %app.name, process = %state.process, %error, "a process could not be ended");
                return false;
            }
            self.give_up_address(app, state.release, &state.process).await;
            self.trust(app.id, state.release, &state.process);
            true
        });
        futures_util::future::join_all(ends).await.into_iter().all(|ended| ended)
    }

    pub(super) async fn give_up_address(&self, app: &App, release: u32, process: &ProcessName) {
        let (id, process) = (app.id, process.clone());
        let result = self
            .store()
            .write(move |db| store::apps::release_addresses(db, id, release, Some(&process)))
            .await;
        if let Err(error) = result {
            tracing::warn!(app = %app.name, %error, "an address could not be given up");
        }
    }

    /// Gives up the addresses of containers that are gone: a server that is killed
    /// may have removed one and not come to that. Only with the app's turn.
    pub(super) async fn give_up_addresses_but(
        &self,
        app: AppId,
        there: &[ProcessState],
    ) -> Result<(), DeployError> {
        let there: Vec<(u32, ProcessName)> =
            there.iter().map(|state| (state.release, state.process.clone())).collect();
        Ok(self.store().write(move |db| store::apps::keep_addresses(db, app, &there)).await?)
    }

    /// An app's containers.
    pub(super) async fn states(&self, app: AppId) -> Result<Vec<ProcessState>, DeployError> {
        Ok(self.engine().processes(Some(app)).await?)
    }

    /// Undoes an unfinished release: its containers, its image, its row's state. One
    /// that is ready is made unready first: whoever finds it ready finishes it, for
    /// which all of it must be there. Where that cannot be written down, all of it
    /// stays until it can.
    pub(super) async fn discard(&self, app: &App, release: &Release, why: &DeployError) {
        if let Err(error) = self.undo(app, release, why).await {
            // Somebody is told that it has failed: it must not go live when it is found.
            self.given_up().insert(release.id);
            self.is_amiss(app.id);
            tracing::error!(app = %app.name, release = release.number, %error, "it could not be undone; that is tried again");
        } else {
            self.given_up().remove(&release.id);
        }
        self.ring();
    }

    fn given_up(&self) -> MutexGuard<'_, HashSet<ReleaseId>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a release has failed, and that could not be written down yet.
    pub(super) fn is_given_up(&self, release: ReleaseId) -> bool {
        self.given_up().contains(&release)
    }

    async fn undo(&self, app: &App, release: &Release, why: &DeployError) -> Result<(), DeployError> {
        let (id, number, row) = (app.id, release.number, release.id);
        self.end_canary(app, release).await;
        if release.state == ReleaseState::Ready {
            self.store()
                .write(move |db| store::releases::set_state(db, row, ReleaseState::Preparing))
                .await?;
        }
        let its: Vec<ProcessState> =
            self.states(id).await?.into_iter().filter(|state| state.release == number).collect();
        let ended = self.end_processes(app, &its, Duration::ZERO).await;
        // Before it is written down: what is cut off here is done again.
        if release.why == Why::Push {
            self.remove_image_of(release).await;
        }
        let failed = Announcement::failed(release, &why.problem().of_a_command().title);
        let written = self.store().write(move |db| {
            if ended {
                store::apps::release_addresses(db, id, number, None)?;
            }
            store::releases::set_state(db, row, ReleaseState::Failed)?;
            store::windows::forget_unrouted(db, id)?;
            store::webhooks::announce(db, id, &failed)
        });
        Ok(written.await?)
    }

    /// Removes an image; a container of it that is just going is waited for.
    async fn remove_image_of(&self, release: &Release) {
        let mut pause = Duration::from_millis(20);
        while let Err(error) = self.engine().remove_image(&release.image).await {
            if error.status() != Some(409) || pause > Duration::from_secs(2) {
                tracing::warn!(image = release.image, %error, "the image of a failed release stays");
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// The last lines of the last run of a process that has ended.
    pub async fn last_words(&self, line: &super::ProcessLine) -> Vec<String> {
        let since = line.started_at.saturating_mul(1_000_000_000);
        last(self.engine().logs(&line.container, Some(since), false), LAST_WORDS).await
    }

    /// The last lines that a container printed.
    pub(super) async fn last_lines(&self, container: &str) -> Vec<String> {
        last(self.engine().logs(container, None, false), LAST_LINES).await
    }
}

/// The last ones of many lines.
async fn last(mut lines: BoxStream<'_, Result<LogLine, EngineError>>, most: usize) -> Vec<String> {
    let mut last = VecDeque::with_capacity(most);
    while let Some(line) = lines.next().await {
        let Ok(line) = line else { continue };
        if last.len() == most {
            last.pop_front();
        }
        last.push_back(line.text);
    }
    last.into()
}
