//! Random sequences of what people do and of what goes wrong, on the real
//! pipeline, store and repositories, with an engine in memory. The promises are
//! checked after each step.
//!
//! A sequence that breaks one is printed as the shortest that still does:
//!
//!     [Push(Commit { number: 1, behaviour: Good }), Rollback(None), Crash after 7 places]
//!
//! `PROPTEST_CASES=1000 cargo test --lib deploy::tests` tries longer.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod apps;
mod cases;
mod command;
mod containers;
mod engine;
mod promises;
mod script;
mod two;
pub(crate) mod world;

use apps::{Behaviour, Commit};
use command::{Call, Command, Forecast, Step, Wanted, observed};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use script::Mishap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use world::{Carried, World};

/// Sequences that are tried when nobody asks for more.
const CASES: u32 = 48;

/// Steps of one.
const STEPS: usize = 12;

fn commits() -> impl Strategy<Value = Commit> {
    use Behaviour::{Answers500, BuildFails, Exits, Good, Nothing, ReleaseFails, Tried};
    let behaviour = prop_oneof![
        12 => Just(Good),
        3 => Just(Tried),
        2 => Just(BuildFails),
        2 => Just(ReleaseFails),
        2 => Just(Exits),
        1 => Just(Answers500),
        1 => Just(Nothing),
    ];
    (0..6u8, behaviour).prop_map(|(number, behaviour)| Commit { number, behaviour })
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        10 => commits().prop_map(Command::Push),
        3 => prop::option::of(0..4u8).prop_map(Command::Rollback),
        3 => (0..3u8, 0..2u8).prop_map(|(web, worker)| Command::Scale { web, worker }),
        3 => (0..3u8).prop_map(Command::Config),
        1 => (0..3u8).prop_map(Command::ConfigOfAll),
        1 => (0..3u8).prop_map(Command::Resize),
        1 => (0..3u8).prop_map(Command::Checks),
        1 => Just(Command::RollbackKeeping),
        1 => Just(Command::StopSome),
        1 => Just(Command::StartSome),
        2 => Just(Command::Restart),
        2 => Just(Command::RestartWeb),
        1 => Just(Command::Stop),
        1 => Just(Command::Start),
        1 => Just(Command::Destroy),
        3 => Just(Command::Sleep),
        2 => Just(Command::Request),
        1 => Just(Command::Minute),
        1 => (0..4u8).prop_map(Command::Dies),
        1 => (0..4u8).prop_map(Command::Removed),
        1 => Just(Command::Sluggish),
        1 => (-1..=1i8).prop_map(Command::Clock),
        1 => commits().prop_map(Command::Astray),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let mishaps = prop_oneof![
        6 => Just(Mishap::Crash),
        2 => Just(Mishap::EngineFails),
        2 => Just(Mishap::StoreFails),
        1 => Just(Mishap::StoreHeld),
        1 => Just(Mishap::Cancel),
        1 => Just(Mishap::Leave),
    ];
    let next = prop::option::weighted(0.3, (mishaps.clone(), 0..20u8));
    let mishap = prop::option::of((mishaps, 0..60u8));
    let again = prop::option::weighted(0.3, 0..20u8);
    (commands(), mishap, next, again).prop_map(|(command, mishap, next, again)| {
        let crash = |mishap: Option<(Mishap, u8)>| mishap.is_some_and(|(mishap, _)| mishap == Mishap::Crash);
        let next = next.filter(|_| mishap.is_some() && !crash(mishap));
        Step { command, mishap, next, again: again.filter(|_| crash(mishap) || crash(next)) }
    })
}

