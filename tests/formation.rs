//! Process types: what each process gets, and what happens when one ends.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::time::Duration;
use support::{TestApp, alone, docker, eventually, shared};

const MINUTE: Duration = Duration::from_secs(60);

/// Memory and CPUs of a process as the engine has them, and one variable.
fn given(app: &TestApp, process: &str) -> String {
    let container = format!("paas-{}-{process}", app.name);
    let format = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}";
    docker(&["inspect", "--format", format, &container]).ok().out().trim().to_owned()
}

fn variable(app: &TestApp, process: &str, name: &str) -> String {
    let container = format!("paas-{}-{process}", app.name);
    docker(&["exec", &container, "printenv", name]).ok().out().trim().to_owned()
}

fn release_of(app: &TestApp) -> u64 {
    let info: serde_json::Value =
        serde_json::from_str(&app.ssh("apps:info", &["--json"]).ok().out()).unwrap();
    info["release"].as_u64().unwrap()
}

#[test]
fn sizes_come_from_paas_toml_and_a_command_wins() {
    let (server, _turn) = shared();
    let app = server.app("sizes");
    let repository = app.saying("sized");
    repository.write("Procfile", "web: python main.py\nworker: sleep 9999\n");
    repository.write(
        "paas.toml",
        "[processes.web]\nmemory = \"768M\"\ncpu = 0.5\n[processes.worker]\nmemory = \"64M\"\n",
    );
    repository.commit("With sizes");
    repository.push(&["main"]).ok().says(&["web: 768M, 0.5 CPU, from paas.toml line 1"]);
    app.ssh("ps:scale", &["worker=1"]).ok();
    assert_eq!(given(&app, "web-1-1"), format!("{} 500000000", 768 << 20));
    assert_eq!(given(&app, "worker-1-1"), format!("{} 1000000000", 64 << 20));
    assert_eq!(variable(&app, "web-1-1", "WEB_CONCURRENCY"), "2");
    app.ssh("ps", &[]).ok().says(&["768M 0.5 CPU", "64M 1 CPU"]);

    // By command: without a build, and for as long as the app is there.
    app.ssh("ps:resize", &["web", "--memory", "2G", "--cpu", "2"]).ok().says(&["v2"]);
    assert_eq!(app.page(), "sized");
    assert_eq!(given(&app, "web-2-1"), format!("{} 2000000000", 2048_u64 << 20));
    assert_eq!(variable(&app, "web-2-1", "WEB_CONCURRENCY"), "5");
    app.ssh("ps:resize", &[]).ok().says(&["2G (ps:resize)", "64M (paas.toml)", "1 (server)"]);
    repository.say("sized anew");
    repository.push(&["main"]).ok();
    assert_eq!(given(&app, "web-3-1"), format!("{} 2000000000", 2048_u64 << 20));
    app.ssh("ps:resize", &["web", "--cpu", "default"]).ok().says(&["v4"]);
    assert_eq!(given(&app, "web-4-1"), format!("{} 500000000", 2048_u64 << 20));

    app.ssh("ps:resize", &["web", "--cpu", "1024"]).fails().says(&["1024 CPUs for a process is too much"]);
    app.ssh("ps:resize", &["clock", "--cpu", "1"]).fails().says(&["no process type clock"]);
    app.ssh("ps:scale", &["web=2:512M"]).fails().says(&["ps:resize APP web --memory"]);
    assert_eq!(release_of(&app), 4, "what is refused changes nothing");
}

#[test]
fn a_stopped_app_stays_stopped_when_it_is_changed() {
    let (server, _turn) = shared();
    let app = server.app("stays");
    let repository = app.saying("asleep");
    repository.push(&["main"]).ok();
    app.ssh("ps:stop", &[]).ok();
    app.ssh("config:set", &["COLOUR=teal"]).ok().says(&["is stopped", "ps:start"]);
    app.ssh("ps:resize", &["web", "--memory", "256M"]).ok().says(&["is stopped"]);
    assert_eq!(app.containers(), [""; 0]);
    assert_eq!(app.get("/").status, 503);
    app.ssh("ps:start", &[]).ok().says(&["as v2"]);
    assert_eq!(app.page(), "asleep");
    assert_eq!(variable(&app, "web-2-1", "COLOUR"), "teal");
    assert_eq!(given(&app, "web-2-1"), format!("{} 1000000000", 256 << 20));
}

