//! What once broke, step by step, in worlds of their own.

mod canary;

use super::apps::{Behaviour, Commit};
use super::command::{Call, Command, observed};
use super::promises;
use super::world::{Carried, World, app_name};
use crate::deploy::queue::Turn;
use crate::deploy::{Authorship, Hook};
use crate::deploy::{DeployError, Pipeline, Report};
use crate::git::RefUpdate;
use crate::model::{App, CheckChange, CheckKind, CommitId, ProcessType, Scale, Selection};
use crate::store;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a request takes that is under way: longer than any command here.
const WHILE: Duration = Duration::from_millis(1500);

fn good(number: u8) -> Command {
    Command::Push(Commit { number, behaviour: Behaviour::Good })
}

impl World {
    /// Carries a command out; what it starts in the background may go on.
    fn tries(&mut self, command: Command) -> Result<(), DeployError> {
        match self.carry_out(command.run(Call::new(self, command))) {
            Carried::Out(result) => result,
            Carried::Killed => panic!("nobody was to be killed"),
        }
    }

    #[track_caller]
    fn does(&mut self, command: Command) {
        self.tries(command).unwrap();
    }

    /// The same, and waits until nothing goes on.
    #[track_caller]
    fn does_all(&mut self, command: Command) {
        self.does(command);
        self.settles();
    }

    #[track_caller]
    fn settles(&mut self) {
        assert!(matches!(self.rest(), Ok(Carried::Out(()))));
    }

    /// Begins a command, and leaves it after a while.
    fn begins(&mut self, command: Command, after: Duration) {
        let running = command.run(Call::new(self, command));
        self.carry_out(async move { tokio::time::timeout(after, running).await.unwrap_err() });
    }

    fn app(&self) -> App {
        self.block_on(self.pipeline.find(&app_name())).unwrap().unwrap()
    }

    /// Names of containers, without what is common to all.
    fn runs(&self) -> Vec<String> {
        let state = self.engine().state().clone();
        let mut names: Vec<String> = state
            .containers
            .values()
            .map(|container| container.name.trim_start_matches("paas-shop-").to_owned())
            .collect();
        names.sort();
        names
    }

    /// Processes that take requests.
    fn routed(&self) -> Vec<String> {
        let table = self.table();
        let targets = table.routes.get(&app_name()).map(|route| route.targets.clone()).unwrap_or_default();
        targets.into_iter().map(|target| target.process).collect()
    }

    #[track_caller]
    fn unbroken(&self) {
        assert_eq!(*self.notes().broken.lock().unwrap(), Vec::<String>::new());
    }

    #[track_caller]
    fn waits_until_routed(&mut self, expected: &[&str]) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.routed() != expected {
            assert!(Instant::now() < end, "{:?} take requests instead of {expected:?}", self.routed());
            self.carry_out(async { tokio::time::sleep(Duration::from_millis(5)).await });
        }
    }
}

#[test]
fn a_former_standby_finishes_its_requests_when_the_next_release_comes_within_the_watch() {
    let mut world = World::watching("10m").unwrap();
    world.does_all(good(1));
    world.engine().request("paas-shop-web-1-1", WHILE);
    world.does_all(good(2));
    assert_eq!(world.runs(), ["web-1-1", "web-2-1"]);
    world.engine().request("paas-shop-web-2-1", 2 * WHILE);
    world.does_all(Command::Config(1));
    world.unbroken();
    assert_eq!(world.runs(), ["web-2-1", "web-3-1"], "v2 stands by now");

    // A restart opens no watch.
    world.does_all(Command::Restart);
    world.unbroken();
    assert_eq!(world.runs(), ["web-4-1"]);
}

#[test]
fn who_stands_by_finishes_its_requests_when_its_addresses_are_needed() {
    let mut world = World::watching("10m").unwrap();
    world.does_all(good(1));
    world.does_all(Command::Scale { web: 25, worker: 0 });
    world.engine().request("paas-shop-web-1-3", 2 * WHILE);
    world.does_all(good(2));
    world.does_all(good(3));
    world.unbroken();
    assert_eq!(world.runs().len(), 50, "v2 stands by");
}

#[test]
fn old_processes_finish_their_requests_though_the_server_is_killed_meanwhile() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.engine().request("paas-shop-web-1-1", WHILE);
    world.does(good(2));
    let mut world = world.killed();
    world.settles();
    world.unbroken();
    assert_eq!(world.runs(), ["web-2-1"]);
}

#[test]
fn scaling_that_fails_ends_no_process_of_another_release() {
    let mut world = World::watching("10m").unwrap();
    world.does_all(good(1));
    world.does_all(Command::Scale { web: 2, worker: 0 });
    world.does_all(good(2));
    world.does_all(Command::Scale { web: 1, worker: 0 });
    let before = ["web-1-1", "web-1-2", "web-2-1"];
    assert_eq!(world.runs(), before);
    world.engine().state().sick = true;
    assert!(world.tries(Command::Scale { web: 2, worker: 0 }).is_err());
    assert_eq!(world.runs(), before);
    world.unbroken();
}

/// web.3 never answers; web.2 does, and must not be cut off from its requests.
#[test]
fn scaling_that_fails_ends_nothing_that_takes_requests() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.engine().state().sick_from = Some(3);
    assert!(world.tries(Command::Scale { web: 3, worker: 0 }).is_err());
    world.settles();
    world.unbroken();
    assert_eq!((world.runs(), world.routed()), (vec!["web-1-1".to_owned()], vec!["web.1".to_owned()]));
}

fn restarts_web_1(pipeline: Arc<Pipeline>, app: App) -> impl Future<Output = Result<(), DeployError>> {
    let report = Report::channel().0;
    async move {
        let which = [crate::model::Selection::parse("web.1").unwrap()];
        pipeline.restart_some(&app, &which, "ada", &report).await.map(|_| ())
    }
}

#[test]
fn who_stands_in_goes_on_until_the_one_that_it_stands_in_for_is_back() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (engine, count) = (world.engine(), Cell::new(0));
    super::script::at("web-healthy", move || {
        count.set(count.get() + 1);
        engine.state().sick |= count.get() == 1;
    });
    let restarted = world.block_on(restarts_web_1(world.pipeline.clone(), world.app()));
    super::script::end();
    assert!(restarted.is_err());
    assert_eq!((world.runs(), world.routed()), (vec!["web-1-2".to_owned()], vec!["web.2".to_owned()]));
    world.block_on(world.pipeline.adopt_all());
    world.settles();
    world.block_on(world.pipeline.adopt_all());
    world.settles();
    assert_eq!(world.runs(), ["web-1-1", "web-1-2"]);
    assert_eq!(world.routed(), ["web.2"], "web.1 does not answer");

    world.engine().state().sick = false;
    let web_1 = world.engine().id("paas-shop-web-1-1");
    world.engine().removed_by_hand(&web_1);
    world.settles();
    world.block_on(world.pipeline.adopt_all());
    world.settles();
    world.unbroken();
    assert_eq!((world.runs(), world.routed()), (vec!["web-1-1".to_owned()], vec!["web.1".to_owned()]));
}

