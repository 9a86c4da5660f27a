//! What happens around the commit point, and to the release before.

use super::*;

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
fn a_process_that_ends_before_its_route_is_published_is_not_routed_to() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    world.notes().outage.store(true, std::sync::atomic::Ordering::Relaxed);
    for place in 20..52 {
        let engine = world.engine();
        script::plan(Mishap::Cancel, place, None, move |_| {
            let newest =
                engine.state().containers.keys().max_by_key(|id| id[9..].parse::<u32>().ok()).cloned();
            engine.die(&newest.unwrap_or_default());
        });
        let _ = world.tries(good(2 + place % 3));
        let struck = script::end();
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
        script::at(place, move || {
            let id = engine.id("paas-shop-web-2-1");
            engine.die(&id);
        });
        let refused = world.tries(command);
        script::end();
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
    script::at("ready", move || {
        let id = engine.id("paas-shop-web-2-1");
        engine.state().boot = WHILE / 3;
        engine.die(&id);
        let engine = engine.clone();
        handle.spawn(async move { engine.is_back(&id).await });
    });
    let pushed = world.tries(good(2));
    script::end();
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
    script::hold_from("branch-moved", move || {
        // Git can't write either, and leaves the branch where it is.
        std::fs::write(repository.join("refs/heads/main.lock"), "").unwrap();
    });
    assert!(world.tries(good(2)).is_err());
    script::end();
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
    script::hold_from("branch-moved", move || std::fs::write(&lock, "").unwrap());
    assert!(world.tries(good(2)).is_err());
    script::end();
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
    script::end();
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
fn another_branch_deploys_or_does_not_wherever_the_change_is_cut_off() {
    for place in 0.. {
        let mut world = World::new().unwrap();
        world.does_all(good(1));
        world.plan(Mishap::Crash, place);
        let (pipeline, app) = (world.pipeline.clone(), world.app());
        let _ = world.carry_out(async move { pipeline.set_deploy_branch(&app, "live").await });
        let struck = script::end();
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
