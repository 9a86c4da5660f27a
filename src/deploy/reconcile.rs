//! Makes what is there what the store says is wanted: on start, every minute,
//! and whenever the engine tells of a process that died or came back. What a server
//! left half-done when it was killed is [`recover`](super::recover)'s.

use super::collect::Origin;
use super::crashes::{ABANDONED, is_dead};
use super::processes::ITS_OWN;
use super::promote::in_the_way;
use super::queue::{Activity, Roster, Turn};
use super::release::target;
use super::routes::Published;
use super::watch::its_web;
use super::{DeployError, Pipeline};
use crate::engine::{Event, EventKind};
use crate::git::repository;
use crate::model::{App, AppId, ProcessName, ProcessState, Release, Target};
use crate::store;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often everything is compared.
const EVERY: Duration = Duration::from_secs(60);

/// How soon everything is compared again after an engine has come back.
const AGAIN: Duration = Duration::from_secs(ABANDONED.unsigned_abs() + 1);

impl Pipeline {
    /// Waits for the app's turn and puts it in order.
    pub(super) async fn adopt(self: &Arc<Self>, app: &App) {
        let turn = self.turn(app, "being put in order", "").await;
        let roster = self.queue.try_roster(app.id);
        if let Err(error) = self.put_in_order(app, turn, roster).await {
            tracing::error!(app = %app.name, %error, "the app could not be put in order");
        }
    }

    /// Makes the app's processes those that are wanted, collects their output
    /// and publishes its route. What cannot be started does not keep the rest
    /// from being routed to. Without the roster, somebody is at work on all processes
    /// but those that serve, and they are left alone.
    pub(super) async fn put_in_order(
        self: &Arc<Self>,
        app: &App,
        turn: Turn,
        roster: Option<Roster>,
    ) -> Result<(), DeployError> {
        let id = app.id;
        let Some(app) = self.store().read(move |db| store::apps::get(db, id)).await? else { return Ok(()) };
        if self.store().read(move |db| store::apps::is_ending(db, id)).await? {
            return if roster.is_some() { self.take_apart(&app, turn).await } else { Ok(()) };
        }
        let Some(turn) = self.see_to_unfinished(&app, turn).await? else { return Ok(()) };
        let current = self.current(&app).await?;
        match self.put_branch_right(&app, current.as_ref()) {
            Ok(()) if self.unfinished(&app).await?.is_empty() => self.is_right(app.id),
            Ok(()) => {}
            Err(error) => {
                tracing::error!(app = %app.name, %error, "the branch could not be put right");
                self.is_amiss(app.id);
            }
        }
        // Whoever promoted it may have been cut off before that.
        let named = current.as_ref().map(|current| (current.number, &current.commit));
        let path = self.repository(&app.repository);
        if let Err(error) = repository::put_names_right(&path, named, app.deploy_branch.as_deref()) {
            tracing::warn!(app = %app.name, %error, "HEAD and the release's ref could not be put right");
        }
        let label = current.as_ref().map_or(0, Release::label);
        let current = current.filter(|_| !app.rests());
        let number = current.as_ref().map_or(0, Release::label);
        let states = self.states(app.id).await?;
        if roster.is_some() {
            self.give_up_addresses_but(app.id, &states).await?;
        }
        let mut states = self.not_retiring(states);
        let mut wanted = match &current {
            Some(release) => {
                self.keep_spare(&app, release, &states).await?;
                self.wanted(&app, release).await?
            }
            None => Vec::new(),
        };
        if roster.is_none() {
            wanted.retain(|process| process.kind.is_web());
            let others = states.extract_if(.., |state| !state.process.kind.is_web());
            others.for_each(|state| self.collector.follow(Origin::from(&state)));
        }
        if let Some(window) = self.window(app.id).await? {
            let standby = states.extract_if(.., |state| window.keeps(state));
            standby.for_each(|state| self.collector.follow(Origin::from(&state)));
        }
        let (keep, mut end): (Vec<ProcessState>, Vec<ProcessState>) =
            states.into_iter().partition(|state| state.release == number && wanted.contains(&state.process));
        // Who starts what is being ended would take over its name and address.
        end.retain(|state| roster.is_some() || state.release != label);
        let now = store::now();
        let (dead, keep): (Vec<_>, Vec<_>) = keep.into_iter().partition(|state| is_dead(state, now));
        for state in dead {
            self.engine().remove(&state.container).await?;
        }
        keep.iter().for_each(|state| self.collector.follow(Origin::from(state)));
        if let Some(release) = &current {
            wanted.retain(|process| !in_the_way(&end, release, &process.kind));
            self.start_absent(&app, release, &wanted, &keep).await;
            self.trust_again(release, &keep).await?;
            self.resolve_all_doubts(&app, release).await?;
        }
        self.publish_running(app.id).await?;
        if !end.is_empty() {
            self.mark_retiring(&end);
            drop(turn);
            let pipeline = self.clone();
            self.background.spawn(async move {
                pipeline.end_leftovers(&app, current, end, roster).await;
            });
        }
        Ok(())
    }

