//! Going back to an earlier release, and the branch that always names what runs.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::path::PathBuf;
use std::time::Duration;
use support::{Repository, Server, TestApp, alone, eventually, shared};

/// Two releases that say `one` and `two`; their commits.
fn two_releases(app: &TestApp) -> (Repository, String, String) {
    let repository = app.saying("one");
    let one = repository.head();
    repository.push(&["main"]).ok();
    let two = repository.say("two");
    repository.push(&["main"]).ok();
    (repository, one, two)
}

#[test]
fn a_rollback_needs_no_build_moves_the_branch_and_the_same_commit_can_be_pushed_again() {
    let (server, _turn) = shared();
    let app = server.app("back");
    let (repository, one, two) = two_releases(&app);
    let said = app.ssh("rollback", &[]).ok();
    said.says(&["Rolled back", "to v1 as v3", &one[..8]]).silent_about("Building");
    assert_eq!(app.page(), "one");
    assert_eq!(repository.on_server("refs/heads/main"), one);
    app.ssh("releases", &[]).ok().says(&["v3", "rollback to v1", "tester"]);

    // Everywhere else this is "Everything up-to-date", and the app stays back.
    repository.push(&["main"]).ok().says(&["Application deployed: v4"]);
    assert_eq!(app.page(), "two");
    assert_eq!(repository.on_server("refs/heads/main"), two);

    app.ssh("rollback", &["v1"]).ok();
    let fix = repository.say("fixed");
    repository.push(&["main"]).ok();
    assert_eq!((app.page(), repository.on_server("refs/heads/main")), ("fixed".to_owned(), fix));
}

#[test]
fn a_rollback_brings_back_the_config_of_its_release_unless_todays_is_kept() {
    let (server, _turn) = shared();
    let app = server.app("config");
    app.ssh("apps:create", &[]).ok();
    app.ssh("config:set", &["COLOUR=red"]).ok();
    let repository = app.saying("one");
    repository.push(&["main"]).ok();
    app.ssh("config:set", &["COLOUR=blue"]).ok();
    app.ssh("rollback", &["v1", "--keep-config"]).ok();
    app.ssh("config:get", &["COLOUR"]).ok().says(&["blue"]);
    app.ssh("rollback", &["v1"]).ok();
    app.ssh("config:get", &["COLOUR"]).ok().says(&["red"]);
    // The next push has it too.
    repository.say("two");
    repository.push(&["main"]).ok();
    app.ssh("config:get", &["COLOUR"]).ok().says(&["red"]);
}

#[test]
fn a_rollback_that_does_not_answer_changes_nothing() {
    let (server, _turn) = shared();
    let app = server.app("stuck");
    app.ssh("apps:create", &[]).ok();
    app.ssh("config:set", &["NEEDED=yes"]).ok();
    let repository = app.saying("one");
    repository.write("Procfile", "web: test -n \"$NEEDED\" && python main.py\n");
    repository.commit("Needs a var");
    repository.push(&["main"]).ok();
    repository.write("Procfile", "web: python main.py\n");
    let two = repository.say("two");
    repository.push(&["main"]).ok();
    app.ssh("config:unset", &["NEEDED"]).ok();
    app.ssh("rollback", &["v1", "--keep-config"]).fails().says(&["web.1 exited with status 1"]);
    assert_eq!(app.page(), "two");
    assert_eq!(repository.on_server("refs/heads/main"), two);
    app.ssh("releases", &[]).ok().says(&["v4", "failed"]);
}

#[test]
fn what_cannot_be_rolled_back_to_is_refused_with_what_can() {
    let (server, _turn) = shared();
    let app = server.app("nowhere");
    app.ssh("apps:create", &[]).ok();
    app.ssh("rollback", &[]).fails().says(&["no release yet"]);
    let (repository, ..) = two_releases(&app);
    repository.write("main.py", "raise SystemExit(3)\n");
    repository.commit("Broken");
    repository.push(&["main"]).fails();
    app.ssh("rollback", &["v3"]).fails().says(&["v3 never served", "v1"]);
    app.ssh("rollback", &["v2"]).fails().says(&["v2 is what serves now"]);
    app.ssh("rollback", &["v9"]).fails().says(&["There is no release v9", "v1"]);
    app.ssh("rollback", &["back"]).fails().says(&["is no release, such as v3"]);
    // While v1 stands by, its container holds its image.
    eventually("the watch is over", Duration::from_secs(60), || app.containers().len() == 1);
    let image = app.image("v1");
    support::docker(&["image", "rm", &image]).ok();
    app.ssh("rollback", &[]).fails().says(&["The image of v1 is not kept any more", "git push --force"]);
    assert_eq!(app.page(), "two");
}

