//! One build by the engine's own BuildKit.

use super::connect::NO_LIMIT;
use super::progress::Progress;
use super::secrets::{self, Hidden};
use super::{DockerEngine, call, message_of, session};
use crate::engine::{BuildLine, BuildRequest, BuiltImage, Context, EngineError, Overtime};
use crate::model::{CheckKind, CheckSource, HealthCheck};
use bollard::models::{BuildInfo, BuildInfoAux, HealthConfig, ImageInspect};
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder, BuilderVersion};
use bollard::{BollardRequest, Docker};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

impl DockerEngine {
    /// Builds an image. Dropping the future cancels the build, as the token does.
    /// Lines are dropped silently once their receiver is gone.
    pub async fn build(
        &self,
        request: BuildRequest,
        lines: mpsc::Sender<BuildLine>,
    ) -> Result<BuiltImage, EngineError> {
        self.bounded(request, Pulls::Allowed, lines).await
    }

    /// The same for a Dockerfile whose FROM lines name only images that the engine
    /// has, as ours do after `ensure_base`. A registry would want a session, to ask
    /// it for credentials; without one a build is 20 to 40 ms faster.
    pub async fn build_local(
        &self,
        request: BuildRequest,
        lines: mpsc::Sender<BuildLine>,
    ) -> Result<BuiltImage, EngineError> {
        self.bounded(request, Pulls::Never, lines).await
    }

    async fn bounded(
        &self,
        request: BuildRequest,
        pulls: Pulls,
        lines: mpsc::Sender<BuildLine>,
    ) -> Result<BuiltImage, EngineError> {
        let cancel = request.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(EngineError::Cancelled),
            result = self.solve(request, pulls, lines) => result,
        }
    }

    async fn solve(
        &self,
        request: BuildRequest,
        pulls: Pulls,
        lines: mpsc::Sender<BuildLine>,
    ) -> Result<BuiltImage, EngineError> {
        // One session per build: ours, which has the secrets, or the client's,
        // which knows how to ask a registry.
        let pulls = if request.secrets.is_empty() { pulls } else { Pulls::Never };
        let options = options(&request, pulls);
        let (tag, time) = (request.tag, Time::from_now(request.timeout, request.silence));
        let (body, broken) = watched(request.context);
        let id = session_id();
        let hidden = Hidden::of(&request.secrets);
        let giving = self.give_out(request.secrets, &id).await?;
        let (docker, _cut_when_dropped) = self.build_client(pulls, &id, giving.is_some())?;
        let mut running = RunningBuild { address: self.address.clone(), id: Some(id) };
        let mut answers = docker.build_image(options, None, Some(bollard::body_try_stream(body)));
        let mut progress = Progress::default();
        let mut id = None;
        while let Some(answer) = time.of(answers.next()).await.map_err(|over| over.at(progress.step()))? {
            let output = match answer {
                Ok(BuildInfo { aux: Some(BuildInfoAux::BuildKit(status)), .. }) => progress.read(status),
                Ok(BuildInfo { aux: Some(BuildInfoAux::Default(image)), .. }) => {
                    // Not the end: the last steps may be told after it.
                    id = image.id;
                    Vec::new()
                }
                Ok(_) => Vec::new(),
                Err(error) => {
                    running.id = None;
                    deliver(&lines, hidden.lines(progress.finish())).await;
                    let error = hidden.error(failed(&progress, broken.take(), error));
                    return self.built_all_the_same(&progress, &tag).await.ok_or(error);
                }
            };
            deliver(&lines, hidden.lines(output)).await;
        }
        running.id = None;
        deliver(&lines, hidden.lines(progress.finish())).await;
        drop(answers);
        match id {
            Some(id) => self.built(id).await,
            None => Err(EngineError::Build(Box::new(progress.failure("the builder went away")))),
        }
    }

    /// The client of one build, and what cuts its connections off.
    fn build_client(
        &self,
        pulls: Pulls,
        id: &str,
        session: bool,
    ) -> Result<(Docker, Option<DropGuard>), EngineError> {
        let (docker, cut) = match pulls {
            Pulls::Allowed => {
                let version = self.docker.client_version();
                let (docker, cut) = session::client(&self.address, &version, NO_LIMIT)?;
                (docker, Some(cut))
            }
            Pulls::Never => (self.docker.clone(), None),
        };
        let id = id.to_owned();
        Ok((docker.with_request_modifier(move |request| by_buildkit(request, &id, session)), cut))
    }

    /// A session of the build's id that has its secrets, if there are any.
    async fn give_out(
        &self,
        secrets: BTreeMap<String, String>,
        id: &str,
    ) -> Result<Option<DropGuard>, EngineError> {
        if secrets.is_empty() {
            return Ok(None);
        }
        let failed = |source| EngineError::Io { doing: "give the build its secrets".to_owned(), source };
        secrets::session(&self.address, id, secrets).await.map(Some).map_err(failed)
    }

    /// Engine 20.10 now and then garbles the end of its answer to a build that went
    /// well. Each build has a tag of its own, so the tag tells.
    async fn built_all_the_same(&self, progress: &Progress, tag: &str) -> Option<BuiltImage> {
        if progress.has_failed() {
            return None;
        }
        let image = self.docker.inspect_image(tag).await.ok()?;
        tracing::debug!(tag, "the builder's answer was cut off, but the image is there");
        Some(described(image.id.clone()?, image))
    }

    /// What the new image says of itself.
    async fn built(&self, id: String) -> Result<BuiltImage, EngineError> {
        let image = call(|| format!("inspect image {id}"), self.docker.inspect_image(&id)).await?;
        Ok(described(id, image))
    }
}

