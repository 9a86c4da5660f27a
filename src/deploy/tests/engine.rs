//! An engine in memory. Its containers listen on real sockets of the loopback
//! network and answer as the image says; it keeps Docker's promises, and its
//! refusals too.

mod acts;

use super::apps::{Behaviour, Serving};
use super::containers::{Container, Image, State};
use super::script;
use crate::engine::{
    Answer, AppImage, BuildLine, BuildRequest, BuiltImage, Engine, EngineError, Event, EventKind, Identity,
    LogLine, Refusal, Usage,
};
use crate::model::{AppId, AppName, BaseImage, BuildLimits, ProcessState, Restart, Workload};
use crate::settings::BuildSettings;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use ipnet::Ipv4Net;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What must never happen, noted where it is seen.
#[derive(Clone, Default)]
pub(super) struct Notes {
    pub broken: Arc<Mutex<Vec<String>>>,
    /// The command at hand takes the app off the air.
    pub outage: Arc<AtomicBool>,
}

impl Notes {
    pub fn unless_outage(&self, text: impl FnOnce() -> String) {
        if !self.outage.load(Ordering::Relaxed) {
            self.broken.lock().unwrap().push(text());
        }
    }
}

/// An event, or that some were missed.
type News = Result<Event, ()>;
type Listener = mpsc::UnboundedSender<News>;

#[derive(Clone, Default)]
pub(super) struct FakeEngine {
    state: Arc<Mutex<State>>,
    listeners: Arc<Mutex<Vec<Listener>>>,
    /// Its server was killed: nobody is answered any more.
    dead: Arc<AtomicBool>,
    pub notes: Notes,
}

impl FakeEngine {
    /// The engine as the next server finds it; this one falls silent.
    pub fn outlives_its_server(&self) -> Self {
        self.dead.store(true, Ordering::Relaxed);
        let state = self.state().clone();
        Self { state: Arc::new(Mutex::new(state)), notes: self.notes.clone(), ..Self::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Whether something answers at an address.
    pub fn serves(&self, at: SocketAddr) -> bool {
        self.state().containers.values().any(|container| container.listens_at(at) && container.is_up())
    }

    /// Whether a request to a process is under way.
    pub fn is_busy(&self, at: SocketAddr) -> bool {
        self.state().is_busy(at)
    }

    /// The id of a container by its name.
    pub fn id(&self, name: &str) -> String {
        let state = self.state();
        let found = state.containers.iter().find(|(_, container)| container.name == name);
        found.map(|(id, _)| id.clone()).unwrap()
    }

    /// A request to a process begins, and takes so long.
    pub fn request(&self, name: &str, takes: Duration) {
        let id = self.id(name);
        let mut state = self.state();
        let at = state.containers[&id].at();
        state.busy.insert(at, Instant::now() + takes);
    }

    /// From now on a process answers like this.
    pub async fn behaves(&self, name: &str, behaviour: Behaviour) {
        let id = self.id(name);
        let at = {
            let mut state = self.state();
            let container = state.containers.get_mut(&id).unwrap();
            container.serving = None;
            container.at()
        };
        let serving = Serving::start(behaviour, at, Instant::now()).await;
        self.state().containers.get_mut(&id).unwrap().serving = serving.map(Arc::new);
    }

    /// A process exits by itself, and is restarted by the engine later.
    pub fn die(&self, id: &str) {
        self.change(id, |container| {
            container.ends(1);
            EventKind::Died { exit_code: 1 }
        });
    }

    pub async fn comes_back(&self, id: &str) {
        let event = self.is_back(id).await.map(|container| container.event(id, EventKind::Started));
        event.into_iter().for_each(|event| self.tell(event));
    }

    /// The same, and nobody hears of it.
    pub async fn is_back(&self, id: &str) -> Option<Container> {
        let there = self.state().containers.get(id).cloned();
        let Container { behaviour, address, port, .. } = there?;
        let ready = Instant::now() + self.state().boot;
        let serving = Serving::start(behaviour, (address, port).into(), ready).await;
        let mut state = self.state();
        let container = state.containers.get_mut(id)?;
        container.restarts += 1;
        container.begins(serving, ready);
        Some(container.clone())
    }

    /// `docker rm --force` by hand.
    pub fn removed_by_hand(&self, id: &str) {
        self.change(id, |container| {
            container.ends(137);
            EventKind::Died { exit_code: 137 }
        });
        self.take_out(id);
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Container) -> EventKind) {
        let mut state = self.state();
        let Some(container) = state.containers.get_mut(id) else { return };
        let kind = change(container);
        let event = container.event(id, kind);
        drop(state);
        self.tell(event);
    }

    fn take_out(&self, id: &str) {
        let Some(container) = self.state().containers.remove(id) else { return };
        container.ended.cancel();
        self.tell(container.event(id, EventKind::Destroyed));
    }

    fn tell(&self, event: Event) {
        self.tells(&Ok(event));
    }

    /// It has been away, and nobody has heard what it did then.
    pub fn was_away(&self) {
        self.tells(&Err(()));
    }

    fn tells(&self, news: &News) {
        self.listeners.lock().unwrap().retain(|listener| listener.send(news.clone()).is_ok());
    }

    /// A call that begins: the server may be killed before it, or it may fail.
    async fn begin(&self, what: &'static str) -> Result<(), EngineError> {
        self.alive().await;
        tokio::task::yield_now().await;
        if script::call(what) {
            return Err(refused(what, 500, "the engine is unwell"));
        }
        self.alive().await;
        Ok(())
    }

    /// A call that has taken effect: the server may be killed before it hears of it.
    async fn done(&self, what: &'static str) {
        script::pass(what);
        self.alive().await;
    }

    async fn alive(&self) {
        if self.dead.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

fn refused(doing: &str, status: u16, message: &str) -> EngineError {
    EngineError::Api {
        doing: doing.to_owned(),
        source: Refusal { status: Some(status), message: message.to_owned() },
    }
}

impl Engine for FakeEngine {
    fn has_image<'a>(&'a self, reference: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            self.begin("look for image").await?;
            let state = self.state();
            let by_id = state.images.values().any(|image| image.id == reference);
            Ok(by_id || state.images.contains_key(reference))
        })
    }