/// Does one step, and checks the promises; whether its mishap happened.
fn take(mut world: World, step: Step) -> Result<(World, bool), String> {
    let now = observed(&world);
    let forecast = step.command.forecast(&world, &now);
    let (leads, refused) = match forecast {
        Forecast::LeftOut => return Ok((world, false)),
        Forecast::Leads(wanted) => (Some(wanted), now.clone()),
        Forecast::Refused(wanted) => (None, wanted),
    };
    world.notes().outage.store(step.command.is_outage(&now), Ordering::Relaxed);
    world.gone = tokio_util::sync::CancellationToken::new();
    if let Some((mishap, left)) = step.mishap {
        world.plan_two(mishap, left, step.next);
    }
    let call = Call::new(&world, step.command);
    let mut outcome = world.carry_out(step.command.run(call));
    if matches!(outcome, Carried::Out(_)) && matches!(world.rest()?, Carried::Killed) {
        outcome = Carried::Killed;
    }
    let struck = script::end();
    let at = |text: String| match &struck {
        Some(struck) => format!("{text} (at: {})", struck.place),
        None => text,
    };
    let result = match outcome {
        Carried::Killed => {
            world = world.after_a_crash(step.again).map_err(at)?;
            None
        }
        Carried::Out(result) => Some(result),
    };
    if struck.is_some() && result.is_some() {
        world = minute(world)?;
    }
    let then = observed(&world);
    // What went wrong before the crash may have it undone.
    let alone = struck.as_ref().filter(|_| step.next.is_none());
    let decided = alone.zip(step.command.decided_at());
    let half_way = step.command.half_way(leads.as_ref(), &now);
    let decided = result.is_none()
        && half_way.is_none()
        && decided.is_some_and(|(struck, place)| struck.is_after(place));
    if let Some(leads) = leads.as_ref().filter(|leads| decided && **leads != then) {
        return Err(at(format!("it was undone though it was decided: {then:?}, not {leads:?}")));
    }
    judge(
        step,
        struck.is_some(),
        result.map(|result| result.map_err(|error| error.to_string())),
        &then,
        leads.as_ref(),
        &refused,
        &now,
    )
    .map_err(at)?;
    promises::kept(&world, &then).map_err(at)?;
    Ok((world, struck.is_some_and(|struck| struck.complete)))
}

/// Whether things are as they should be now.
fn judge(
    step: Step,
    struck: bool,
    result: Option<Result<(), String>>,
    then: &Wanted,
    leads: Option<&Wanted>,
    refused: &Wanted,
    before: &Wanted,
) -> Result<(), String> {
    let may_be: Vec<&Wanted> = match &result {
        Some(Ok(())) if leads.is_none() => return Err("it should have been refused".to_owned()),
        Some(Err(error)) if !struck && leads.is_some() => return Err(format!("it was refused: {error}")),
        Some(Ok(())) => leads.into_iter().collect(),
        // The wish is kept, and carried out when the engine is well again; unless it was
        // the wish that could not be written down.
        Some(Err(_)) if struck && step.command == Command::Destroy => {
            let unwritten = step.mishap.is_some_and(|(mishap, _)| mishap.is_the_stores());
            leads.into_iter().chain(unwritten.then_some(before)).collect()
        }
        // The counts are written first, and put back if the processes do not come up: from
        // then on held, they stand, and are made true within a minute.
        Some(Err(_)) if struck && step.is_left_written() => leads.into_iter().chain([before]).collect(),
        // A first push that fails has made the app or not.
        Some(Err(_)) if struck => vec![refused, before],
        Some(Err(_)) => vec![refused],
        None => leads.into_iter().chain([refused, before]).collect(),
    };
    let created = |then: &Wanted| matches!(step.command, Command::Push(_)) && then.commit.is_none();
    let half_way = step.command.half_way(leads, before);
    if struck && half_way.as_ref() == Some(then) {
        return Ok(());
    }
    if may_be.contains(&then) || (struck && !before.there && created(then)) {
        return Ok(());
    }
    Err(format!("{result:?} led from {before:?}\n to {then:?},\n not to any of {may_be:?}"))
}

/// What a passing failure of the engine left is put right within a minute.
fn minute(mut world: World) -> Result<World, String> {
    let pipeline = world.pipeline.clone();
    world.block_on(pipeline.adopt_all());
    world.rest()?;
    let app = world.block_on(pipeline.find(&world::app_name())).map_err(|error| error.to_string())?;
    if let Some(app) = app {
        world.block_on(pipeline.prune_images(&app, "ada")).map_err(|error| error.to_string())?;
    }
    Ok(world)
}

/// The same again, if it did not come about, without a mishap.
fn again(world: World, step: Step) -> Result<World, String> {
    let retried = matches!(step.command, Command::Push(Commit { behaviour: Behaviour::Good, .. }));
    if step.mishap.is_none() || !retried {
        return Ok(world);
    }
    take(world, Step { mishap: None, next: None, again: None, ..step })
        .map(|(world, _)| world)
        .map_err(|why| format!("the same push again: {why}"))
}

/// Does them one after the other; whether the last one's mishap happened.
fn run(steps: &[Step]) -> Result<bool, String> {
    run_watching("0", steps)
}

/// The same, where the release before stands by for so long.
fn run_watching(watch: &str, steps: &[Step]) -> Result<bool, String> {
    let (mut world, mut struck) = (World::watching(watch)?, false);
    for (number, step) in steps.iter().enumerate() {
        let said = |why: String| format!("step {}, {step:?}: {why}", number + 1);
        (world, struck) = take(world, *step).map_err(said)?;
        world = again(world, *step).map_err(said)?;
    }
    Ok(struck)
}