#[test]
fn a_release_command_that_takes_too_long_is_ended_with_all_that_it_started() {
    let (server, _turn) = shared();
    let app = server.app("too-long");
    let repository = app.saying("never");
    repository.write("Procfile", "web: python main.py\nrelease: sleep 31415 & sleep 31416; wait\n");
    repository.write("paas.toml", "[deploy]\nrelease_timeout = \"2s\"\n");
    repository.commit("With a slow release command");
    repository.push(&["main"]).fails().says(&["took longer than 2 s", "release_timeout"]);
    assert_eq!(app.containers(), [""; 0]);
    let left = std::process::Command::new("pgrep").args(["-f", "sleep 3141[56]"]).output().unwrap();
    assert!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
}

#[test]
fn a_type_that_overlaps_starts_its_new_process_before_the_old_one_ends() {
    let (server, _turn) = shared();
    let app = server.app("overlap");
    let repository = app.saying("overlapping");
    let stubborn = "trap 'sleep 3; exit 0' TERM; while :; do sleep 0.2; done";
    repository.write("Procfile", format!("web: python main.py\nearly: {stubborn}\nlate: {stubborn}\n"));
    repository.write("paas.toml", "[processes.early]\noverlap = true\n");
    repository.commit("With two workers");
    repository.push(&["main"]).ok();
    app.ssh("ps:scale", &["early=1", "late=1"]).ok();
    app.ssh("ps:restart", &[]).ok();
    let there = |process: &str| app.containers().contains(&format!("paas-{}-{process}", app.name));
    eventually("the new one starts beside the old", MINUTE, || there("early-2-1") && there("early-1-1"));
    assert!(!there("late-2-1") && there("late-1-1"), "{:?}", app.containers());
    eventually("the other follows", MINUTE, || there("late-2-1"));
    assert!(!there("late-1-1") && !there("early-1-1"), "{:?}", app.containers());
}

#[test]
fn a_process_has_as_long_to_stop_as_its_type_is_given() {
    let (server, _turn) = shared();
    let app = server.app("patience");
    let repository = app.saying("patient");
    let slow = "trap 'sleep 4; echo $DYNO is done; exit 0' TERM; while :; do sleep 0.1; done";
    repository.write("Procfile", format!("web: python main.py\nhasty: {slow}\npatient: {slow}\n"));
    repository.write("paas.toml", "[processes.hasty]\nstop_timeout = \"1s\"\n");
    repository.commit("With slow ones");
    repository.push(&["main"]).ok().says(&["hasty: 1 s to stop, from paas.toml line 1"]);
    app.ssh("ps:scale", &["hasty=1", "patient=1"]).ok();
    let timeout = |process: &str| {
        let container = format!("paas-{}-{process}-1-1", app.name);
        docker(&["inspect", "--format", "{{.Config.StopTimeout}}", &container]).ok().out().trim().to_owned()
    };
    // Whoever ends them: the host's own shutdown too.
    assert_eq!(
        (timeout("hasty"), timeout("patient"), timeout("web")),
        ("1".into(), "30".into(), "30".into())
    );
    app.ssh("ps:scale", &["hasty=0", "patient=0"]).ok();
    let log = app.ssh("logs", &["-n", "100"]).ok();
    log.says(&["patient.1 is done"]).silent_about("hasty.1 is done");
}

/// Serves until it is told to die; from then on it dies whenever it is started.
const MORTAL: &str = r#"
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

