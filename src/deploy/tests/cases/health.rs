//! Web processes that do not answer, or not any more.

use super::*;

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
