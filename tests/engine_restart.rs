//! The engine is restarted and killed while apps run, and started at a boot: the apps
//! answer again by themselves, and nothing is left over.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::cell::RefCell;
use std::time::{Duration, Instant};
use support::{OwnEngine, Repository, Server, eventually, http, on_engine};

const MINUTE: Duration = Duration::from_secs(60);

/// Needs no base image.
const DOCKERFILE: &str = "\
FROM scratch
COPY busybox /bin/busybox
COPY busybox /bin/sh
ENV PATH=/bin
COPY index.html /www/index.html
EXPOSE 8000
CMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8000\", \"-h\", \"/www\"]
";

/// An app with a web process and a worker on a server with its own engine.
struct Subject {
    engine: OwnEngine,
    server: &'static Server,
    repository: Repository,
    port: u16,
    /// What each commit says.
    says: RefCell<Vec<(String, String)>>,
}

const NAME: &str = "subject";

impl Subject {
    fn new() -> Self {
        let engine = OwnEngine::start();
        let server = on_engine(&engine.url());
        let repository = Repository::empty(server, NAME);
        std::fs::copy("/bin/busybox", repository.path().join("busybox")).unwrap();
        repository.write("Procfile", "worker: busybox sleep 9999\n");
        let mut subject = Self { engine, server, repository, port: 0, says: RefCell::default() };
        subject.say("first", DOCKERFILE);
        subject.repository.push(&["main"]).ok();
        server.ssh(&["ps:scale", NAME, "worker=1"]).ok();
        subject.port = u16::try_from(subject.json("apps:info")["port"].as_u64().unwrap()).unwrap();
        subject
    }

    fn say(&self, text: &str, dockerfile: &str) {
        self.repository.write("Dockerfile", dockerfile);
        self.repository.write("index.html", text);
        let commit = self.repository.commit(text);
        self.says.borrow_mut().push((commit, text.to_owned()));
    }

    fn json(&self, command: &str) -> serde_json::Value {
        serde_json::from_str(&self.server.ssh(&[command, NAME, "--json"]).ok().out()).unwrap()
    }

    fn page(&self) -> Option<String> {
        let reply = self.server.try_get(NAME, "/").ok().filter(|reply| reply.status == 200)?;
        Some(reply.body)
    }

    fn listing(&self, args: &str) -> Vec<String> {
        let words: Vec<&str> = args.split(' ').collect();
        let mut lines: Vec<String> =
            self.engine.docker(&words).ok().out().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// For messages of failed tests.
    fn looks(&self) -> String {
        let containers = self.engine.docker(&["ps", "-a"]).text();
        format!("{containers}\n{}\n{}", self.server.log(), self.engine.log())
    }

    /// Branch, release, containers, routes and images tell the same story, and the
    /// app says `text`.
    #[track_caller]
    fn agrees(&self, what: &str, text: &str) {
        let end = Instant::now() + MINUTE;
        while self.page().as_deref() != Some(text) {
            std::thread::sleep(Duration::from_millis(50));
            assert!(Instant::now() < end, "{what}: it never says {text}\n{}", self.looks());
        }
        let info = self.json("apps:info");
        let (release, commit) = (info["release"].as_u64().unwrap(), info["commit"].as_str().unwrap());
        assert!(self.says.borrow().contains(&(commit.to_owned(), text.to_owned())), "{what}: {info}");
        assert_eq!(self.repository.on_server("refs/heads/main"), commit, "{what}");
        let expected = ["web", "worker"].map(|kind| format!("paas-{NAME}-{kind}-{release}-1"));
        let end = Instant::now() + 2 * MINUTE;
        let only = |args| self.listing(args) == expected;
        while !only("ps -a --format {{.Names}}") || !only("ps --format {{.Names}}") {
            std::thread::sleep(Duration::from_millis(50));
            assert!(Instant::now() < end, "{what}: not just {expected:?} run\n{}", self.looks());
        }
        let direct = http::get(self.port, NAME, "/").unwrap();
        assert_eq!(direct.body, text, "{what}");
        eventually(&format!("{what}: only what served has an image"), MINUTE, || {
            let releases = self.json("releases");
            let releases = releases.as_array().unwrap().clone();
            let state = |wanted: &str| {
                let its = releases.iter().filter(|release| release["state"] == wanted);
                its.map(|release| format!("v{}", release["number"])).collect::<Vec<_>>()
            };
            let unfinished = [state("preparing"), state("ready")].concat();
            let failed = state("failed");
            let tags = self.listing(&format!("image ls --format {{{{.Tag}}}} paas/{NAME}"));
            unfinished.is_empty() && !tags.iter().any(|tag| failed.contains(tag))
        });
    }
}

#[test]
fn an_engine_that_is_restarted_costs_no_state() {
    let mut subject = Subject::new();
    while_apps_run(&subject);
    within_a_push(&subject);
    as_at_a_boot(&mut subject);
    subject.server.paas(&["apps:destroy", NAME, "--confirm", NAME]).ok();
    for listing in ["ps -aq", "network ls -q --filter label=paas.app", "images -q --filter label=paas.app"] {
        assert_eq!(subject.listing(listing), Vec::<String>::new(), "docker {listing}");
    }
}

fn while_apps_run(subject: &Subject) {
    subject.engine.restart();
    subject.agrees("restarted while apps ran", "first");
    subject.engine.kill();
    subject.engine.start_again();
    subject.agrees("killed while apps ran", "first");
}

/// The places of a push at which the engine is restarted; what is there is said last.
const WITHIN: [&str; 4] = ["release-opened", "image-saved", "web-started", "ready"];
const LAST: &str = "restarted at ready";

/// It comes to a good end or to none, in words, and the same push succeeds after.
fn within_a_push(subject: &Subject) {
    let mut says = "first".to_owned();
    for place in WITHIN {
        let new = format!("restarted at {place}");
        subject.say(&new, DOCKERFILE);
        subject.server.stop_at(place);
        let push = subject.repository.push_running(&["main"]);
        subject.server.wait_stopped();
        subject.engine.restart();
        subject.server.stop_nowhere();
        let push = push.finish(3 * MINUTE);
        println!("--- {new}\n{}", push.text());
        if push.code == 0 {
            says.clone_from(&new);
        } else {
            push.fails().says(&["[remote rejected]"]);
        }
        subject.agrees(&new, &says);
        subject.repository.push(&["main"]).ok();
        says = new;
        subject.agrees("the same push again", &says);
    }
}

/// Everything has gone, and comes up in either order; apps by the policy that we gave
/// them, even before we are there.
fn as_at_a_boot(subject: &mut Subject) {
    subject.server.kill9();
    subject.engine.stop();
    subject.engine.start_again();
    eventually("the engine starts what it shall by itself", MINUTE, || {
        subject.listing("ps --format {{.Names}}").len() == 2
    });
    subject.server.restart();
    subject.agrees("a boot, the engine first", LAST);

    subject.server.kill9();
    subject.engine.stop();
    std::thread::scope(|scope| {
        scope.spawn(|| subject.server.restart());
        std::thread::sleep(Duration::from_secs(2));
        subject.engine.start_again();
    });
    subject.agrees("a boot, the server first", LAST);
}
