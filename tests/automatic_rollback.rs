//! After a promotion: a release that does worse than the one before is taken back.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Repository, Server, TestApp, alone, docker, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// Answers / with its name, and all else with what its name says.
const APP: &str = r#"
import os, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if NAME.startswith("bad") and self.path != "/" else 200)
        self.send_header("Content-Length", str(len(NAME)))
        self.end_headers()
        self.wfile.write(NAME.encode())
    def log_message(self, *_):
        pass

if NAME.startswith("crash"):
    threading.Timer(1.0, lambda: os._exit(3)).start()
ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

/// An app whose releases are watched for `watch` seconds; its first one is `first`.
struct Subject {
    server: &'static Server,
    app: TestApp,
    repository: Repository,
}

impl Subject {
    fn new(server: &'static Server, name: &str, watch: u16, first: &str) -> Self {
        server.stop_nowhere();
        let app = server.app(name);
        let repository = app.saying("replaced");
        repository.write("paas.toml", format!("[deploy]\nwatch = \"{watch}s\"\n"));
        let subject = Self { server, app, repository };
        subject.commit(first);
        subject.repository.push(&["main"]).ok();
        subject
    }

    fn commit(&self, name: &str) -> String {
        self.repository.write("main.py", format!("NAME = {name:?}\n{APP}"));
        self.repository.commit(name)
    }

    /// Pushes a release of this name; its commit.
    fn push(&self, name: &str) -> String {
        let commit = self.commit(name);
        self.repository.push(&["main"]).ok();
        commit
    }

    /// So many requests to what a bad release fails at.
    fn work(&self, requests: usize) {
        for _ in 0..requests {
            let _ = self.server.try_get(&self.app.name, "/work");
        }
    }

    #[track_caller]
    fn back_at(&self, name: &str, commit: &str) {
        let answers = || self.server.try_get(&self.app.name, "/").is_ok_and(|reply| reply.body == name);
        eventually(&format!("{name} answers again"), MINUTE, answers);
        assert_eq!(self.repository.on_server("refs/heads/main"), commit, "the branch names what runs");
    }

    fn json(&self, command: &str) -> serde_json::Value {
        serde_json::from_str(&self.app.ssh(command, &["--json"]).ok().out()).unwrap()
    }

    /// States of all releases, newest first.
    fn states(&self) -> Vec<String> {
        let releases = self.json("releases");
        let word = |release: &serde_json::Value| release["state"].as_str().unwrap().to_owned();
        releases.as_array().unwrap().iter().map(word).collect()
    }

    /// Waits until these containers are there and no other.
    #[track_caller]
    fn runs(&self, processes: &[&str]) {
        let name = |process: &&str| format!("paas-{}-{process}", self.app.name);
        let expected: Vec<String> = processes.iter().map(name).collect();
        let mut there = Vec::new();
        let end = Instant::now() + MINUTE;
        while there != expected {
            assert!(Instant::now() < end, "{there:?} instead of {expected:?}\n{}", self.server.log());
            std::thread::sleep(Duration::from_millis(50));
            there = self.app.containers();
            there.sort();
        }
    }
}

