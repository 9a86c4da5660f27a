//! Two who want the same repository.

use super::apps::{Behaviour, Commit};
use super::command::{Command, Step, observed};
use super::world::{World, app_name};
use super::{promises, take};
use crate::deploy::Report;
use crate::deploy::{Authorship, Hook};
use crate::git::{Lease, RefUpdate, repository};
use crate::model::CommitId;
use tokio_util::sync::CancellationToken;

fn good(number: u8) -> Commit {
    Commit { number, behaviour: Behaviour::Good }
}

fn after(world: World, command: Command) -> World {
    take(world, Step { command, mishap: None, next: None, again: None }).unwrap().0
}

/// What the pre-receive hook of a push is told that began when the branch was `old`.
async fn agreed(world: &World, old: &CommitId, commit: Commit) -> bool {
    let pipeline = &world.pipeline;
    let app = pipeline.find(&app_name()).await.unwrap().unwrap();
    let by = Authorship { who: "ada".to_owned() };
    let (id, push, _lease) =
        pipeline.open_push(&app_name(), by, Some(&app), CancellationToken::new()).await.unwrap();
    let new = commit.write(&pipeline.repository(&app.repository));
    let update = RefUpdate { old: old.clone(), new, name: "refs/heads/main".to_owned() };
    let hook = Hook::PreReceive { updates: vec![update], quarantine: None };
    let agreed = pipeline.hook(&id, hook, Report::channel().0, CancellationToken::new()).await;
    pipeline.close_push(&id, &push).await.unwrap();
    agreed
}

fn branch(world: &World) -> CommitId {
    let app = world.block_on(world.pipeline.find(&app_name())).unwrap().unwrap();
    repository::branch(&world.pipeline.repository(&app.repository), "main").unwrap().unwrap()
}

#[test]
fn a_push_that_began_before_another_one_moved_the_branch_is_refused() {
    let world = after(World::new().unwrap(), Command::Push(good(0)));
    let old = branch(&world);
    let world = after(world, Command::Push(good(1)));
    assert!(!world.block_on(agreed(&world, &old, good(2))));
    promises::kept(&world, &observed(&world)).unwrap();
}

#[test]
fn a_push_to_a_repository_that_another_git_writes_to_is_refused() {
    let world = after(World::new().unwrap(), Command::Push(good(0)));
    let old = branch(&world);
    let app = world.block_on(world.pipeline.find(&app_name())).unwrap().unwrap();
    let other = Lease::open(&world.pipeline.repository(&app.repository)).unwrap();
    assert!(other.lock().unwrap());
    assert!(!world.block_on(agreed(&world, &old, good(1))));
    other.unlock();
    promises::kept(&world, &observed(&world)).unwrap();
    after(world, Command::Push(good(1)));
}
