//! WebSocket through a deployed app, by a client that others wrote: Node's own.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::process::Command;
use std::time::Duration;
use support::{Running, TestApp, docker, eventually, shared};

const MINUTE: Duration = Duration::from_secs(60);

/// Sends a message five times a second; prints each answer, and the end.
const CLIENT: &str = r#"
const [url, word] = process.argv.slice(1);
const socket = new WebSocket(url);
let count = 0;
socket.onopen = () => setInterval(() => socket.send(`${word} ${count++}`), 200);
socket.onmessage = ({ data }) => console.log(data);
socket.onerror = ({ message }) => console.log("error", message);
socket.onclose = ({ code }) => { console.log("closed", code); process.exit(0); };
"#;

/// A client that talks to the app by its host name, in a container of the
/// host's network, since the app's image has what it needs.
fn client(app: &TestApp, name: &str, word: &str) -> Running {
    let image = docker(&["inspect", "-f", "{{.Image}}", &app.containers()[0]]).ok().out();
    let host = format!("{}.localhost", app.name);
    let url = format!("ws://{host}:{}/echo", app.server.http_port);
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--init", "--network", "host", "--name", name]);
    command.args(["--add-host", &format!("{host}:127.0.0.1"), "--entrypoint", "node", image.trim()]);
    command.args(["-e", CLIENT, &url, word]);
    Running::start(command, b"")
}

/// Removes the client's container, however the test ends.
struct Gone(String);

impl Drop for Gone {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.0]);
    }
}

#[test]
fn a_conversation_goes_on_over_a_redeploy_and_new_ones_meet_the_new_release() {
    let (server, _turn) = shared();
    let app = server.app("sockets");
    let repository = app.repository("node-websocket");
    repository.push(&["main"]).ok();
    let old = app.containers();
    let names = ["before", "after"].map(|when| Gone(format!("{}-{when}", app.name)));
    let mut before = client(&app, &names[0].0, "first");
    before.wait_for("hello first 3", MINUTE);

    let source = std::fs::read_to_string(repository.path().join("server.js")).unwrap();
    repository.write("server.js", source.replace("\"hello\"", "\"goodbye\""));
    repository.commit("Say goodbye");
    repository.push(&["main"]).ok();
    let said = before.text();
    let mut after = client(&app, &names[1].0, "second");
    after.wait_for("goodbye second 3", MINUTE);
    let next = said.matches("hello first").count() + 5;
    before.wait_for(&format!("hello first {next}"), Duration::from_secs(20));
    assert!(app.containers().contains(&old[0]), "the old process finishes what it began");

    drop(names);
    let left = Duration::from_secs(20);
    eventually("the old process goes with its last conversation", left, || {
        !app.containers().contains(&old[0])
    });
}
