//! What git does to the server, and the server to git.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use nix::sys::signal::Signal;
use std::time::Duration;
use support::{Repository, eventually, shared};

const MINUTE: Duration = Duration::from_secs(60);

/// Makes the web process of Python's smallest app exit at once.
const BROKEN: &str = "raise SystemExit(3)\n";

#[test]
fn the_first_push_creates_the_app_and_the_second_replaces_it() {
    let (server, _turn) = shared();
    let app = server.app("first");
    let repository = app.saying("one");
    repository.push(&["main"]).ok().says(&["=====> Application deployed:", &app.name]);
    assert_eq!(app.page(), "one");
    assert_eq!(repository.on_server("refs/heads/main"), repository.head());

    repository.say("two");
    repository.push(&["main"]).ok().says(&["=====> Application deployed:"]);
    assert_eq!(app.page(), "two");
    assert_eq!(repository.on_server("refs/heads/main"), repository.head());
    eventually("the old container is gone", MINUTE, || app.containers().len() == 1);

    repository.push(&["main"]).ok().says(&["Everything up-to-date"]);
    assert_eq!(app.page(), "two");
}

#[test]
fn of_two_first_pushes_at_once_one_creates_the_app_and_the_other_is_told() {
    let (server, _turn) = shared();
    let app = server.app("twins");
    let repository = app.saying("one of two");
    let both = [(); 2].map(|()| repository.push_running(&["main"]));
    let mut both = both.map(|push| push.finish(2 * MINUTE));
    both.sort_by_key(|push| push.code != 0);
    let [one, other] = both;
    one.ok();
    // It may have come late enough to find the app there.
    if other.code != 0 {
        other.says(&["somebody else was faster"]);
    }
    assert_eq!(app.page(), "one of two");
    assert_eq!(repository.on_server("refs/heads/main"), repository.head());
}

#[test]
fn a_refused_push_moves_nothing_and_can_be_pushed_again_unchanged() {
    let (server, _turn) = shared();
    let app = server.app("refused");
    let repository = app.saying("good");
    repository.push(&["main"]).ok();
    let good = repository.head();

    // Runs only with a config var, which is forgotten at first.
    repository.write("Procfile", "web: test -n \"$NEEDED\" && python main.py\n");
    let wanted = repository.say("better");
    let push = repository.push(&["main"]);
    assert_eq!(push.code, 1, "{}", push.text());
    push.says(&["[remote rejected]", "failed to push some refs"]);
    assert_eq!(repository.on_server("refs/heads/main"), good);
    assert_eq!(app.page(), "good");
    assert_eq!(app.containers().len(), 1);

    app.ssh("config:set", &["NEEDED=yes"]).ok();
    repository.push(&["main"]).ok().says(&["=====> Application deployed:"]);
    assert_eq!(repository.on_server("refs/heads/main"), wanted);
    assert_eq!(app.page(), "better");
}

#[test]
fn after_a_failed_first_push_the_app_its_config_and_the_build_log_remain() {
    let (server, _turn) = shared();
    let app = server.app("failed");
    let repository = app.repository("refused-release-command");
    repository.push(&["main"]).fails();
    server.ssh(&["apps"]).ok().says(&[&app.name, "failed"]);
    app.ssh("config:set", &["KEPT=yes"]).ok();
    assert_eq!(app.ssh("config:get", &["KEPT"]).ok().out().trim_end(), "yes");
    app.ssh("logs", &["-n", "200"]).ok().says(&["table users is locked"]);
    assert_eq!(repository.on_server("refs/heads/main"), "");
    assert_eq!(server.get(&app.name, "/").status, 503, "nothing runs yet");
}

#[test]
fn another_branch_is_stored_and_says_that_nothing_was_deployed() {
    let (server, _turn) = shared();
    let app = server.app("branch");
    let repository = app.saying("main page");
    repository.push(&["main"]).ok();
    repository.git(&["switch", "-q", "-c", "idea"]).ok();
    let idea = repository.say("an idea");
    let push = repository.push(&["idea"]).ok();
    push.says(&["idea", "main", "deployed"]).silent_about("Application deployed:");
    assert_eq!(repository.on_server("refs/heads/idea"), idea);
    assert_eq!(app.page(), "main page");
    // The usual way to deploy it after all.
    repository.push(&["idea:main"]).ok().says(&["Application deployed:"]);
    assert_eq!(app.page(), "an idea");
}

