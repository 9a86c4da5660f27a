//! The control plane is killed between every two steps of a deploy, a rollback,
//! a config change and a scaling, alone and with all that it has started; the next one
//! finishes or undoes it. And its clock is set.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use paas::failpoint::PLACES;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use support::{Repository, Running, Server, TestApp, alone, docker, eventually, files};

const MINUTE: Duration = Duration::from_secs(60);

/// Who dies: the control plane alone, or everything that it has started too.
const WHO: [bool; 2] = [false, true];

/// One app with a web process and a worker, and what each commit says.
struct Subject {
    server: &'static Server,
    app: TestApp,
    repository: Repository,
    says: HashMap<String, String>,
}

impl Subject {
    fn new(server: &'static Server, name: &str) -> Self {
        // What a failed test before this one may have left.
        server.stop_nowhere();
        let app = server.app(name);
        let repository = app.saying("first");
        repository.write("Procfile", "web: python main.py\nworker: sleep 9999\n");
        let mut subject = Self { server, app, repository, says: HashMap::new() };
        subject.say("first");
        subject.repository.push(&["main"]).ok();
        subject.app.ssh("ps:scale", &["worker=1"]).ok();
        subject
    }

    fn say(&mut self, text: &str) {
        let commit = self.repository.say(text);
        self.says.insert(commit, text.to_owned());
    }

    /// Kills the control plane at `place` of what `start` begins, and starts it again.
    fn kill_at(&self, place: &str, all: bool, start: impl FnOnce() -> Running) {
        let before = self.app.page();
        self.server.stop_at(place);
        let running = start();
        self.server.wait_stopped();
        self.server.kill_stopped(all);
        running.finish(MINUTE);
        let meanwhile = self.app.page();
        assert!(meanwhile == before || self.says.values().any(|text| *text == meanwhile), "{meanwhile}");
        self.server.restart();
    }

    /// Branch, release, containers, routes, images and addresses tell the same
    /// story, and nothing else is there. Returns what the app says.
    #[track_caller]
    fn agrees(&self, processes: &[&str]) -> String {
        let info: serde_json::Value = self.json("apps:info");
        let (release, commit) = (info["release"].as_u64().unwrap(), info["commit"].as_str().unwrap());
        assert_eq!(self.repository.on_server("refs/heads/main"), commit, "the branch names what runs");
        let page = self.app.page();
        assert_eq!(page, self.says[commit], "the routes lead to it");
        let mut expected: Vec<String> = processes
            .iter()
            .map(|process| {
                format!("paas-{}-{}", self.app.name, process.replace('.', &format!("-{release}-")))
            })
            .collect();
        expected.sort();
        let name = format!("what runs is v{release}'s: {expected:?}");
        eventually(&name, MINUTE, || {
            let mut there = self.app.containers();
            there.sort();
            there == expected
        });
        self.nothing_is_left(processes.len());
        page
    }

    fn json(&self, command: &str) -> serde_json::Value {
        serde_json::from_str(&self.app.ssh(command, &["--json"]).ok().out()).unwrap()
    }

    #[track_caller]
    fn nothing_is_left(&self, processes: usize) {
        let releases = self.json("releases");
        let releases = releases.as_array().unwrap();
        let state = |release: &serde_json::Value| release["state"].as_str().unwrap().to_owned();
        assert!(releases.iter().all(|release| !["preparing", "ready"].contains(&state(release).as_str())));
        let served: Vec<String> = releases
            .iter()
            .filter(|release| state(release) != "failed")
            .map(|release| format!("v{}", release["number"]))
            .collect();
        let tags =
            docker(&["image", "ls", "--format", "{{.Tag}}", &format!("paas/{}", self.app.name)]).ok().out();
        for tag in tags.lines() {
            assert!(
                served.iter().any(|number| Some(number.as_str()) == tag.split('-').next()),
                "image {tag} of no release that served"
            );
        }
        let data = self.server.home.join("data");
        let mut left = files(&data.join("tmp"));
        left.extend(files(&data.join("repos")).into_iter().filter(|path| {
            path.extension().is_some_and(|end| end == "lock") || path.to_string_lossy().contains("tmp_objdir")
        }));
        assert_eq!(left, Vec::<PathBuf>::new());
        let count =
            "SELECT count(*) FROM addresses JOIN apps ON apps.id = addresses.app WHERE apps.name = ?1";
        let database = rusqlite::Connection::open(data.join("paas.db")).unwrap();
        eventually("addresses of dead processes are given up", MINUTE, || {
            let addresses: u32 = database.query_row(count, [&self.app.name], |row| row.get(0)).unwrap();
            usize::try_from(addresses) == Ok(processes)
        });
    }
}

const BOTH: [&str; 2] = ["web.1", "worker.1"];

#[test]
fn a_push_killed_at_any_step_is_finished_or_undone() {
    let (server, _turn) = alone();
    let mut subject = Subject::new(server, "crash");
    let promoted_from = PLACES.iter().position(|&place| place == "branch-moved").unwrap();
    for (number, place) in PLACES.iter().enumerate() {
        for all in WHO {
            let old = subject.app.page();
            let new = format!("{place} {all}");
            subject.say(&new);
            subject.kill_at(place, all, || subject.repository.push_running(&["main"]));
            let expected = if number >= promoted_from { &new } else { &old };
            assert_eq!(subject.agrees(&BOTH), *expected, "killed at {place}, {all}");
            subject.repository.push(&["main"]).ok();
            assert_eq!(subject.app.page(), new, "the same push again, after {place}, {all}");
        }
    }
}

