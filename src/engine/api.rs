//! What the pipeline asks of an engine, and what it is told. Docker answers in
//! earnest; the tests of the pipeline have an engine of their own.

use super::EngineError;
use crate::model::{
    AppId, AppName, BaseImage, BuildLimits, HealthCheck, ProcessName, ProcessState, Restart, Workload,
};
use crate::settings::BuildSettings;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a call comes to. Dropped, it leaves nothing half-made behind.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

/// A container engine. It touches only what bears our labels.
pub trait Engine: Send + Sync {
    /// Whether the engine has this image.
    fn has_image<'a>(&'a self, reference: &'a str) -> Answer<'a, bool>;

    /// Which image bears this name; `None` if there is none.
    fn identity<'a>(&'a self, reference: &'a str) -> Answer<'a, Option<Identity>>;

    /// Gives a pulled image the name by which builds find exactly this one: that name.
    fn name_locally<'a>(&'a self, image: &'a str, digest: &'a str) -> Answer<'a, String>;

    /// Pulls an official image by its digest, though its tag has moved on, and gives
    /// it that name.
    fn pull_again<'a>(&'a self, image: &'a str, digest: &'a str) -> Answer<'a, ()>;

    /// Removes one reference, and the image with its last one. None is fine.
    fn remove_image<'a>(&'a self, reference: &'a str) -> Answer<'a, ()>;

    /// All images of an app, `paas/<app>:…`, sorted by reference. Another server's
    /// app of the same name has another number.
    fn app_images<'a>(&'a self, app: AppId, name: &'a AppName) -> Answer<'a, Vec<AppImage>>;

    /// Makes sure that the engine has this base, by its recipe if it lacks it;
    /// parents first. The same base is made once, however many ask, and what has
    /// been begun is finished though the caller is dropped: the next one finds it.
    /// What the tools print goes to `lines`; `scratch_dir` needs about 1 GiB.
    fn ensure_base<'a>(
        &'a self,
        base: &'a BaseImage,
        settings: &'a BuildSettings,
        scratch_dir: &'a Path,
        lines: mpsc::Sender<String>,
    ) -> Answer<'a, ()>;

    /// Builds an image. Dropping the future cancels the build, as the token does.
    /// Lines are dropped silently once their receiver is gone.
    fn build(&self, request: BuildRequest, lines: mpsc::Sender<BuildLine>) -> Answer<'_, BuiltImage>;

    /// The same for a Dockerfile whose FROM lines name only images that the engine
    /// has, as ours do after `ensure_base`: it may not ask a registry.
    fn build_local(&self, request: BuildRequest, lines: mpsc::Sender<BuildLine>) -> Answer<'_, BuiltImage>;

    /// Bounds what all builds together may take of the host; why not, if that fails.
    fn limit_builds(&self, limits: BuildLimits) -> Result<(), String>;

    /// Removes what was not used for longest until the build cache is no larger
    /// than `keep` bytes; what running builds and images need stays. Bytes freed.
    /// It takes as long as it takes: minutes, for many gigabytes.
    fn prune_build_cache(&self, keep: u64) -> Answer<'_, u64>;

    /// Where it keeps images, if that is a folder; of another machine if the
    /// engine is on one.
    fn storage(&self) -> Answer<'_, Option<PathBuf>>;

    /// Makes sure that the app's network exists on this subnet, and makes it
    /// anew if it is damaged. Free when it is known.
    fn ensure_network(&self, app: AppId, subnet: Ipv4Net) -> Answer<'_, ()>;

    /// Removes the app's network, with force from whoever is still on it. None is fine.
    fn remove_network(&self, app: AppId) -> Answer<'_, ()>;

    /// Keeps apps from the host and the cloud's metadata service; why not, if that
    /// fails. `public_ports` are the proxy's, as far as it listens on public addresses:
    /// apps may reach each other by their public names. With `builds`, builds too.
    fn isolate(&self, public_ports: Vec<u16>, builds: bool) -> BoxFuture<'_, Result<(), String>>;

    /// Creates and starts a container; its id. One of the same name and app is
    /// replaced. On failure, and when dropped, nothing is left.
    fn start<'a>(&'a self, workload: &'a Workload) -> Answer<'a, String>;

    /// Runs a workload once, to its end, and removes it whatever happens.
    /// Its exit code.
    fn run_once<'a>(
        &'a self,
        workload: &'a Workload,
        lines: mpsc::Sender<LogLine>,
        cancel: CancellationToken,
        timeout: Duration,
    ) -> Answer<'a, i64>;

    /// Runs words in a container until they end; their exit code. Their output is
    /// not kept.
    fn run_in<'a>(&'a self, container: &'a str, words: &'a [&'a str]) -> Answer<'a, i64>;

    /// Changes when a container is started again by the engine.
    fn set_restart<'a>(&'a self, container: &'a str, restart: Restart) -> Answer<'a, ()>;

    /// SIGTERM (or what the image asks for), SIGKILL after `grace`, rounded up
    /// to a second. Returns when it has ended. One that is gone is fine.
    fn stop<'a>(&'a self, container: &'a str, grace: Duration) -> Answer<'a, ()>;

    /// Removes a container, running or not, with its log and its anonymous
    /// volumes. One that is gone, or going, is fine.
    fn remove<'a>(&'a self, container: &'a str) -> Answer<'a, ()>;

    /// All containers of an app, or of all apps, in whatever state; sorted by
    /// app, release and process.
    fn processes(&self, app: Option<AppId>) -> Answer<'_, Vec<ProcessState>>;

    /// One container of ours, by id or name.
    fn inspect<'a>(&'a self, container: &'a str) -> Answer<'a, ProcessState>;

    /// What a running container takes, looked at for a second or two; `None` if it does
    /// not run.
    fn usage<'a>(&'a self, container: &'a str) -> Answer<'a, Option<Usage>>;

    /// Addresses that a running container listens on (TCP), in order; empty
    /// if it does not run.
    fn listening<'a>(&'a self, container: &'a str) -> Answer<'a, Vec<SocketAddr>>;

    /// Lines newer than `since` (nanoseconds since the epoch), oldest first;
    /// with `follow` until the container's end. Starts when polled.
    fn logs(
        &self,
        container: &str,
        since: Option<i64>,
        follow: bool,
    ) -> BoxStream<'static, Result<LogLine, EngineError>>;

    /// Events from now on, for ever; ends when the stream is dropped. Asked for at
    /// once, not when first polled. Those that happen at the same time may come in
    /// any order. An error item says that the engine hung up, is back, and events
    /// may be missing: look again at everything. What follows it was asked for anew.
    fn events(&self) -> BoxStream<'static, Result<Event, EngineError>>;
}

