//! What once broke, step by step, in worlds of their own.

use super::apps::{Behaviour, Commit};
use super::command::{Call, Command, observed};
use super::promises;
use super::world::{Carried, World, app_name};
use crate::deploy::DeployError;
use crate::model::{App, CheckChange, CheckKind};
use std::time::{Duration, Instant};

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
    let (pipeline, app, checks) = (world.pipeline.clone(), world.app(), every_second());
    world.block_on(pipeline.set_checks(&app, &checks, false, "ada")).unwrap();
    world.watch_health();
    world.block_on(world.engine().behaves("paas-shop-web-1-1", Behaviour::Answers500));
    world.waits_until_routed(&["web.2"]);

    // checks:set by force is no reason to send it requests.
    world.block_on(pipeline.set_checks(&world.app(), &checks, true, "ada")).unwrap();
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
