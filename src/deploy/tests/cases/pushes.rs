//! Pushes that wait, are cancelled, or come to no end.

use super::*;

/// The first hook of a push of this commit to a branch; what it says.
async fn pushes(pipeline: &Arc<Pipeline>, id: &str, new: CommitId, branch: &str) -> bool {
    let old = CommitId::parse(&"0".repeat(40)).unwrap();
    let update = RefUpdate { old, new, name: format!("refs/heads/{branch}") };
    let hook = Hook::PreReceive { updates: vec![update], quarantine: None };
    pipeline.hook(id, hook, Report::channel().0, CancellationToken::new()).await
}

fn ada() -> Authorship {
    Authorship { who: "ada".to_owned() }
}

#[test]
fn a_push_that_outlives_its_app_does_not_bring_it_back() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let gone = CancellationToken::new();
    let name = app_name();
    let opened = pipeline.open_push(&name, ada(), Some(&app), gone);
    let (id, push, _lease) = world.block_on(opened).unwrap();
    let commit = Commit { number: 2, behaviour: Behaviour::Good };
    let commit = commit.write(&pipeline.repository(&app.repository));
    world.does_all(Command::Destroy);
    assert!(!world.block_on(pushes(&pipeline, &id, commit, "topic")));
    assert_eq!(world.block_on(pipeline.find(&app_name())).unwrap(), None);
    world.block_on(pipeline.close_push(&id, &push)).unwrap();
    world.does_all(good(1));
}

#[test]
fn a_push_that_waited_does_not_undo_a_change_of_the_branch() {
    let mut world = World::new().unwrap();
    assert!(world.tries(Command::Push(Commit { number: 0, behaviour: Behaviour::BuildFails })).is_err());
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let name = app_name();
    let opened = pipeline.open_push(&name, ada(), Some(&app), CancellationToken::new());
    let (id, push, _lease) = world.block_on(opened).unwrap();
    let commit = Commit { number: 2, behaviour: Behaviour::Good };
    let commit = commit.write(&pipeline.repository(&app.repository));
    let (agreed, ()) = world.block_on(async {
        let turn = pipeline.turn(&app, "changing the branch", "bob").await;
        let changes = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let number = app.id;
            let set =
                pipeline.workers.store.write(move |db| store::apps::set_deploy_branch(db, number, "live"));
            set.await.unwrap();
            drop(turn);
        };
        tokio::join!(pushes(&pipeline, &id, commit, "main"), changes)
    });
    assert!(!agreed);
    world.block_on(pipeline.close_push(&id, &push)).unwrap();
    assert_eq!(world.app().deploy_branch.as_deref(), Some("live"));
}

/// A push that waits for a turn that bob has; it is told so. What it comes to.
async fn waits_behind_bob(pipeline: &Arc<Pipeline>, app: &App, meanwhile: impl AsyncFnOnce(Turn)) -> bool {
    let name = app_name();
    let opened = pipeline.open_push(&name, ada(), Some(app), CancellationToken::new()).await;
    let (id, push, _lease) = opened.unwrap();
    let repository = pipeline.repository(&app.repository);
    let old = crate::git::repository::branch(&repository, "main").unwrap().unwrap();
    let new = Commit { number: 2, behaviour: Behaviour::Good }.write(&repository);
    let update = RefUpdate { old, new, name: "refs/heads/main".to_owned() };
    let hook = Hook::PreReceive { updates: vec![update], quarantine: None };
    let turn = pipeline.turn(app, "scaling", "bob").await;
    let (report, mut lines) = Report::channel();
    let hooked = pipeline.hook(&id, hook, report, CancellationToken::new());
    let meanwhile = async {
        assert_eq!(lines.next().await.unwrap(), "-----> Waiting: shop is scaling by bob; this one is next");
        meanwhile(turn).await;
    };
    let (agreed, ()) = tokio::join!(hooked, meanwhile);
    pipeline.close_push(&id, &push).await.unwrap();
    agreed
}