#[test]
fn a_restart_of_one_process_that_is_cut_off_anywhere_leaves_one_that_answers() {
    for place in 0.. {
        let mut world = World::new().unwrap();
        world.does_all(good(1));
        world.does(Command::Sluggish);
        world.plan(super::Mishap::Crash, place);
        let restart = restarts_web_1(world.pipeline.clone(), world.app());
        let carried = world.carry_out(restart);
        let struck = super::script::end();
        if matches!(carried, Carried::Out(_)) {
            break;
        }
        // Nobody tells that one is finished which never had a request. That it had none is
        // known until it is about to have some; from then on it takes a while.
        let id = world.app().id;
        let known = !world.read(move |db| store::apps::fresh(db, id)).is_empty();
        if !known && world.runs().len() > world.routed().len() && world.routed() == ["web.1"] {
            continue;
        }
        let mut world = world.after_a_crash(None).unwrap();
        world.block_on(world.pipeline.adopt_all());
        world.settles();
        let then = observed(&world);
        promises::kept(&world, &then).map_err(|why| format!("{why} (at {struck:?})")).unwrap();
    }
}

/// It would be ended without a look at its requests when it has some.
#[test]
fn a_spare_that_cannot_be_started_leaves_no_address() {
    let mut failed = 0;
    for place in 0..12 {
        let mut world = World::new().unwrap();
        world.does_all(good(1));
        world.plan(super::Mishap::EngineFails, place);
        let restarted = world.block_on(restarts_web_1(world.pipeline.clone(), world.app()));
        let struck = super::script::end();
        let id = world.app().id;
        let fresh = world.read(move |db| store::apps::fresh(db, id));
        let there = |(_, process): &(u32, String)| world.runs().contains(&process.replace("web.", "web-1-"));
        assert!(fresh.iter().all(there), "{fresh:?} at {struck:?}");
        failed += u32::from(restarted.is_err());
    }
    assert!(failed > 2, "it failed {failed} times only");
}

/// It listens at once, and is ready later.
#[test]
fn a_process_that_comes_back_takes_no_requests_before_it_is_ready() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.does_all(Command::Scale { web: 2, worker: 0 });
    world.engine().state().boot = WHILE / 3;
    let id = world.engine().id("paas-shop-web-1-2");
    world.engine().die(&id);
    world.waits_until_routed(&["web.1"]);
    world.block_on(world.engine().comes_back(&id));
    world.block_on(world.pipeline.adopt_all());
    assert_eq!(world.routed(), ["web.1"]);
    world.waits_until_routed(&["web.1", "web.2"]);

    let id = world.engine().id("paas-shop-web-1-2");
    world.engine().removed_by_hand(&id);
    world.waits_until_routed(&["web.1"]);
    world.waits_until_routed(&["web.1", "web.2"]);
    world.settles();
    world.unbroken();
}

/// Names are added without the app's turn.
#[test]
fn a_name_that_is_added_while_a_deploy_runs_stays_in_the_route() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.engine().state().boot = WHILE / 2;
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let name = crate::model::Domain::parse("shop.example.com").unwrap();
    let pushed = good(2).run(Call::new(&world, good(2)));
    let named = async {
        tokio::time::sleep(WHILE / 4).await;
        pipeline.add_domains(&app, vec![name.clone()]).await
    };
    let (pushed, named) = world.block_on(async { tokio::join!(pushed, named) });
    assert!(pushed.is_ok() && named.is_ok(), "{named:?}");
    world.settles();
    assert!(world.table().routes[&app_name()].hosts.contains(&name));
    assert_eq!(world.runs(), ["web-2-1"]);
}

/// Two releases, of which the second one fails from now on.
fn failing() -> World {
    let mut world = World::watching("10m").unwrap();
    world.does_all(good(1));
    world.does_all(good(2));
    world
}

