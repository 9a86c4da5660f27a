//! A command in a running container.

use super::{DockerEngine, call};
use crate::engine::EngineError;
use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;

impl DockerEngine {
    /// Runs words in a container until they end; their exit code. Their output is
    /// not kept. <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Exec>
    pub async fn run_in(&self, container: &str, words: &[&str]) -> Result<i64, EngineError> {
        let doing = || format!("run a command in {container}");
        let options = CreateExecOptions {
            cmd: Some(words.iter().map(|&word| word.to_owned()).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let id = call(doing, self.docker.create_exec(container, options)).await?.id;
        let started = call(doing, self.docker.start_exec(&id, None)).await?;
        if let StartExecResults::Attached { mut output, .. } = started {
            while output.next().await.is_some() {}
        }
        let ended = call(doing, self.docker.inspect_exec(&id)).await?;
        Ok(ended.exit_code.unwrap_or(-1))
    }
}
