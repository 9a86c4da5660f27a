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
                socket.create_connection((host, int(port)), timeout=2).close()
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
    assert!(ask(format!("{neighbour}:8000")).starts_with("cut off"), "another app is open to the app");
}
