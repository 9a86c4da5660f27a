//! Apps that sleep while nobody asks for them, and wake when somebody does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use paas::failpoint::SLEEP;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::Duration;
use support::{TestApp, alone, eventually, shared};

const MINUTE: Duration = Duration::from_secs(60);

/// Answers, and says when it has started; a stream goes on until it is told to end.
const SERVER: &str = r#"
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here I am\n")
        while self.path == "/stream":
            self.wfile.write(b"more\n")
            time.sleep(0.2)
    def log_message(self, *args):
        pass

print("started", flush=True)
ThreadingHTTPServer.request_queue_size = 1024
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A deployed app with a worker, whose release is not watched any more.
fn deployed(app: &TestApp) {
    let repository = app.saying("replaced");
    repository.write("main.py", SERVER);
    repository.write("Procfile", "web: python main.py\nworker: sleep 9999\n");
    repository.write("paas.toml", "[deploy]\nwatch = \"0\"\n");
    repository.commit("With a worker");
    repository.push(&["main"]).ok();
    app.ssh("ps:scale", &["worker=1"]).ok();
    eventually("its worker runs", MINUTE, || app.containers().len() == 2);
}

fn starts(app: &TestApp) -> usize {
    app.ssh("logs", &["-n", "1000", "-s", "app"]).ok().out().matches("started").count()
}

/// So many requests at a time, each on a connection of its own; their answers.
fn crowd(app: &TestApp, count: usize) -> BTreeMap<String, usize> {
    let (port, name) = (app.server.http_port, app.name.clone());
    let mut clients: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            client.set_read_timeout(Some(MINUTE)).unwrap();
            write!(client, "GET / HTTP/1.1\r\nHost: {name}.localhost\r\nConnection: close\r\n\r\n").unwrap();
            client
        })
        .collect();
    let mut answers = BTreeMap::new();
    for client in &mut clients {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        let whole = if text.contains("here I am\n") { "whole" } else { text.as_str() };
        *answers.entry(format!("{} {whole}", words[1])).or_default() += 1;
    }
    answers
}

#[test]
fn an_app_that_nobody_asks_for_falls_asleep_and_a_thousand_requests_wake_it_once() {
    let (server, _turn) = shared();
    let app = server.app("drowsy");
    deployed(&app);
    app.ssh("ps:sleep", &[]).ok().says(&["never falls asleep"]);
    app.ssh("ps:sleep", &["--after", "tomorrow"]).fails().says(&["no time from 10s to 30d"]);
    app.ssh("ps:sleep", &["--after", "10s"]).ok().says(&["falls asleep after 10 s"]);

    // A stream that is open keeps it awake.
    let mut stream = TcpStream::connect(("127.0.0.1", server.http_port)).unwrap();
    write!(stream, "GET /stream HTTP/1.1\r\nHost: {}.localhost\r\n\r\n", app.name).unwrap();
    stream.read_exact(&mut [0; 64]).unwrap();
    app.ssh("ps:sleep", &["--now"]).fails().says(&["Requests or streams are under way"]);
    assert_eq!(app.page(), "here I am\n", "nothing has happened to it");
    drop(stream);
    eventually("it falls asleep, and its worker too", MINUTE, || app.containers().is_empty());
    app.ssh("ps", &[]).ok().says(&["Asleep since", "wakes on the next request"]);
    app.ssh("status", &[]).ok().says(&["sleeping"]);
    let before = starts(&app);

    assert_eq!(crowd(&app, 1_000), BTreeMap::from([("200 whole".to_owned(), 1_000)]));
    assert_eq!(starts(&app), before + 1);
    app.ssh("ps", &[]).ok().says(&["Woke in", "running"]);
    eventually("its worker follows", MINUTE, || app.containers().len() == 2);
    app.ssh("logs", &["-s", "platform"])
        .ok()
        .says(&["Asleep after 10 s without a request", "Woken by a request in"]);

    app.ssh("ps:sleep", &["--now"]).ok().says(&["Asleep since"]);
    app.ssh("ps:sleep", &["--off"]).ok().says(&["never falls asleep", "Woke in"]);
    assert_eq!(app.containers().len(), 2);
}

/// Somebody who asks, and waits for the answer.
fn asks(app: &TestApp) -> JoinHandle<String> {
    let (port, host) = (app.server.http_port, format!("{}.localhost", app.name));
    std::thread::spawn(move || {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(MINUTE)).unwrap();
        write!(client, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    })
}

#[test]
fn an_app_stays_asleep_over_a_crash_of_the_server_and_wakes_when_the_next_one_is_there() {
    let (server, _turn) = alone();
    let app = server.app("stays-asleep");
    deployed(&app);
    app.ssh("ps:sleep", &["--now"]).ok();
    server.kill9();
    let waiting = asks(&app);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(app.containers(), [""; 0]);
    assert!(!waiting.is_finished(), "nobody is there to wake it");
    server.restart();
    let answer = waiting.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}\n{}", server.log());
    app.ssh("ps:sleep", &["--now"]).ok();
    server.stop();
    server.restart();
    assert_eq!(app.containers(), [""; 0]);
    app.ssh("ps:wake", &[]).ok().says(&["Woke"]);
    assert_eq!(app.page(), "here I am\n");

    // Cut off on the way to sleep, or from it, it loses no request.
    for place in SLEEP {
        let falls = place == "falling-asleep";
        if !falls {
            app.ssh("ps:sleep", &["--now"]).ok();
        }
        server.stop_at(place);
        let name = app.name.clone();
        let waiting = if falls {
            std::thread::spawn(move || server.ssh(&["ps:sleep", &name, "--now"]));
            None
        } else {
            Some(asks(&app))
        };
        server.wait_stopped();
        server.kill_stopped(false);
        server.restart();
        let answer = waiting.unwrap_or_else(|| asks(&app)).join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{place}: {answer}\n{}", server.log());
        eventually("all of it runs", MINUTE, || app.containers().len() == 2);
    }
}
