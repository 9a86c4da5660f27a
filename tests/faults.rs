//! What people and other programs do to a server behind its back: each time the
//! branch goes on naming what runs, the app answers, and the same push works after.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use rusqlite::Connection;
use std::time::Duration;
use support::{Finished, Repository, Server, TestApp, alone, docker, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// An app that says `first`.
fn deployed(server: &'static Server, name: &str) -> (TestApp, Repository) {
    server.stop_nowhere();
    let app = server.app(name);
    let repository = app.saying("first");
    repository.push(&["main"]).ok();
    (app, repository)
}

/// Branch and routes tell the same story, and one container is there.
#[track_caller]
fn agrees(app: &TestApp, repository: &Repository, commit: &str, says: &str) {
    eventually("it answers", MINUTE, || {
        app.server.try_get(&app.name, "/").is_ok_and(|reply| reply.status == 200 && reply.body == says)
    });
    assert_eq!(repository.on_server("refs/heads/main"), commit);
    eventually("one container is there", MINUTE, || app.containers().len() == 1);
}

/// A push that is stopped at `place`, until something has been done there.
fn pushed_while(server: &Server, repository: &Repository, place: &str, act: impl FnOnce()) -> Finished {
    server.stop_at(place);
    let push = repository.push_running(&["main"]);
    server.wait_stopped();
    act();
    server.stop_nowhere();
    push.finish(2 * MINUTE)
}

#[test]
fn containers_removed_by_hand_are_replaced_or_refuse_the_push() {
    let (server, _turn) = alone();
    let (app, repository) = deployed(server, "faults-removed");
    let first = repository.head();
    docker(&["rm", "--force", &app.containers()[0]]).ok();
    agrees(&app, &repository, &first, "first");

    let second = repository.say("second");
    let old = app.containers();
    let push = pushed_while(server, &repository, "web-started", || {
        let new = app.containers().into_iter().find(|name| !old.contains(name)).unwrap();
        docker(&["rm", "--force", &new]).ok();
    });
    push.fails().says(&["The container of web.1 was removed while it started."]);
    agrees(&app, &repository, &first, "first");

    repository.push(&["main"]).ok();
    agrees(&app, &repository, &second, "second");
}

#[test]
fn an_image_removed_by_hand_is_missed_in_words_and_can_be_built_again() {
    let (server, _turn) = alone();
    let (app, repository) = deployed(server, "faults-image");
    let first = repository.head();
    app.ssh("ps:stop", &[]).ok();
    docker(&["image", "rm", "--force", &app.image("v1")]).ok();
    for command in ["ps:start", "ps:restart"] {
        app.ssh(command, &[]).fails().says(&["The image paas/", "is gone.", "git commit --allow-empty"]);
    }
    assert_eq!(repository.on_server("refs/heads/main"), first);
    assert_eq!(app.containers(), Vec::<String>::new());

    repository.git(&["commit", "--allow-empty", "--quiet", "-m", "Rebuild"]);
    repository.push(&["main"]).ok();
    agrees(&app, &repository, &repository.head(), "first");
}

#[test]
fn a_database_that_another_process_holds_refuses_the_push_and_no_more() {
    let (server, _turn) = alone();
    let (app, repository) = deployed(server, "faults-locked");
    let first = repository.head();
    let database = Connection::open(server.home.join("data/paas.db")).unwrap();

    // For a moment: it is waited for.
    let second = repository.say("second");
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let push = repository.push_running(&["main"]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(app.page(), "first");
    database.execute_batch("ROLLBACK").unwrap();
    push.finish(MINUTE).ok();
    agrees(&app, &repository, &second, "second");

    // For long, from the middle of a push on, and with it for the undoing too.
    repository.say("third");
    let push = pushed_while(server, &repository, "web-started", || {
        database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    });
    push.fails().says(&["another program holds the server's database"]);
    assert_eq!(app.page(), "second");
    assert_eq!(repository.on_server("refs/heads/main"), second);
    database.execute_batch("ROLLBACK").unwrap();
    repository.push(&["main"]).ok();
    agrees(&app, &repository, &repository.head(), "third");
    assert_ne!(first, second);
}

#[test]
fn a_database_that_is_held_refuses_each_kind_of_change_in_words() {
    let (server, _turn) = alone();
    let (app, repository) = deployed(server, "faults-held");
    let second = repository.say("second");
    repository.push(&["main"]).ok();
    let key = std::fs::read(server.home.join("id.pub")).unwrap();
    let database = Connection::open(server.home.join("data/paas.db")).unwrap();
    let before = app.ssh("releases", &["--json"]).ok().out();

    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // The writes within each are held by turns in deploy::tests.
    let changes: [&[&str]; 5] = [
        &["config:set", &app.name, "A=1"],
        &["ps:scale", &app.name, "web=2"],
        &["rollback", &app.name],
        &["apps:create", "faults-new"],
        &["apps:destroy", &app.name, "--confirm", &app.name],
    ];
    std::thread::scope(|scope| {
        let begun = changes.map(|words| (words, scope.spawn(move || server.ssh(words))));
        let key = scope.spawn(|| server.paas_with(&["keys:add", "another"], &key));
        let held = "Another program holds the server's database.";
        for (words, change) in begun {
            println!("{words:?}");
            change.join().unwrap().fails().says(&[held]);
        }
        key.join().unwrap().fails().says(&[held]);
        // Nothing is waited for that only reads.
        app.ssh("ps", &[]).ok();
        assert_eq!(app.page(), "second");
    });
    database.execute_batch("ROLLBACK").unwrap();

    assert_eq!(app.ssh("releases", &["--json"]).ok().out(), before);
    app.ssh("config:get", &["A"]).fails();
    server.paas(&["apps:info", "faults-new"]).fails();
    assert!(!server.paas(&["keys"]).ok().out().contains("another"));
    agrees(&app, &repository, &second, "second");
    app.ssh("config:set", &["A=1"]).ok();
    app.ssh("rollback", &["v1"]).ok();
    assert_eq!(app.page(), "first");
}

#[test]
fn without_a_proxy_nothing_is_deployed_and_it_is_said_what_to_do() {
    let (server, _turn) = alone();
    let (app, repository) = deployed(server, "faults-proxy");
    let first = repository.head();
    let second = repository.say("second");
    repository.push(&["main"]).ok();
    agrees(&app, &repository, &second, "second");
    let before = app.ssh("releases", &["--json"]).ok().out();

    let proxy = server.without_proxy();
    repository.say("third");
    let says = ["o proxy is running", "systemctl start paas-proxy", "paas proxy --config"];
    repository.push(&["main"]).fails().says(&says).says(&["[remote rejected]"]);
    app.ssh("config:set", &["A=1"]).fails().says(&says);
    app.ssh("rollback", &[]).fails().says(&says);
    assert_eq!(repository.on_server("refs/heads/main"), second);
    app.ssh("config:get", &["A"]).fails();
    assert_eq!(app.ssh("releases", &["--json"]).ok().out(), before);
    assert_eq!(app.containers().len(), 1);

    server.kill9();
    drop(proxy);
    server.restart();
    agrees(&app, &repository, &second, "second");
    repository.push(&["main"]).ok();
    agrees(&app, &repository, &repository.head(), "third");
    assert_ne!(first, second);
}