/// Each command, on an app that has a worker and a release to go back to.
fn at_every_place(mishap: Mishap) {
    let good = |number| Commit { number, behaviour: Behaviour::Good };
    let each = [
        Command::Push(good(2)),
        Command::Push(Commit { number: 2, behaviour: Behaviour::Exits }),
        Command::Push(Commit { number: 2, behaviour: Behaviour::Tried }),
        Command::Rollback(None),
        Command::Scale { web: 2, worker: 0 },
        Command::Scale { web: 0, worker: 2 },
        Command::Config(1),
        Command::ConfigOfAll(1),
        Command::Resize(1),
        Command::Checks(1),
        Command::RollbackKeeping,
        Command::Restart,
        Command::RestartWeb,
        Command::StopSome,
        Command::Stop,
        Command::Destroy,
    ];
    let plain = |command| Step { command, mishap: None, next: None, again: None };
    let mut before =
        vec![Command::Push(good(0)), Command::Push(good(1)), Command::Scale { web: 1, worker: 1 }];
    // Who fails at once does not care how long the others take.
    before.extend((mishap == Mishap::Crash).then_some(Command::Sluggish));
    let before: Vec<Step> = before.into_iter().map(plain).collect();
    let with_a_stopped_worker =
        [Command::Push(good(0)), Command::Scale { web: 1, worker: 2 }, Command::StopSome];
    let asleep = [&before[..], &[plain(Command::Sleep)]].concat();
    let sequences = each.map(|command| (before.clone(), command)).into_iter().chain([
        (before.clone(), Command::Sleep),
        (asleep.clone(), Command::Request),
        (asleep.clone(), Command::Push(good(2))),
        (asleep.clone(), Command::Scale { web: 2, worker: 0 }),
        (asleep, Command::Config(1)),
        (vec![], Command::Push(good(0))),
        ([Command::Push(good(0)), Command::Stop].map(plain).to_vec(), Command::Start),
        ([Command::Push(good(0)), Command::Stop, Command::Config(1)].map(plain).to_vec(), Command::Start),
        ([Command::Push(good(0)), Command::Stop].map(plain).to_vec(), Command::Push(good(1))),
        (with_a_stopped_worker.map(plain).to_vec(), Command::StartSome),
    ]);
    let sequences = Mutex::new(sequences);
    // Worlds mostly wait.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((before, command)) = { sequences.lock().unwrap().next() } {
                    at_every_place_of(&before, command, mishap);
                }
            });
        }
    });
}

fn at_every_place_of(before: &[Step], command: Command, mishap: Mishap) {
    for place in 0.. {
        let step = Step { command, mishap: Some((mishap, place)), next: None, again: None };
        match run(&[before, &[step]].concat()) {
            Ok(true) => {}
            Ok(false) => break,
            Err(why) => panic!("{before:?}, then {why}"),
        }
    }
}

#[test]
fn a_crash_at_any_place_breaks_no_promise() {
    at_every_place(Mishap::Crash);
}

#[test]
fn an_engine_that_fails_at_any_call_breaks_no_promise() {
    at_every_place(Mishap::EngineFails);
}

#[test]
fn a_write_that_fails_anywhere_breaks_no_promise() {
    at_every_place(Mishap::StoreFails);
}

#[test]
fn a_database_that_is_held_from_anywhere_on_breaks_no_promise() {
    at_every_place(Mishap::StoreHeld);
}

/// A full disk, and a server that is killed before there is room again.
#[test]
fn a_crash_while_the_database_is_held_breaks_no_promise() {
    let good = |number| Command::Push(Commit { number, behaviour: Behaviour::Good });
    let plain = |command| Step { command, mishap: None, next: None, again: None };
    let before = [good(0), good(1), Command::Scale { web: 1, worker: 1 }].map(plain);
    for command in [good(2), Command::Rollback(None), Command::Config(1)] {
        for held in 0.. {
            let held = Step { command, mishap: Some((Mishap::StoreHeld, held)), next: None, again: None };
            let with = |next| run(&[&before[..], &[Step { next, ..held }]].concat());
            if !with(None).unwrap() {
                break;
            }
            let crash = |place: &u8| with(Some((Mishap::Crash, *place)));
            (0..).step_by(2).take_while(|place| crash(place).unwrap()).for_each(drop);
        }
    }
}

#[test]
fn no_sequence_of_commands_and_mishaps_breaks_a_promise() {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let default = Config::default();
    let cases = if asked { default.cases } else { CASES };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..default };
    let sequences = prop::collection::vec(steps(), 1..=STEPS);
    let sequences = (prop::sample::select(vec!["0", "10m"]), sequences);
    let outcome = TestRunner::new(config).run(&sequences, |(watch, steps)| {
        run_watching(watch, &steps)
            .map(|_| ())
            .map_err(|why| TestCaseError::fail(format!("watch {watch}: {why}")))
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
