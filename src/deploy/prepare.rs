//! The first phase of a deploy: everything that can fail, before git moves the
//! branch. Nothing of it is visible from outside; if it fails, nothing was.

use super::error::{DeployError, Unhealthy};
use super::health::{self, Check};
use super::manifest;
use super::pipeline::Pipeline;
use super::processes::Running;
use super::queue::Turn;
use super::release::expect_addresses;
use super::report::Report;
use crate::buildpack::{self, Choice};
use crate::engine::{EngineError, LogLine};
use crate::failpoint::reached;
use crate::git::PushedTree;
use crate::git::tree::Bounds;
use crate::model::{
    App, BuildPlan, CommitId, HealthCheck, ProcessName, Release, ReleaseState, RunCommand, SourceTree,
    Target, Why,
};
use crate::store::{self, releases::NewRelease};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// `PORT` of an image that exposes none.
pub(super) const DEFAULT_PORT: u16 = 5000;

/// How long it may take to tell what an app is: its files are bounded, and are read
/// in well under a second. A disk that hangs must not hold the app's turn.
const DETECTION: Duration = Duration::from_secs(60);

/// What is to be deployed.
pub(super) struct Job {
    pub app: App,
    pub repository: PathBuf,
    pub quarantine: Option<PathBuf>,
    pub commit: CommitId,
    pub who: String,
    pub turn: Turn,
    pub report: Report,
    /// Cancelled when the one who pushes goes away.
    pub gone: CancellationToken,
}

/// A release that is ready, and the turn to promote it.
pub(super) struct Prepared {
    pub app: App,
    pub release: Release,
    /// The web processes that will take traffic.
    pub targets: Vec<Target>,
    pub turn: Turn,
}

impl Pipeline {
    /// All steps of the first phase, in order. On failure or cancellation what
    /// was begun is undone.
    pub(super) async fn prepare(&self, job: Job) -> Result<Prepared, DeployError> {
        self.expect_room().await?;
        let (gone, ending) = (job.gone.clone(), job.turn.may_be_cancelled());
        // On a busy host all that is waited for may be there at the first look.
        let (tree, plan) = tokio::select! {
            biased;
            () = gone.cancelled() => return Err(DeployError::Cancelled),
            error = ending.asked() => return Err(error),
            detected = self.detect(&job) => detected?,
        };
        self.expect_to_fit(&plan)?;
        self.undo_unfinished(&job.app).await?;
        let mut release = self.open_release(&job, &plan).await?;
        reached("release-opened");
        let steps = async {
            let slot = super::line::slot(&self.slots, &job.report).await;
            self.bases(&job, &mut release, &plan).await?;
            self.build(&job, &mut release, tree, &plan).await?;
            drop(slot);
            reached("image-saved");
            self.release_command(&job, &release, &plan).await?;
            reached("release-command-done");
            let targets = self.start_web(&job, &mut release).await;
            let targets = targets
                .map_err(|error| error.advised(plan.loopback.as_deref(), plan.no_command.as_deref()))?;
            self.try_canary(&job, &release, &targets, &plan).await?;
            release.state = ReleaseState::Ready;
            self.save(&release).await?;
            reached("ready");
            job.turn.step("moving the branch");
            Ok(targets)
        };
        let outcome = tokio::select! {
            outcome = steps => outcome,
            () = gone.cancelled() => Err(DeployError::Cancelled),
            error = ending.asked() => Err(error),
        };
        let committed = job.turn.commit();
        match committed.and(outcome) {
            Ok(targets) => Ok(Prepared { app: job.app, release, targets, turn: job.turn }),
            Err(error) => {
                self.discard(&job.app, &release, &error).await;
                Err(error)
            }
        }
    }

    /// Reads the tree and decides how it is built and what it runs.
    async fn detect(&self, job: &Job) -> Result<(PushedTree, BuildPlan), DeployError> {
        let mut pins = self.pins(job.app.id).await?;
        let mut lost = Vec::new();
        let (tree, plan) = loop {
            let (tree, plan) = self.read(job, pins.choice()).await?;
            let Some(gone) = self.gone(&plan, &pins).await? else { break (tree, plan) };
            self.forget_base(&gone.reference).await?;
            if pins.give_up(&gone) {
                lost.push(gone);
            }
        };
        job.report.plan(&plan);
        for base in lost {
            let made = super::pins::moment(base.made_at);
            job.report
                .warning(&format!("The base image {} of {made} is gone; another is taken.", base.title()));
        }
        if tree.entries().iter().any(|entry| entry.kind == crate::model::EntryKind::Submodule) {
            job.report.warning("Submodules are not in the push: their folders are empty.");
        }
        Ok((tree, plan))
    }

