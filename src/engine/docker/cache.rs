//! BuildKit's cache, which has no labels: all that can be said of it is its size;
//! and where the engine keeps it.

use super::{DockerEngine, call};
use crate::engine::EngineError;
use bollard::ClientVersion;
use bollard::query_parameters::PruneBuildOptions;
use std::path::PathBuf;

/// The first version of the API that has `max-used-space`; before it the same
/// was called `keep-storage`, which the client does not know any more.
const RENAMED: (usize, usize) = (1, 48);

impl DockerEngine {
    /// Where the engine keeps its images and cache, as it says; on another machine
    /// if the engine is on one.
    pub async fn storage(&self) -> Result<Option<PathBuf>, EngineError> {
        let ask = async || {
            let info = call(|| "info".to_owned(), self.docker.info()).await?;
            Ok(info.docker_root_dir.map(PathBuf::from))
        };
        self.shared.storage.get_or_try_init(ask).await.cloned()
    }

    /// Removes what was not used for longest until the cache is no larger than
    /// `keep` bytes; what running builds and images need stays. Bytes freed.
    /// It takes as long as it takes: minutes, for many gigabytes.
    pub async fn prune_build_cache(&self, keep: u64) -> Result<u64, EngineError> {
        let words = bound(&self.docker.client_version(), keep);
        let docker = self.docker.clone().with_request_modifier(move |mut request| {
            let uri = request.uri().to_string();
            let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
            let query = if query.is_empty() { words.clone() } else { format!("{query}&{words}") };
            if let Ok(uri) = format!("{path}?{query}").parse() {
                *request.uri_mut() = uri;
            }
            request
        });
        let pruned = docker.prune_build(None::<PruneBuildOptions>).await;
        let pruned = pruned.map_err(|error| EngineError::Api {
            doing: "prune the build cache".to_owned(),
            source: error.into(),
        })?;
        Ok(pruned.space_reclaimed.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default())
    }
}

/// The bound in the words of an API version. The engine reads 0 as "no bound".
fn bound(version: &ClientVersion, keep: u64) -> String {
    let name = if (version.major_version, version.minor_version) < RENAMED {
        "keep-storage"
    } else {
        "max-used-space"
    };
    format!("{name}={}", keep.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_said_as_the_engine_understands_it() {
        let version = |minor_version| ClientVersion { major_version: 1, minor_version };
        assert_eq!(bound(&version(41), 7), "keep-storage=7");
        assert_eq!(bound(&version(47), 7), "keep-storage=7");
        assert_eq!(bound(&version(48), 7), "max-used-space=7");
        assert_eq!(bound(&version(48), 0), "max-used-space=1");
    }
}
