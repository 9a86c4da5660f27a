//! Apps do not notice us: requests without a pause while things change beneath.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Server, alone, eventually};

const MINUTE: Duration = Duration::from_secs(60);
/// A pause that no busy machine explains; how long pauses really are is for
/// script/bench to say.
const GAP: Duration = Duration::from_secs(1);

/// Answers of a loop of requests.
#[derive(Default)]
struct Record {
    answers: usize,
    errors: Vec<String>,
    longest: Duration,
    bodies: Vec<String>,
}

/// Asks for the app's page again and again until `done`.
fn ask(server: &Server, app: &str, done: &AtomicBool) -> Record {
    let mut record = Record::default();
    let mut last = Instant::now();
    while !done.load(Ordering::Relaxed) {
        match server.try_get(app, "/") {
            Ok(reply) if reply.status == 200 => {
                record.answers += 1;
                if record.bodies.last() != Some(&reply.body) {
                    record.bodies.push(reply.body);
                }
            }
            Ok(reply) => record.errors.push(format!("{} {}", reply.status, reply.body)),
            Err(error) => record.errors.push(error.to_string()),
        }
        record.longest = record.longest.max(last.elapsed());
        last = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
    }
    record
}

/// Runs `change` under a loop of requests.
fn under_requests(server: &'static Server, app: &str, change: impl FnOnce()) -> Record {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(server, app, &done));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(change));
        done.store(true, Ordering::Relaxed);
        let record = asking.join().unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        record
    })
}

#[test]
fn twenty_redeploys_lose_no_request() {
    let (server, _turn) = alone();
    let app = server.app("redeploys");
    let repository = app.saying("v0");
    repository.push(&["main"]).ok();
    let record = under_requests(server, &app.name, || {
        for number in 1..=20 {
            repository.say(&format!("v{number}"));
            repository.push(&["main"]).ok();
        }
    });
    assert_eq!(record.errors, Vec::<String>::new());
    assert!(record.answers > 200, "{} answers", record.answers);
    let expected: Vec<String> = (0..=20).map(|number| format!("v{number}")).collect();
    assert_eq!(record.bodies, expected, "each version once, in order, none after its successor");
    eventually("old containers are gone", 2 * MINUTE, || app.containers().len() == 1);
}

#[test]
fn restarting_the_only_web_process_loses_no_request() {
    let (server, _turn) = alone();
    let app = server.app("rewound");
    app.saying("unmoved").push(&["main"]).ok();
    let record = under_requests(server, &app.name, || {
        for _ in 0..2 {
            app.ssh("ps:restart", &["web.1"]).ok();
        }
    });
    assert_eq!(record.errors, Vec::<String>::new());
    assert!(record.answers > 100, "{} answers", record.answers);
    assert_eq!(app.containers(), [format!("paas-{}-web-1-1", app.name)]);
}

#[test]
fn killing_and_restarting_the_control_plane_loses_no_request() {
    let (server, _turn) = alone();
    let app = server.app("killed");
    let repository = app.saying("unmoved");
    repository.push(&["main"]).ok();
    let record = under_requests(server, &app.name, || {
        for _ in 0..3 {
            server.kill9();
            std::thread::sleep(Duration::from_millis(500)); // requests meanwhile
            server.restart();
        }
    });
    assert_eq!(record.errors, Vec::<String>::new());
    assert!(record.answers > 100, "{} answers", record.answers);
    assert!(record.longest < GAP, "a gap of {:?}", record.longest);
    repository.say("moved");
    repository.push(&["main"]).ok();
    assert_eq!(app.page(), "moved");
}

#[test]
fn a_deploy_cut_short_by_a_kill_is_undone_on_restart() {
    let (server, _turn) = alone();
    let app = server.app("cut-short");
    let repository = app.saying("old");
    repository.push(&["main"]).ok();
    let old = repository.head();
    let marker = format!("{}-release-phase", app.name);
    repository.write("Procfile", format!("web: python main.py\nrelease: echo {marker}; sleep 30\n"));
    repository.say("new");
    let mut push = repository.push_running(&["main"]);
    push.wait_for(&marker, 2 * MINUTE);
    server.kill9();
    assert_ne!(push.finish(MINUTE).code, 0);
    assert_eq!(app.page(), "old");
    server.restart();
    eventually("the unfinished release is removed", Duration::from_secs(30), || app.containers().len() == 1);
    assert_eq!(app.page(), "old");
    assert_eq!(repository.on_server("refs/heads/main"), old);
    // Nothing is in the way of the next push, not even a lock of git's.
    std::fs::remove_file(repository.path().join("Procfile")).unwrap();
    repository.say("newer");
    repository.push(&["main"]).ok();
    assert_eq!(app.page(), "newer");
}

#[test]
fn config_scale_restart_and_rollback_lose_no_request() {
    let (server, _turn) = alone();
    let app = server.app("changes");
    let repository = app.saying("still");
    repository.push(&["main"]).ok();
    let record = under_requests(server, &app.name, || {
        app.ssh("config:set", &["A=1"]).ok();
        app.ssh("ps:scale", &["web=3"]).ok();
        app.ssh("ps:restart", &[]).ok();
        app.ssh("ps:scale", &["web=1"]).ok();
        app.ssh("config:unset", &["A"]).ok();
        app.ssh("rollback", &["v1"]).ok();
    });
    assert_eq!(record.errors, Vec::<String>::new());
    assert_eq!(record.bodies, ["still"]);
}

#[test]
fn an_orderly_stop_and_start_leaves_the_containers_alone() {
    let (server, _turn) = alone();
    let app = server.app("upgrade");
    let repository = app.saying("same container");
    repository.push(&["main"]).ok();
    let before = app.containers();
    server.stop();
    assert_eq!(app.containers(), before);
    server.restart();
    eventually("it answers again", Duration::from_secs(10), || {
        server.try_get(&app.name, "/").is_ok_and(|reply| reply.body == "same container")
    });
    assert_eq!(app.containers(), before);
}

#[test]
fn a_killed_proxy_is_started_again_and_serves_what_it_served() {
    let (server, _turn) = alone();
    let app = server.app("reproxied");
    app.saying("still here").push(&["main"]).ok();
    let pid = std::fs::read_to_string(server.home.join("data/proxy.lock")).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the proxy serves again", MINUTE, || {
        server.try_get(&app.name, "/").is_ok_and(|reply| reply.body == "still here")
    });
    let next = app.saying("and deploys");
    next.push(&["--force", "main"]).ok();
    assert_eq!(app.page(), "and deploys");
}