/// Cancels its build when it goes, unless the build has ended.
struct RunningBuild {
    address: session::Address,
    id: Option<String>,
}

impl Drop for RunningBuild {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let address = self.address.clone();
        runtime.spawn(async move {
            if let Err(error) = session::cancel(address, &id).await {
                tracing::warn!(%error, "a build could not be cancelled");
            }
        });
    }
}

/// What a build may take.
struct Time {
    begun: Instant,
    whole: Duration,
    silence: Duration,
}

impl Time {
    fn from_now(whole: Duration, silence: Duration) -> Self {
        Self { begun: Instant::now(), whole, silence }
    }

    /// Waits for a sign of life.
    async fn of<T>(&self, next: impl Future<Output = T>) -> Result<T, Over> {
        let left = self.whole.saturating_sub(self.begun.elapsed());
        let silent = !self.silence.is_zero() && self.silence < left;
        let limit = if silent { self.silence } else { self.whole };
        let over = |_| Over { limit, silent };
        tokio::time::timeout(if silent { self.silence } else { left }, next).await.map_err(over)
    }
}

/// The time is over.
struct Over {
    limit: Duration,
    silent: bool,
}

impl Over {
    /// In which step.
    fn at(self, step: Option<String>) -> EngineError {
        EngineError::Overtime(Box::new(Overtime { limit: self.limit, silent: self.silent, step }))
    }
}

async fn deliver(to: &mpsc::Sender<BuildLine>, lines: Vec<BuildLine>) {
    for line in lines {
        if to.send(line).await.is_err() {
            return;
        }
    }
}

/// Whether a build may ask a registry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pulls {
    Allowed,
    Never,
}

/// Asks for BuildKit. The client knows no BuildKit without a session: it is told
/// of the classic builder, and its request is put right on the way out.
///
/// The build gets an id too, by which it can be cancelled.
fn by_buildkit(mut request: BollardRequest, id: &str, session: bool) -> BollardRequest {
    let uri = request.uri().to_string();
    let Some((path, query)) = uri.split_once('?') else { return request };
    if !path.ends_with("/build") {
        return request;
    }
    let pairs: Vec<&str> =
        query.split('&').map(|pair| if pair == "version=1" { "version=2" } else { pair }).collect();
    let session = if session { format!("&session={id}") } else { String::new() };
    if let Ok(uri) = format!("{path}?{}&buildid={id}{session}", pairs.join("&")).parse() {
        *request.uri_mut() = uri;
    }
    request
}

