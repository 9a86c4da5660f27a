//! Webhooks, by a receiver that speaks real HTTP: every event arrives, signed, also
//! after the receiver or the server was away.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{alone, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// One request: its head in lower case, its body.
type Message = (String, Value);

/// Keeps what it gets; answers 503 while it is `away`.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Message>>>,
    away: Arc<AtomicBool>,
}

impl Receiver {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://127.0.0.1:{}/t0ken", listener.local_addr().unwrap().port());
        let (got, away) = (Arc::<Mutex<Vec<Message>>>::default(), Arc::<AtomicBool>::default());
        let (into, gone) = (got.clone(), away.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut read = Vec::new();
                let mut part = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut part) {
                    read.extend(&part[..count]);
                    if let Some(message) = whole(&read) {
                        let away = gone.load(Ordering::SeqCst);
                        let status = if away { "503 Away" } else { "200 OK" };
                        if !away {
                            into.lock().unwrap().push(message);
                        }
                        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
                        break;
                    }
                }
            }
        });
        Self { url, got, away }
    }

    /// Waits for the message that says this, and returns it.
    #[track_caller]
    fn told(&self, text: &str) -> Message {
        let found = || {
            let got = self.got.lock().unwrap();
            got.iter().find(|(_, body)| body["text"].as_str().unwrap().contains(text)).cloned()
        };
        let end = Instant::now() + MINUTE;
        while found().is_none() {
            assert!(Instant::now() < end, "no message says {text:?}: {:#?}", self.got);
            std::thread::sleep(Duration::from_millis(50));
        }
        found().unwrap()
    }
}

/// A request, once its body is complete.
fn whole(read: &[u8]) -> Option<Message> {
    let end = read.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
    Some((head, serde_json::from_slice(&read[end + 4..]).ok()?))
}

#[test]
fn releases_rollbacks_and_failures_are_told_also_after_a_crash() {
    let (server, _turn) = alone();
    server.stop_nowhere();
    let app = server.app("told");
    let repository = app.saying("first");
    repository.push(&["main"]).ok();
    let receiver = Receiver::new();

    // Not to the server's own network, unless the administrator says so.
    let refused = app.ssh("webhooks:add", &[&receiver.url]).fails();
    refused.says(&["private network (127.0.0.1)", "webhooks.allow"]);
    app.ssh("webhooks:add", &["http://169.254.169.254/latest/meta-data"]).fails().says(&["private network"]);
    server.configure("[deploy]\nwatch = \"2s\"\n[webhooks]\nallow = [\"127.0.0.1\"]\n");
    app.ssh("webhooks:add", &["ftp://example.com"]).fails().says(&["no address for a webhook"]);
    app.ssh("webhooks:add", &[&receiver.url, "--events", "deploy"])
        .fails()
        .says(&["release, rollback, crash"]);

    let add = ["webhooks:add", &app.name, &receiver.url, "--secret"];
    server.ssh_with(&add, b"geheim\n").ok().says(&["Added webhook 1", "release, rollback, crash"]);
    let (head, ping) = receiver.told("added this webhook");
    assert!(head.contains("paas-event: ping") && head.contains("paas-signature-256: sha256="), "{head}");
    assert!(head.contains(&format!("paas-delivery: {}", ping["id"].as_str().unwrap())), "{head}");

    repository.say("second");
    repository.push(&["main"]).ok();
    let (_, live) = receiver.told("v2 is live (push by tester)");
    assert_eq!((&live["event"], &live["previous"]), (&"release".into(), &1.into()));
    assert_eq!(live["release"]["commit"], repository.head().as_str());
    app.ssh("rollback", &[]).ok();
    receiver.told("tester rolled back to v1, as v3");
    repository.write("Procfile", "web: exit 3\n");
    repository.commit("Broken");
    repository.push(&["--force", "main"]).fails();
    receiver.told("v4 failed and was never live");

    // What cannot be told now is told later, and a server that dies in between knows.
    receiver.away.store(true, Ordering::SeqCst);
    repository.write("Procfile", "web: python main.py\nworker: exit 3\n");
    repository.write("paas.toml", "[processes.worker]\ngive_up_after = 2\n");
    repository.say("fifth");
    repository.push(&["--force", "main"]).ok();
    eventually("it was tried in vain", MINUTE, || {
        app.ssh("webhooks", &[]).ok().out().contains("waiting: it answered 503")
    });
    server.kill9();
    receiver.away.store(false, Ordering::SeqCst);
    server.restart();
    receiver.told("v5 is live");
    app.ssh("ps:scale", &["worker=1"]).ok();
    let (_, crash) = receiver.told("worker.1 has crashed (exit 3) and is not started again");
    assert_eq!((&crash["event"], &crash["process"]["exit_code"]), (&"crash".into(), &3.into()));

    let listed = app.ssh("webhooks", &[]).ok().says(&["http://127.0.0.1:", "/…", "yes", "release"]);
    let audit = app.ssh("audit", &[]).ok().says(&["webhooks:add http://127.0.0.1:"]);
    for text in [listed.out(), audit.out(), server.log()] {
        assert!(!text.contains("t0ken") && !text.contains("geheim"), "{text}");
    }
    app.ssh("webhooks:remove", &["7"]).fails().says(&["no such webhook"]);
    app.ssh("webhooks:remove", &["1"]).ok().says(&["Removed webhook 1"]);
    let before = receiver.got.lock().unwrap().len();
    app.ssh("ps:restart", &[]).ok();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(receiver.got.lock().unwrap().len(), before, "it is told no more");
    server.configure("[deploy]\nwatch = \"2s\"\n");
}
