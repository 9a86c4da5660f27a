//! Releases that are tried beside the one that serves.

use super::*;
use crate::model::{Count, Traffic};
use std::cell::RefCell;

fn tried(number: u8) -> Command {
    Command::Push(Commit { number, behaviour: Behaviour::Tried })
}

/// v1, and what the app says of its requests then.
fn served() -> (World, Traffic) {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let traffic = world.table().routes[&app_name()].traffic.clone();
    (world, traffic)
}

/// The routes lead to v1 alone, and all else is as it was.
#[track_caller]
fn nothing_has_changed(world: &World, before: &Traffic) {
    world.unbroken();
    assert_eq!((world.runs(), world.routed()), (vec!["web-1-1".to_owned()], vec!["web.1".to_owned()]));
    assert_eq!(world.table().routes[&app_name()].traffic, *before);
    let then = observed(world);
    promises::kept(world, &then).unwrap();
}

#[test]
fn a_canary_has_its_share_beside_what_serves_and_then_all_of_it() {
    let (mut world, before) = served();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (pipeline, kept) = (world.pipeline.clone(), Rc::clone(&seen));
    script::at("canary-judged", move || {
        let route = pipeline.routes.table().routes[&app_name()].clone();
        let weights = route.targets.iter().map(|target| (target.release, route.traffic.weights.of(target)));
        kept.borrow_mut().push((route.release, route.traffic.canary, weights.collect::<Vec<_>>()));
    });
    world.does_all(tried(2));
    script::end();
    assert_eq!(*seen.borrow(), [(1, Some(2), vec![(1, 80), (2, 20)])]);
    world.unbroken();
    assert_eq!((world.runs(), world.routed()), (vec!["web-2-1".to_owned()], vec!["web.1".to_owned()]));
    assert_eq!(world.table().routes[&app_name()].traffic, before);
}

#[test]
fn a_first_release_has_nothing_beside_which_it_could_be_tried() {
    let mut world = World::new().unwrap();
    script::at("canary-routed", || panic!("beside what?"));
    world.does_all(tried(1));
    world.does_all(Command::Stop);
    world.does_all(tried(2));
    script::end();
    assert_eq!(world.runs(), ["web-2-1"]);
}

#[test]
fn a_canary_that_does_worse_is_refused_and_ends_when_its_requests_have() {
    let (mut world, before) = served();
    let (engine, tally) = (world.engine(), world.pipeline.routes.tally.clone());
    script::at("canary-routed", move || {
        engine.request("paas-shop-web-2-1", WHILE);
        tally.answered(&Count { app: app_name(), release: 2, answers: 100, errors: 100 });
    });
    let begun = Instant::now();
    assert!(world.tries(tried(2)).is_err());
    script::end();
    assert!(begun.elapsed() >= WHILE, "{:?}", begun.elapsed());
    world.settles();
    nothing_has_changed(&world, &before);
    world.does_all(good(2));
    assert_eq!(world.runs(), ["web-3-1"]);
}

#[test]
fn a_canary_whose_process_ends_is_refused() {
    let (mut world, before) = served();
    let engine = world.engine();
    script::at("canary-routed", move || {
        let id = engine.id("paas-shop-web-2-1");
        engine.notes.outage.store(true, std::sync::atomic::Ordering::Relaxed);
        engine.die(&id);
    });
    assert!(world.tries(tried(2)).is_err());
    script::end();
    world.settles();
    nothing_has_changed(&world, &before);
}

#[test]
fn whoever_publishes_a_route_meanwhile_leaves_the_canary_in_it() {
    let (mut world, _) = served();
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let release = world.block_on(pipeline.current(&app)).unwrap().unwrap();
    let targets = world.table().routes[&app_name()].targets.clone();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&seen);
    script::at("canary-routed", move || {
        let routes = [
            pipeline.route(&app, Some(&release), targets.clone(), "H10"),
            pipeline.route(&app, Some(&release), Vec::new(), "H10"),
            pipeline.route(&app, None, Vec::new(), "H14"),
        ];
        let told = routes.map(|route| (route.targets.len(), route.traffic.canary));
        kept.borrow_mut().extend(told);
    });
    world.does_all(tried(2));
    script::end();
    assert_eq!(*seen.borrow(), [(2, Some(2)), (0, None), (0, None)]);
    assert_eq!(world.runs(), ["web-2-1"]);
}

/// The proxies know already that it is out of the routes, and only they have heard of it.
#[test]
fn a_canary_that_was_taken_out_of_the_routes_before_a_crash_finishes_its_requests() {
    let (mut world, before) = served();
    let worse = Count { app: app_name(), release: 2, answers: 100, errors: 100 };
    world.pipeline.routes.tally.answered(&worse);
    let (engine, taken) = (world.engine(), Rc::new(Cell::new(false)));
    let noted = Rc::clone(&taken);
    script::at("canary-taken-back", move || {
        engine.request("paas-shop-web-2-1", WHILE);
        noted.set(true);
    });
    let mut pushed = Box::pin(tried(2).run(Call::new(&world, tried(2))));
    while !taken.get() || world.routed() != ["web.1"] {
        world.carry_out(async { drop(tokio::time::timeout(Duration::from_millis(2), &mut pushed).await) });
    }
    drop(pushed);
    script::end();
    let mut world = world.killed();
    world.settles();
    nothing_has_changed(&world, &before);
    world.does_all(tried(2));
    assert_eq!(world.runs(), ["web-3-1"]);
}

/// The proxy goes on to send it requests until the next server tells it otherwise.
#[test]
fn a_canary_that_is_cut_off_leaves_the_routes_as_they_were() {
    let (mut world, before) = served();
    world.crash_at("canary-routed", |engine| engine.request("paas-shop-web-2-1", WHILE));
    assert!(matches!(world.carry_out(tried(2).run(Call::new(&world, tried(2)))), Carried::Killed));
    script::end();
    assert_eq!(world.routed(), ["web.1", "web.1"]);
    let begun = Instant::now();
    let mut world = world.after_a_crash(None).unwrap();
    world.settles();
    assert!(begun.elapsed() >= WHILE / 2, "{:?}", begun.elapsed());
    nothing_has_changed(&world, &before);
    world.does_all(tried(2));
    assert_eq!(world.runs(), ["web-3-1"]);
}
