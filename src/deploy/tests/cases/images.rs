//! What is kept of old releases.

use super::*;

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
    script::end();
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
