//! What an app's paas.toml says of its requests, by real pushes.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use nix::sys::signal::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Repository, Running, Server, TestApp, alone, eventually, shared};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn limits_come_with_their_release_and_go_back_with_it() {
    let (server, _turn) = shared();
    let app = server.app("limits");
    let repository = app.saying("one");
    repository.write("paas.toml", "[http]\nbody_limit = \"1K\"\nsticky = true\n");
    repository.say("one");
    repository.push(&["main"]).ok().says(&["requests: bodies of at most 1K, sticky"]);
    let status = |length: usize| {
        let head = [format!("Content-Length: {length}")];
        server.try_get_with(&app.name, "/", &head).unwrap().status
    };
    assert_eq!(status(2000), 413);
    let cookie = app.get("/").header("set-cookie").unwrap();
    assert!(cookie.starts_with("paas_sticky=") && cookie.ends_with("; HttpOnly; SameSite=Lax"), "{cookie}");

    repository.write("paas.toml", "[http]\nbody_limt = \"2K\"\n");
    repository.say("two");
    repository.push(&["main"]).fails().says(&["paas.toml line 2: there is no body_limt", "body_limit?"]);
    assert_eq!(app.page(), "one");
    repository.write("paas.toml", "");
    repository.say("two");
    repository.push(&["main"]).ok();
    assert_eq!(app.get("/").header("set-cookie"), None);
    app.ssh("rollback", &[]).ok();
    assert_eq!((app.page().as_str(), status(2000)), ("one", 413));
    app.ssh("config:set", &["A=1"]).ok();
    assert_eq!(status(2000), 413);
}

/// Answers / with its name, and all else with what its name says.
const APP: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if NAME.startswith("bad") and self.path != "/" else 200)
        self.send_header("Content-Length", str(len(NAME)))
        self.end_headers()
        self.wfile.write(NAME.encode())
    def log_message(self, *_):
        pass

ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

/// An app whose releases are tried with half of the requests.
struct Subject {
    server: &'static Server,
    app: TestApp,
    repository: Repository,
}

impl Subject {
    fn new(server: &'static Server, name: &str) -> Self {
        server.stop_nowhere();
        let app = server.app(name);
        let repository = app.saying("replaced");
        let subject = Self { server, app, repository };
        subject.commit("good", "2s");
        subject.repository.push(&["main"]).ok().says(&["No canary: there is nothing beside"]);
        subject
    }

    fn commit(&self, name: &str, time: &str) -> String {
        let settings = format!("[deploy]\nwatch = \"0\"\ncanary = \"50% for {time}\"\n");
        self.repository.write("paas.toml", settings);
        self.repository.write("main.py", format!("NAME = {name:?}\n{APP}"));
        self.repository.commit(name)
    }

    /// Asks until the push has ended; whether both releases have answered.
    fn ask_meanwhile<T>(&self, push: impl FnOnce() -> T) -> (T, bool) {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut names = std::collections::BTreeSet::new();
                while !done.load(Ordering::Relaxed) {
                    names.insert(self.server.get(&self.app.name, "/").body);
                    self.server.get(&self.app.name, "/work");
                    std::thread::sleep(Duration::from_millis(20));
                }
                names.len() == 2
            });
            let outcome = push();
            done.store(true, Ordering::Relaxed);
            (outcome, asking.join().unwrap())
        })
    }

    /// The first release serves alone, and nothing else is there.
    #[track_caller]
    fn nothing_has_changed(&self, commit: &str, release: u32) {
        let container = format!("paas-{}-web-{release}-1", self.app.name);
        eventually("the other one is gone", MINUTE, || self.app.containers() == [container.clone()]);
        assert_eq!(self.repository.on_server("refs/heads/main"), commit);
        for _ in 0..10 {
            assert_eq!(self.app.page(), "good");
        }
    }

    /// A push that has been tried for a moment.
    fn tried(&self) -> Running {
        let push = self.repository.push_running(&["main"]);
        eventually("both answer", MINUTE, || self.app.page() != "good");
        push
    }
}

#[test]
fn a_canary_is_judged_before_the_branch_moves() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "canary");
    let good = subject.repository.head();
    subject.commit("bad", "60s");
    let (push, both) = subject.ask_meanwhile(|| subject.repository.push(&["main"]));
    push.fails().says(&[
        "Canary: 50% of the requests for 1 min",
        "the canary did worse than v1.",
        "were 5xx",
    ]);
    assert!(both, "it has had requests");
    subject.nothing_has_changed(&good, 1);

    // Whoever pushes leaves.
    subject.commit("better", "60s");
    let push = subject.tried();
    push.signal(Signal::SIGINT);
    push.finish(MINUTE);
    subject.nothing_has_changed(&good, 1);

    let better = subject.commit("better", "3s");
    let (push, both) = subject.ask_meanwhile(|| subject.repository.push(&["main"]));
    push.ok().says(&["Canary: 50% of the requests for 3 s", "answers were 5xx (0 of", "deployed: v4"]);
    assert!(both && subject.app.page() == "better");
    assert_eq!(subject.repository.on_server("refs/heads/main"), better);
    subject.app.ssh("rollback", &[]).ok().silent_about("Canary");
    assert_eq!(subject.app.page(), "good");
}

#[test]
fn a_canary_that_is_killed_at_any_step_leaves_the_old_routes() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "cut-off");
    let good = subject.repository.head();
    for (place, all) in [("canary-routed", false), ("canary-judged", true), ("canary-taken-back", false)] {
        let bad = place == "canary-taken-back";
        subject.commit(if bad { "bad" } else { "better" }, if bad { "60s" } else { "1s" });
        server.stop_at(place);
        let push = subject.repository.push_running(&["main"]);
        let ((), both) = subject.ask_meanwhile(|| {
            server.wait_stopped();
            if !bad {
                eventually("the proxy goes on with both", MINUTE, || subject.app.page() != "good");
            }
        });
        server.kill_stopped(all);
        push.finish(MINUTE);
        assert!(both, "it has had requests at {place}");
        server.restart();
        subject.nothing_has_changed(&good, 1);
    }
    subject.commit("better", "1s");
    subject.repository.push(&["main"]).ok();
    assert_eq!(subject.app.page(), "better");
}