/// The files of a build: an uncompressed tar, as it comes.
pub type Context = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What is to be built.
pub struct BuildRequest {
    /// An uncompressed tar of the files, the Dockerfile among them.
    pub context: Context,
    /// Path of the Dockerfile in the context.
    pub dockerfile: String,
    /// Reference that the image gets, once it is complete.
    pub tag: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Secrets for `RUN --mount=type=secret,id=NAME`.
    pub secrets: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Whether every step is done, though the cache has its outcome.
    pub fresh: bool,
    /// Longest time from start to end.
    pub timeout: Duration,
    /// Longest time without any sign of life; zero: as long as that.
    pub silence: Duration,
    /// Ends the build when cancelled.
    pub cancel: CancellationToken,
}

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// `sha256:…`.
    pub id: String,
    /// TCP ports of EXPOSE, in order.
    pub exposed_ports: Vec<u16>,
    /// USER; empty: root.
    pub user: String,
    /// Its HEALTHCHECK.
    pub check: Option<HealthCheck>,
    /// Whether it has a CMD or an ENTRYPOINT.
    pub has_command: bool,
    /// Bytes.
    pub size: i64,
}

/// One line of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildLine {
    /// A step begins, or was found in the cache: `[2/5] RUN pip install …`.
    Step {
        /// As the builder names it, one line.
        name: String,
        /// Nothing had to be done.
        cached: bool,
    },
    /// A step printed this; no line end, not yet safe for a terminal.
    Output(String),
    /// Ours: output was cut.
    Notice(String),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It runs.
    Started,
    /// It has ended.
    Died {
        /// 137: killed.
        exit_code: i64,
    },
    /// The kernel killed one of its processes for memory.
    Oom,
    /// It is gone.
    Destroyed,
}

/// Something that happened to a container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since the epoch, UTC.
    pub at: i64,
    /// The app, from its label.
    pub app: AppId,
    /// `3` for `v3`.
    pub release: u32,
    /// `web.1`.
    pub process: ProcessName,
    /// The engine's id.
    pub container: String,
    /// What happened.
    pub kind: EventKind,
}

/// What tells an image from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The engine's id, `sha256:…`.
    pub id: String,
    /// The registry's digest, `sha256:…`, if it came from one.
    pub digest: Option<String>,
    /// When it was made: seconds since the epoch.
    pub created: i64,
}

/// What a container takes of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory, without what the kernel could take back at once.
    pub memory: u64,
    /// Billionths of a CPU.
    pub nano_cpus: u64,
}

/// One image of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppImage {
    /// `paas/myapp:v3`.
    pub reference: String,
    /// `sha256:…`.
    pub id: String,
    /// Bytes, layers shared with others included.
    pub size: i64,
}

/// Which of its two outputs a process wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line that a process wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When the engine read it, nanoseconds since the epoch, UTC.
    pub nanos: i64,
    /// Where it was written.
    pub output: Output,
    /// The line without its end; not yet safe for a terminal.
    pub text: String,
}