fn fails(world: &mut World) -> Result<Carried<()>, String> {
    let count = crate::model::Count { app: app_name(), release: 2, answers: 100, errors: 100 };
    let pipeline = world.pipeline.clone();
    let counted = async move {
        pipeline.routes.tally.answered(&count);
        // The watch is no background work: it hears of this when it has its turn.
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    match world.carry_out(counted) {
        Carried::Out(()) => world.rest(),
        Carried::Killed => Ok(Carried::Killed),
    }
}

#[test]
fn a_passing_failure_does_not_keep_a_release_that_is_worse() {
    for mishap in [super::Mishap::StoreFails, super::Mishap::EngineFails] {
        for place in 0.. {
            let mut world = failing();
            world.plan(mishap, place);
            let rested = fails(&mut world);
            let struck = super::script::end();
            assert!(matches!(rested, Ok(Carried::Out(()))), "{mishap:?} {place} {struck:?}");
            assert_eq!(world.routed(), ["web.1"], "{mishap:?} {place} {struck:?}");
            let table = world.table();
            let label = table.routes[&app_name()].targets[0].release;
            assert_eq!(label, 1, "{mishap:?} {place} {struck:?}");
            world.unbroken();
            if struck.is_none() {
                break;
            }
        }
    }
}

#[test]
fn an_automatic_rollback_that_is_cut_off_is_gone_on_with() {
    for place in 0.. {
        let mut world = failing();
        world.plan(super::Mishap::Crash, place);
        let killed = matches!(fails(&mut world).unwrap(), Carried::Killed);
        let struck = super::script::end();
        if !killed {
            break;
        }
        let mut world = world.after_a_crash(None).unwrap();
        world.settles();
        world.unbroken();
        let id = world.app().id;
        let current = world.read(move |db| store::releases::current(db, id)).unwrap();
        let decided = struck.as_ref().is_some_and(|struck| struck.is_after("ready"));
        assert!(!decided || current.number == 3, "v{} serves (at {struck:?})", current.number);
        let then = observed(&world);
        if current.number == 3 {
            promises::kept(&world, &then).map_err(|why| format!("{why} (at {struck:?})")).unwrap();
        }
    }
}

#[test]
fn one_that_stands_by_and_has_come_back_takes_over() {
    let mut world = failing();
    let id = world.engine().id("paas-shop-web-1-1");
    world.engine().die(&id);
    world.block_on(world.engine().comes_back(&id));
    world.engine().was_away();
    world.settles();
    world.does_all(Command::Rollback(None));
    world.unbroken();
    assert_eq!(world.runs(), ["web-1-1"]);
}

/// The engine's restart takes every process with it, and the proxy has nobody to ask.
#[test]
fn what_was_answered_while_the_engine_was_away_is_no_evidence() {
    let mut world = failing();
    world.engine().was_away();
    world.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
    assert!(matches!(fails(&mut world).unwrap(), Carried::Out(())));
    assert_eq!(world.table().routes[&app_name()].release, 2);
    assert_eq!(world.runs(), ["web-1-1", "web-2-1"]);
    world.unbroken();
}

#[test]
fn one_that_stands_by_and_does_not_answer_takes_nothing_over() {
    let mut world = failing();
    world.block_on(world.engine().behaves("paas-shop-web-1-1", Behaviour::Answers500));
    world.does_all(Command::Rollback(None));
    world.unbroken();
    assert_eq!(world.runs(), ["web-3-1"]);
}

/// The proxy is away when the old process loses its route, and comes back later.
#[test]
fn an_old_process_goes_on_until_the_proxy_knows_of_it() {
    let routes = crate::deploy::Routes::new();
    let target: crate::model::Target = crate::model::Target {
        address: "127.0.0.1:1".parse().unwrap(),
        process: "web.1".to_owned(),
        release: 1,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.unwrap().block_on(async {
        let version = routes.table().version;
        let targets = [target];
        let waiting = routes.in_force(version, &targets);
        tokio::pin!(waiting);
        let moment = Duration::from_millis(100);
        assert!(tokio::time::timeout(moment, &mut waiting).await.is_err());
        let id = routes.join();
        routes.hear(id, crate::model::FromProxy::Ack { version, refused_ports: [].into() });
        assert!(tokio::time::timeout(moment, waiting).await.is_ok());
    });
}

#[test]
fn scaling_that_fails_halfway_leaves_nothing_of_it() {
    let mut failed = 0;
    for place in 0..24 {
        let mut world = World::new().unwrap();
        world.does_all(good(1));
        world.plan(super::Mishap::EngineFails, place);
        let result = world.tries(Command::Scale { web: 3, worker: 1 });
        let struck = super::script::end();
        if result.is_err() {
            failed += 1;
            assert_eq!(world.runs(), ["web-1-1"], "at {struck:?}, place {place}");
        }
    }
    assert!(failed > 4, "it failed {failed} times only");
}

#[test]
fn what_is_started_while_leftovers_of_a_stop_end_is_not_ended_with_them() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.does_all(Command::Scale { web: 1, worker: 1 });
    world.engine().state().slow = WHILE;
    world.notes().outage.store(true, std::sync::atomic::Ordering::Relaxed);
    world.begins(Command::Stop, WHILE / 4);
    let mut world = world.killed();
    world.does(Command::Start);
    world.settles();
    assert_eq!(world.runs(), ["web-1-1", "worker-1-1"]);
    let then = observed(&world);
    promises::kept(&world, &then).unwrap();
}

/// Asked every second, and out of the routes at the first bad answer.
fn every_second() -> CheckChange {
    CheckChange {
        kind: Some(CheckKind::Path("/".to_owned())),
        interval: Some(1),
        attempts: Some(1),
        start_period: Some(1),
        ..CheckChange::default()
    }
}

#[test]
fn an_unwell_process_takes_no_requests_after_a_restart_of_the_server_either() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.does_all(Command::Scale { web: 2, worker: 0 });
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    world.block_on(pipeline.set_checks(&app, |set| *set = every_second(), false, "ada")).unwrap();
    world.watch_health();
    world.block_on(world.engine().behaves("paas-shop-web-1-1", Behaviour::Answers500));
    world.waits_until_routed(&["web.2"]);

    // checks:set by force is no reason to send it requests.
    world.block_on(pipeline.set_checks(&app, |_| {}, true, "ada")).unwrap();
    assert_eq!(pipeline.routes.table().routes[&app_name()].targets.len(), 1);

    drop(pipeline);
    let mut world = world.killed();
    assert_eq!(world.routed(), ["web.2"]);
    world.settles();
    assert_eq!(world.routed(), ["web.2"]);
    assert_eq!(world.pipeline.routes.table().routes[&app_name()].targets.len(), 1);

    world.watch_health();
    world.block_on(world.engine().behaves("paas-shop-web-1-1", Behaviour::Good));
    world.waits_until_routed(&["web.1", "web.2"]);
}

#[test]
fn a_process_that_hangs_is_out_of_the_routes_within_two_intervals_whatever_its_timeout() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.does_all(Command::Scale { web: 2, worker: 0 });
    world.watch_health();
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let mut checks = CheckChange { interval: Some(3600), ..every_second() };
    world.block_on(pipeline.set_checks(&app, |set| *set = checks.clone(), false, "ada")).unwrap();
    world.carry_out(async { tokio::time::sleep(Duration::from_millis(1500)).await });
    // From now on, and not when the hour of the former interval is over.
    checks = CheckChange { interval: Some(2), attempts: Some(2), timeout: Some(10), ..checks };
    world.block_on(pipeline.set_checks(&app, |set| *set = checks, false, "ada")).unwrap();
    world.carry_out(async { tokio::time::sleep(Duration::from_millis(1200)).await });
    world.block_on(world.engine().behaves("paas-shop-web-1-1", Behaviour::Hangs));
    let begun = Instant::now();
    world.waits_until_routed(&["web.2"]);
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(4300), "{took:?}");
    world.block_on(world.engine().behaves("paas-shop-web-1-1", Behaviour::Good));
    world.waits_until_routed(&["web.1", "web.2"]);
}

#[test]
fn commands_that_waited_for_their_turn_find_the_app_as_it_is_then() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let timeout = pipeline.set_checks(&app, |checks| checks.timeout = Some(3), false, "ada");
    let interval = pipeline.set_checks(&app, |checks| checks.interval = Some(7), false, "ada");
    let both = world.block_on(async { tokio::join!(timeout, interval) });
    assert!(matches!(both, (Ok(()), Ok(()))));
    let checks = world.app().checks;
    assert_eq!((checks.timeout, checks.interval), (Some(3), Some(7)), "neither has undone the other");

    let (ada, bob) = (pipeline.destroy_app(&app, "ada"), pipeline.destroy_app(&app, "bob"));
    let both = world.block_on(async { tokio::join!(ada, bob) });
    // Whoever comes second: who has asked first is told that it is gone, which it is.
    assert!(matches!(both, (Ok(()), Err(DeployError::NoApp) | Ok(()))), "{both:?}");
    let report = Report::channel().0;
    let scaled = world.block_on(pipeline.scale(&app, &[].into(), "ada", &report));
    assert!(matches!(scaled, Err(DeployError::NoApp)), "{scaled:?}");
    world.settles();
}