/// Places that a release of an image that is there comes by.
const AGAIN: [&str; 10] = [
    "release-opened",
    "web-started",
    "web-healthy",
    "ready",
    "committed",
    "published",
    "acknowledged",
    "others-ended",
    "others-started",
    "drained",
];

#[test]
fn a_rollback_killed_at_any_step_is_finished_or_undone() {
    let (server, _turn) = alone();
    let mut subject = Subject::new(server, "crash-back");
    // By new processes; tests/automatic_rollback.rs kills it among those that stand by.
    subject.repository.write("paas.toml", "[deploy]\nwatch = \"0\"\n");
    subject.say("second");
    subject.repository.push(&["main"]).ok();
    for place in AGAIN.into_iter().chain(["branch-moved"]) {
        for all in WHO {
            let (old, new) = match subject.app.page().as_str() {
                "first" => ("first", "second"),
                _ => ("second", "first"),
            };
            subject.kill_at(place, all, || server.ssh_running(&["rollback", &subject.app.name]));
            // Before the branch has moved it is undone, from then on finished.
            let undone = ["release-opened", "web-started", "web-healthy", "ready"].contains(&place);
            assert_eq!(subject.agrees(&BOTH), if undone { old } else { new }, "killed at {place}, {all}");
            if undone {
                subject.app.ssh("rollback", &[]).ok();
                assert_eq!(subject.app.page(), new, "the same rollback again, after {place}, {all}");
            }
        }
    }
}

#[test]
fn a_config_change_killed_at_any_step_is_finished_or_undone() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "crash-config");
    for (number, place) in AGAIN.into_iter().enumerate() {
        for all in WHO {
            let value = format!("VALUE={place}-{all}");
            let value_of = || subject.app.ssh("config:get", &["VALUE"]);
            subject.kill_at(place, all, || server.ssh_running(&["config:set", &subject.app.name, &value]));
            assert_eq!(subject.agrees(&BOTH), "first");
            // Ready is enough: there is no branch that could say no.
            let (told, finished) = (value_of(), number >= 3);
            let is_set = value == format!("VALUE={}", told.out().trim());
            assert_eq!(is_set, finished, "killed at {place}, {all}: {}", told.text());
            if !finished {
                subject.app.ssh("config:set", &[&value]).ok();
                assert_eq!(value, format!("VALUE={}", value_of().ok().out().trim()), "the same again");
            }
        }
    }
}

#[test]
fn a_scaling_killed_at_any_step_is_finished() {
    let (server, _turn) = alone();
    let subject = Subject::new(server, "crash-scale");
    let (one, two) = (["web.1", "worker.1"], ["web.1", "web.2", "worker.1"]);
    for all in WHO {
        for (up, down) in [("committed", "committed"), ("web-healthy", "drained"), ("published", "published")]
        {
            for (place, wish, processes) in [(up, "web=2", &two[..]), (down, "web=1", &one[..])] {
                subject.kill_at(place, all, || server.ssh_running(&["ps:scale", &subject.app.name, wish]));
                assert_eq!(subject.agrees(processes), "first", "{wish}, killed at {place}, {all}");
                subject.app.ssh("ps:scale", &[wish]).ok();
                assert_eq!(subject.agrees(processes), "first", "{wish} again, after {place}, {all}");
            }
        }
    }
}

/// By an hour, forth and back, with a watch under way and a server that is killed in it.
#[test]
fn a_clock_that_is_set_changes_nothing_but_what_is_shown() {
    let (server, _turn) = alone();
    let mut subject = Subject::new(server, "crash-clock");
    subject.repository.write("paas.toml", "[deploy]\nwatch = \"8s\"\n");
    for (hours, says) in [(1, "an hour ahead"), (-1, "an hour behind"), (0, "in time")] {
        subject.say(says);
        subject.repository.push(&["main"]).ok();
        server.set_clock_ahead(hours * 3600);
        assert_eq!(subject.app.page(), says);
        server.kill9();
        server.restart();
        // The watch ends in its time, whatever the clock says.
        let begun = std::time::Instant::now();
        assert_eq!(subject.agrees(&BOTH), says);
        assert!(begun.elapsed() < MINUTE, "{:?}", begun.elapsed());
        subject.app.ssh("config:set", &[&format!("HOURS={hours}")]).ok();
        subject.app.ssh("ps:scale", &["web=2"]).ok();
        subject.app.ssh("ps:scale", &["web=1"]).ok();
        assert_eq!(subject.agrees(&BOTH), says);
    }
    subject.app.ssh("rollback", &[]).ok();
    assert_eq!(subject.agrees(&BOTH), "in time", "to before the config change");
}

#[test]
fn a_recovery_that_is_killed_too_is_gone_on_with() {
    let (server, _turn) = alone();
    let mut subject = Subject::new(server, "crash-twice");
    subject.say("second");
    server.stop_at("branch-moved");
    let push = subject.repository.push_running(&["main"]);
    server.wait_stopped();
    server.kill_stopped(true);
    push.finish(MINUTE);
    server.stop_at("committed");
    server.restart_until_stopped();
    server.kill_stopped(true);
    server.restart();
    assert_eq!(subject.agrees(&BOTH), "second");
}
