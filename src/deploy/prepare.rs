//! The first phase of a deploy: everything that can fail, before git moves the
//! branch. Nothing of it is visible from outside; if it fails, nothing was.

use super::error::DeployError;
use super::health::{self, Check};
use super::pipeline::Pipeline;
use super::queue::Turn;
use super::report::Report;
use crate::buildpack;
use crate::engine::{BuildLine, BuildRequest, BuiltImage, LABEL_APP, LogLine};
use crate::failpoint::reached;
use crate::git::tree::Bounds;
use crate::git::{PushedTree, context};
use crate::model::dockerignore::Patterns;
use crate::model::{
    App, BaseImage, BuildPlan, CommitId, Dockerfile, EnvKey, ImageSource, ProcessName, Release, ReleaseState,
    RunCommand, SourceTree, Target, Why,
};
use crate::store::{self, releases::NewRelease};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Where the generated Dockerfile stands in the build context.
const DOCKERFILE: &str = ".paas/Dockerfile";

/// The language of a plan that builds the repository's own Dockerfile.
const OWN: &str = "dockerfile";

/// The one config var that builds know: Heroku's switch for Django.
const NO_COLLECTSTATIC: &str = "DISABLE_COLLECTSTATIC";

/// `PORT` of an image that exposes none.
pub(super) const DEFAULT_PORT: u16 = 5000;

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
        let (tree, plan) = self.detect(&job).await?;
        let mut release = self.open_release(&job, &plan).await?;
        reached("release-opened");
        let (gone, ending) = (job.gone.clone(), job.turn.may_be_cancelled());
        let steps = async {
            let slot = self.slots.take(&job.report).await;
            self.bases(&job, &plan).await?;
            self.build(&job, &mut release, tree, &plan).await?;
            drop(slot);
            reached("image-saved");
            self.release_command(&job, &release, plan.release.clone()).await?;
            reached("release-command-done");
            let targets = self.start_web(&job, &mut release).await;
            let targets = targets.map_err(|error| error.advised(plan.loopback.clone()))?;
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
        job.turn.commit();
        match outcome {
            Ok(targets) => Ok(Prepared { app: job.app, release, targets, turn: job.turn }),
            Err(error) => {
                self.discard(&job.app, &release).await;
                Err(error)
            }
        }
    }

    /// Reads the tree and decides how it is built and what it runs.
    async fn detect(&self, job: &Job) -> Result<(PushedTree, BuildPlan), DeployError> {
        let catalog = self.catalog(job.app.id);
        let (repository, quarantine) = (job.repository.clone(), job.quarantine.clone());
        let commit = job.commit.clone();
        let work = move || {
            let tree = PushedTree::open(&repository, quarantine.as_deref(), &commit, Bounds::default())?;
            let plan = buildpack::plan(&tree, &catalog).map_err(DeployError::Detect)?;
            let tree = if plan.root.is_empty() { tree } else { tree.below(&plan.root) };
            Ok((tree, plan))
        };
        let (tree, plan) = blocking(work).await?;
        job.report.plan(&plan);
        if tree.entries().iter().any(|entry| entry.kind == crate::model::EntryKind::Submodule) {
            job.report.warning("Submodules are not in the push: their folders are empty.");
        }
        Ok((tree, plan))
    }

    /// Writes the release down before anything is made for it.
    async fn open_release(&self, job: &Job, plan: &BuildPlan) -> Result<Release, DeployError> {
        if !self.routes.connected() {
            return Err(DeployError::NoProxy);
        }
        let (app, commit, who) = (job.app.id, job.commit.clone(), job.who.clone());
        let plan = plan.clone();
        let name = job.app.name.clone();
        let release = self
            .store()
            .write(move |db| {
                let config = store::config::load(db, app)?;
                let new = NewRelease { app, commit, config, why: Why::Push, who, source: None };
                let mut release = store::releases::create(db, &new)?;
                release.image = format!("paas/{name}:v{}", release.number);
                release.processes = plan.processes;
                release.env = plan.env;
                release.worker_mib = plan.worker_mib;
                release.checks = plan.checks;
                release.runtime = plan.runtime;
                release.port = configured_port(&release).or(plan.port).unwrap_or(0);
                store::releases::update(db, &release)?;
                Ok(release)
            })
            .await?;
        job.turn.release(release.number);
        job.report.of_release(release.number);
        Ok(release)
    }

    /// Has the base images made or pulled that the engine lacks.
    async fn bases(&self, job: &Job, plan: &BuildPlan) -> Result<(), DeployError> {
        for base in &plan.bases {
            if !self.engine().has_image(&base.reference).await? {
                job.turn.step("preparing the base image");
                job.report.step(&format!("Preparing base image {}", base.reference));
                self.prepare_base(base, &job.report).await?;
            }
        }
        Ok(())
    }

    /// Has one base image made or pulled; what the tools print is reported.
    pub async fn prepare_base(&self, base: &BaseImage, report: &Report) -> Result<(), DeployError> {
        let lines = report.clone();
        let (sender, relay) = relay(move |line: String| lines.foreign(&line));
        let scratch = self.workers.settings.data_dir.join("tmp");
        let work = self.engine().ensure_base(base, &self.workers.settings.build, &scratch, sender);
        let made = report.alive("still preparing", work).await;
        let _ = relay.await;
        Ok(made?)
    }

    /// Streams the tree into the engine's builder.
    async fn build(
        &self,
        job: &Job,
        release: &mut Release,
        tree: PushedTree,
        plan: &BuildPlan,
    ) -> Result<(), DeployError> {
        job.turn.step("building");
        self.limit_builds();
        job.report.step("Building");
        let request = self.build_request(job, release, plan, tree)?;
        let report = job.report.clone();
        let (lines, relay) = relay(move |line: BuildLine| show(&report, &line));
        let generated = !matches!(plan.dockerfile, Dockerfile::Own(_));
        let build = async {
            // Bases of a generated Dockerfile are here already; only the
            // repository's own one may ask a registry, which needs a session.
            if generated && self.workers.source == ImageSource::Debian {
                self.engine().build_local(request, lines).await
            } else {
                self.engine().build(request, lines).await
            }
        };
        let built = job.report.alive("still building", build).await;
        let _ = relay.await;
        let built = built?;
        reached("built");
        Self::adopt_image(job, release, &built);
        self.save(release).await
    }

    /// Without the right to, builds run unlimited, and `status` says so.
    fn limit_builds(&self) {
        let outcome = crate::engine::limit_builds(self.workers.settings.build.limits).err();
        let mut unlimited = self.unlimited.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (Some(why), None) = (&outcome, &*unlimited) {
            tracing::warn!(why, "builds are not limited in memory and processes");
        }
        *unlimited = outcome;
    }

    fn build_request(
        &self,
        job: &Job,
        release: &Release,
        plan: &BuildPlan,
        tree: PushedTree,
    ) -> Result<BuildRequest, DeployError> {
        let mut added = plan.files.clone();
        let dockerfile = match &plan.dockerfile {
            Dockerfile::Generated(text) => {
                added.insert(DOCKERFILE.to_owned(), text.clone().into_bytes());
                DOCKERFILE.to_owned()
            }
            Dockerfile::Rewritten { path, text } => {
                added.insert(path.clone(), text.clone().into_bytes());
                path.clone()
            }
            Dockerfile::Own(path) => path.clone(),
        };
        let mut args = self.workers.settings.build.args.clone();
        if plan.language == OWN {
            // The history of a single-stage image shows its build arguments.
            args.retain(|_, value| !value.contains('@'));
            args.insert("GIT_REV".to_owned(), job.commit.to_string());
            args.insert("SOURCE_VERSION".to_owned(), job.commit.to_string());
        } else if release.var(NO_COLLECTSTATIC) == Some("1") {
            // Our own word: arguments stay visible, and no value of a config var is.
            args.insert(NO_COLLECTSTATIC.to_owned(), "1".to_owned());
        }
        args.extend(plan.build_args.clone());
        Ok(BuildRequest {
            context: stream_context(tree, plan.context_root.clone(), added, dockerfile.clone()),
            dockerfile,
            tag: release.image.clone(),
            args,
            secrets: secrets(release, plan)?,
            labels: BTreeMap::from([(LABEL_APP.to_owned(), job.app.id.0.to_string())]),
            timeout: self.workers.settings.build.timeout,
            cancel: job.gone.clone(),
        })
    }

    /// Takes over what only the image tells: its id, ports and user.
    fn adopt_image(job: &Job, release: &mut Release, built: &BuiltImage) {
        release.image_id.clone_from(&built.id);
        release.root = matches!(built.user.as_str(), "" | "0" | "root" | "0:0" | "root:root");
        if release.port == 0 {
            let lowest = built.exposed_ports.iter().min().copied();
            release.port = lowest.unwrap_or(DEFAULT_PORT);
            if built.exposed_ports.len() > 1 {
                job.report.warning(&format!("Several ports are exposed; traffic goes to {}.", release.port));
            }
        }
    }

    /// Runs the release command once, in the new image, before traffic.
    async fn release_command(
        &self,
        job: &Job,
        release: &Release,
        command: Option<RunCommand>,
    ) -> Result<(), DeployError> {
        let Some(command) = command else { return Ok(()) };
        job.turn.step("running the release command");
        job.report.step("Running the release command");
        job.report.detail(&command.to_string());
        let Some(process) = ProcessName::parse("release.1") else { return Ok(()) };
        let workload = self.workload(&job.app, release, &process, Some(command)).await?;
        let report = job.report.clone();
        let (lines, relay) = relay(move |line: LogLine| report.foreign(&line.text));
        let run = self.engine().run_once(&workload, lines, job.gone.clone(), super::release::COMMAND_TIME);
        let code = job.report.alive("still running", run).await;
        let _ = relay.await;
        self.give_up_address(&job.app, release.number, &process).await;
        match code? {
            0 => Ok(()),
            code => Err(DeployError::ReleaseCommand { code }),
        }
    }

    /// Starts the new web processes next to the old ones and waits until they answer.
    async fn start_web(&self, job: &Job, release: &mut Release) -> Result<Vec<Target>, DeployError> {
        job.turn.step("checking health");
        self.start_and_check(&job.app, release, &job.report).await
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
        let mut started = Vec::new();
        for process in web {
            let running = self.start_process(app, release, &process).await?;
            started.push((process, running));
        }
        reached("web-started");
        let port = self.check_all(app, release, &started, report).await?;
        reached("web-healthy");
        if port != release.port {
            report.warning(&format!("web listens on port {port}, not on $PORT ({}).", release.port));
            report.warning(&format!("Traffic goes to {port}; better listen on $PORT."));
            release.port = port;
        }
        let target = |(process, running): (ProcessName, super::processes::Running)| Target {
            address: SocketAddr::from((running.address, port)),
            process: process.to_string(),
            release: release.number,
        };
        Ok(started.into_iter().map(target).collect())
    }

    pub(super) async fn check_all(
        &self,
        app: &App,
        release: &Release,
        started: &[(ProcessName, super::processes::Running)],
        report: &Report,
    ) -> Result<u16, DeployError> {
        let host = self.host(app);
        let checks = started.iter().map(|(process, running)| {
            let host = &host;
            async move {
                let check = Check {
                    engine: self.engine(),
                    container: &running.container,
                    address: running.address,
                    port: release.port,
                    host,
                    how: &release.checks,
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
        Ok(ports.first().copied().unwrap_or(release.port))
    }

    pub(super) async fn save(&self, release: &Release) -> Result<(), DeployError> {
        let release = release.clone();
        Ok(self.store().write(move |db| store::releases::update(db, &release)).await?)
    }
}

/// The config vars that a build may read.
fn secrets(release: &Release, plan: &BuildPlan) -> Result<BTreeMap<String, String>, DeployError> {
    let value = |name: &EnvKey| match release.var(name.as_str()) {
        Some(value) => Ok((name.to_string(), value.to_owned())),
        None => Err(DeployError::NoSecret(name.to_string())),
    };
    plan.secrets.iter().map(value).collect()
}

/// Columns for the name of a step; git adds 8 and the report 7.
const STEP_WIDTH: usize = 60;

/// Whether a step does something for the app: the builder's own business
/// (loading, exporting, naming bases) says nothing to the one who pushes.
fn is_of_the_app(step: &str) -> bool {
    step.starts_with('[') && !step.starts_with("[internal]") && !step.contains("] FROM ")
}

/// A step's name without the mounts of its RUN, cut to one line.
fn abridged(step: &str) -> String {
    let words: Vec<&str> = step.split(' ').filter(|word| !word.starts_with("--mount=")).collect();
    let text = words.join(" ");
    if text.chars().count() <= STEP_WIDTH {
        return text;
    }
    text.chars().take(STEP_WIDTH - 1).chain(['…']).collect()
}

/// One line of a build for the one who pushes.
fn show(report: &Report, line: &BuildLine) {
    match line {
        BuildLine::Step { name, cached } if is_of_the_app(name) => {
            report.foreign(&format!("{}{}", abridged(name), if *cached { " (cached)" } else { "" }));
        }
        BuildLine::Step { .. } => {}
        BuildLine::Output(text) => report.foreign(&format!("  {text}")),
        BuildLine::Notice(text) => report.warning(text),
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

/// The tree and what we add to it as a stream of tar bytes, written by a thread
/// as fast as the engine reads.
fn stream_context(
    tree: PushedTree,
    root: String,
    added: BTreeMap<String, Vec<u8>>,
    dockerfile: String,
) -> crate::engine::Context {
    let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(16);
    tokio::task::spawn_blocking(move || {
        let ignore = tree.read(".dockerignore", 1 << 20).unwrap_or_default();
        let patterns = Patterns::parse(&String::from_utf8_lossy(&ignore));
        let excluded = |path: &str| added.contains_key(path) || path != dockerfile && patterns.excludes(path);
        let into = std::io::BufWriter::with_capacity(256 << 10, Chunks(sender.clone()));
        if let Err(error) = context::write_tar(&tree, &root, &excluded, &added, into) {
            let _ = sender.blocking_send(Err(std::io::Error::other(error)));
        }
    });
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    }))
}

/// A writer whose bytes go into a channel.
struct Chunks(mpsc::Sender<std::io::Result<Bytes>>);

impl std::io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let chunk = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(Ok(chunk)).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_shown_as_people_wrote_them() {
        let long = "[build 5/5] RUN --mount=type=cache,id=paas-app-1-uv,target=/root/.cache/uv uv pip install -r requirements.txt && true";
        assert_eq!(abridged(long), "[build 5/5] RUN uv pip install -r requirements.txt && true");
        assert_eq!(abridged(&"x".repeat(99)).chars().count(), STEP_WIDTH);
        assert!(is_of_the_app(long));
        for step in
            ["[internal] load metadata", "copy /context /", "exporting to image", "[build 1/5] FROM x"]
        {
            assert!(!is_of_the_app(step), "{step}");
        }
    }
}