/// An app whose removal the engine has stopped there, if it did.
fn half_removed(place: u8) -> Option<(World, App)> {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let app = world.app();
    world.plan(super::Mishap::EngineFails, place);
    let removed = world.tries(Command::Destroy);
    super::script::end();
    matches!(removed, Err(DeployError::HalfRemoved(_))).then_some((world, app))
}

#[test]
fn an_app_that_is_being_removed_takes_no_push_and_no_command() {
    let (mut world, app) = (0..40).find_map(half_removed).unwrap();
    let pipeline = world.pipeline.clone();
    let restarted = world.tries(Command::Restart);
    assert!(matches!(restarted, Err(DeployError::BeingRemoved(_))), "{restarted:?}");
    assert!(world.tries(good(2)).is_err());
    let id = app.id;
    assert_eq!(world.read(move |db| store::releases::list(db, id)).len(), 1, "no release was begun");
    world.block_on(pipeline.adopt_all());
    assert_eq!(world.block_on(pipeline.find(&app_name())).unwrap(), None);
}

/// The first hook of a push of this commit to a branch; what it says.
async fn pushes(pipeline: &Arc<Pipeline>, id: &str, new: CommitId, branch: &str) -> bool {
    let old = CommitId::parse(&"0".repeat(40)).unwrap();
    let update = RefUpdate { old, new, name: format!("refs/heads/{branch}") };
    let hook = Hook::PreReceive { updates: vec![update], quarantine: None };
    pipeline.hook(id, hook, Report::channel().0, CancellationToken::new()).await
}

fn ada() -> Authorship {
    Authorship { who: "ada".to_owned() }
}

#[test]
fn a_push_that_outlives_its_app_does_not_bring_it_back() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let gone = CancellationToken::new();
    let name = app_name();
    let opened = pipeline.open_push(&name, ada(), Some(&app), gone);
    let (id, push, _lease) = world.block_on(opened).unwrap();
    let commit = Commit { number: 2, behaviour: Behaviour::Good };
    let commit = commit.write(&pipeline.repository(&app.repository));
    world.does_all(Command::Destroy);
    assert!(!world.block_on(pushes(&pipeline, &id, commit, "topic")));
    assert_eq!(world.block_on(pipeline.find(&app_name())).unwrap(), None);
    world.block_on(pipeline.close_push(&id, &push)).unwrap();
    world.does_all(good(1));
}

#[test]
fn a_push_that_waited_does_not_undo_a_change_of_the_branch() {
    let mut world = World::new().unwrap();
    assert!(world.tries(Command::Push(Commit { number: 0, behaviour: Behaviour::BuildFails })).is_err());
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let name = app_name();
    let opened = pipeline.open_push(&name, ada(), Some(&app), CancellationToken::new());
    let (id, push, _lease) = world.block_on(opened).unwrap();
    let commit = Commit { number: 2, behaviour: Behaviour::Good };
    let commit = commit.write(&pipeline.repository(&app.repository));
    let (agreed, ()) = world.block_on(async {
        let turn = pipeline.turn(&app, "changing the branch", "bob").await;
        let changes = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let number = app.id;
            let set =
                pipeline.workers.store.write(move |db| store::apps::set_deploy_branch(db, number, "live"));
            set.await.unwrap();
            drop(turn);
        };
        tokio::join!(pushes(&pipeline, &id, commit, "main"), changes)
    });
    assert!(!agreed);
    world.block_on(pipeline.close_push(&id, &push)).unwrap();
    assert_eq!(world.app().deploy_branch.as_deref(), Some("live"));
}

/// A push that waits for a turn that bob has; it is told so. What it comes to.
async fn waits_behind_bob(pipeline: &Arc<Pipeline>, app: &App, meanwhile: impl AsyncFnOnce(Turn)) -> bool {
    let name = app_name();
    let opened = pipeline.open_push(&name, ada(), Some(app), CancellationToken::new()).await;
    let (id, push, _lease) = opened.unwrap();
    let repository = pipeline.repository(&app.repository);
    let old = crate::git::repository::branch(&repository, "main").unwrap().unwrap();
    let new = Commit { number: 2, behaviour: Behaviour::Good }.write(&repository);
    let update = RefUpdate { old, new, name: "refs/heads/main".to_owned() };
    let hook = Hook::PreReceive { updates: vec![update], quarantine: None };
    let turn = pipeline.turn(app, "scaling", "bob").await;
    let (report, mut lines) = Report::channel();
    let hooked = pipeline.hook(&id, hook, report, CancellationToken::new());
    let meanwhile = async {
        assert_eq!(lines.next().await.unwrap(), "-----> Waiting: shop is scaling by bob; this one is next");
        meanwhile(turn).await;
    };
    let (agreed, ()) = tokio::join!(hooked, meanwhile);
    pipeline.close_push(&id, &push).await.unwrap();
    agreed
}

#[test]
fn a_push_that_waits_for_its_turn_can_be_cancelled() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let agreed = world.block_on(waits_behind_bob(&pipeline, &app, async |turn| {
        assert_eq!(pipeline.cancel(&app, "eve").await.unwrap(), None, "it was no release yet");
        drop(turn);
    }));
    assert!(!agreed);
    world.settles();
    assert_eq!(world.runs(), ["web-1-1"]);
    let cancelled = world.block_on(pipeline.cancel(&app, "eve"));
    assert!(matches!(cancelled, Err(DeployError::NothingToCancel)), "{cancelled:?}");
}

#[test]
fn an_app_is_destroyed_before_the_pushes_that_wait() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let agreed = world.block_on(waits_behind_bob(&pipeline, &app, async |turn| {
        let bob = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(turn);
        };
        let (destroyed, ()) = tokio::join!(pipeline.destroy_app(&app, "eve"), bob);
        destroyed.unwrap();
    }));
    assert!(!agreed);
    world.settles();
    assert_eq!(world.block_on(pipeline.find(&app_name())).unwrap(), None);
    assert_eq!(world.runs(), Vec::<String>::new());
}

/// A push that somebody cancels at the n-th place, if that is the one from which on its
/// tree is read.
fn cancelled_at_its_turn(place: u8) -> Option<World> {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, id) = (world.pipeline.clone(), world.app().id);
    super::script::plan(super::Mishap::Cancel, place, None, move |_| drop(pipeline.queue.cancel(id, "bob")));
    let result = world.tries(good(2));
    let struck = super::script::end()?;
    world.settles();
    (struck.place == "turn-taken").then(|| assert!(result.is_err(), "it was not cancelled"))?;
    Some(world)
}

#[test]
fn a_deploy_is_cancelled_while_its_tree_is_read() {
    let world = (0..9).find_map(cancelled_at_its_turn).unwrap();
    let id = world.app().id;
    assert_eq!(world.read(move |db| store::releases::list(db, id)).len(), 1, "no release was begun");
}