fn options(request: &BuildRequest, pulls: Pulls) -> BuildImageOptions {
    let map = |values: &BTreeMap<String, String>| -> HashMap<String, String> {
        values.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let options = BuildImageOptionsBuilder::default()
        .dockerfile(&request.dockerfile)
        .t(&request.tag)
        .buildargs(&map(&request.args))
        .labels(&map(&request.labels))
        .nocache(request.fresh)
        .rm(true)
        .forcerm(true);
    match pulls {
        Pulls::Allowed => options.version(BuilderVersion::BuilderBuildKit).session(&session_id()).build(),
        Pulls::Never => options.version(BuilderVersion::BuilderV1).build(),
    }
}

/// A name that no other session has.
fn session_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("paas-{}-{now}-{number}", std::process::id())
}

/// The error that a context broke with, told by the stream to the build.
#[derive(Clone, Default)]
struct Broken(std::sync::Arc<std::sync::Mutex<Option<io::Error>>>);

impl Broken {
    fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

/// The same stream, which remembers its error: the client wraps it beyond
/// recognition.
fn watched(context: Context) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, Broken) {
    let broken = Broken::default();
    let noted = broken.clone();
    let stream = context.map(move |part| {
        part.map_err(|error| {
            let copy = io::Error::new(error.kind(), error.to_string());
            *noted.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            copy
        })
    });
    (stream, broken)
}

fn failed(progress: &Progress, broken: Option<io::Error>, error: bollard::errors::Error) -> EngineError {
    use bollard::errors::Error;
    if let Some(source) = broken {
        return EngineError::Context { source };
    }
    match &error {
        Error::DockerStreamError { .. } | Error::DockerResponseServerError { status_code: 400, .. } => {
            EngineError::Build(Box::new(progress.failure(&message_of(&error))))
        }
        _ => EngineError::Api { doing: "build".to_owned(), source: error.into() },
    }
}

fn described(id: String, image: ImageInspect) -> BuiltImage {
    let config = image.config.unwrap_or_default();
    let given = |words: &Option<Vec<String>>| words.as_ref().is_some_and(|words| !words.is_empty());
    let mut exposed_ports: Vec<u16> =
        config.exposed_ports.iter().flatten().filter_map(|port| tcp_port(port)).collect();
    exposed_ports.sort_unstable();
    BuiltImage {
        id,
        exposed_ports,
        check: config.healthcheck.as_ref().and_then(check),
        has_command: given(&config.cmd) || given(&config.entrypoint),
        user: config.user.unwrap_or_default(),
        size: image.size.unwrap_or_default(),
    }
}

/// A HEALTHCHECK with the engine's defaults, as ours.
/// <https://docs.docker.com/reference/dockerfile/#healthcheck>
fn check(given: &HealthConfig) -> Option<HealthCheck> {
    let (form, words) = given.test.as_ref()?.split_first()?;
    let kind = match form.as_str() {
        "CMD" if !words.is_empty() => CheckKind::Exec(words.to_vec()),
        "CMD-SHELL" => CheckKind::Command(words.first()?.clone()),
        _ => return None,
    };
    let seconds = |nanos: Option<i64>, default: u16| match nanos.unwrap_or_default() {
        0 => default,
        nanos => u16::try_from((nanos / 1_000_000_000).clamp(1, 3600)).unwrap_or(default),
    };
    Some(HealthCheck {
        kind,
        source: CheckSource::Image,
        interval: seconds(given.interval, 30),
        timeout: seconds(given.timeout, 30),
        attempts: given.retries.and_then(|n| u16::try_from(n).ok()).filter(|&n| n > 0).unwrap_or(3),
        start_period: seconds(given.start_period, 0).max(HealthCheck::default().start_period),
        ..HealthCheck::default()
    })
}

/// `8080/tcp` → 8080.
fn tcp_port(text: &str) -> Option<u16> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if protocol == "tcp" { port.parse().ok() } else { None }
}
