//! Apps that sleep.

use super::*;
use crate::deploy::Wakeful;
use crate::model::{FromProxy, Sleeps};

/// An app with a worker that has fallen asleep.
fn asleep() -> World {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.does_all(Command::Scale { web: 1, worker: 1 });
    world.does_all(Command::Sleep);
    assert_eq!((world.runs(), world.sleeps()), (vec![], Sleeps::Asleep));
    world
}

impl World {
    fn sleeps(&self) -> Sleeps {
        self.table().routes[&app_name()].traffic.sleeps
    }

    fn not_woken(&self) -> Option<String> {
        self.block_on(self.pipeline.account(&self.app())).unwrap().not_woken
    }

    /// Somebody asks, and waits; the app is being woken now.
    fn is_being_woken(&mut self) {
        self.engine().state().boot = Duration::from_millis(500);
        self.begins(Command::Request, Duration::from_millis(100));
        assert!(self.pipeline.is_waking(self.app().id));
    }
}

#[test]
fn one_that_does_not_wake_has_crashed_and_is_tried_again() {
    let mut world = asleep();
    world.engine().state().sick = true;
    assert!(world.tries(Command::Request).is_err());
    world.settles();
    assert_eq!((world.runs(), world.sleeps()), (vec![], Sleeps::Never), "nobody is held for a while");
    let why = world.not_woken().unwrap();
    assert!(why.contains("web.1"), "{why}");

    world.engine().state().sick = false;
    let app = world.app();
    assert!(
        world.block_on(world.pipeline.wake_app(&app)).unwrap().is_some(),
        "whoever says so is not kept waiting"
    );
    world.settles();
    assert_eq!(world.runs(), ["web-1-1", "worker-1-1"]);
    assert_eq!(world.not_woken(), None);
    world.unbroken();
}

#[test]
fn a_deploy_that_fails_leaves_it_asleep() {
    let mut world = asleep();
    assert!(world.tries(Command::Push(Commit { number: 2, behaviour: Behaviour::Exits })).is_err());
    world.settles();
    assert_eq!((world.runs(), world.sleeps()), (vec![], Sleeps::Asleep));
    world.does_all(Command::Request);
    assert_eq!(world.runs(), ["web-1-1", "worker-1-1"]);
}

#[test]
fn whatever_is_done_to_it_while_it_wakes_is_done() {
    for (command, left) in [
        (good(2), vec!["web-2-1", "worker-2-1"]),
        (Command::Config(1), vec!["web-2-1", "worker-2-1"]),
        (Command::Scale { web: 2, worker: 0 }, vec!["web-1-1", "web-1-2"]),
        (Command::Restart, vec!["web-2-1", "worker-2-1"]),
        (Command::StopSome, vec!["web-1-1"]),
        (Command::Stop, vec![]),
        (Command::Destroy, vec![]),
        (Command::Request, vec!["web-1-1", "worker-1-1"]),
    ] {
        let mut world = asleep();
        world.is_being_woken();
        world.does_all(command);
        assert_eq!(world.runs(), left, "{command:?}");
        if !left.is_empty() {
            world.unbroken();
        }
    }
}

#[test]
fn one_that_is_in_use_stays_awake() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.engine().request("paas-shop-web-1-1", Duration::from_secs(60));
    let outcome = world.tries(Command::Sleep);
    assert!(matches!(outcome, Err(DeployError::StaysAwake(Wakeful::InUse))), "{outcome:?}");
    world.settles();
    assert_eq!((world.routed(), world.sleeps()), (vec!["web.1".to_owned()], Sleeps::Never));
    world.unbroken();
}

#[test]
fn while_a_release_is_watched_it_stays_awake() {
    let mut world = World::watching("10m").unwrap();
    world.does_all(good(1));
    world.does_all(good(2));
    let outcome = world.tries(Command::Sleep);
    assert!(matches!(outcome, Err(DeployError::StaysAwake(Wakeful::Watched))), "{outcome:?}");
    world.settles();
    assert_eq!(world.runs(), ["web-1-1", "web-2-1"]);
}

/// It would answer with an error instead of waiting.
#[test]
fn nobody_sleeps_while_an_older_proxy_is_connected() {
    let mut world = asleep();
    let routes = world.pipeline.routes.clone();
    let old = routes.join();
    routes.hear(old, FromProxy::Ack { version: u64::MAX, refused_ports: [].into() });
    let pipeline = world.pipeline.clone();
    world.block_on(pipeline.look_who_is_idle()).unwrap();
    world.settles();
    assert_eq!(world.runs(), ["web-1-1", "worker-1-1"]);
    let outcome = world.tries(Command::Sleep);
    assert!(matches!(outcome, Err(DeployError::StaysAwake(Wakeful::NoProxy))), "{outcome:?}");
    routes.leave(old);
    world.does_all(Command::Sleep);
    assert_eq!(world.runs(), [""; 0]);
}