#[test]
fn who_has_gone_waits_for_no_turn() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let gone = CancellationToken::new();
    let (report, mut lines) = Report::channel();
    let (scaled, ()) = world.block_on(async {
        let turn = pipeline.turn(&app, "resizing", "bob").await;
        let asker = crate::deploy::Asker { gone: gone.clone(), report: Some(report.clone()) };
        let two = [(ProcessType::web(), Scale::To(2))].into();
        let goes = async {
            let said = lines.next().await.unwrap();
            assert_eq!(said, "-----> Waiting: shop is resizing by bob; this one is next");
            gone.cancel();
        };
        let outcome = tokio::join!(asker.asks(pipeline.scale(&app, &two, "ada", &report)), goes);
        drop(turn);
        outcome
    });
    assert!(matches!(scaled, Err(DeployError::Cancelled)), "{scaled:?}");
    world.settles();
    assert_eq!(world.runs(), ["web-1-1"]);
}

#[test]
fn who_is_told_that_a_deploy_is_cancelled_never_sees_it_live() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, id) = (world.pipeline.clone(), world.app().id);
    let mut cancelled = 0;
    for place in 0..40 {
        let told = Rc::new(Cell::new(false));
        let (asked, pipeline) = (told.clone(), pipeline.clone());
        super::script::plan(super::Mishap::Cancel, place, None, move |_| {
            asked.set(pipeline.queue.cancel(id, "bob").is_some());
        });
        let command = if place % 2 == 0 { good(2 + place / 2 % 3) } else { Command::Restart };
        let result = world.tries(command);
        let struck = super::script::end();
        world.settles();
        if told.get() {
            cancelled += 1;
            assert!(result.is_err(), "{command:?}, cancelled at {struck:?}, went live");
        }
    }
    assert!(cancelled > 9, "{cancelled} were cancelled");
}

#[test]
fn a_process_that_ends_before_its_route_is_published_is_not_routed_to() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.notes().outage.store(true, std::sync::atomic::Ordering::Relaxed);
    for place in 20..52 {
        let engine = world.engine();
        super::script::plan(super::Mishap::Cancel, place, None, move |_| {
            let newest =
                engine.state().containers.keys().max_by_key(|id| id[9..].parse::<u32>().ok()).cloned();
            engine.die(&newest.unwrap_or_default());
        });
        let _ = world.tries(good(2 + place % 3));
        let struck = super::script::end();
        world.settles();
        let table = world.table();
        for target in &table.routes[&app_name()].targets {
            assert!(world.engine().serves(target.address), "{target:?} ended at {struck:?}, place {place}");
        }
    }
}

/// As long as nothing of v2 is current, v1 is well, and goes on.
#[test]
fn a_release_whose_only_process_ends_before_the_commit_point_does_not_go_live() {
    for (command, place) in [(good(2), "ready"), (good(2), "branch-moved"), (Command::Config(1), "ready")] {
        let mut world = World::new().unwrap();
        world.does_all(good(1));
        let (before, engine) = (observed(&world), world.engine());
        super::script::at(place, move || {
            let id = engine.id("paas-shop-web-2-1");
            engine.die(&id);
        });
        let refused = world.tries(command);
        super::script::end();
        assert!(refused.is_err(), "{command:?} went live though its process had ended at {place}");
        world.settles();
        assert_eq!((observed(&world), world.runs()), (before.clone(), vec!["web-1-1".to_owned()]));
        promises::kept(&world, &before).unwrap();
    }
}

/// As when the engine is restarted: it starts the process again, and nobody hears of that.
#[test]
fn a_release_that_was_started_again_before_the_commit_point_goes_live_when_it_answers_again() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (engine, handle) = (world.engine(), world.handle().clone());
    super::script::at("ready", move || {
        let id = engine.id("paas-shop-web-2-1");
        engine.state().boot = WHILE / 3;
        engine.die(&id);
        let engine = engine.clone();
        handle.spawn(async move { engine.is_back(&id).await });
    });
    let pushed = world.tries(good(2));
    super::script::end();
    pushed.unwrap();
    assert_eq!(world.table().routes[&app_name()].targets[0].release, 2);
    world.settles();
    world.unbroken();
    assert_eq!((world.runs(), world.routed()), (vec!["web-2-1".to_owned()], vec!["web.1".to_owned()]));
}

/// The disk is full at the commit point, and until the next server starts.
#[test]
fn what_cannot_be_undone_is_whole_when_it_is_finished() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let before = observed(&world);
    let repository = world.pipeline.repository(&world.app().repository);
    super::script::hold_from("branch-moved", move || {
        // Git can't write either, and leaves the branch where it is.
        std::fs::write(repository.join("refs/heads/main.lock"), "").unwrap();
    });
    assert!(world.tries(good(2)).is_err());
    super::script::end();
    let mut world = world.killed();
    world.settles();
    let then = observed(&world);
    promises::kept(&world, &then).unwrap();
    assert_eq!(world.routed(), ["web.1"]);
    assert_eq!((then.web, then.worker), (before.web, before.worker));
}

#[test]
fn a_branch_that_could_not_be_put_back_is_so_as_soon_as_the_disk_is_well() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let before = observed(&world);
    let lock = world.pipeline.repository(&world.app().repository).join("refs/heads/main.lock");
    super::script::hold_from("branch-moved", move || std::fs::write(&lock, "").unwrap());
    assert!(world.tries(good(2)).is_err());
    super::script::end();
    let branch = |world: &World| {
        let path = world.pipeline.repository(&world.app().repository);
        crate::git::repository::branch(&path, "main").unwrap().map(|commit| commit.to_string())
    };
    assert_ne!(branch(&world), before.commit);
    world.handle().spawn(world.pipeline.clone().mend());
    let end = Instant::now() + Duration::from_secs(10);
    while branch(&world) != before.commit {
        assert!(Instant::now() < end, "it is not put back");
        world.carry_out(async { tokio::time::sleep(Duration::from_millis(5)).await });
    }
    world.settles();
    promises::kept(&world, &before).unwrap();
}

/// The image of a release that was about to go live is pruned by hand while no server
/// runs.
#[test]
fn a_release_that_lost_its_image_is_not_finished() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let before = observed(&world);
    world.crash_at("branch-moved", |engine| {
        engine.state().images.retain(|name, _| !name.contains(":v2"));
    });
    assert!(matches!(world.carry_out(good(2).run(Call::new(&world, good(2)))), Carried::Killed));
    super::script::end();
    let mut world = world.after_a_crash(None).unwrap();
    world.settles();
    promises::kept(&world, &before).unwrap();
}

