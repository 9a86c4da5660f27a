//! Commands that wait for one another, or are for all apps.

use super::*;

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
    world.plan(Mishap::EngineFails, place);
    let removed = world.tries(Command::Destroy);
    script::end();
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
        world.plan(Mishap::Crash, place);
        let carried = world.carry_out(set_for_all(world.pipeline.clone()));
        let struck = script::end();
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