if os.path.exists("/tmp/die"):
    print("dying with", os.environ["DYNO"], flush=True)
    os._exit(3)

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            open("/tmp/die", "w").close()
            os._exit(3)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"alive")

HTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

#[test]
fn a_process_that_crashes_again_and_again_is_given_up_until_it_is_restarted() {
    let (server, _turn) = shared();
    let app = server.app("crashes");
    let repository = app.saying("replaced");
    repository.write("main.py", MORTAL);
    repository.write("Procfile", "web: python main.py\nworker: echo my last words; exit 7\n");
    repository.commit("Mortal");
    repository.push(&["main"]).ok();
    app.ssh("ps:scale", &["worker=1"]).ok();
    assert_eq!(app.page(), "alive");
    let _ = server.try_get(&app.name, "/die");
    let state = |process: &str| {
        let container = format!("paas-{}-{process}-1-1", app.name);
        docker(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", &container]).ok().out()
    };
    let ended = || state("web").trim() == "exited 3" && state("worker").trim() == "exited 7";
    eventually("both are given up", 4 * MINUTE, ended);
    let ps = app.ssh("ps", &[]).ok();
    ps.says(&["crashed (exit 3)", "dying with web.1", "crashed (exit 7)", "my last words", "ps:restart"]);
    app.ssh("logs", &["-n", "200"]).ok().says(&["ended 10 times within 10 minutes"]);
    assert_eq!(app.get("/").status, 503);
    server.ssh(&["apps"]).ok().says(&["crashed"]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(ended(), "and stay so");
    app.ssh("ps:restart", &[]).ok();
    assert_eq!(app.page(), "alive");
    app.ssh("ps", &[]).ok().says(&["running"]);
}

#[test]
fn a_process_is_started_again_as_its_type_wants_it() {
    let (server, _turn) = alone();
    let app = server.app("policies");
    let repository = app.saying("serving");
    repository.write(
        "Procfile",
        "web: python main.py\nonce: echo once; exit 5\nflaky: test -e /tmp/x && exit 0; touch /tmp/x; exit 4\n\
         eater: python -c \"print(len(b'x' * (300 << 20)))\"\n",
    );
    repository.write(
        "paas.toml",
        "[processes.once]\nrestart = \"never\"\n[processes.flaky]\nrestart = \"on-failure\"\n\
         [processes.eater]\nrestart = \"never\"\nmemory = \"64M\"\n",
    );
    repository.commit("With policies");
    repository.push(&["main"]).ok().says(&["flaky: restart on-failure", "eater: 64M, restart never"]);
    app.ssh("ps:scale", &["once=1", "flaky=1", "eater=1"]).ok();
    let row = |name: &str| {
        let text = app.ssh("ps", &[]).ok().out();
        text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
    };
    eventually("flaky fails once, then is done", MINUTE, || row("flaky.1").contains("exited (0)"));
    eventually("once has run", MINUTE, || row("once.1").contains("crashed (exit 5)"));
    eventually("eater is told why", MINUTE, || row("eater.1").contains("crashed (exit 137, out of memory)"));
    let logs = || app.ssh("logs", &["-n", "200"]).ok();
    eventually("the log has it", MINUTE, || logs().out().contains("more memory than its limit of 64M (R15)"));
    let restarts = |name: &str| row(name).split_whitespace().rev().nth(1).unwrap_or_default().to_owned();
    assert_eq!(
        [restarts("flaky.1"), restarts("once.1"), restarts("eater.1")],
        ["1", "0", "0"],
        "{}",
        logs().out()
    );

    // Neither another type's scaling nor a new server begins a work again that is done.
    let id =
        || docker(&["inspect", "--format", "{{.Id}}", &format!("paas-{}-flaky-1-1", app.name)]).ok().out();
    let before = id();
    app.ssh("ps:scale", &["web=2"]).ok();
    server.stop();
    server.restart();
    assert_eq!(id(), before);
    assert!(row("flaky.1").contains("exited (0)"), "{}", row("flaky.1"));
}

#[test]
fn changes_are_written_down_with_who_and_what_and_no_value() {
    let (server, _turn) = shared();
    let app = server.app("audited");
    let repository = app.saying("audited");
    repository.push(&["main"]).ok();
    repository.push(&[":main"]).fails();
    app.ssh("config:set", &["TOKEN=hunter2"]).ok();
    server.ssh_with(&["config:set", &app.name, "-"], b"OTHER=hunter3\n").ok();
    app.ssh("ps:scale", &["web=2"]).ok();
    app.ssh("ps:scale", &["clock=1"]).fails();
    server.paas(&["ps:stop", &app.name]).ok();
    let audit = app.ssh("audit", &[]).ok();
    let rows: Vec<String> = audit
        .out()
        .lines()
        .skip(1)
        .map(|line| {
            line.split_whitespace().skip(1).filter(|word| *word != app.name).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let pushed = format!("tester git push main {} done", &repository.head()[..8]);
    let expected = [
        pushed.as_str(),
        "tester git push refused",
        "tester config:set TOKEN done",
        "tester config:set OTHER done",
        "tester ps:scale web=2 done",
        "tester ps:scale refused",
        "local ps:stop done",
    ];
    assert_eq!(rows, expected);
    assert!(!server.ssh(&["audit"]).ok().out().contains("hunter"));
}

#[test]
fn some_processes_are_stopped_started_and_restarted_apart_from_the_others() {
    let (server, _turn) = alone();
    let app = server.app("some");
    let repository = app.saying("some");
    repository.write("Procfile", "web: python main.py\nworker: sleep 9999\n");
    repository.commit("With a worker");
    repository.push(&["main"]).ok();
    app.ssh("ps:scale", &["worker=2"]).ok();
    let there = |process: &str| app.containers().contains(&format!("paas-{}-{process}", app.name));
    let id = |process: &str| {
        let container = format!("paas-{}-{process}", app.name);
        docker(&["inspect", "--format", "{{.Id}}", &container]).ok().out()
    };
    app.ssh("ps:stop", &["worker.2"]).ok().says(&["Stopped worker.2 of", "It stays so"]);
    assert!(there("worker-1-1") && !there("worker-1-2") && there("web-1-1"));
    app.ssh("ps", &[]).ok().says(&["worker.2", "stopped"]);
    app.ssh("ps:stop", &["worker"]).ok().says(&["Stopped worker.1 and worker.2 of"]);
    server.stop();
    server.restart();
    assert_eq!(app.page(), "some");
    assert!(!there("worker-1-1") && !there("worker-1-2"), "{:?}", app.containers());
    app.ssh("ps:start", &["worker.2"]).ok().says(&["Started worker.2 of"]);
    assert!(!there("worker-1-1") && there("worker-1-2"));

    let (web, worker) = (id("web-1-1"), id("worker-1-2"));
    app.ssh("ps:restart", &["web", "worker.2"]).ok().says(&["Restarted web.1 and worker.2 of"]);
    assert!(id("web-1-1") != web && id("worker-1-2") != worker);
    assert!(!there("web-1-2") && !there("worker-1-1"), "{:?}", app.containers());
    assert_eq!(app.page(), "some");
    app.ssh("ps:stop", &["web"]).ok();
    assert_eq!(app.get("/").status, 503);

    app.ssh("ps:stop", &["clock"]).fails().says(&["no process type clock", "web, worker"]);
    app.ssh("ps:start", &["worker.3"]).fails().says(&["no process worker.3", "worker.1, worker.2"]);
    app.ssh("ps:restart", &["worker=1"]).fails().says(&["neither a process type nor a process"]);
    app.ssh("ps:restart", &[]).ok().says(&["as v2"]);
    eventually("all of it runs again", MINUTE, || there("worker-2-1") && there("worker-2-2"));
    app.ssh("ps:stop", &[]).ok();
    app.ssh("ps:start", &["web"]).fails().says(&["The whole app is stopped.", "ps:start"]);
}