#[test]
fn the_last_lines_of_a_process_are_its_last() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.engine().state().prints = 20_000;
    let lines = world.block_on(world.pipeline.last_lines(&world.engine().id("paas-shop-web-1-1")));
    assert_eq!(lines.len(), 200);
    assert_eq!((lines[0].as_str(), lines[199].as_str()), ("line 19800", "line 19999"));
}

#[test]
fn a_push_whose_branch_git_does_not_move_gives_the_app_back() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app, name) = (world.pipeline.clone(), world.app(), app_name());
    let gone = CancellationToken::new();
    let opened = pipeline.open_push(&name, ada(), Some(&app), gone.clone());
    let (id, push, _lease) = world.block_on(opened).unwrap();
    let repository = pipeline.repository(&app.repository);
    let old = crate::git::repository::branch(&repository, "main").unwrap().unwrap();
    let new = Commit { number: 2, behaviour: Behaviour::Good }.write(&repository);
    let update = RefUpdate { old, new, name: "refs/heads/main".to_owned() };
    let hook = Hook::PreReceive { updates: vec![update], quarantine: None };
    let agreed = pipeline.hook(&id, hook, Report::channel().0, CancellationToken::new());
    assert!(world.block_on(agreed));
    let dropped = async { tokio::time::timeout(Duration::from_secs(20), gone.cancelled()).await };
    assert!(world.block_on(dropped).is_ok(), "nobody has ended git");
    assert!(!world.block_on(pipeline.close_push(&id, &push)).unwrap());
    world.settles();
    assert_eq!(world.runs(), ["web-1-1"]);
    world.does_all(good(2));
}

/// How long a worker takes to stop that ignores SIGTERM for a while.
const STUBBORN: Duration = Duration::from_secs(6);

/// v1 and its worker stood by and were being ended when v2 turned out to be bad.
fn with_a_worker_that_ends_slowly() -> World {
    let mut world = World::watching("10m").unwrap();
    world.does_all(good(1));
    world.does_all(Command::Scale { web: 1, worker: 1 });
    world.engine().state().slow = STUBBORN;
    world.does(good(2));
    assert_eq!(world.runs(), ["web-1-1", "web-2-1", "worker-1-1"]);
    world
}

#[test]
fn a_rollback_waits_for_no_worker_that_ends_slowly() {
    let mut world = with_a_worker_that_ends_slowly();
    let begun = Instant::now();
    world.does(Command::Rollback(None));
    assert!(begun.elapsed() < STUBBORN / 4, "it took {:?}", begun.elapsed());
    world.waits_until_routed(&["web.1"]);
    assert_eq!(world.table().routes[&app_name()].targets[0].release, 1, "the one that stood by serves");
    world.settles();
    assert_eq!(world.runs(), ["web-1-1", "worker-1-1"]);
    world.unbroken();
}

#[test]
fn neither_scaling_nor_stopping_nor_restarting_workers_keeps_a_rollback_waiting() {
    let all = [ProcessType::parse("worker").unwrap()].map(Selection::Type);
    for how in 0..4 {
        let mut world = World::watching("10m").unwrap();
        world.does_all(good(1));
        world.does_all(good(2));
        world.does_all(Command::Scale { web: 1, worker: 1 });
        world.engine().state().slow = STUBBORN;
        let (pipeline, app, all) = (world.pipeline.clone(), world.app(), all.clone());
        let report = Report::channel().0;
        world.pipeline.background.clone().spawn_on(
            async move {
                match how {
                    0 => drop(pipeline.stop_some(&app, &all, "bob").await.unwrap()),
                    1 => drop(pipeline.restart_some(&app, &all, "bob", &report).await.unwrap()),
                    2 => {
                        let none = [(ProcessType::parse("worker").unwrap(), Scale::To(0))];
                        drop(pipeline.scale(&app, &none.into(), "bob", &report).await.unwrap());
                    }
                    _ => pipeline.stop_app(&app, "bob").await.unwrap(),
                }
            },
            world.handle(),
        );
        world.notes().outage.store(how == 3, std::sync::atomic::Ordering::Relaxed);
        world.carry_out(async { tokio::time::sleep(STUBBORN / 4).await });
        let begun = Instant::now();
        world.does(Command::Rollback(None));
        assert!(begun.elapsed() < STUBBORN / 4, "{how}: it took {:?}", begun.elapsed());
        world.settles();
        let expected: &[&str] = match how {
            0 | 1 => &["web-1-1", "worker-1-1"],
            2 => &["web-1-1"],
            _ => &["web-3-1", "worker-3-1"],
        };
        assert_eq!(world.runs(), expected, "{how}");
        world.unbroken();
    }
}

#[test]
fn who_scales_after_a_promotion_waits_until_the_workers_are_exchanged() {
    let mut world = with_a_worker_that_ends_slowly();
    world.does(Command::Scale { web: 1, worker: 2 });
    assert_eq!(world.runs(), ["web-1-1", "web-2-1", "worker-2-1", "worker-2-2"]);
    world.settles();
    world.unbroken();
}

#[test]
fn a_minute_amid_an_exchange_of_workers_starts_none() {
    let mut world = with_a_worker_that_ends_slowly();
    world.does(Command::Minute);
    assert_eq!(world.runs(), ["web-1-1", "web-2-1", "worker-1-1"]);
    world.settles();
    assert_eq!(world.runs(), ["web-1-1", "web-2-1", "worker-2-1"]);
    world.unbroken();
}

#[test]
fn more_processes_than_a_next_release_finds_addresses_for_are_refused() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    for (web, worker) in [(31, 0), (30, 1), (1, 59)] {
        let scaled = world.tries(Command::Scale { web, worker });
        assert!(matches!(scaled, Err(DeployError::TooMany(..))), "{web} and {worker}: {scaled:?}");
    }
    assert_eq!(world.runs(), ["web-1-1"]);
    // One type after the other comes to the same.
    let (pipeline, app, report) = (world.pipeline.clone(), world.app(), Report::channel().0);
    world.does_all(Command::Scale { web: 20, worker: 0 });
    let workers = [(ProcessType::parse("worker").unwrap(), Scale::To(25))].into();
    let scaled = world.block_on(pipeline.scale(&app, &workers, "ada", &report));
    assert!(matches!(scaled, Err(DeployError::TooMany(20, 25))), "{scaled:?}");
}

