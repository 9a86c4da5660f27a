//! Finding the engine and agreeing on a version with it.

use super::session::Address;
use super::{DockerEngine, Shared, call};
use crate::engine::EngineError;
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
pub(super) const NO_LIMIT: u64 = 7 * 24 * 3600;

/// Longest wait for a sign of life.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl DockerEngine {
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
        let address = address(&url)?;
        let docker = client(&address, &url).await?;
        let docker = negotiate(docker, &url).await?;
        Ok(Self { docker, address, shared: Arc::new(Shared::default()) })
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

/// Where a URL points.
fn address(url: &str) -> Result<Address, EngineError> {
    let unsupported = || EngineError::UnsupportedUrl { url: url.to_owned() };
    match url.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
        Some(("tcp" | "http", rest)) => {
            let host = rest.strip_suffix('/').unwrap_or(rest);
            let (name, port) = host.rsplit_once(':').ok_or_else(unsupported)?;
            let valid = !name.is_empty() && !name.contains('/') && port.parse::<u16>().is_ok();
            if valid { Ok(Address::Tcp(host.to_owned())) } else { Err(unsupported()) }
        }
        _ => Err(unsupported()),
    }
}

async fn client(address: &Address, url: &str) -> Result<Docker, EngineError> {
    let version = bollard::API_DEFAULT_VERSION;
    let client = match address {
        Address::Unix(path) => {
            open(path, url).await?;
            Docker::connect_with_unix(&path.to_string_lossy(), NO_LIMIT, version)
        }
        Address::Tcp(host) => Docker::connect_with_http(&format!("tcp://{host}"), NO_LIMIT, version),
    };
    client.map_err(|source| EngineError::NoAnswer { url: url.to_owned(), source: Some(Box::new(source)) })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn urls_are_read_strictly() {
        for good in ["unix:///run/x.sock", "tcp://127.0.0.1:2375", "http://engine:2375/"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/run/x.sock",
            "unix://run/x.sock",
            "https://a:1",
            "ssh://a",
            "tcp://a",
            "tcp://:1",
            "tcp://a/b:1",
        ] {
            assert!(matches!(address(bad), Err(EngineError::UnsupportedUrl { .. })), "{bad}");
        }
    }

    #[tokio::test]
    async fn the_first_socket_that_exists_is_taken_and_all_are_named_if_none_does() {
        let nowhere = [PathBuf::from("/nonexistent/a"), PathBuf::from("/nonexistent/b")];
        let error = DockerEngine::connect_among(None, &nowhere).await.err().unwrap();
        assert!(matches!(error, EngineError::NotFound { tried } if tried == nowhere));
        let candidates = [PathBuf::from("/nonexistent/a"), PathBuf::from(DEFAULT_SOCKETS[0])];
        DockerEngine::connect_among(None, &candidates).await.unwrap().ping().await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_without_anyone_behind_it_is_told_from_one_without_an_engine() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let url = format!("unix://{}", path.display());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = DockerEngine::connect(Some(&url)).await.err().unwrap();
        assert!(matches!(error, EngineError::NoAnswer { source: Some(_), .. }), "{error:?}");

        std::fs::remove_file(&path).unwrap();
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"nonsense\r\n").await.unwrap();
            }
        });
        let error = DockerEngine::connect(Some(&url)).await.err().unwrap();
        assert!(matches!(error, EngineError::NoAnswer { .. }), "{error:?}");
        serving.abort();
    }
}