#[test]
fn a_push_that_waits_for_its_turn_can_be_cancelled() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let agreed = world.block_on(waits_behind_bob(&pipeline, &app, async |turn| {
        assert_eq!(pipeline.cancel(&app, "eve").await.unwrap(), None, "it was no release yet");
        drop(turn);
    }));
    assert!(!agreed);
    world.settles();
    assert_eq!(world.runs(), ["web-1-1"]);
    let cancelled = world.block_on(pipeline.cancel(&app, "eve"));
    assert!(matches!(cancelled, Err(DeployError::NothingToCancel)), "{cancelled:?}");
}

#[test]
fn an_app_is_destroyed_before_the_pushes_that_wait() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let agreed = world.block_on(waits_behind_bob(&pipeline, &app, async |turn| {
        let bob = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(turn);
        };
        let (destroyed, ()) = tokio::join!(pipeline.destroy_app(&app, "eve"), bob);
        destroyed.unwrap();
    }));
    assert!(!agreed);
    world.settles();
    assert_eq!(world.block_on(pipeline.find(&app_name())).unwrap(), None);
    assert_eq!(world.runs(), Vec::<String>::new());
}

/// A push that somebody cancels at the n-th place, if that is the one from which on its
/// tree is read.
fn cancelled_at_its_turn(place: u8) -> Option<World> {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, id) = (world.pipeline.clone(), world.app().id);
    script::plan(Mishap::Cancel, place, None, move |_| drop(pipeline.queue.cancel(id, "bob")));
    let result = world.tries(good(2));
    let struck = script::end()?;
    world.settles();
    (struck.place == "turn-taken").then(|| assert!(result.is_err(), "it was not cancelled"))?;
    Some(world)
}

#[test]
fn a_deploy_is_cancelled_while_its_tree_is_read() {
    let world = (0..9).find_map(cancelled_at_its_turn).unwrap();
    let id = world.app().id;
    assert_eq!(world.read(move |db| store::releases::list(db, id)).len(), 1, "no release was begun");
}

#[test]
fn who_has_gone_waits_for_no_turn() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let gone = CancellationToken::new();
    let (report, mut lines) = Report::channel();
    let (scaled, ()) = world.block_on(async {
        let turn = pipeline.turn(&app, "resizing", "bob").await;
        let asker = crate::deploy::Asker { gone: gone.clone(), report: Some(report.clone()) };
        let two = [(ProcessType::web(), Scale::To(2))].into();
        let goes = async {
            let said = lines.next().await.unwrap();
            assert_eq!(said, "-----> Waiting: shop is resizing by bob; this one is next");
            gone.cancel();
        };
        let outcome = tokio::join!(asker.asks(pipeline.scale(&app, &two, "ada", &report)), goes);
        drop(turn);
        outcome
    });
    assert!(matches!(scaled, Err(DeployError::Cancelled)), "{scaled:?}");
    world.settles();
    assert_eq!(world.runs(), ["web-1-1"]);
}

#[test]
fn who_is_told_that_a_deploy_is_cancelled_never_sees_it_live() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, id) = (world.pipeline.clone(), world.app().id);
    let mut cancelled = 0;
    for place in 0..40 {
        let told = Rc::new(Cell::new(false));
        let (asked, pipeline) = (told.clone(), pipeline.clone());
        script::plan(Mishap::Cancel, place, None, move |_| {
            asked.set(pipeline.queue.cancel(id, "bob").is_some());
        });
        let command = if place % 2 == 0 { good(2 + place / 2 % 3) } else { Command::Restart };
        let result = world.tries(command);
        let struck = script::end();
        world.settles();
        if told.get() {
            cancelled += 1;
            assert!(result.is_err(), "{command:?}, cancelled at {struck:?}, went live");
        }
    }
    assert!(cancelled > 9, "{cancelled} were cancelled");
}

