//! Containers: from a workload to one that runs.

use super::network::network_name;
use super::{DockerEngine, call};
use crate::engine::{EngineError, LABEL_APP, LABEL_NAME, LABEL_PROCESS, LABEL_RELEASE, LogLine};
use crate::model::{Restart, RunCommand, Workload};
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig,
    NetworkingConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use futures_util::StreamExt;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What images that run as root by their own wish keep: without these, stock
/// images (nginx, postgres) die when they change user or owner.
const ROOT_CAPABILITIES: [&str; 7] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE"];

/// The engine's own log of a container, which is the source of ours: two files
/// of 8 MiB outlast a long restart of the collector and never fill a disk.
const LOG_OPTIONS: [(&str, &str); 2] = [("max-size", "8m"), ("max-file", "2")];

/// Makes the engine's init pass SIGTERM to every process of a shell line, as
/// Heroku does, not to the shell alone.
const SIGNAL_ALL: &str = "TINI_KILL_PROCESS_GROUP=1";

/// Longest wait for a name that a leftover has, and the pause between tries.
const NAME_LIMIT: Duration = Duration::from_secs(10);
const NAME_RETRY: Duration = Duration::from_millis(20);

impl DockerEngine {
    /// Creates and starts a container; its id. One of the same name and app is
    /// replaced. On failure, and when dropped, nothing is left.
    pub async fn start(&self, workload: &Workload) -> Result<String, EngineError> {
        let half_made = self.create(workload).await?;
        match self.begin(&half_made.id).await {
            Err(error) if error.is_missing() && self.restore_network(workload).await? => {
                self.begin(&half_made.id).await?;
            }
            other => other?,
        }
        Ok(half_made.keep())
    }

    /// Runs a workload once, to its end, and removes it whatever happens.
    /// Its exit code.
    pub async fn run_once(
        &self,
        workload: &Workload,
        lines: mpsc::Sender<LogLine>,
        cancel: CancellationToken,
        timeout: Duration,
    ) -> Result<i64, EngineError> {
        let container = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(EngineError::Cancelled),
            started = self.start(workload) => Removal::new(self, started?),
        };
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(EngineError::Cancelled),
            () = tokio::time::sleep(timeout) => Err(EngineError::TimedOut { what: "command", limit: timeout }),
            code = self.follow(&container.id, lines) => code,
        };
        let removed = self.remove(&container.keep()).await;
        let code = result?;
        removed.map(|()| code)
    }

    /// Passes a container's output on until it ends; its exit code.
    async fn follow(&self, container: &str, lines: mpsc::Sender<LogLine>) -> Result<i64, EngineError> {
        let mut log = self.logs(container, None, true);
        while let Some(line) = log.next().await {
            // A receiver that is gone does not stop the command.
            let _ = lines.send(line?).await;
        }
        self.wait(container).await
    }

    async fn begin(&self, id: &str) -> Result<(), EngineError> {
        call(|| format!("start container {id}"), self.docker.start_container(id, None)).await
    }

    /// The network has vanished though it was known: makes it again. `false`:
    /// it was not known.
    async fn restore_network(&self, workload: &Workload) -> Result<bool, EngineError> {
        let Some(subnet) = self.forget_network(workload.app) else { return Ok(false) };
        self.ensure_network(workload.app, subnet).await?;
        Ok(true)
    }

    async fn create(&self, workload: &Workload) -> Result<Removal, EngineError> {
        let end = tokio::time::Instant::now() + NAME_LIMIT;
        loop {
            match self.try_create(workload).await {
                Err(error) if error.status() == Some(409) && tokio::time::Instant::now() < end => {
                    self.remove_stale(workload).await?;
                    // It may be on its way out already, which keeps the name a little longer.
                    tokio::time::sleep(NAME_RETRY).await;
                }
                other => return other,
            }
        }
    }

    async fn try_create(&self, workload: &Workload) -> Result<Removal, EngineError> {
        let name = container_name(workload);
        let engine = self.clone();
        let body = specification(workload);
        // In a task of its own: once asked for, a container is either handed
        // over or removed, even if the caller has been dropped meanwhile.
        let creation = tokio::spawn(async move {
            let options = CreateContainerOptionsBuilder::default().name(&name).build();
            let creation = engine.docker.create_container(Some(options), body);
            let created = call(|| format!("create container {name}"), creation).await?;
            Ok(Removal::new(&engine, created.id))
        });
        creation.await.unwrap_or_else(|panic| {
            Err(EngineError::Io { doing: "create container".to_owned(), source: panic.into() })
        })
    }

    /// Removes a leftover of the same name, if it is this app's.
    async fn remove_stale(&self, workload: &Workload) -> Result<(), EngineError> {
        let name = container_name(workload);
        match self.inspect(&name).await {
            Ok(state) if state.app == workload.app => self.remove(&state.container).await,
            Ok(_) => Err(EngineError::Foreign { name }),
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A container that goes away with its guard, unless it is kept.
struct Removal {
    engine: DockerEngine,
    id: String,
    kept: bool,
}

impl Removal {
    fn new(engine: &DockerEngine, id: String) -> Self {
        Self { engine: engine.clone(), id, kept: false }
    }

    fn keep(mut self) -> String {
        self.kept = true;
        self.id.clone()
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.kept {
            return;
        }
        let (engine, id) = (self.engine.clone(), self.id.clone());
        runtime.spawn(async move {
            if let Err(error) = engine.remove(&id).await {
                tracing::warn!(%error, container = id, "a half-made container stays");
            }
        });
    }
}

/// `paas-myapp-web-3-1`.
pub(super) fn container_name(workload: &Workload) -> String {
    let Workload { app_name, process, release, .. } = workload;
    format!("paas-{app_name}-{}-{release}-{}", process.kind, process.index)
}

fn specification(workload: &Workload) -> ContainerCreateBody {
    let (entrypoint, cmd) = command(&workload.command);
    let mut env: Vec<String> = workload.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if matches!(workload.command, RunCommand::Shell(_)) {
        env.push(SIGNAL_ALL.to_owned());
    }
    ContainerCreateBody {
        hostname: Some(workload.process.to_string()),
        image: Some(workload.image.clone()),
        entrypoint,
        cmd,
        env: Some(env),
        labels: Some(labels(workload)),
        // For `docker stop` and the end of the host; we say it each time.
        stop_timeout: i64::try_from(workload.stop_timeout.as_secs()).ok(),
        // The pipeline asks; the engine would ask once more for nothing.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }),
        host_config: Some(host_config(workload)),
        networking_config: Some(endpoint(workload)),
        ..Default::default()
    }
}

fn labels(workload: &Workload) -> HashMap<String, String> {
    [
        (LABEL_APP, workload.app.0.to_string()),
        (LABEL_NAME, workload.app_name.to_string()),
        (LABEL_RELEASE, workload.release.to_string()),
        (LABEL_PROCESS, workload.process.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn endpoint(workload: &Workload) -> NetworkingConfig {
    let ipam = EndpointIpamConfig { ipv4_address: Some(workload.address.to_string()), ..Default::default() };
    let settings = EndpointSettings { ipam_config: Some(ipam), ..Default::default() };
    NetworkingConfig { endpoints_config: Some(HashMap::from([(network_name(workload.app), settings)])) }
}

/// The engine waits 100 ms before the first restart and twice as long before each
/// next, up to a minute; one that ran for 10 s begins anew. In between the exit
/// code is to be seen.
pub(super) fn restart_policy(restart: Restart) -> RestartPolicy {
    let name = match restart {
        Restart::Always => RestartPolicyNameEnum::UNLESS_STOPPED,
        Restart::OnFailure => RestartPolicyNameEnum::ON_FAILURE,
        Restart::Never => RestartPolicyNameEnum::NO,
    };
    RestartPolicy { name: Some(name), maximum_retry_count: None }
}

fn host_config(workload: &Workload) -> HostConfig {
    let limits = &workload.limits;
    let kept = workload.root.then(|| ROOT_CAPABILITIES.map(str::to_owned).to_vec());
    let log_options = LOG_OPTIONS.map(|(key, value)| (key.to_owned(), value.to_owned()));
    HostConfig {
        network_mode: Some(network_name(workload.app)),
        memory: Some(limits.memory),
        memory_swap: Some(limits.memory),
        nano_cpus: Some(limits.nano_cpus),
        pids_limit: Some(limits.pids),
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("nofile".to_owned()),
            soft: Some(limits.nofile),
            hard: Some(limits.nofile),
        }]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: kept,
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        init: Some(true),
        restart_policy: Some(restart_policy(workload.restart)),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log_options.into()),
        }),
        ..Default::default()
    }
}

