//! What the engine in memory does: containers are made, images are built.

use super::super::apps::{Behaviour, Serving};
use super::super::containers::{Container, Image};
use super::{FakeEngine, refused};
use crate::engine::{BuildFailure, BuildRequest, BuiltImage, EngineError, EventKind};
use crate::model::{AppId, Workload};
use futures_util::StreamExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The port that the images expose.
const PORT: u16 = 7311;

/// A container that goes with its guard, unless it is kept or the server is killed.
pub(super) struct HalfMade<'a> {
    engine: &'a FakeEngine,
    pub(super) id: String,
    kept: bool,
}

impl HalfMade<'_> {
    fn keep(mut self) -> String {
        self.kept = true;
        self.id.clone()
    }
}

impl Drop for HalfMade<'_> {
    fn drop(&mut self) {
        if !self.kept && !self.engine.dead.load(Ordering::Relaxed) {
            self.engine.take_out(&self.id);
        }
    }
}

impl FakeEngine {
    /// Creates a container of a name that may be taken by a former one.
    pub(super) fn create(&self, workload: &Workload) -> Result<HalfMade<'_>, EngineError> {
        let mut state = self.state();
        let network = state.networks.get(&workload.app);
        if !network.is_some_and(|network| network.contains(&workload.address)) {
            return Err(refused("start container", 404, "network not found"));
        }
        let found = state.images.values().find(|image| image.id == workload.image);
        let sick = state.sick || state.sick_from.is_some_and(|from| workload.process.index >= from);
        let sick = sick && workload.process.kind.is_web();
        let behaviour = found.map(|image| if sick { Behaviour::Answers500 } else { image.behaviour });
        let Some(behaviour) = behaviour else {
            return Err(refused("create container", 404, &format!("No such image: {}", workload.image)));
        };
        let Workload { app_name, process, release, .. } = workload;
        let name = format!("paas-{app_name}-{}-{release}-{}", process.kind, process.index);
        let former = state.containers.iter().find(|(_, container)| container.name == name);
        let former = former.map(|(id, _)| id.clone());
        state.next += 1;
        let id = format!("container{}", state.next);
        let port = workload.env.iter().find(|(key, _)| key == "PORT").and_then(|(_, port)| port.parse().ok());
        let container = Container {
            app: workload.app,
            release: *release,
            process: process.clone(),
            address: workload.address,
            name,
            image: workload.image.clone(),
            behaviour,
            port: port.unwrap_or(0),
            running: false,
            restart: workload.restart,
            stop_timeout: workload.stop_timeout,
            size: (workload.limits.memory, workload.limits.nano_cpus),
            exit_code: None,
            restarts: 0,
            started_at: 0,
            serving: None,
            ready: Instant::now(),
            ended: CancellationToken::new(),
        };
        state.containers.insert(id.clone(), container);
        drop(state);
        if let Some(former) = former {
            self.check_unused(&former, "replaced");
            self.take_out(&former);
        }
        Ok(HalfMade { engine: self, id, kept: false })
    }

    /// Nothing is ended that is in use, or may come to be.
    pub(super) fn check_unused(&self, id: &str, what: &str) {
        let state = self.state();
        let Some(container) = state.containers.get(id).filter(|container| container.running) else { return };
        if container.process.kind.is_web() && state.is_busy(container.at()) {
            let text = format!("{} was {what} while a request to it was under way", container.name);
            self.notes.broken.lock().unwrap().push(text);
        }
        if let Some(at) = state.routed.iter().find(|at| container.listens_at(**at)) {
            self.notes.unless_outage(|| format!("{} was {what} while {at} took requests", container.name));
        }
    }

    /// No two releases' workers run together.
    fn check_alone(&self, workload: &Workload) {
        let Workload { app, release, process, .. } = workload;
        let state = self.state();
        let other = state.containers.values().find(|container| {
            let same = container.app == *app && container.process.kind == process.kind;
            same && !process.kind.is_web() && container.running && container.release != *release
        });
        if let Some(other) = other {
            let text = format!("{process} of v{release} was started while {} ran", other.name);
            self.notes.broken.lock().unwrap().push(text);
        }
    }

    pub(super) fn time_to_stop(&self, id: &str) -> Duration {
        let state = self.state();
        let found = state.containers.get(id).filter(|container| !container.process.kind.is_web());
        found.map_or(Duration::ZERO, |_| state.slow)
    }

    pub(super) async fn start_container(&self, workload: &Workload) -> Result<String, EngineError> {
        self.begin("create container").await?;
        let made = self.create(workload)?;
        self.done("container created").await;
        let container = self.state().containers.get(&made.id).cloned();
        let Some(Container { behaviour, address, port, .. }) = container else {
            return Err(refused("start container", 404, "No such container"));
        };
        self.check_alone(workload);
        let ready = Instant::now() + self.state().boot;
        let serving = if workload.process.kind.is_web() {
            Serving::start(behaviour, (address, port).into(), ready).await
        } else {
            None
        };
        self.change(&made.id, |container| {
            container.begins(serving, ready);
            EventKind::Started
        });
        if workload.process.kind.is_web() && behaviour == Behaviour::Exits {
            self.die(&made.id);
        }
        self.done("container started").await;
        Ok(made.keep())
    }

    pub(super) async fn build_image(&self, mut request: BuildRequest) -> Result<BuiltImage, EngineError> {
        self.begin("build").await?;
        let mut tar = Vec::new();
        while let Some(chunk) = request.context.next().await {
            tar.extend_from_slice(&chunk.map_err(|source| EngineError::Context { source })?);
        }
        let (behaviour, id) = Behaviour::of_context(&tar);
        if request.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        if behaviour == Behaviour::BuildFails {
            return Err(EngineError::Build(Box::new(BuildFailure {
                step: Some("[1/1] RUN false".to_owned()),
                exit_code: Some(1),
                message: "it does not build".to_owned(),
                lines: Vec::new(),
            })));
        }
        let app = request.labels.get(crate::engine::LABEL_APP).and_then(|number| number.parse().ok());
        let image = Image { id: id.clone(), app: AppId(app.unwrap_or(0)), behaviour };
        self.state().images.insert(request.tag, image);
        self.done("built").await;
        Ok(BuiltImage {
            id,
            exposed_ports: vec![PORT],
            user: String::new(),
            check: None,
            has_command: true,
            size: 1,
        })
    }

    /// As Docker: the last name of an image stays while a container is made of it.
    pub(super) fn untag(&self, reference: &str) -> Result<(), EngineError> {
        let mut state = self.state();
        let Some(image) = state.images.get(reference).cloned() else { return Ok(()) };
        let names = state.images.values().filter(|other| other.id == image.id).count();
        let used = state.containers.values().any(|container| container.image == image.id);
        if names == 1 && used {
            return Err(refused("remove image", 409, "a container is using its referenced image"));
        }
        state.images.remove(reference);
        Ok(())
    }
}