#[test]
fn a_push_whose_branch_git_does_not_move_gives_the_app_back() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app, name) = (world.pipeline.clone(), world.app(), app_name());
    let gone = CancellationToken::new();
    let opened = pipeline.open_push(&name, ada(), Some(&app), gone.clone());
    let (id, push, _lease) = world.block_on(opened).unwrap();
    let repository = pipeline.repository(&app.repository);
    let old = crate::git::repository::branch(&repository, "main").unwrap().unwrap();
    let new = Commit { number: 2, behaviour: Behaviour::Good }.write(&repository);
    let update = RefUpdate { old, new, name: "refs/heads/main".to_owned() };
    let hook = Hook::PreReceive { updates: vec![update], quarantine: None };
    let agreed = pipeline.hook(&id, hook, Report::channel().0, CancellationToken::new());
    assert!(world.block_on(agreed));
    let dropped = async { tokio::time::timeout(Duration::from_secs(20), gone.cancelled()).await };
    assert!(world.block_on(dropped).is_ok(), "nobody has ended git");
    assert!(!world.block_on(pipeline.close_push(&id, &push)).unwrap());
    world.settles();
    assert_eq!(world.runs(), ["web-1-1"]);
    world.does_all(good(2));
}

/// A push of `good(2)` up to the move of the branch; its id, the branch's file, and what it
/// would name before and after.
async fn prepared(pipeline: &Arc<Pipeline>, app: &App) -> (String, Arc<crate::deploy::pushes::Push>, Moving) {
    let name = app_name();
    let opened = pipeline.open_push(&name, ada(), Some(app), CancellationToken::new()).await;
    let (id, push, lease) = opened.unwrap();
    let repository = pipeline.repository(&app.repository);
    let old = crate::git::repository::branch(&repository, "main").unwrap().unwrap();
    let new = Commit { number: 2, behaviour: Behaviour::Good }.write(&repository);
    let update = RefUpdate { old: old.clone(), new: new.clone(), name: "refs/heads/main".to_owned() };
    let hook = Hook::PreReceive { updates: vec![update], quarantine: None };
    assert!(pipeline.hook(&id, hook, Report::channel().0, CancellationToken::new()).await);
    drop(lease);
    (id, push, Moving { branch: repository.join("refs/heads/main"), old, new })
}

struct Moving {
    branch: std::path::PathBuf,
    old: CommitId,
    new: CommitId,
}

/// The disk is unwell when git has ended, and nobody hears of its last hook.
#[test]
fn a_push_whose_branch_cannot_be_read_is_seen_to_when_it_can() {
    for moved in [true, false] {
        let mut world = World::new().unwrap();
        world.does_all(good(1));
        let (pipeline, app) = (world.pipeline.clone(), world.app());
        let (id, push, moving) = world.block_on(prepared(&pipeline, &app));
        std::fs::write(&moving.branch, "unreadable\n").unwrap();
        assert!(world.block_on(pipeline.close_push(&id, &push)).is_err());
        world.does_all(Command::Minute);
        assert_eq!(world.runs(), ["web-1-1", "web-2-1"], "nothing is undone that may be live");
        let now = if moved { &moving.new } else { &moving.old };
        std::fs::write(&moving.branch, format!("{now}\n")).unwrap();
        world.does_all(Command::Minute);
        assert_eq!(world.runs(), [if moved { "web-2-1" } else { "web-1-1" }]);
        let then = observed(&world);
        assert_eq!(then.commit, Some(now.to_string()));
        promises::kept(&world, &then).unwrap();
    }
}

#[test]
fn no_push_begins_while_what_others_left_is_swept_up() {
    let mut world = World::new().unwrap();
    world.does_all(good(1));
    let (pipeline, app) = (world.pipeline.clone(), world.app());
    let name = app_name();
    world.block_on(async {
        let alone = pipeline.pushes.alone(&app.repository).unwrap();
        let opening = pipeline.open_push(&name, ada(), Some(&app), CancellationToken::new());
        tokio::pin!(opening);
        let moment = Duration::from_millis(50);
        assert!(tokio::time::timeout(moment, &mut opening).await.is_err());
        drop(alone);
        let (id, push, _lease) = opening.await.unwrap();
        assert!(pipeline.pushes.alone(&app.repository).is_none(), "its quarantine is its own");
        pipeline.close_push(&id, &push).await.unwrap();
        assert!(pipeline.pushes.alone(&app.repository).is_some());
    });
}
