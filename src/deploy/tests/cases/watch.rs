//! Releases that are watched, and what stands by meanwhile.

use super::*;

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
    for mishap in [Mishap::StoreFails, Mishap::EngineFails] {
        for place in 0.. {
            let mut world = failing();
            world.plan(mishap, place);
            let rested = fails(&mut world);
            let struck = script::end();
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
        world.plan(Mishap::Crash, place);
        let killed = matches!(fails(&mut world).unwrap(), Carried::Killed);
        let struck = script::end();
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