    fn identity<'a>(&'a self, _reference: &'a str) -> Answer<'a, Option<Identity>> {
        Box::pin(async { Ok(None) })
    }

    fn name_locally<'a>(&'a self, image: &'a str, _digest: &'a str) -> Answer<'a, String> {
        Box::pin(async move { Ok(image.to_owned()) })
    }

    fn pull_again<'a>(&'a self, _image: &'a str, _digest: &'a str) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn remove_image<'a>(&'a self, reference: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.begin("remove image").await?;
            let heavy = self.state().heavy;
            tokio::time::sleep(heavy).await;
            self.alive().await;
            self.untag(reference)?;
            self.done("image removed").await;
            Ok(())
        })
    }

    fn app_images<'a>(&'a self, app: AppId, _name: &'a AppName) -> Answer<'a, Vec<AppImage>> {
        Box::pin(async move {
            self.begin("list images").await?;
            let state = self.state();
            let its = state.images.iter().filter(|(_, image)| image.app == app);
            let image = |(reference, image): (&String, &Image)| AppImage {
                reference: reference.clone(),
                id: image.id.clone(),
                size: 1,
            };
            Ok(its.map(image).collect())
        })
    }

    fn ensure_base<'a>(
        &'a self,
        _base: &'a BaseImage,
        _settings: &'a BuildSettings,
        _scratch_dir: &'a Path,
        _lines: mpsc::Sender<String>,
    ) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn build(&self, request: BuildRequest, _lines: mpsc::Sender<BuildLine>) -> Answer<'_, BuiltImage> {
        Box::pin(self.build_image(request))
    }

    fn build_local(&self, request: BuildRequest, _lines: mpsc::Sender<BuildLine>) -> Answer<'_, BuiltImage> {
        Box::pin(self.build_image(request))
    }

    fn limit_builds(&self, _limits: BuildLimits) -> Result<(), String> {
        Ok(())
    }

    fn prune_build_cache(&self, _keep: u64) -> Answer<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn storage(&self) -> Answer<'_, Option<PathBuf>> {
        Box::pin(async { Ok(None) })
    }

    fn ensure_network(&self, app: AppId, subnet: Ipv4Net) -> Answer<'_, ()> {
        Box::pin(async move {
            self.begin("make network").await?;
            self.state().networks.insert(app, subnet);
            self.done("network made").await;
            Ok(())
        })
    }

    fn remove_network(&self, app: AppId) -> Answer<'_, ()> {
        Box::pin(async move {
            self.begin("remove network").await?;
            self.state().networks.remove(&app);
            self.done("network removed").await;
            Ok(())
        })
    }

    fn isolate(&self, _public_ports: Vec<u16>, _builds: bool) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn start<'a>(&'a self, workload: &'a Workload) -> Answer<'a, String> {
        Box::pin(self.start_container(workload))
    }

    fn run_once<'a>(
        &'a self,
        workload: &'a Workload,
        _lines: mpsc::Sender<LogLine>,
        cancel: CancellationToken,
        _timeout: Duration,
    ) -> Answer<'a, i64> {
        Box::pin(async move {
            self.begin("create release container").await?;
            let made = self.create(workload)?;
            self.done("release command runs").await;
            let behaviour = self.state().containers.get(&made.id).map(|container| container.behaviour);
            drop(made);
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            Ok(i64::from(behaviour == Some(Behaviour::ReleaseFails)))
        })
    }

    fn run_in<'a>(&'a self, _container: &'a str, _words: &'a [&'a str]) -> Answer<'a, i64> {
        Box::pin(async { Ok(0) })
    }

    fn set_restart<'a>(&'a self, container: &'a str, restart: Restart) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Some(container) = self.state().containers.get_mut(container) {
                container.restart = restart;
            }
            Ok(())
        })
    }

    fn stop<'a>(&'a self, container: &'a str, _grace: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            self.begin("stop container").await?;
            self.check_unused(container, "stopped");
            tokio::time::sleep(self.time_to_stop(container)).await;
            self.alive().await;
            self.change(container, |container| {
                container.ends(143);
                EventKind::Died { exit_code: 143 }
            });
            self.done("container stopped").await;
            Ok(())
        })
    }

    fn remove<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.begin("remove container").await?;
            self.check_unused(container, "removed");
            self.take_out(container);
            self.done("container removed").await;
            Ok(())
        })
    }

    fn processes(&self, app: Option<AppId>) -> Answer<'_, Vec<ProcessState>> {
        Box::pin(async move {
            self.begin("list containers").await?;
            let state = self.state();
            let its =
                state.containers.iter().filter(|(_, container)| app.is_none_or(|app| container.app == app));
            let mut found: Vec<ProcessState> = its.map(|(id, container)| container.state(id)).collect();
            found.sort_by(|a, b| (a.app, a.release, &a.process).cmp(&(b.app, b.release, &b.process)));
            Ok(found)
        })
    }

    fn inspect<'a>(&'a self, container: &'a str) -> Answer<'a, ProcessState> {
        Box::pin(async move {
            self.alive().await;
            let found = self.state().containers.get(container).map(|found| found.state(container));
            found.ok_or_else(|| refused("inspect container", 404, "No such container"))
        })
    }

    fn usage<'a>(&'a self, container: &'a str) -> Answer<'a, Option<Usage>> {
        Box::pin(async move {
            self.alive().await;
            let runs = self.state().containers.get(container).is_some_and(|container| container.running);
            Ok(runs.then_some(Usage { memory: 1 << 20, nano_cpus: 1_000_000 }))
        })
    }

    fn listening<'a>(&'a self, container: &'a str) -> Answer<'a, Vec<SocketAddr>> {
        Box::pin(async move {
            let state = self.state();
            let found = state.containers.get(container).filter(|container| container.serving.is_some());
            Ok(found.map(Container::at).into_iter().collect())
        })
    }

    fn logs(
        &self,
        container: &str,
        _since: Option<i64>,
        follow: bool,
    ) -> BoxStream<'static, Result<LogLine, EngineError>> {
        if !follow {
            let line = |number| {
                let text = format!("line {number}");
                Ok(LogLine { nanos: 0, output: crate::engine::Output::Stdout, text })
            };
            return stream::iter((0..self.state().prints).map(line)).boxed();
        }
        let ended = self.state().containers.get(container).map(|container| container.ended.clone());
        let ended = ended.filter(|_| follow);
        let silence = async move {
            if let Some(ended) = ended {
                ended.cancelled().await;
            }
            None
        };
        stream::once(silence).filter_map(std::future::ready).boxed()
    }

    fn events(&self) -> BoxStream<'static, Result<Event, EngineError>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.lock().unwrap().push(sender);
        stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|news| (news.map_err(|()| EngineError::EventGap), receiver))
        })
        .boxed()
    }
}
