//! What runs, and how it ends.

use super::{DockerEngine, call, or_missing};
use crate::engine::{EngineError, LABEL_APP, LABEL_PROCESS, LABEL_RELEASE};
use crate::model::{AppId, ProcessName, ProcessState, Restart, USUAL_STOP};
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerUpdateBody,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;
use std::time::Duration;

/// Containers that are inspected at the same time.
const PARALLEL: usize = 16;

impl DockerEngine {
    /// All containers of an app, or of all apps, in whatever state; sorted by
    /// app, release and process.
    pub async fn processes(&self, app: Option<AppId>) -> Result<Vec<ProcessState>, EngineError> {
        let label = app.map_or_else(|| LABEL_APP.to_owned(), |app| format!("{LABEL_APP}={}", app.0));
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let list = call(|| "list containers".to_owned(), self.docker.list_containers(Some(options))).await?;
        let ids = list.into_iter().filter_map(|container| container.id);
        let states = stream::iter(ids).map(|id| async move {
            match self.inspect(&id).await {
                Ok(state) => Ok(Some(state)),
                // Gone since it was listed, or labelled by somebody else.
                Err(EngineError::Foreign { .. }) => Ok(None),
                Err(error) if error.is_missing() => Ok(None),
                Err(error) => Err(error),
            }
        });
        let mut found: Vec<ProcessState> = states
            .buffer_unordered(PARALLEL)
            .try_filter_map(|state| async { Ok(state) })
            .try_collect()
            .await?;
        found.sort_by(|a, b| (a.app, a.release, &a.process).cmp(&(b.app, b.release, &b.process)));
        Ok(found)
    }

    /// One container of ours, by id or name.
    pub async fn inspect(&self, container: &str) -> Result<ProcessState, EngineError> {
        let answer = self.docker.inspect_container(container, None);
        let answer = call(|| format!("inspect container {container}"), answer).await?;
        state(answer).ok_or_else(|| EngineError::Foreign { name: container.to_owned() })
    }

    /// Process id on the host of the container's first process, while it runs.
    pub(super) async fn pid(&self, container: &str) -> Result<Option<i64>, EngineError> {
        let answer = self.docker.inspect_container(container, None);
        let answer = call(|| format!("inspect container {container}"), answer).await?;
        Ok(answer.state.and_then(|state| state.pid).filter(|&pid| pid > 0))
    }

    /// Waits for the end of a container; its exit code.
    pub(super) async fn wait(&self, container: &str) -> Result<i64, EngineError> {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut answers = self.docker.wait_container(container, Some(options));
        match answers.next().await {
            Some(Ok(answer)) => Ok(answer.status_code),
            // The client's way of saying that the code is not zero.
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(source)) => {
                Err(EngineError::Api { doing: format!("wait for {container}"), source: source.into() })
            }
            None => Err(EngineError::EventGap),
        }
    }

    /// SIGTERM (or what the image asks for), SIGKILL after `grace`, rounded up
    /// to a second. Returns when it has ended. One that is gone is fine.
    pub async fn stop(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let options =
            StopContainerOptionsBuilder::default().t(i32::try_from(seconds).unwrap_or(i32::MAX)).build();
        let limit = Duration::from_secs(seconds) + super::CALL_LIMIT;
        let doing = || format!("stop container {container}");
        let stopping = self.docker.stop_container(container, Some(options));
        let result = match tokio::time::timeout(limit, stopping).await {
            Ok(result) => result.map_err(|source| EngineError::Api { doing: doing(), source: source.into() }),
            Err(_) => Err(EngineError::Slow { doing: doing(), limit }),
        };
        or_missing(result)
    }

    /// Changes when a container is started again. One that is gone is fine.
    pub async fn set_restart(&self, container: &str, restart: Restart) -> Result<(), EngineError> {
        let policy = super::container::restart_policy(restart);
        let body = ContainerUpdateBody { restart_policy: Some(policy), ..Default::default() };
        let update = self.docker.update_container(container, body);
        or_missing(call(|| format!("update container {container}"), update).await)
    }

    /// Removes a container, running or not, with its log and its anonymous
    /// volumes. One that is gone, or going, is fine.
    pub async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removal = self.docker.remove_container(container, Some(options));
        match or_missing(call(|| format!("remove container {container}"), removal).await) {
            Err(error) if error.status() == Some(409) => Ok(()),
            other => other,
        }
    }
}

/// A container's state; `None` if its labels are not ours.
fn state(answer: ContainerInspectResponse) -> Option<ProcessState> {
    let config = answer.config?;
    let labels = config.labels?;
    let stop_timeout = config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok());
    let now = answer.state.unwrap_or_default();
    let host = answer.host_config.unwrap_or_default();
    let running = now.running == Some(true) && now.restarting != Some(true);
    Some(ProcessState {
        container: answer.id?,
        app: AppId(labels.get(LABEL_APP)?.parse().ok()?),
        release: labels.get(LABEL_RELEASE)?.parse().ok()?,
        process: ProcessName::parse(labels.get(LABEL_PROCESS)?)?,
        address: answer.network_settings.and_then(|settings| {
            let networks = settings.networks?;
            let endpoint = networks.into_values().next()?;
            endpoint.ipam_config?.ipv4_address?.parse().ok()
        }),
        running,
        restarting: now.restarting == Some(true),
        restart: restart(host.restart_policy.and_then(|policy| policy.name)),
        stop_timeout: stop_timeout.map_or(USUAL_STOP, Duration::from_secs),
        size: (host.memory.unwrap_or_default(), host.nano_cpus.unwrap_or_default()),
        exit_code: exit_code(&now, running),
        oom_killed: now.oom_killed == Some(true),
        restarts: answer.restart_count.unwrap_or_default(),
        started_at: now.started_at.as_deref().map_or(0, seconds),
        finished_at: now.finished_at.as_deref().map_or(0, seconds),
    })
}

fn restart(policy: Option<RestartPolicyNameEnum>) -> Restart {
    match policy {
        Some(RestartPolicyNameEnum::UNLESS_STOPPED | RestartPolicyNameEnum::ALWAYS) => Restart::Always,
        Some(RestartPolicyNameEnum::ON_FAILURE) => Restart::OnFailure,
        _ => Restart::Never,
    }
}

/// The last run's exit code; the engine says 0 of what runs or never ran.
fn exit_code(state: &ContainerState, running: bool) -> Option<i64> {
    let never_ran = state.status == Some(ContainerStateStatusEnum::CREATED);
    if running || never_ran { None } else { state.exit_code }
}

/// RFC 3339 → seconds since the epoch; 0 for the engine's year one.
fn seconds(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().map_or(0, |time| time.as_second().max(0))
}
