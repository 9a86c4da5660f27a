//! `[checks]`: who gets requests.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::time::Duration;
use support::{eventually, shared};

const MINUTE: Duration = Duration::from_secs(60);

/// Says its name; is well while the file is not there.
const APP: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        sick = os.path.exists("/tmp/sick")
        status = 503 if self.path == "/healthz" and sick else 200
        if self.path == "/sicken" + os.environ["DYNO"]:
            open("/tmp/sick", "w").close()
        if self.path == "/heal":
            os.remove("/tmp/sick")
        self.send_response(status)
        self.end_headers()
        self.wfile.write(os.environ["DYNO"].encode())

ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

#[test]
fn a_process_that_is_not_well_gets_no_requests_until_it_is() {
    let (server, _turn) = shared();
    let app = server.app("health");
    let repository = app.saying("replaced");
    repository.write("main.py", APP);
    repository.write("paas.toml", "[checks]\npath = \"/healthz\"\ninterval = 1\n");
    repository.commit("With a check");
    repository.push(&["main"]).ok();
    app.ssh("checks", &[]).ok().says(&["GET /healthz, below 400", "web.1", "well"]);
    app.ssh("ps:scale", &["web=2"]).ok();
    let answering = || {
        let mut names: Vec<String> = (0..20).map(|_| server.get(&app.name, "/").body).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(answering(), ["web.1", "web.2"]);

    eventually("web.2 is asked to be sick", MINUTE, || server.get(&app.name, "/sickenweb.2").body == "web.2");
    eventually("web.2 is out", MINUTE, || answering() == ["web.1"]);
    app.ssh("ps", &[]).ok().says(&["unwell"]);
    app.ssh("logs", &["-s", "platform"])
        .ok()
        .says(&["web.2 takes no requests: its check fails (status 503)"]);

    let container = format!("paas-{}-web-1-2", app.name);
    support::docker(&["exec", &container, "rm", "/tmp/sick"]).ok();
    eventually("web.2 is back", MINUTE, || answering() == ["web.1", "web.2"]);
}

#[test]
fn a_release_whose_own_check_fails_is_refused() {
    let (server, _turn) = shared();
    let app = server.app("unwell");
    let repository = app.saying("good");
    repository.push(&["main"]).ok();
    let check = |line: &str| {
        repository.write("paas.toml", format!("[checks]\nstart_period = 3\n{line}\n"));
        repository.commit("Another check");
        repository.push(&["main"])
    };
    check("command = \"exit 7\"").fails().says(&["health check exits with status 7"]);
    check("path = \"healthz\"").fails().says(&["paas.toml line 3", "a path such as /healthz"]);
    check("tcp = true\ncommand = \"true\"").fails().says(&["one of path, command and tcp"]);
    assert_eq!(app.page(), "good");
    check("tcp = true").ok();
    check("command = \"test -e main.py\"").ok();
}

#[test]
fn a_healthcheck_of_the_dockerfile_is_acted_on_and_a_command_wins() {
    let (server, _turn) = shared();
    let app = server.app("dockerfile-check");
    let repository = app.saying("replaced");
    repository.write("main.py", APP);
    let dockerfile = |check: &str| {
        let text = format!(
            "FROM python:3.11-slim\nWORKDIR /srv\nCOPY . .\nEXPOSE 5000\n{check}\nCMD [\"python3\", \"main.py\"]\n"
        );
        repository.write("Dockerfile", text);
        repository.commit("With a check");
        repository.push(&["main"])
    };
    dockerfile("HEALTHCHECK --interval=1s --retries=2 CMD test ! -e /tmp/sick").ok();
    app.ssh("checks", &[]).ok().says(&["test ! -e /tmp/sick", "HEALTHCHECK in the Dockerfile", "1 s"]);
    assert_eq!(app.page(), "web.1");
    let format = "{{json .Config.Healthcheck}} {{if .State.Health}}asked{{end}}";
    let twice = support::docker(&["inspect", "--format", format, &format!("paas-{}-web-1-1", app.name)]).ok();
    assert!(!twice.out().contains("asked"), "the engine asks, too: {}", twice.out());
    assert_eq!(server.get(&app.name, "/sickenweb.1").status, 200);
    eventually("web.1 is out", MINUTE, || app.get("/").status == 503);
    app.ssh("logs", &["-s", "platform"])
        .ok()
        .says(&["web.1 takes no requests: its check fails (exit status 1)"]);

    // What is set by command holds at once, and over releases.
    app.ssh("checks:set", &["path=/healthz"]).fails().says(&["does not pass", "503", "--force"]);
    app.ssh("checks:set", &["path=healthz"]).fails().says(&["path=/healthz"]);
    app.ssh("checks:set", &["type=tcp", "attempts=1"]).ok().says(&["a connection", "checks:set"]);
    eventually("web.1 is back", MINUTE, || app.get("/").status == 200);
    app.ssh("ps:restart", &[]).ok();
    app.ssh("checks", &[]).ok().says(&["a connection", "checks:set"]);
    app.ssh("checks:unset", &[]).ok().says(&["HEALTHCHECK in the Dockerfile"]);

    // One that the image cannot run is no reason to refuse the app.
    dockerfile("HEALTHCHECK CMD [\"/usr/bin/no-such-curl\", \"-f\", \"http://localhost\"]")
        .ok()
        .says(&["HEALTHCHECK of the Dockerfile cannot be run", "passed over"]);
    repository.write("paas.toml", "[checks]\nstart_period = 3\n");
    dockerfile("HEALTHCHECK CMD exit 9").fails().says(&["exits with status 9"]);
    assert_eq!(app.page(), "web.1");
    dockerfile("HEALTHCHECK NONE").ok();
    app.ssh("checks", &[]).ok().says(&["GET / at the start"]);
}
