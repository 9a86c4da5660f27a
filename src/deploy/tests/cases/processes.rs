//! Scaling, stopping and restarting.

use super::*;

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
    script::at("web-healthy", move || {
        count.set(count.get() + 1);
        engine.state().sick |= count.get() == 1;
    });
    let restarted = world.block_on(restarts_web_1(world.pipeline.clone(), world.app()));
    script::end();
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
        world.plan(Mishap::Crash, place);
        let restart = restarts_web_1(world.pipeline.clone(), world.app());
        let carried = world.carry_out(restart);
        let struck = script::end();
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
        world.plan(Mishap::EngineFails, place);
        let restarted = world.block_on(restarts_web_1(world.pipeline.clone(), world.app()));
        let struck = script::end();
        let id = world.app().id;
        let fresh = world.read(move |db| store::apps::fresh(db, id));
        let there = |(_, process): &(u32, String)| world.runs().contains(&process.replace("web.", "web-1-"));
        assert!(fresh.iter().all(there), "{fresh:?} at {struck:?}");
        failed += u32::from(restarted.is_err());
    }
    assert!(failed > 2, "it failed {failed} times only");
}

#[test]
fn scaling_that_fails_halfway_leaves_nothing_of_it() {
    let mut failed = 0;
    for place in 0..24 {
        let mut world = World::new().unwrap();
        world.does_all(good(1));
        world.plan(Mishap::EngineFails, place);
        let result = world.tries(Command::Scale { web: 3, worker: 1 });
        let struck = script::end();
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

#[test]
fn a_wish_that_can_neither_be_carried_out_nor_taken_back_stands_and_is_said_to() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    script::hold_from("committed", || {});
    let scaled = world.tries(Command::Scale { web: 2, worker: 0 });
    script::end();
    assert!(matches!(scaled, Err(DeployError::Stands(_))), "{scaled:?}");
    world.does_all(Command::Minute);
    assert_eq!(world.runs(), ["web-1-1", "web-1-2"]);
    let then = observed(&world);
    promises::kept(&world, &then).unwrap();
}