    /// The tree and its plan on these bases.
    async fn read(&self, job: &Job, choice: Choice) -> Result<(PushedTree, BuildPlan), DeployError> {
        let catalog = self.catalog((&job.app).into(), choice);
        let (repository, quarantine) = (job.repository.clone(), job.quarantine.clone());
        let commit = job.commit.clone();
        let work = move || {
            let tree = PushedTree::open(&repository, quarantine.as_deref(), &commit, Bounds::default())?;
            let plan = buildpack::plan(&tree, &catalog).map_err(DeployError::Detect)?;
            let tree = if plan.root.is_empty() { tree } else { tree.below(&plan.root) };
            Ok((tree, plan))
        };
        let read = tokio::time::timeout(DETECTION, blocking(work)).await;
        read.unwrap_or(Err(DeployError::DetectionTime(DETECTION)))
    }

    /// Writes the release down before anything is made for it.
    async fn open_release(&self, job: &Job, plan: &BuildPlan) -> Result<Release, DeployError> {
        if !self.routes.connected() {
            return Err(DeployError::NoProxy);
        }
        let (app, commit, who) = (job.app.id, job.commit.clone(), job.who.clone());
        let mut plan = plan.clone();
        let (name, word) = (job.app.name.clone(), job.app.hidden_word());
        let asked = plan.config.clone();
        let opened = self
            .store()
            .write(move |db| {
                let mut config = store::config::load(db, app)?;
                let global = store::config::load_global(db)?;
                let first = !store::releases::any_served(db, app)?;
                let missing = manifest::fill(&mut config, &global, &plan.config, first);
                if !missing.is_empty() {
                    return Ok(Err(DeployError::NoConfig(name, missing)));
                }
                if !first {
                    plan.types.values_mut().for_each(|settings| settings.count = None);
                }
                let formation = store::apps::formation(db, app)?;
                if let Err(error) = expect_addresses(&plan.processes, &plan.types, &formation) {
                    return Ok(Err(error));
                }
                let new = NewRelease { app, commit, config, why: Why::Push, who, sizes: None, source: None };
                let mut release = store::releases::create(db, &new)?;
                release.image = format!("paas/{name}:v{}-{word}", release.number);
                release.processes = plan.processes;
                release.env = plan.env;
                release.worker_mib = plan.worker_mib;
                release.checks = plan.checks;
                release.types = plan.types;
                release.http = plan.http;
                release.watch = plan.watch;
                release.runtime = plan.runtime;
                release.port = configured_port(&release).or(plan.port).unwrap_or(0);
                store::releases::update(db, &release)?;
                Ok(Ok(release))
            })
            .await?;
        let release = opened?;
        job.turn.release(release.number);
        job.report.of_release(release.number);
        let unset = manifest::unset(&asked, |name| release.var(name).is_some());
        if !unset.is_empty() {
            let (names, app) = (unset.join(", "), &job.app.name);
            let set = format!("paas config:set {app} {}=…", unset[0]);
            job.report.warning(&format!("app.json asks for {names}, which is not set: {set} sets it"));
        }
        Ok(release)
    }

    /// Runs the release command once, in the new image, before traffic.
    async fn release_command(
        &self,
        job: &Job,
        release: &Release,
        plan: &BuildPlan,
    ) -> Result<(), DeployError> {
        if let Some(command) = &plan.release {
            job.turn.step("running the release command");
            job.report.step("Running the release command");
            self.run_before(job, release, command, plan.release_time).await?;
        }
        let Some(command) = &plan.first else { return Ok(()) };
        let app = job.app.id;
        if self.store().read(move |db| store::apps::is_begun(db, app)).await? {
            return Ok(());
        }
        job.turn.step("running what is run at the first deploy");
        job.report.step("Running the release command of the first deploy");
        self.run_before(job, release, command, plan.release_time).await?;
        // Whatever becomes of the push: seeds are not to be sown twice.
        Ok(self.store().write(move |db| store::apps::set_begun(db, app)).await?)
    }

