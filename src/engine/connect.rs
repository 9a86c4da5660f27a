//! Finding the engine and agreeing on a version with it.

use super::error::EngineError;
use super::{Engine, Shared, call};
use bollard::Docker;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where an engine is looked for when no URL is given.
pub const DEFAULT_SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

/// Engine 20.10, the first whose BuildKit we have tried.
const NEEDED: (usize, usize) = (1, 41);

/// The client's own limit, which covers the wait for an answer's head, and so
/// `stop` and builds too. Each call has a limit of its own; this one is none.
const NO_LIMIT: u64 = 7 * 24 * 3600;

/// Longest wait for a sign of life.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl Engine {
    /// The engine at `url` (`unix://`, `tcp://`, `http://`), or the first found
    /// among [`DEFAULT_SOCKETS`].
    pub async fn connect(url: Option<&str>) -> Result<Self, EngineError> {
        let candidates = DEFAULT_SOCKETS.map(PathBuf::from);
        Self::connect_among(url, &candidates).await
    }

    /// The same with the sockets to look for, in order.
    pub async fn connect_among(url: Option<&str>, candidates: &[PathBuf]) -> Result<Self, EngineError> {
        let url = match url {
            Some(url) => url.to_owned(),
            None => found(candidates)?,
        };
        let docker = client(&url).await?;
        let docker = negotiate(docker, &url).await?;
        Ok(Self { docker, shared: Arc::new(Shared::default()) })
    }

    /// Whether it still answers.
    pub async fn ping(&self) -> Result<(), EngineError> {
        let doing = || "ping".to_owned();
        match tokio::time::timeout(ANSWER_LIMIT, call(doing, self.docker.ping())).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err(EngineError::Slow { doing: doing(), limit: ANSWER_LIMIT }),
        }
    }
}

/// URL of the first socket that exists.
fn found(candidates: &[PathBuf]) -> Result<String, EngineError> {
    candidates
        .iter()
        .find(|path| path.exists())
        .map(|path| format!("unix://{}", path.display()))
        .ok_or_else(|| EngineError::NotFound { tried: candidates.to_vec() })
}

async fn client(url: &str) -> Result<Docker, EngineError> {
    let version = bollard::API_DEFAULT_VERSION;
    let no_answer = |source: bollard::errors::Error| EngineError::NoAnswer {
        url: url.to_owned(),
        source: Some(Box::new(source)),
    };
    if let Some(path) = url.strip_prefix("unix://") {
        open(Path::new(path), url).await?;
        return Docker::connect_with_unix(path, NO_LIMIT, version).map_err(no_answer);
    }
    if url.starts_with("tcp://") || url.starts_with("http://") {
        return Docker::connect_with_http(url, NO_LIMIT, version).map_err(no_answer);
    }
    Err(EngineError::UnsupportedUrl { url: url.to_owned() })
}

/// Tries the socket once, to tell "no permission" from "nobody there".
async fn open(socket: &Path, url: &str) -> Result<(), EngineError> {
    use std::io::ErrorKind;
    match tokio::net::UnixStream::connect(socket).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(EngineError::Denied { socket: socket.to_owned() })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(EngineError::NotFound { tried: vec![socket.to_owned()] })
        }
        Err(error) => Err(EngineError::NoAnswer { url: url.to_owned(), source: Some(Box::new(error)) }),
    }
}

/// Speaks the lower of both versions, if that is enough.
async fn negotiate(docker: Docker, url: &str) -> Result<Docker, EngineError> {
    let no_answer = |source| EngineError::NoAnswer { url: url.to_owned(), source };
    let docker = match tokio::time::timeout(ANSWER_LIMIT, docker.negotiate_version()).await {
        Ok(Ok(docker)) => docker,
        Ok(Err(source)) => return Err(no_answer(Some(Box::new(source)))),
        Err(_) => return Err(no_answer(None)),
    };
    let version = docker.client_version();
    if (version.major_version, version.minor_version) < NEEDED {
        return Err(EngineError::TooOld {
            url: url.to_owned(),
            found: format!("{}.{}", version.major_version, version.minor_version),
            needed: format!("{}.{}", NEEDED.0, NEEDED.1),
        });
    }
    refuse_podman(&docker, url).await?;
    Ok(docker)
}

/// Podman speaks the API but has no BuildKit sessions.
async fn refuse_podman(docker: &Docker, url: &str) -> Result<(), EngineError> {
    let version = call(|| "version".to_owned(), docker.version()).await?;
    let names = version.components.unwrap_or_default().into_iter().map(|component| component.name);
    match names.into_iter().find(|name| name.contains("Podman")) {
        Some(name) => Err(EngineError::NoBuildKit { url: url.to_owned(), name }),
        None => Ok(()),
    }
}