#[test]
fn master_is_the_deploy_branch_where_it_is_pushed_first_and_head_points_to_it() {
    let (server, _turn) = shared();
    let app = server.app("master");
    let repository = app.saying("from master");
    repository.git(&["branch", "-m", "master"]).ok();
    repository.push(&["master"]).ok().says(&["Application deployed:"]);
    assert_eq!(app.page(), "from master");
    let head = repository.git(&["ls-remote", "--symref", "paas", "HEAD"]).ok().out();
    assert!(head.starts_with("ref: refs/heads/master\tHEAD"), "{head}");
    repository.push(&["master:main"]).ok().silent_about("Application deployed:");
}

#[test]
fn tags_are_stored_and_deploy_nothing() {
    let (server, _turn) = shared();
    let app = server.app("tags");
    let repository = app.saying("tagged");
    repository.push(&["main"]).ok();
    repository.git(&["tag", "v1.0"]).ok();
    repository.push(&["v1.0"]).ok().silent_about("Application deployed:");
    assert_eq!(repository.on_server("refs/tags/v1.0"), repository.head());
    assert_eq!(app.page(), "tagged");
}

#[test]
fn the_deploy_branch_cannot_be_deleted_another_can() {
    let (server, _turn) = shared();
    let app = server.app("delete");
    let repository = app.saying("still here");
    repository.push(&["main"]).ok();
    repository.push(&["--delete", "main"]).fails().says(&["[remote rejected]"]);
    assert_eq!(repository.on_server("refs/heads/main"), repository.head());
    assert_eq!(app.page(), "still here");
    repository.push(&["main:other"]).ok();
    repository.push(&["--delete", "other"]).ok();
    assert_eq!(repository.on_server("refs/heads/other"), "");
}

#[test]
fn several_refs_in_one_push_are_refused_in_words() {
    let (server, _turn) = shared();
    let app = server.app("several");
    let repository = app.saying("alone");
    repository.git(&["branch", "second"]).ok();
    repository.push(&["main", "second"]).fails().says(&["[remote rejected]", "one"]);
    server.paas(&["apps:info", &app.name]).fails(); // nothing was stored, nothing created
    repository.push(&["main"]).ok();
    assert_eq!(app.page(), "alone");
}

#[test]
fn a_force_push_deploys_what_it_says() {
    let (server, _turn) = shared();
    let app = server.app("force");
    let repository = app.saying("first");
    repository.push(&["main"]).ok();
    repository.say("second");
    repository.push(&["main"]).ok();
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]).ok();
    let other = repository.say("rewritten");
    repository.push(&["main"]).fails().says(&["[rejected]"]);
    assert_eq!(app.page(), "second");
    repository.push(&["--force", "main"]).ok().says(&["Application deployed:"]);
    assert_eq!(app.page(), "rewritten");
    assert_eq!(repository.on_server("refs/heads/main"), other);
}

/// CI systems clone with depth 1 and push that, again and again.
#[test]
fn shallow_clones_deploy_the_second_of_them_with_force() {
    let (server, _turn) = shared();
    let app = server.app("shallow");
    let upstream = app.saying("long ago");
    upstream.say("yesterday");
    upstream.say("today");
    let url = format!("file://{}", upstream.path().display());
    let push_clone = |args: &[&str]| {
        let clone = Repository::clone_of(server, &url, &["--depth", "1"]);
        clone.git(&["remote", "set-url", "paas", &server.remote(&app.name)]).ok();
        clone.push(args)
    };
    push_clone(&["main"]).ok().says(&["Application deployed:"]);
    assert_eq!(app.page(), "today");
    upstream.say("tomorrow");
    upstream.say("the day after");
    push_clone(&["--force", "main"]).ok().says(&["Application deployed:"]);
    assert_eq!(app.page(), "the day after");
    upstream.say("next week");
    push_clone(&["--force", "main"]).ok().says(&["Application deployed:"]);
    assert_eq!(app.page(), "next week");
    assert_eq!(upstream.on_server("refs/heads/main"), upstream.head());
}

/// We never fetch what a pushed .gitmodules names; its folder is empty in the build.
#[test]
fn a_submodule_is_an_empty_folder_and_a_notice() {
    let (server, _turn) = shared();
    let app = server.app("submodule");
    let repository = app.saying("without the library");
    repository.write(
        ".gitmodules",
        "[submodule \"library\"]\n\tpath = library\n\turl = https://example.com/l.git\n",
    );
    let link = format!("160000,{},library", repository.head());
    repository.git(&["add", ".gitmodules"]).ok();
    repository.git(&["update-index", "--add", "--cacheinfo", &link]).ok();
    repository.git(&["commit", "-q", "-m", "Add a submodule"]).ok();
    repository.push(&["main"]).ok().says(&["Submodules are not in the push", "Application deployed:"]);
    assert_eq!(app.page(), "without the library");
}

