//! What an app can reach: the internet, and nothing of the host.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::net::TcpListener;
use support::shared;

/// Answers with what comes of connecting to `?HOST:PORT`.
const PROBE: &str = r#"
import os, socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"up"
        if "?" in self.path:
            host, port = self.path.split("?")[1].split(":")
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                body = b"reached"
            except OSError as error:
                body = b"cut off: " + type(error).__name__.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

#[test]
fn an_app_reaches_itself_but_neither_the_host_nor_another_app() {
    let (server, _turn) = shared();
    let app = server.app("prober");
    let repository = app.repository("python-plain");
    repository.write("main.py", PROBE);
    repository.commit("probe");
    repository.push(&["main"]).ok();
    let other = server.app("neighbour");
    other.saying("hello").push(&["main"]).ok();

    let inspect = |container: &str, what: &str| {
        let format = format!("{{{{range .NetworkSettings.Networks}}}}{{{{{what}}}}}{{{{end}}}}");
        support::docker(&["inspect", "-f", &format, container]).ok().out().trim().to_owned()
    };
    let own = &app.containers()[0];
    let (gateway, address) = (inspect(own, ".Gateway"), inspect(own, ".IPAddress"));
    let host = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = host.local_addr().unwrap().port();
    let ask = |target: String| app.get(&format!("/?{target}")).body;

    let web = app.ssh("config:get", &["PORT"]).out().trim().parse::<u16>().unwrap_or(8000);
    assert_eq!(ask(format!("{address}:{web}")), "reached", "the probe works");
    assert!(
        ask(format!("{gateway}:{port}")).starts_with("cut off"),
        "the host's port {port} is open to the app"
    );
    let neighbour = inspect(&other.containers()[0], ".IPAddress");
    assert!(ask(format!("{neighbour}:8000")).starts_with("cut off"), "another app ({neighbour}) is closed");
    // The engine's own rules are out of force for a moment whenever a network is made.
    let others = std::thread::spawn(|| {
        for _ in 0..6 {
            support::docker(&["network", "create", "paas-test-isolation"]).ok();
            support::docker(&["network", "rm", "paas-test-isolation"]).ok();
        }
    });
    while !others.is_finished() {
        assert!(
            ask(format!("{neighbour}:8000")).starts_with("cut off"),
            "another app ({neighbour}) is closed"
        );
    }
    others.join().unwrap();
}

/// A Dockerfile whose app says whether a step of its build could reach the host.
#[test]
fn a_build_reaches_neither_the_host_nor_another_apps_image_or_cache() {
    let (server, _turn) = shared();
    let host = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = host.local_addr().unwrap().port();
    let owner = server.app("owner");
    let cache = "--mount=type=cache,target=/cache";
    let owners = dockerfile(
        &owner,
        &format!("RUN {cache} echo of-the-owner > /cache/mark && cp /cache/mark /index.html\n"),
    );
    owners.push(&["main"]).ok();
    assert_eq!(owner.page().trim(), "of-the-owner");

    let thief = server.app("thief");
    let gateway =
        support::docker(&["network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"]);
    let host_port = format!("{}/{port}", gateway.ok().out().trim());
    let theirs = dockerfile(
        &thief,
        &format!(
            "RUN if timeout 3 bash -c 'exec 3<>/dev/tcp/{host_port}'; then echo reached; else echo cut off; fi > /index.html\n\
             RUN {cache} cat /cache/mark >> /index.html || echo no cache >> /index.html\n\
             RUN {cache},id=../../../cache cat /cache/mark >> /index.html || echo no cache >> /index.html\n"
        ),
    );
    theirs.push(&["main"]).ok();
    assert_eq!(thief.page().lines().collect::<Vec<_>>(), ["cut off", "no cache", "no cache"]);

    for line in [
        format!("RUN --mount=type=bind,from=paas/{}:v1,source=/,target=/v cp /v/index.html /\n", owner.name),
        format!("COPY --from=paas/{}:v1 /index.html /\n", owner.name),
    ] {
        dockerfile(&thief, &line).push(&["main"]).fails();
    }
}

fn dockerfile(app: &support::TestApp, steps: &str) -> support::Repository {
    let repository = app.repository("docker-expose");
    let text = format!(
        "FROM python:3.11-slim\nWORKDIR /\n{steps}CMD [\"sh\", \"-c\", \"exec python3 -m http.server $PORT\"]\n"
    );
    repository.write("Dockerfile", &text);
    repository.commit("steps");
    repository
}
