//! SIGKILL at random instants of real pushes, not only at the places that we thought of;
//! of release builds too. `PAAS_KILLS=30` kills more often, `PAAS_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::{Repository, Server, TestApp, alone, docker, eventually, files};

const MINUTE: Duration = Duration::from_secs(60);

/// How long it is killed again and again when nobody asks for more.
const AS_LONG: Duration = Duration::from_secs(40);

/// A number that the environment gives.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Pseudo-random numbers, the same for the same seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Subject {
    server: &'static Server,
    app: TestApp,
    repository: Repository,
}

impl Subject {
    /// Branch, release, containers, routes and images tell the same story; what it says.
    #[track_caller]
    fn agrees(&self, what: &str, may_say: &[&str]) -> String {
        let info: serde_json::Value =
            serde_json::from_str(&self.app.ssh("apps:info", &["--json"]).ok().out()).unwrap();
        let (release, commit) = (info["release"].as_u64().unwrap(), info["commit"].as_str().unwrap());
        assert_eq!(self.repository.on_server("refs/heads/main"), commit, "{what}");
        let page = self.app.page();
        assert!(may_say.contains(&page.as_str()), "{what}: {page}");
        let subject = self.repository.git(&["log", "-1", "--format=%s", commit]).ok().out();
        assert_eq!(subject.trim(), page, "{what}: the branch names what runs");
        let expected = ["web", "worker"].map(|kind| format!("paas-{}-{kind}-{release}-1", self.app.name));
        eventually(&format!("{what}: {expected:?} run, and no others"), MINUTE, || {
            let mut there = self.app.containers();
            there.sort();
            there == expected
        });
        // What a deploy leaves to the background may end after it has been told.
        eventually(&format!("{what}: images of releases that have served, and no others"), MINUTE, || {
            self.images_of().iter().all(|state| ["current", "retired"].contains(&state.as_str()))
        });
        eventually(&format!("{what}: nothing half-done in repositories and tmp"), MINUTE, || {
            self.left().is_empty()
        });
        page
    }

    /// The states of the releases whose images are there.
    fn images_of(&self) -> Vec<String> {
        let served = self.app.ssh("releases", &["--json"]).ok().out();
        let served: serde_json::Value = serde_json::from_str(&served).unwrap();
        let state = |tag: &str| {
            let number: u64 = tag.trim_start_matches('v').split('-').next().unwrap().parse().unwrap();
            let of = served.as_array().unwrap().iter().find(|release| release["number"] == number).unwrap();
            of["state"].as_str().unwrap().to_owned()
        };
        let tags = docker(&["image", "ls", "--format", "{{.Tag}}", &format!("paas/{}", self.app.name)]).ok();
        tags.out().lines().map(state).collect()
    }

    /// Files that somebody has not come to an end with.
    fn left(&self) -> Vec<PathBuf> {
        let data = self.server.home.join("data");
        let mut left = files(&data.join("tmp"));
        left.extend(files(&data.join("repos")).into_iter().filter(|path| {
            path.extension().is_some_and(|end| end == "lock") || path.to_string_lossy().contains("tmp_objdir")
        }));
        left
    }
}

#[test]
fn a_push_killed_at_any_instant_is_finished_or_undone() {
    let (server, _turn) = alone();
    let app = server.app("kills");
    let repository = app.saying("first");
    repository.write("Procfile", "web: python main.py\nworker: sleep 9999\n");
    repository.say("first");
    repository.push(&["main"]).ok();
    app.ssh("ps:scale", &["worker=1"]).ok();
    let subject = Subject { server, app, repository };
    // As long as a push takes, and a little more.
    subject.repository.say("measured");
    let begun = Instant::now();
    subject.repository.push(&["main"]).ok();
    let push = u64::try_from(begun.elapsed().as_millis()).unwrap() * 6 / 5;

    let (kills, now) = (given("PAAS_KILLS"), std::time::SystemTime::UNIX_EPOCH.elapsed());
    let seed = given("PAAS_SEED").unwrap_or(u64::from(now.unwrap().subsec_nanos()) | 1);
    println!("PAAS_SEED={seed}; a push takes up to {push} ms");
    let (mut random, mut old, mut finished) = (Random(seed), "measured".to_owned(), 0);
    let (begun, mut number) = (Instant::now(), 0);
    while kills.map_or(begun.elapsed() < AS_LONG, |kills| number < kills) {
        number += 1;
        let (after, all) = (random.below(push), random.below(2) == 1);
        let new = format!("kill {number} after {after} ms, {}", if all { "all" } else { "the server" });
        subject.repository.say(&new);
        let running = subject.repository.push_running(&["main"]);
        std::thread::sleep(Duration::from_millis(after));
        subject.server.kill_stopped(all);
        let told = running.finish(MINUTE);
        let meanwhile = subject.app.page();
        assert!([&old, &new].contains(&&meanwhile), "{new}: {meanwhile}");
        subject.server.restart();
        let page = subject.agrees(&new, &[&old, &new]);
        // Who was told that it is live may rely on it.
        assert!(told.code != 0 || page == new, "{new}: {}", told.text());
        finished += u64::from(page == new);
        subject.repository.push(&["main"]).ok();
        old = subject.agrees(&format!("{new}, pushed again"), &[&new]);
    }
    println!("{number} kills: {finished} pushes were finished, {} undone", number - finished);
}