#[test]
fn a_release_that_answers_with_errors_is_taken_back_within_a_second() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "errors", 120, "good");
    let good = subject.repository.head();
    subject.work(30);
    std::thread::sleep(Duration::from_millis(600)); // the proxy's numbers are on their way
    let bad = subject.push("bad");
    subject.runs(&["web-1-1", "web-2-1"]);
    subject.app.ssh("ps", &[]).ok().says(&["standby", "v2 is watched for", "v1 takes over again"]);

    // Every request is answered by the one or the other, whatever it asks for.
    let done = AtomicBool::new(false);
    let pause = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_until(server, &subject.app.name, &done));
        subject.work(12);
        let evidence = Instant::now();
        eventually("good is back", MINUTE, || server.get(&subject.app.name, "/work").body == "good");
        let pause = evidence.elapsed();
        std::thread::sleep(Duration::from_millis(500));
        done.store(true, Ordering::Relaxed);
        let (answers, problems) = asking.join().unwrap();
        assert_eq!(problems, Vec::<String>::new());
        assert!(answers > 20, "{answers} answers");
        pause
    });
    assert!(pause < Duration::from_secs(1), "{pause:?} from the evidence on\n{}", server.log());

    subject.back_at("good", &good);
    assert_eq!(subject.states(), ["current", "rolled back", "retired"]);
    subject.app.ssh("releases", &[]).ok().says(&[
        "automatic rollback to v1: ",
        "answers were 5xx",
        "rolled back",
    ]);
    subject.app.ssh("ps", &[]).ok().says(&["v2 was rolled back automatically: ", "v3"]);
    subject.app.ssh("logs", &["-s", "platform"]).ok().says(&["v2 was rolled back automatically: "]);
    subject.runs(&["web-1-1"]);

    // Whatever comes between, who pushes next is told; and nobody after that.
    subject.app.ssh("config:set", &["BETWEEN=yes"]).ok();
    subject.app.ssh("ps", &[]).ok().says(&["v2 was rolled back automatically: ", "v3 took its place"]);

    // Neither the same commit nor a fix is in the way of anything.
    subject.repository.push(&["main"]).ok().says(&["v2 was rolled back automatically", "deployed: v5"]);
    subject.app.ssh("ps", &[]).ok().silent_about("rolled back");
    assert_eq!(subject.repository.on_server("refs/heads/main"), bad);
    let fixed = subject.push("good again");
    subject.back_at("good again", &fixed);
    subject.runs(&["web-5-1", "web-6-1"]);
}

/// Asks for / until `done`: how often, and what was no good answer.
fn ask_until(server: &Server, app: &str, done: &AtomicBool) -> (usize, Vec<String>) {
    let (mut answers, mut problems) = (0, Vec::new());
    while !done.load(Ordering::Relaxed) {
        match server.try_get(app, "/") {
            Ok(reply) if reply.status == 200 => answers += 1,
            Ok(reply) => problems.push(format!("{} {}", reply.status, reply.body)),
            Err(error) => problems.push(error.to_string()),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    (answers, problems)
}

#[test]
fn a_release_that_crashes_is_taken_back_its_worker_too() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "crashes", 120, "good");
    subject.repository.write("Procfile", "web: python main.py\nworker: sleep 9999\n");
    let good = subject.push("good");
    subject.app.ssh("ps:scale", &["worker=1"]).ok();
    subject.push("crash");
    // Nobody asks for anything: there are no answers that could be evidence.
    eventually("it is taken back", MINUTE, || subject.states()[1] == "rolled back");
    subject.back_at("good", &good);
    let why = subject.json("releases")[0]["evidence"].as_str().unwrap().to_owned();
    assert!(why.contains("web.1 exited 3 times"), "{why}");
    subject.runs(&["web-2-1", "worker-2-1"]);

    subject.repository.write("Procfile", "web: python main.py\nworker: sleep 1; exit 3\n");
    subject.push("good, but for its worker");
    subject.back_at("good", &good);
    subject.runs(&["web-2-1", "worker-2-1"]);
    assert_eq!(subject.states()[..3], ["current", "rolled back", "retired"]);
}

#[test]
fn a_release_that_is_no_worse_stays_and_so_does_one_that_nobody_watches() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "stays", 3, "bad");
    subject.work(30);
    std::thread::sleep(Duration::from_millis(600)); // the proxy's numbers are on their way
    let same = subject.push("bad as ever");
    subject.work(30);
    subject.runs(&["web-2-1"]);
    subject.back_at("bad as ever", &same);
    assert_eq!(subject.states(), ["current", "retired"]);

    subject.push("good");
    subject.repository.write("paas.toml", "[deploy]\nwatch = \"0\"\n");
    let unwatched = subject.push("bad and unwatched");
    subject.work(30);
    subject.runs(&["web-4-1"]);
    subject.back_at("bad and unwatched", &unwatched);
    assert_eq!(subject.states()[0], "current");
}