#[test]
fn a_git_lfs_pointer_is_refused_by_name() {
    let (server, _turn) = shared();
    let app = server.app("lfs");
    let repository = app.saying("with a pointer");
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n", "a".repeat(64));
    repository.write("model.bin", pointer);
    repository.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    repository.commit("Add a model");
    repository.push(&["main"]).fails().says(&["LFS", "model.bin", "[remote rejected]"]);
}

#[test]
fn what_was_pushed_can_be_cloned_and_fetched_again() {
    let (server, _turn) = shared();
    let app = server.app("clone");
    let repository = app.saying("round trip");
    repository.push(&["main"]).ok();
    let clone = Repository::clone_of(server, &server.remote(&app.name), &[]);
    assert_eq!(clone.head(), repository.head());
    clone.git(&["fsck", "--strict"]).ok();
    let next = repository.say("once more");
    repository.push(&["main"]).ok();
    clone.git(&["fetch", "-q", "paas"]).ok();
    assert_eq!(clone.git(&["rev-parse", "paas/main"]).ok().out().trim(), next);
}

#[test]
fn fetches_and_empty_pushes_create_no_app() {
    let (server, _turn) = shared();
    let app = server.app("nothing");
    let repository = Repository::empty(server, &app.name);
    repository.git(&["fetch", "paas"]).fails();
    repository.git(&["ls-remote", "paas"]).fails();
    repository.push(&["main"]).fails(); // git: src refspec main does not match any
    repository.push(&["--all"]);
    server.paas(&["apps:info", &app.name]).fails();
    server.paas(&["apps"]).ok().silent_about(&app.name);
}

#[test]
fn ctrl_c_cancels_the_build_and_leaves_nothing() {
    let (server, _turn) = shared();
    let app = server.app("cancel");
    let repository = app.saying("before");
    repository.push(&["main"]).ok();
    let before = app.in_engine();

    let marker = format!("{}-is-building", app.name);
    repository.write(
        "Dockerfile",
        format!("FROM python:3.11-slim\nRUN echo {marker} && sleep 301\nCMD [\"true\"]\n"),
    );
    repository.commit("Build slowly");
    let mut push = repository.push_running(&["main"]);
    push.wait_for(&marker, 2 * MINUTE);
    push.signal(Signal::SIGINT);
    push.finish(Duration::from_secs(10)).silent_about("Application deployed:");
    eventually("the build's process ends", Duration::from_secs(20), || !is_running("sleep\u{0}301"));
    eventually("the app is as it was", Duration::from_secs(20), || app.in_engine() == before);
    assert_eq!(app.page(), "before");

    // The next push is not in its way.
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]).ok();
    let after = repository.say("after");
    repository.push(&["main"]).ok();
    assert_eq!(app.page(), "after");
    assert_eq!(repository.on_server("refs/heads/main"), after);
}

/// Whether any process of this machine has this command line.
fn is_running(command_line: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line.contains(command_line))
    })
}

#[test]
fn a_second_push_waits_its_turn_and_says_so() {
    let (server, _turn) = shared();
    let app = server.app("queue");
    let repository = app.saying("start");
    repository.push(&["main"]).ok();

    let marker = format!("{}-takes-its-time", app.name);
    repository.write("Procfile", format!("web: python main.py\nrelease: echo {marker}; sleep 6\n"));
    repository.say("slow one");
    let mut first = repository.push_running(&["main"]);
    first.wait_for(&marker, 2 * MINUTE);
    std::fs::remove_file(repository.path().join("Procfile")).unwrap();
    let last = repository.say("quick one");
    let mut second = repository.push_running(&["main"]);
    second.wait_for("Waiting for the deploy", Duration::from_secs(10));
    assert!(first.is_running(), "the second should have waited for the first");
    first.finish(MINUTE).ok().says(&["Application deployed:"]);
    second.finish(2 * MINUTE).ok().says(&["Application deployed:"]);
    assert_eq!(app.page(), "quick one");
    assert_eq!(repository.on_server("refs/heads/main"), last);
}