/// A push of `good(2)` up to the move of the branch; its id, the branch's file, and what it
/// would name before and after.
async fn prepared(pipeline: &Arc<Pipeline>, app: &App) -> (String, Arc<super::super::pushes::Push>, Moving) {
    let name = app_name();
    let opened = pipeline.open_push(&name, ada(), Some(app), CancellationToken::new()).await;
    let (id, push, lease) = opened.unwrap();
    let repository = pipeline.repository(&app.repository);
    let old = crate::git::repository::branch(&repository, "main").unwrap().unwrap();
    let new = Commit { number: 2, behaviour: Behaviour::Good }.write(&repository);
    let update = RefUpdate { old: old.clone(), new: new.clone(), name: "refs/heads/main".to_owned() };
    let hook = Hook::PreReceive { updates: vec![update], quarantine: None };
    assert!(pipeline.hook(&id, hook, Report::channel().0, CancellationToken::new()).await);
    drop(lease);
    (id, push, Moving { branch: repository.join("refs/heads/main"), old, new })
}

struct Moving {
    branch: std::path::PathBuf,
    old: CommitId,
    new: CommitId,
}

/// The disk is unwell when git has ended, and nobody hears of its last hook.
#[test]
fn a_push_whose_branch_cannot_be_read_is_seen_to_when_it_can() {
    for moved in [true, false] {
        let mut world = World::new().unwrap();
        world.does_all(good(1));
        let (pipeline, app) = (world.pipeline.clone(), world.app());
        let (id, push, moving) = world.block_on(prepared(&pipeline, &app));
        std::fs::write(&moving.branch, "unreadable\n").unwrap();
        assert!(world.block_on(pipeline.close_push(&id, &push)).is_err());
        world.does_all(Command::Minute);
        assert_eq!(world.runs(), ["web-1-1", "web-2-1"], "nothing is undone that may be live");
        let now = if moved { &moving.new } else { &moving.old };
        std::fs::write(&moving.branch, format!("{now}\n")).unwrap();
        world.does_all(Command::Minute);
        assert_eq!(world.runs(), [if moved { "web-2-1" } else { "web-1-1" }]);
        let then = observed(&world);
        assert_eq!(then.commit, Some(now.to_string()));
        promises::kept(&world, &then).unwrap();
    }
}

#[test]
fn no_push_begins_while_what_others_left_is_swept_up() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let name = app_name();
    world.block_on(async {
        let alone = pipeline.pushes.alone(&app.repository).unwrap();
        let opening = pipeline.open_push(&name, ada(), Some(&app), CancellationToken::new());
        tokio::pin!(opening);
        let moment = Duration::from_millis(50);
        assert!(tokio::time::timeout(moment, &mut opening).await.is_err());
        drop(alone);
        let (id, push, _lease) = opening.await.unwrap();
        assert!(pipeline.pushes.alone(&app.repository).is_none(), "its quarantine is its own");
        pipeline.close_push(&id, &push).await.unwrap();
        assert!(pipeline.pushes.alone(&app.repository).is_some());
    });
}

#[test]
fn that_a_release_was_taken_back_is_told_until_a_push_has_gone_live() {
    let mut world = failing();
    assert!(matches!(fails(&mut world).unwrap(), Carried::Out(())));
    let id = world.app().id;
    let told = |world: &World| -> Vec<String> {
        let untold = world.read(move |db| store::releases::untold(db, id));
        untold.iter().map(crate::deploy::taken_back).collect()
    };
    let expected = "v2 was rolled back automatically: 100 of 100 answers were 5xx.\n\
                    v3 took its place with what v1 ran; the branch was put back to that.";
    assert_eq!(told(&world), [expected]);
    // None of this is a push.
    world.does_all(Command::Config(1));
    world.does_all(Command::Restart);
    world.does_all(Command::Rollback(None));
    assert!(world.tries(Command::Push(Commit { number: 3, behaviour: Behaviour::Exits })).is_err());
    world.settles();
    assert_eq!(told(&world), [expected]);
    assert_eq!(world.block_on(world.pipeline.account(&world.app())).unwrap().taken_back.len(), 1);
    world.does_all(good(4));
    assert_eq!(told(&world), Vec::<String>::new());
    world.unbroken();
}

/// A large app has no addresses for three releases.
#[test]
fn what_stands_by_goes_on_if_the_next_release_of_a_large_app_fails() {
    let mut world = World::watching("10m").unwrap();
    world.does_all(good(1));
    world.does_all(Command::Scale { web: 25, worker: 0 });
    world.does_all(good(2));
    let before = world.runs();
    assert_eq!(before.len(), 50, "v1 stands by");
    for behaviour in [Behaviour::Exits, Behaviour::Answers500] {
        assert!(world.tries(Command::Push(Commit { number: 3, behaviour })).is_err());
        world.settles();
        assert_eq!(world.runs(), before);
    }
    world.does_all(Command::Rollback(None));
    let table = world.table();
    assert!(table.routes[&app_name()].targets.iter().all(|target| target.release == 1), "it has taken over");
    world.unbroken();
}

/// Nobody asks it after its start: it never answered well, but it takes connections.
#[test]
fn who_does_not_answer_well_takes_requests_only_when_nobody_else_does() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.does_all(Command::Scale { web: 2, worker: 0 });
    let (web_1, web_2) = (world.engine().id("paas-shop-web-1-1"), world.engine().id("paas-shop-web-1-2"));
    world.engine().die(&web_2);
    world.waits_until_routed(&["web.1"]);
    world.block_on(world.engine().comes_back(&web_2));
    world.block_on(world.engine().behaves("paas-shop-web-1-2", Behaviour::Answers500));
    world.settles();
    assert_eq!(world.routed(), ["web.1"], "web.2 had its time");
    world.does_all(Command::Minute);
    assert_eq!(world.routed(), ["web.1"]);

    world.notes().outage.store(true, std::sync::atomic::Ordering::Relaxed);
    world.engine().die(&web_1);
    world.waits_until_routed(&["web.2"]);
    world.block_on(world.engine().comes_back(&web_1));
    world.waits_until_routed(&["web.1"]);
    world.block_on(world.engine().behaves("paas-shop-web-1-2", Behaviour::Good));
    world.does_all(Command::Minute);
    assert_eq!(world.routed(), ["web.1", "web.2"]);
}

#[test]
fn a_wish_that_can_neither_be_carried_out_nor_taken_back_stands_and_is_said_to() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    super::script::hold_from("committed", || {});
    let scaled = world.tries(Command::Scale { web: 2, worker: 0 });
    super::script::end();
    assert!(matches!(scaled, Err(DeployError::Stands(_))), "{scaled:?}");
    world.does_all(Command::Minute);
    assert_eq!(world.runs(), ["web-1-1", "web-1-2"]);
    let then = observed(&world);
    promises::kept(&world, &then).unwrap();
}