/// Entrypoint and command for the engine; an empty entrypoint sets aside the
/// image's, none keeps it.
fn command(command: &RunCommand) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let words = match command {
        RunCommand::Image => return (None, None),
        RunCommand::Exec(words) => words.clone(),
        RunCommand::Shell(line) => ["/bin/sh", "-c", &script(line)].map(str::to_owned).to_vec(),
    };
    (Some(Vec::new()), Some(words))
}

/// What the shell is given for a line of the user's, so that SIGTERM ends the
/// app and not just the shell: a simple command takes the shell's place; behind
/// anything else the shell stays until the running command has ended.
fn script(line: &str) -> String {
    if is_simple(line) { format!("exec {line}") } else { format!("trap 'exit 143' TERM\n{line}") }
}

/// Whether a line is one command that `exec` can run: no operators, no
/// assignment in front, no builtin or keyword.
fn is_simple(line: &str) -> bool {
    const NOT_PROGRAMS: [&str; 27] = [
        ".", ":", "[", "alias", "break", "case", "cd", "command", "continue", "eval", "exec", "exit",
        "export", "for", "if", "read", "readonly", "return", "set", "shift", "source", "trap", "ulimit",
        "umask", "unset", "until", "while",
    ];
    let first = line.split_ascii_whitespace().next().unwrap_or_default();
    let program = |c: u8| c.is_ascii_alphanumeric() || b"_./+-@".contains(&c);
    !first.is_empty()
        && first.bytes().all(program)
        && !NOT_PROGRAMS.contains(&first)
        && !line.bytes().any(|c| b";&|()<>`\n\r".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simple_command_takes_the_shells_place() {
        for line in
            ["gunicorn app:app", "  node ./server.js --port $PORT", "bin/rails server -p ${PORT:-5000}"]
        {
            assert_eq!(script(line), format!("exec {line}"));
        }
    }

    #[test]
    fn anything_else_is_left_to_the_shell() {
        for line in [
            "a && b", "a; b", "A=1 b", "cd x", "exec a", "if true", "$CMD", "a | b", "a > b", "(a)", "a\nb",
            "", "`a`", "'a b' c", "exit 3",
        ] {
            assert_eq!(script(line), format!("trap 'exit 143' TERM\n{line}"));
        }
    }
}