    /// One command in the new image, to its end.
    async fn run_before(
        &self,
        job: &Job,
        release: &Release,
        command: &RunCommand,
        time: Duration,
    ) -> Result<(), DeployError> {
        job.report.detail(&command.to_string());
        let Some(process) = ProcessName::parse("release.1") else { return Ok(()) };
        let workload = self.workload(&job.app, release, &process, Some(command.clone())).await?;
        let report = job.report.clone();
        let (lines, relay) = relay(move |line: LogLine| report.foreign(&line.text));
        let run = self.engine().run_once(&workload, lines, job.gone.clone(), time);
        let code = job.report.alive("still running", run).await;
        let _ = relay.await;
        if code.is_ok() {
            self.give_up_address(&job.app, release.number, &process).await;
        }
        // Else its container may still be there: both go together when all is undone.
        match code {
            Ok(0) => Ok(()),
            Ok(code) => Err(DeployError::ReleaseCommand { code }),
            Err(EngineError::TimedOut { limit, .. }) => Err(DeployError::ReleaseTime(limit)),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts the new web processes next to the old ones and waits until they answer.
    async fn start_web(&self, job: &Job, release: &mut Release) -> Result<Vec<Target>, DeployError> {
        job.turn.step("checking health");
        self.start_and_check(&job.app, release, &job.report).await
    }

    async fn start_each(
        &self,
        app: &App,
        release: &Release,
        web: &[ProcessName],
    ) -> Result<Vec<(ProcessName, Running)>, DeployError> {
        let mut started = Vec::new();
        for process in web {
            started.push((process.clone(), self.start_process(app, release, process).await?));
        }
        Ok(started)
    }

    /// The part of `start_web` that restarts and config changes share.
    pub(super) async fn start_and_check(
        &self,
        app: &App,
        release: &mut Release,
        report: &Report,
    ) -> Result<Vec<Target>, DeployError> {
        let web = self.wanted(app, release).await?.into_iter().filter(|process| process.kind.is_web());
        let web: Vec<ProcessName> = web.collect();
        if web.is_empty() {
            return Ok(Vec::new());
        }
        report.step(&format!("Starting {}", count(web.len(), "web process", "web processes")));
        let (first, rest) = web.split_at(self.beside_standby(app, web.len()).await?);
        let mut started = self.start_each(app, release, first).await?;
        reached("web-started");
        let port = match self.check_all(app, release, &started, report).await {
            Err(DeployError::Unhealthy { why: Unhealthy::CheckCommand(code), .. })
                if app.checks.over(&release.checks).is_hollow(code) =>
            {
                report.warning("HEALTHCHECK of the Dockerfile cannot be run in its image:");
                report.warning(&format!("it exits with {code}. It is passed over."));
                release.checks = HealthCheck::default();
                self.check_all(app, release, &started, report).await?
            }
            other => other?,
        };
        if port != release.port {
            report.warning(&format!("web listens on port {port}, not on $PORT ({}).", release.port));
            report.warning(&format!("Traffic goes to {port}; better listen on $PORT."));
            release.port = port;
        }
        if !rest.is_empty() {
            // It is known to be good now: what stands by gives up its addresses.
            self.make_room(app, rest.len()).await?;
            let more = self.start_each(app, release, rest).await?;
            self.check_all(app, release, &more, report).await?;
            started.extend(more);
        }
        reached("web-healthy");
        let target = |(process, running): (ProcessName, Running)| Target {
            address: SocketAddr::from((running.address, port)),
            process: process.to_string(),
            release: release.label(),
        };
        Ok(started.into_iter().map(target).collect())
    }

    pub(super) async fn check_all(
        &self,
        app: &App,
        release: &Release,
        started: &[(ProcessName, Running)],
        report: &Report,
    ) -> Result<u16, DeployError> {
        let host = self.host(app);
        let how = app.checks.over(&release.checks);
        let checks = started.iter().map(|(process, running)| {
            let (host, how) = (&host, &how);
            async move {
                let check = Check {
                    engine: self.engine(),
                    container: &running.container,
                    address: running.address,
                    port: release.port,
                    host,
                    how,
                };
                match health::wait(&check).await {
                    Ok(port) => Ok(port),
                    Err(why) => {
                        let tail = self.last_lines(&running.container).await;
                        Err(DeployError::Unhealthy {
                            process: process.clone(),
                            port: release.port,
                            why,
                            tail,
                            advice: None,
                        })
                    }
                }
            }
        });
        let all = futures_util::future::try_join_all(checks);
        let ports = report.alive("still waiting for an answer", all).await?;
        for (process, _) in started {
            self.trust(app.id, release.label(), process);
        }
        Ok(ports.first().copied().unwrap_or(release.port))
    }

    pub(super) async fn save(&self, release: &Release) -> Result<(), DeployError> {
        let release = release.clone();
        Ok(self.store().write(move |db| store::releases::update(db, &release)).await?)
    }
}

/// The user's own `PORT`, if it is a port.
pub(super) fn configured_port(release: &Release) -> Option<u16> {
    release.var("PORT").and_then(|text| text.trim().parse().ok()).filter(|&port| port > 0)
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A channel whose messages go to `each`, and the task that carries them.
pub(super) fn relay<T: Send + 'static>(
    each: impl Fn(T) + Send + 'static,
) -> (mpsc::Sender<T>, tokio::task::JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel(256);
    let task = tokio::spawn(async move {
        while let Some(message) = receiver.recv().await {
            each(message);
        }
    });
    (sender, task)
}

/// Runs blocking work on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeployError> + Send + 'static,
) -> Result<T, DeployError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DeployError::Internal(error.to_string()))?
}