#[test]
fn a_rollback_while_the_old_processes_stand_by_starts_none() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "standby", 120, "one");
    let one = subject.repository.head();
    subject.push("two");
    let started =
        || docker(&["inspect", "-f", "{{.State.StartedAt}}", &format!("paas-{}-web-1-1", subject.app.name)]);
    let before = started().ok().out();
    subject.app.ssh("ps:scale", &["web=2"]).ok();
    subject.runs(&["web-1-1", "web-2-1", "web-2-2"]);
    let said = subject.app.ssh("rollback", &[]).ok();
    said.says(&["Rolled back", "to v1 as v3"]).silent_about("Starting");
    assert_eq!(subject.app.page(), "one");
    assert_eq!(subject.repository.on_server("refs/heads/main"), one);
    assert_eq!(started().ok().out(), before);
    // What is wanted by now follows.
    subject.runs(&["web-1-1", "web-1-2"]);
    assert_eq!(subject.states(), ["current", "retired", "retired"]);
    // Restarts and scaling find them under their old number.
    subject.app.ssh("ps:scale", &["web=1"]).ok();
    subject.runs(&["web-1-1"]);
    subject.app.ssh("config:set", &["A=1"]).ok();
    subject.runs(&["web-1-1", "web-4-1"]);
    subject.app.ssh("ps:restart", &[]).ok();
    subject.runs(&["web-5-1"]);
}

#[test]
fn other_commands_end_the_watch_or_leave_it() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "others", 120, "one");
    subject.push("two");
    subject.app.ssh("releases:prune", &[]).ok().says(&["stands by while its successor is watched"]);
    subject.app.ssh("config:set", &["A=1", "--no-restart"]).ok();
    subject.runs(&["web-1-1", "web-2-1"]);
    subject.push("three");
    subject.runs(&["web-2-1", "web-3-1"]);
    subject.app.ssh("config:set", &["B=2"]).ok();
    subject.runs(&["web-3-1", "web-4-1"]);
    subject.app.ssh("ps:stop", &[]).ok();
    subject.runs(&[]);
    subject.app.ssh("ps:start", &[]).ok();
    subject.runs(&["web-4-1"]);
    assert_eq!(subject.app.page(), "three");
    subject.push("four");
    subject.runs(&["web-4-1", "web-5-1"]);
    // The end of the app, in the middle of a watch, leaves nothing.
    subject.app.destroy();
}

#[test]
fn a_watch_outlives_the_control_plane() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "outlives", 15, "good");
    let good = subject.repository.head();
    subject.push("bad");
    server.kill9();
    subject.work(12); // counted by the proxy meanwhile
    server.restart();
    subject.back_at("good", &good);
    subject.runs(&["web-1-1"]);

    let fixed = subject.push("fixed");
    server.kill9();
    server.restart();
    subject.runs(&["web-1-1", "web-4-1"]);
    assert_eq!(subject.app.page(), "fixed");
    // Its time is over at last.
    subject.runs(&["web-4-1"]);
    subject.back_at("fixed", &fixed);
}

/// Where an automatic rollback comes by.
const BACK: [&str; 7] =
    ["evidence-found", "ready", "branch-moved", "committed", "published", "others-started", "drained"];

#[test]
fn an_automatic_rollback_that_is_killed_at_any_step_is_done_all_the_same() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "killed", 120, "good 0");
    for (number, place) in BACK.into_iter().enumerate() {
        let good = subject.repository.on_server("refs/heads/main");
        let name = subject.app.page();
        subject.push(&format!("bad {number}"));
        server.stop_at(place);
        subject.work(12);
        server.wait_stopped();
        server.kill_stopped(true);
        subject.work(12); // before it is done, further evidence
        server.restart();
        subject.back_at(&name, &good);
        eventually(&format!("one is left, killed at {place}"), MINUTE, || {
            subject.app.containers().len() == 1
        });
        assert!(!subject.states().iter().any(|state| ["preparing", "ready"].contains(&state.as_str())));
        assert_eq!(subject.app.page(), name, "killed at {place}");
    }
    // And at the end of a watch that came to nothing.
    subject.repository.write("paas.toml", "[deploy]\nwatch = \"1s\"\n");
    server.stop_at("window-closed");
    let last = subject.push("good at last");
    server.wait_stopped();
    server.kill_stopped(true);
    server.restart();
    subject.back_at("good at last", &last);
    eventually("what stood by is gone", MINUTE, || subject.app.containers().len() == 1);
}