#[test]
fn releases_can_be_fetched_by_name_and_pushed_by_nobody() {
    let (server, _turn) = shared();
    let app = server.app("refs");
    let (repository, one, two) = two_releases(&app);
    repository.git(&["fetch", "-q", "paas", "refs/releases/*:refs/releases/*"]).ok();
    let of = |name: &str| repository.git(&["rev-parse", name]).ok().out().trim().to_owned();
    assert_eq!((of("refs/releases/v1"), of("refs/releases/v2")), (one, two));
    repository.push(&["main:refs/releases/v9"]).fails();
    assert_eq!(repository.on_server("refs/releases/v9"), "");
}

#[test]
fn pruning_says_what_goes_and_why_the_rest_stays() {
    let (server, _turn) = shared();
    let app = server.app("prune");
    two_releases(&app);
    let said = app.ssh("releases:prune", &["--dry-run"]).ok();
    said.says(&["stays: it serves", "stays: it stands by while its successor is watched"]);
    eventually("the watch is over", Duration::from_secs(60), || {
        app.ssh("releases:prune", &["--dry-run"]).ok().text().contains("stays: one of the last releases")
    });
    app.ssh("rollback", &[]).ok();
}

/// What the settings say is kept, as far as it can be gone back to.
#[test]
fn old_images_go_by_themselves_and_what_is_kept_can_be_gone_back_to() {
    let (server, _turn) = alone();
    server.configure("[deploy]\nwatch = \"0\"\n[releases]\nkeep = 1\nkeep_time = \"1s\"\n");
    let app = server.app("keep");
    let (repository, ..) = two_releases(&app);
    std::thread::sleep(Duration::from_secs(2)); // none is young
    repository.say("three");
    repository.push(&["main"]).ok();
    let images = || support::docker(&["image", "ls", "-q", &format!("paas/{}", app.name)]).ok().out();
    eventually("two images are left", Duration::from_secs(60), || images().lines().count() == 2);
    app.ssh("releases:prune", &["--dry-run"]).ok().says(&["v3", "it serves", "v2", "one of the last"]);
    app.ssh("rollback", &["v1"]).fails().says(&["The image of v1 is not kept any more", "git push --force"]);
    assert_eq!(app.page(), "three");
    app.ssh("rollback", &[]).ok().says(&["to v2 as v4"]);
    assert_eq!(app.page(), "two");
    app.ssh("releases", &[]).ok().says(&["v1", "v2", "v3", "v4"]);
    drop(app);
    server.configure("[deploy]\nwatch = \"2s\"\n");
}

/// The one repository on the server that has this commit on `main`.
fn repository_on_disk(server: &Server, commit: &str) -> PathBuf {
    let repos =
        std::fs::read_dir(server.home.join("data/repos")).unwrap().flatten().map(|entry| entry.path());
    let has = |path: &PathBuf| {
        let file = std::fs::read_to_string(path.join("refs/heads/main"));
        file.is_ok_and(|text| text.trim() == commit)
    };
    repos.into_iter().find(has).unwrap()
}

#[test]
fn a_branch_that_does_not_name_what_runs_is_put_right() {
    let (server, _turn) = alone();
    let app = server.app("truth");
    let (repository, one, two) = two_releases(&app);
    let path = repository_on_disk(server, &two);
    server.kill9();
    std::fs::write(path.join("refs/heads/main"), format!("{one}\n")).unwrap();
    server.restart();
    assert_eq!(repository.on_server("refs/heads/main"), two);
    assert_eq!(app.page(), "two");
}
