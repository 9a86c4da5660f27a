//! Web processes that run and take no requests yet: nobody has heard them answer
//! since they started. Whoever publishes a route leaves them out.

use super::watch::its_web;
use super::{DeployError, Pipeline};
use crate::engine::{Event, EventKind};
use crate::model::{App, AppId, ProcessName, ProcessState, Release, Target};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

/// A process, which may have no container yet.
type Name = (AppId, u32, ProcessName);

#[derive(Default)]
pub(super) struct Doubts {
    /// Those that somebody is starting, who asks them before they take requests.
    begun: HashSet<Name>,
    /// Containers that came up by themselves, or whose starter is gone.
    up: HashMap<String, Up>,
}

struct Up {
    app: AppId,
    /// Somebody is at it.
    asked: bool,
    /// It has had its time and did not answer well, but takes connections.
    listens: bool,
}

fn name(state: &ProcessState) -> Name {
    (state.app, state.release, state.process.clone())
}

impl Doubts {
    fn has(&self, state: &ProcessState) -> bool {
        self.begun.contains(&name(state)) || self.up.contains_key(&state.container)
    }

    fn any(&self, app: AppId) -> bool {
        self.up.values().any(|up| up.app == app)
    }

    /// From now on it is one that is to be asked, as far as it is in doubt; whether
    /// nobody is doing so.
    fn take(&mut self, state: &ProcessState) -> bool {
        if self.begun.remove(&name(state)) {
            self.doubt(state.app, &state.container);
        }
        self.up.get_mut(&state.container).is_some_and(|up| !std::mem::replace(&mut up.asked, true))
    }

    fn doubt(&mut self, app: AppId, container: &str) {
        let new = Up { app, asked: false, listens: false };
        self.up.entry(container.to_owned()).or_insert(new).listens = false;
    }

    /// It is to be asked once more, later.
    fn give_back(&mut self, container: &str, listens: bool) {
        if let Some(up) = self.up.get_mut(container) {
            (up.asked, up.listens) = (false, listens);
        }
    }

    /// Forgets what is gone of an app.
    fn keep(&mut self, app: AppId, states: &[ProcessState]) {
        self.begun.retain(|name| name.0 != app || states.iter().any(|state| name == &self::name(state)));
        self.up.retain(|id, up| up.app != app || states.iter().any(|state| state.container == *id));
    }
}

impl Pipeline {
    fn doubts(&self) -> std::sync::MutexGuard<'_, Doubts> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process is being started: it takes no requests until [`Pipeline::trust`].
    pub(super) fn begin_in_doubt(&self, app: AppId, release: u32, process: &ProcessName) {
        if process.kind.is_web() {
            self.doubts().begun.insert((app, release, process.clone()));
        }
    }

    /// A process that was started has answered, or is no more.
    pub(super) fn trust(&self, app: AppId, release: u32, process: &ProcessName) {
        self.doubts().begun.remove(&(app, release, process.clone()));
    }

    /// Whether a process takes no requests, for its health or because it has just started.
    pub(super) fn takes_none(&self, state: &ProcessState) -> bool {
        self.doubts().has(state) || self.is_out(&state.container)
    }

    /// Whether a process that did not answer well when it came up may take requests all
    /// the same where nobody else does: nobody has asked for checks after its start, and
    /// its own answers are worth more than ours.
    pub(super) fn is_last_resort(&self, state: &ProcessState) -> bool {
        let listens = self.doubts().up.get(&state.container).is_some_and(|up| up.listens);
        listens && !self.is_out(&state.container)
    }

    /// Whether some web process of an app is being asked, and has not answered yet.
    pub(super) fn has_doubts(&self, app: AppId) -> bool {
        let doubts = self.doubts();
        doubts.begun.iter().any(|begun| begun.0 == app)
            || doubts.up.values().any(|up| up.app == app && up.asked)
    }

    /// What the engine tells, in the order in which it does; whether an end of a process
    /// is its own doing, and not that of who starts or ends it.
    pub(super) fn heard(&self, event: &Event) -> bool {
        let (container, process) = (&event.container, &event.process);
        match event.kind {
            EventKind::Died { .. } => {
                let mut doubts = self.doubts();
                let begun = doubts.begun.contains(&(event.app, event.release, process.clone()));
                let by_itself = !begun && !self.is_retiring(container);
                if by_itself && process.kind.is_web() {
                    doubts.doubt(event.app, container);
                }
                by_itself
            }
            EventKind::Destroyed => {
                self.doubts().up.remove(container);
                self.forget_retiring(container);
                false
            }
            EventKind::Started | EventKind::Oom => false,
        }
    }

    /// After a restart of the server: web processes that the last table of this release
    /// lacked were unwell, or had not answered yet.
    pub(super) async fn doubt_unrouted(self: &Arc<Self>, app: &App) -> Result<(), DeployError> {
        let Some(release) = self.current(app).await?.filter(|_| !app.rests()) else { return Ok(()) };
        let table = self.routes.table();
        let Some(route) = table.routes.get(&app.name).filter(|route| route.release == release.number) else {
            return Ok(());
        };
        let routed = |state: &ProcessState| {
            super::release::target(state, release.port).is_some_and(|target| route.targets.contains(&target))
        };
        let mut web = its_web(&release, self.states(app.id).await?);
        web.retain(|state| !routed(state));
        for state in &web {
            tracing::info!(app = %app.name, process = %state.process, "it is asked before it takes requests");
            self.doubts().doubt(state.app, &state.container);
        }
        self.resolve_doubts(app, &release, &web);
        Ok(())
    }