    async fn start_absent(
        &self,
        app: &App,
        release: &Release,
        wanted: &[ProcessName],
        there: &[ProcessState],
    ) {
        for process in wanted.iter().filter(|process| !there.iter().any(|state| state.process == **process)) {
            tracing::info!(app = %app.name, %process, "starting a process that is missing");
            if let Err(error) = self.start_process(app, release, process).await {
                tracing::error!(app = %app.name, %process, %error, "a process could not be started");
                self.platform_line(app.id, &format!("{process} could not be started: {error}"));
            }
        }
    }

    /// Ends what an interrupted deploy left, as the deploy would have, and starts what
    /// had to wait for that.
    async fn end_leftovers(
        &self,
        app: &App,
        current: Option<Release>,
        end: Vec<ProcessState>,
        roster: Option<Roster>,
    ) {
        let (web, others): (Vec<_>, Vec<_>) = end.into_iter().partition(|state| state.process.kind.is_web());
        let exchange = async {
            if others.is_empty() {
                return;
            }
            self.end_processes(app, &others, ITS_OWN).await;
            self.unmark_retiring(&others);
            if let Some(release) = &current
                && let Err(error) = self.start_instead(app, release).await
            {
                tracing::error!(app = %app.name, %error, "what was ended could not be replaced");
            }
        };
        tokio::join!(exchange, self.retire_web(app, &web));
        drop(roster);
    }

    async fn start_instead(&self, app: &App, release: &Release) -> Result<(), DeployError> {
        if self.serves(app, release).await? {
            self.start_others(app, release, false).await?;
        }
        Ok(())
    }

    /// Publishes the route to those web processes that run now.
    pub(super) async fn publish_running(&self, id: AppId) -> Result<Published, DeployError> {
        let _publishing = self.queue.publishing(id).await;
        let app = self.store().read(move |db| store::apps::get(db, id)).await?.ok_or(DeployError::NoApp)?;
        let current = self.current(&app).await?.filter(|_| !app.stopped);
        let Some(release) = current else {
            return Ok(self.routes.publish(&app.name, Some(self.route(&app, None, Vec::new(), "H14"))));
        };
        let wanted = self.wanted(&app, &release).await?;
        let outage = if wanted.iter().any(|process| process.kind.is_web()) { "H10" } else { "H14" };
        let states = self.states(app.id).await?;
        let mut web = its_web(&release, states);
        let takes =
            |state: &ProcessState| wanted.contains(&state.process) && !self.is_retiring(&state.container);
        web.retain(|state| !app.is_asleep() && takes(state));
        let targets = |which: &dyn Fn(&&ProcessState) -> bool| -> Vec<Target> {
            web.iter().filter(which).filter_map(|state| target(state, release.port)).collect()
        };
        let well = targets(&|state| !self.takes_none(state));
        let targets = if well.is_empty() { targets(&|state| self.is_last_resort(state)) } else { well };
        Ok(self.routes.publish(&app.name, Some(self.route(&app, Some(&release), targets, outage))))
    }