fn set_for_all(pipeline: Arc<Pipeline>) -> impl Future<Output = Result<(), DeployError>> {
    let report = Report::channel().0;
    let key = crate::model::EnvKey::parse("FOR_ALL").unwrap();
    async move {
        let change = move |vars: &mut crate::model::ConfigVars| drop(vars.0.insert(key, "1".to_owned()));
        let effect = crate::deploy::Effect::AtOnce;
        let all = pipeline.configure_all("ada", effect, &report, change).await?;
        all.refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}

#[test]
fn a_change_of_all_apps_config_that_is_cut_off_anywhere_is_gone_on_with() {
    for place in 0.. {
        let mut world = World::new().unwrap();
        world.does_all(good(1));
        world.plan(super::Mishap::Crash, place);
        let carried = world.carry_out(set_for_all(world.pipeline.clone()));
        let struck = super::script::end();
        if matches!(carried, Carried::Out(_)) {
            break;
        }
        let mut world = world.after_a_crash(None).unwrap();
        world.settles();
        let id = world.app().id;
        let read = move |db: &_| Ok((store::config::load_global(db)?, store::releases::current(db, id)?));
        let (global, current) = world.read(read);
        assert_eq!(current.unwrap().global, global, "it runs with what is stored (at {struck:?})");
        assert!(world.read(store::config::behind).is_empty());
        let then = observed(&world);
        promises::kept(&world, &then).map_err(|why| format!("{why} (at {struck:?})")).unwrap();
    }
}

/// The clock goes on by eight days: only the last releases' images are kept then.
#[test]
fn releases_whose_image_is_gone_run_with_nothing_any_more() {
    let mut world = World::new().unwrap();
    world.does_all(good(0));
    world.does_all(Command::Config(1));
    for number in 1..12 {
        world.does_all(good(number));
    }
    crate::clock::in_tests::set_ahead(8 * 86_400);
    world.does_all(good(12));
    let id = world.app().id;
    let releases = world.read(move |db| store::releases::list(db, id));
    let (number, has_vars): (Vec<u32>, Vec<bool>) =
        releases.iter().map(|release| (release.number, !release.config.0.is_empty())).unzip();
    assert_eq!(number, (1..=14).rev().collect::<Vec<_>>());
    // v14 serves, ten more are kept; the first ran without any.
    assert_eq!(has_vars, [vec![true; 11], vec![false; 3]].concat());
    assert_eq!(world.engine().state().images.len(), 11);
    for gone in [2, 3] {
        let pipeline = world.pipeline.clone();
        let (app, report) = (world.app(), Report::channel().0);
        let back = world.block_on(pipeline.rollback(&app, Some(gone), false, "ada", &report));
        assert!(matches!(back.err(), Some(DeployError::ImageGone(..))), "v{gone}");
    }
    let history = world.read(move |db| store::releases::history(db, id));
    assert!(history.iter().all(|release| release.config.0.is_empty()), "nothing is unsealed for a list");

    // Of very old ones nothing stays, and numbers go on.
    let strike = move |db: &rusqlite::Transaction<'_>| {
        let all = store::releases::forgettable(db, id, &[13].into())?;
        store::releases::forget(db, id, &all)?;
        assert_eq!(store::releases::oldest(db, id, 3, 2)?, [1, 2]);
        let oldest = store::releases::oldest(db, id, 3, 99)?;
        store::releases::strike(db, id, &oldest)?;
        Ok(oldest)
    };
    let gone = world.block_on(world.pipeline.workers.store.write(strike)).unwrap();
    assert_eq!(gone, (1..=11).collect::<Vec<_>>());
    world.does_all(Command::Rollback(Some(0)));
    assert_eq!(world.read(move |db| store::releases::current(db, id)).unwrap().number, 15);
}

#[test]
fn old_images_that_are_long_in_going_keep_no_rollback_waiting() {
    let mut world = World::new().unwrap();
    (0..12).for_each(|number| world.does_all(good(number)));
    crate::clock::in_tests::set_ahead(8 * 86_400);
    world.engine().state().heavy = 2 * WHILE;
    world.does(good(12));
    world.carry_out(async { tokio::time::sleep(WHILE / 4).await });
    let begun = Instant::now();
    world.does(Command::Rollback(None));
    assert!(begun.elapsed() < WHILE, "it took {:?}", begun.elapsed());
    assert!(world.engine().state().images.len() > 11, "they are still going");
    let (pipeline, app, report) = (world.pipeline.clone(), world.app(), Report::channel().0);
    let back = world.block_on(pipeline.rollback(&app, Some(1), false, "ada", &report));
    assert!(matches!(back.err(), Some(DeployError::ImageGone(..))), "nobody goes back to what goes");
    world.settles();
    assert_eq!(world.engine().state().images.len(), 10, "of the one that serves, and of the nine before v13");
    world.unbroken();
}

#[test]
fn no_ref_outlives_its_release_though_forgetting_is_cut_off() {
    let mut world = World::new().unwrap();
    (0..24).for_each(|number| world.does_all(good(number)));
    crate::clock::in_tests::set_ahead(8 * 86_400);
    world.crash_at("refs removed", |_| ());
    world.does(good(24));
    assert!(matches!(world.rest(), Ok(Carried::Killed)));
    super::script::end();
    let mut world = world.after_a_crash(None).unwrap();
    world.does_all(good(25));
    let app = world.app();
    let numbers = world.read(move |db| store::releases::list(db, app.id));
    let numbers: Vec<u32> = numbers.iter().rev().map(|release| release.number).collect();
    assert_eq!(numbers, (7..=26).collect::<Vec<_>>());
    let repository = git2::Repository::open_bare(world.pipeline.repository(&app.repository)).unwrap();
    let refs = repository.references_glob("refs/releases/*").unwrap();
    assert_eq!(refs.count(), numbers.len());
}

#[test]
fn another_branch_deploys_or_does_not_wherever_the_change_is_cut_off() {
    for place in 0.. {
        let mut world = World::new().unwrap();
        world.does_all(good(1));
        world.plan(super::Mishap::Crash, place);
        let (pipeline, app) = (world.pipeline.clone(), world.app());
        let _ = world.carry_out(async move { pipeline.set_deploy_branch(&app, "live").await });
        let struck = super::script::end();
        let cut_off = struck.is_some();
        let mut world = if cut_off { world.after_a_crash(None).unwrap() } else { world };
        world.settles();
        let app = world.app();
        let branch = app.deploy_branch.unwrap();
        let path = world.pipeline.repository(&app.repository);
        let there = crate::git::repository::branch(&path, &branch).unwrap().map(|commit| commit.to_string());
        assert_eq!(there, observed(&world).commit, "{branch} names what runs (at {struck:?})");
        let head = git2::Repository::open_bare(&path).unwrap();
        let head = head.find_reference("HEAD").unwrap().symbolic_target().unwrap().unwrap().to_owned();
        assert_eq!(head, format!("refs/heads/{branch}"), "at {struck:?}");
        if !cut_off {
            break;
        }
    }
}