    /// Asks those of an app's web processes that are in doubt and that nobody asks.
    /// Only with its turn: nobody is starting any.
    pub(super) async fn resolve_all_doubts(
        self: &Arc<Self>,
        app: &App,
        release: &Release,
    ) -> Result<(), DeployError> {
        let states = self.states(app.id).await?;
        self.doubts().keep(app.id, &states);
        self.resolve_doubts(app, release, &its_web(release, states));
        Ok(())
    }

    /// Has one that the engine has started again take requests when it answers. Whoever
    /// starts one asks it himself.
    pub(super) fn resolve_restarted(self: &Arc<Self>, app: &App, release: &Release, state: &ProcessState) {
        if self.doubts().begun.contains(&name(state)) {
            return;
        }
        // Its end may not have been heard: the engine or we were away just then.
        if state.restarts > 0 && !self.is_routed(app, release, state) {
            self.doubt(state);
        }
        self.resolve_doubts(app, release, std::slice::from_ref(state));
    }

    /// The engine was away, and nobody has heard which processes have ended and come back:
    /// those that are to take requests soon are asked again before they do.
    pub(super) async fn doubt_all_unrouted(&self) {
        let Ok(states) = self.engine().processes(None).await else { return };
        let table = self.routes.table();
        let targets: HashSet<_> = table.routes.values().flat_map(|route| &route.targets).collect();
        let is_routed = |state: &ProcessState| {
            let at = |target: &&&Target| Some(target.address.ip()) == state.address.map(Into::into);
            targets.iter().any(|target| target.release == state.release && at(&target))
        };
        let web = states.iter().filter(|state| state.running && state.process.kind.is_web());
        let mut doubts = self.doubts();
        for state in web.filter(|state| !is_routed(state) && !self.is_retiring(&state.container)) {
            if !doubts.begun.contains(&name(state)) {
                doubts.doubt(state.app, &state.container);
            }
        }
    }

    /// It has just answered.
    pub(super) fn trust_container(&self, container: &str) {
        self.doubts().up.remove(container);
    }

    fn is_routed(&self, app: &App, release: &Release, state: &ProcessState) -> bool {
        let table = self.routes.table();
        let target = super::release::target(state, release.port);
        let route = table.routes.get(&app.name);
        target.is_some_and(|target| route.is_some_and(|route| route.targets.contains(&target)))
    }

    /// Nobody has heard it answer: it takes no requests until somebody has.
    pub(super) fn doubt(&self, state: &ProcessState) {
        self.doubts().doubt(state.app, &state.container);
    }

    /// Before a release goes live: asks those of its processes again that have ended and
    /// come back since they answered, as when the engine was restarted, for as long as
    /// their checks give them. Nobody else would: they do not serve yet.
    pub(super) async fn dispel_doubts(&self, app: &App, release: &Release, targets: &[Target]) {
        if !self.doubts().any(app.id) {
            return;
        }
        let Ok(mut states) = self.states(app.id).await else { return };
        let is_its = |state: &ProcessState| {
            super::release::target(state, release.port).is_some_and(|target| targets.contains(&target))
        };
        states.retain(|state| self.doubts().has(state) && is_its(state));
        let asked = states.iter().map(|state| async {
            tracing::info!(app = %app.name, process = %state.process, "it was started again, and is asked again");
            if self.answers(app, release, state).await {
                self.doubts().up.remove(&state.container);
            }
        });
        futures_util::future::join_all(asked).await;
    }

    /// Has these take requests when they answer, if they are in doubt.
    pub(super) fn resolve_doubts(self: &Arc<Self>, app: &App, release: &Release, web: &[ProcessState]) {
        for state in web.iter().filter(|state| self.doubts().take(state)) {
            let (pipeline, app, release, state) = (self.clone(), app.clone(), release.clone(), state.clone());
            self.background.spawn(async move { pipeline.resolve_doubt(&app, &release, &state).await });
        }
    }

    async fn resolve_doubt(self: &Arc<Self>, app: &App, release: &Release, state: &ProcessState) {
        let answers = self.answers(app, release, state).await;
        if !answers && app.checks.over(&release.checks).goes_on() {
            // It is asked again in its interval, and goes on to take no requests until then.
            self.found_unwell(app.id, &state.container);
            self.doubts().up.remove(&state.container);
        } else if answers {
            self.doubts().up.remove(&state.container);
        } else {
            // It is asked again within a minute.
            let listens = !self.has_spare(app.id) && self.listens(release, state).await;
            self.doubts().give_back(&state.container, listens);
        }
        if let Err(error) = self.publish_running(app.id).await {
            tracing::warn!(app = %app.name, %error, "a process that answers again could not be routed to");
        }
        if answers && self.has_spare(app.id) {
            // Which has done its work now. Whoever is at work on the app may have looked before.
            self.put_in_order_next(app).await;
        }
    }
}