    /// Compares everything once a minute, until the server stops.
    pub async fn keep_in_order(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.stop.cancelled() => return,
            }
            self.isolate().await;
            self.adopt_all().await;
        }
    }

    /// Keeps apps from the host; said once if that is not possible.
    pub(super) async fn isolate(&self) {
        let settings = &self.workers.settings;
        let listens = [Some(settings.http_listen), settings.https_listen].into_iter().flatten();
        let public = listens.filter(|listen| !listen.ip().is_loopback()).map(|listen| listen.port());
        let outcome = self.engine().isolate(public.collect(), settings.build.isolate).await.err();
        let mut exposed = self.exposed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (Some(why), None) = (&outcome, &*exposed) {
            tracing::warn!(
                why,
                "apps and builds can reach this host's ports: the firewall rules could not be set"
            );
        }
        *exposed = outcome;
    }

    /// Puts every app in order to which nothing is being done.
    pub(super) async fn adopt_all(self: &Arc<Self>) {
        let apps = self.store().read(store::apps::list).await.unwrap_or_default();
        for app in &apps {
            let Some(turn) = self.queue.try_take(app.id, order_activity()) else { continue };
            let roster = self.queue.try_roster(app.id);
            if let Err(error) = self.put_in_order(app, turn, roster).await {
                tracing::warn!(app = %app.name, %error, "the app could not be put in order");
            }
        }
    }

    /// Follows what the engine tells, until the server stops.
    pub async fn follow_events(self: Arc<Self>) {
        let mut events = Box::pin(self.engine().events());
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.stop.cancelled() => return,
            };
            match event {
                Some(Ok(event)) => {
                    let (pipeline, by_itself) = (self.clone(), self.heard(&event));
                    self.background.spawn(async move { pipeline.react(event, by_itself).await });
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "looking at all apps again");
                    self.routes.tally.excuse();
                    self.doubt_all_unrouted().await;
                    self.adopt_all().await;
                    // And when it is certain what the engine does not start again.
                    let pipeline = self.clone();
                    self.background.spawn(async move {
                        tokio::select! {
                            () = tokio::time::sleep(AGAIN) => pipeline.adopt_all().await,
                            () = pipeline.stop.cancelled() => {}
                        }
                    });
                }
                None => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    events = Box::pin(self.engine().events());
                }
            }
        }
    }

    /// A process of ours died or came back by the engine's restart policy.
    async fn react(self: Arc<Self>, event: Event, by_itself: bool) {
        if event.kind == EventKind::Destroyed {
            self.crashes().forget(&event.container);
        }
        let id = event.app;
        let Ok(Some(app)) = self.store().read(move |db| store::apps::get(db, id)).await else { return };
        let Ok(Some(release)) = self.current(&app).await else { return };
        if release.label() != event.release || app.rests() {
            return;
        }
        match event.kind {
            EventKind::Died { exit_code } => {
                if exit_code != 0 && by_itself {
                    self.routes.tally.exited(&app.name, release.number, &event.process);
                }
                self.ended(&app, &release, &event, exit_code).await;
            }
            EventKind::Started => self.welcome_back(&app, &release, &event).await,
            EventKind::Oom => {
                self.platform_line(app.id, &format!("{} ran out of memory (R14)", event.process));
            }
            // A container of the current release was removed by hand.
            EventKind::Destroyed => self.put_in_order_if_idle(&app).await,
        }
    }

    /// Puts an app in order at once, unless somebody is at work on it.
    pub(super) async fn put_in_order_if_idle(self: &Arc<Self>, app: &App) {
        if let Some(turn) = self.queue.try_take(app.id, order_activity()) {
            self.put_in_order_with(app, turn).await;
        }
    }

    /// Puts an app in order when nobody is at work on it any more.
    pub(super) async fn put_in_order_next(self: &Arc<Self>, app: &App) {
        let turn = self.queue.take(app.id, order_activity()).await;
        self.put_in_order_with(app, turn).await;
    }

    async fn put_in_order_with(self: &Arc<Self>, app: &App, turn: Turn) {
        let roster = self.queue.try_roster(app.id);
        if let Err(error) = self.put_in_order(app, turn, roster).await {
            tracing::warn!(app = %app.name, %error, "the app could not be put in order");
        }
    }

    /// Routes to a restarted process once it answers.
    async fn welcome_back(self: &Arc<Self>, app: &App, release: &Release, event: &Event) {
        self.collector.follow(Origin {
            container: event.container.clone(),
            app: app.id,
            release: event.release,
            process: event.process.clone(),
        });
        if !event.process.kind.is_web() {
            return;
        }
        let Ok(state) = self.engine().inspect(&event.container).await else { return };
        self.resolve_restarted(app, release, &state);
    }
}

pub(super) fn order_activity() -> Activity {
    let step = "being put in order";
    Activity { release: None, commit: None, step, who: String::new(), since: Instant::now() }
}
