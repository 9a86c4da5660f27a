//! Builds that are cancelled, wait in line, or want more of the host than they may.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::time::Duration;
use support::{Repository, TestApp, alone, eventually, shared};

const MINUTE: Duration = Duration::from_secs(60);

/// An own Dockerfile with one RUN line.
fn running(app: &TestApp, line: &str) -> Repository {
    let repository = app.saying("never seen");
    repository.write("Dockerfile", format!("FROM python:3.11-slim\nRUN {line}\nCMD [\"true\"]\n"));
    repository.commit("An own Dockerfile");
    repository
}

fn is_running(words: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.into_iter().any(|line| String::from_utf8_lossy(&line).trim_end_matches('\0') == words)
}

#[test]
fn somebody_else_cancels_a_build_and_the_push_is_refused() {
    let (server, _turn) = shared();
    let app = server.app("cancelled");
    let repository = app.saying("before");
    repository.push(&["main"]).ok();
    let before = repository.head();
    app.ssh("builds:cancel", &[]).fails().says(&["There is nothing to cancel."]);

    repository.write("Dockerfile", "FROM python:3.11-slim\nRUN echo begun && sleep 302\nCMD [\"true\"]\n");
    repository.commit("A long build");
    let mut push = repository.push_running(&["main"]);
    push.wait_for("begun", MINUTE);
    app.ssh("builds:cancel", &[]).ok().says(&["Cancelled v2", &app.name]);
    push.finish(MINUTE).fails().says(&["cancelled by tester", "[remote rejected]"]);
    eventually("the build's process ends", MINUTE, || !is_running("sleep\u{0}302"));
    assert_eq!(repository.on_server("refs/heads/main"), before);
    assert_eq!(app.page(), "before");
    assert_eq!(app.containers().len(), 1);
}

#[test]
fn a_build_that_waits_for_its_place_is_cancelled() {
    let (server, _turn) = alone();
    let (first, second) = (server.app("builds"), server.app("waits"));
    let slots = std::thread::available_parallelism().unwrap().get();
    let others: Vec<TestApp> = (1..slots).map(|number| server.app(&format!("builds{number}"))).collect();
    let running: Vec<_> = std::iter::once(&first)
        .chain(&others)
        .map(|app| {
            let repository = running(app, "echo begun && sleep 307");
            let mut push = repository.push_running(&["main"]);
            push.wait_for("begun", MINUTE);
            (app, push, repository)
        })
        .collect();
    let repository = second.saying("never seen");
    let mut waits = repository.push_running(&["main"]);
    waits.wait_for("Waiting for a running build to end; this one is next", MINUTE);
    second.ssh("builds:cancel", &[]).ok().says(&["Cancelled v1"]);
    waits.finish(MINUTE).fails().says(&["cancelled by tester"]);
    for (app, push, _repository) in running {
        app.ssh("builds:cancel", &[]).ok();
        push.finish(MINUTE).fails();
    }
}

#[test]
fn destroying_an_app_ends_its_running_deploy_at_once() {
    let (server, _turn) = shared();
    let app = server.app("doomed");
    let repository = running(&app, "echo begun && sleep 303");
    let mut push = repository.push_running(&["main"]);
    push.wait_for("begun", MINUTE);
    app.destroy();
    push.finish(MINUTE).fails().says(&["cancelled by local"]);
    eventually("the build's process ends", MINUTE, || !is_running("sleep\u{0}303"));
}

#[test]
fn an_app_answers_that_nothing_runs_from_its_creation_on_and_after_a_restart() {
    let (server, _turn) = alone();
    let app = server.app("fresh");
    assert_eq!(server.get(&app.name, "/").status, 404, "no such app yet");
    app.ssh("apps:create", &[]).ok();
    let told = |when: &str| {
        let reply = server.get(&app.name, "/");
        assert_eq!(reply.status, 503, "{when}");
        assert!(reply.body.contains("H14"), "{when}: {}", reply.body);
    };
    told("created");
    server.stop();
    server.restart();
    told("restarted");
}

#[test]
fn a_fork_bomb_in_a_build_ends_at_its_limit_and_the_server_goes_on() {
    let (server, _turn) = shared();
    let app = server.app("forks");
    let repository = app.saying("never seen");
    repository.write("bomb.py", "import os, time\nfor n in range(6000):\n    os.fork() or time.sleep(60)\n");
    repository.write("Dockerfile", "FROM python:3.11-slim\nCOPY bomb.py /\nRUN python3 /bomb.py\n");
    repository.commit("A bomb");
    repository
        .push(&["main"])
        .fails()
        .says(&["BlockingIOError: [Errno 11]", "Push rejected: the build failed"]);
    server.ssh(&["status"]).ok().silent_about("Builds are not limited");
}