/// Woken together, one of them found a branch that the other had moved since.
#[test]
fn two_pushes_that_wait_go_one_after_the_other_and_know_their_place() {
    let (server, _turn) = shared();
    let app = server.app("line");
    let repository = app.saying("start");
    repository.push(&["main"]).ok();
    let marker = format!("{}-takes-its-time", app.name);
    repository.write("Procfile", format!("web: python main.py\nrelease: echo {marker}; sleep 15\n"));
    repository.say("slow");
    let mut slow = repository.push_running(&["main"]);
    slow.wait_for(&marker, 2 * MINUTE);
    std::fs::remove_file(repository.path().join("Procfile")).unwrap();
    repository.say("one");
    let mut one = repository.push_running(&["--force", "main"]);
    one.wait_for("to end; this one is next", Duration::from_secs(10));
    let last = repository.say("two");
    let mut two = repository.push_running(&["--force", "main"]);
    two.wait_for("to end; 1 before this one", Duration::from_secs(10));
    slow.finish(MINUTE).ok();
    one.finish(2 * MINUTE).ok().says(&["Application deployed:"]);
    two.finish(2 * MINUTE).ok().says(&["Application deployed:"]);
    assert_eq!(repository.on_server("refs/heads/main"), last);
    assert_eq!(app.page(), "two");
}

#[test]
fn a_one_line_change_installs_no_dependency_again() {
    let (server, _turn) = shared();
    let app = server.app("cache");
    let repository = app.repository("python-flask");
    repository.push(&["main"]).ok();
    let file = repository.path().join("app.py");
    let source = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, source.replace("flask says hello", "flask says more")).unwrap();
    repository.commit("Say more");
    repository.push(&["main"]).ok().silent_about("Downloading").silent_about("Installed ");
    assert_eq!(app.page(), "flask says more");
}

#[test]
fn a_broken_second_release_leaves_the_first_answering() {
    let (server, _turn) = shared();
    let app = server.app("broken");
    let repository = app.saying("steady");
    repository.push(&["main"]).ok();
    repository.write("main.py", BROKEN);
    repository.commit("Break it");
    repository.push(&["main"]).fails().says(&["[remote rejected]", "3"]);
    assert_eq!(app.page(), "steady");
    let listing = app.ssh("ps", &[]).ok();
    listing.says(&["web.1", "running"]);
}

#[test]
fn nothing_is_left_in_repositories_and_engine_when_all_is_quiet() {
    let (server, _turn) = support::alone();
    let app = server.app("quiet");
    let repository = app.saying("quiet");
    repository.push(&["main"]).ok();
    repository.write("main.py", BROKEN);
    repository.commit("Break it");
    repository.push(&["main"]).fails();
    let left: Vec<String> = files_below(&server.home.join("data/repos"))
        .into_iter()
        .filter(|path| path.ends_with(".lock") || path.contains("tmp_objdir") || path.contains("incoming"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    app.destroy();
    assert_eq!(files_below(&server.home.join("data/repos")), Vec::<String>::new());
}

fn files_below(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(files_below(&path));
        }
    }
    found
}

/// A name over 100 bytes has a tar block of its own; in front of everything else
/// it made the engine take the whole build context for a Dockerfile.
#[test]
fn a_long_path_that_sorts_first_is_built() {
    let (server, _turn) = support::shared();
    let app = server.app("longname");
    let repository = app.saying("long names are fine");
    repository.write(&format!(".a/{}/x.yml", "abcdefghi/".repeat(12)), "x");
    repository.commit("A deep file");
    repository.push(&["main"]).ok();
    assert_eq!(app.page(), "long names are fine");
}

/// The deploy branch may get another name, and then that one names what runs.
#[test]
fn another_deploy_branch_names_what_runs() {
    let (server, _turn) = support::shared();
    let app = server.app("branch");
    let repository = app.saying("as before");
    repository.push(&["main"]).ok();
    server.ssh(&["apps:branch", &app.name, "live"]).ok();
    assert_eq!(repository.on_server("refs/heads/live"), repository.head());
    repository.push(&[":main"]).ok();
    repository.push(&[":live"]).fails();
    let commit = repository.say("from the new branch");
    repository.push(&["main:live"]).ok();
    assert_eq!(repository.on_server("refs/heads/live"), commit);
    assert_eq!(app.page(), "from the new branch");
}

/// A database that was moved away takes no repository with it.
#[test]
fn a_lost_database_costs_no_repository() {
    let (server, _turn) = support::alone();
    let app = server.app("lost");
    app.saying("kept").push(&["main"]).ok();
    let data = server.home.join("data");
    let aside = server.home.join("aside");
    std::fs::create_dir(&aside).unwrap();
    let move_all = |from: &std::path::Path, to: &std::path::Path| {
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("paas.db") {
                std::fs::rename(entry.path(), to.join(name)).unwrap();
            }
        }
    };
    server.stop();
    move_all(&data, &aside);
    server.restart();
    server.stop();
    for entry in std::fs::read_dir(&data).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("paas.db") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    move_all(&aside, &data);
    server.restart();
    assert_eq!(app.page(), "kept");
    let copy = support::Repository::clone_of(server, &server.remote(&app.name), &[]);
    assert_eq!(copy.head().len(), 40);
}
