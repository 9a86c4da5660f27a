//! The data directory on a small disk that is filled at different moments: the user
//! gets one clear answer, nothing is half-done, and with room again the same push
//! succeeds on the same server.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use rusqlite::Connection;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;
use support::{Finished, Repository, Server, TestApp, eventually, on_small_disk};

const MINUTE: Duration = Duration::from_secs(60);

/// MiB; a twentieth of it must be free for a build.
const DISK: u32 = 64;

/// What takes up the disk's room, until it is dropped.
struct Filled(PathBuf);

impl Filled {
    /// Leaves so many KiB.
    fn but(server: &Server, left: u64) -> Self {
        let data = server.home.join("data");
        let disk = nix::sys::statvfs::statvfs(&data).unwrap();
        let free = disk.blocks_available() * disk.fragment_size();
        let filled = Self(data.join("fill"));
        let mut file = std::fs::File::create(&filled.0).unwrap();
        let block = vec![0; 4096];
        for _ in 0..free.saturating_sub(left * 1024) / 4096 {
            file.write_all(&block).unwrap();
        }
        // Others write too.
        while left == 0 && file.write_all(&block).is_ok() {}
        filled
    }

    /// Nothing, and no room that the database's journal has already.
    fn wholly(server: &Server) -> Self {
        let database = Connection::open(server.home.join("data/paas.db")).unwrap();
        database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        Self::but(server, 0)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An app that says `first`.
struct Subject {
    server: &'static Server,
    app: TestApp,
    repository: Repository,
    /// What runs: commit and page.
    now: (String, String),
}

impl Subject {
    fn new() -> Self {
        let server = on_small_disk(DISK);
        let app = server.app("full");
        let repository = app.saying("first");
        repository.push(&["main"]).ok();
        let now = (repository.head(), "first".to_owned());
        Self { server, app, repository, now }
    }

    /// A push that is stopped at `place`, with the disk filled there.
    fn pushed_while_full_at(&self, place: &str) -> (Finished, Filled) {
        self.server.stop_at(place);
        let push = self.repository.push_running(&["main"]);
        self.server.wait_stopped();
        let filled = Filled::wholly(self.server);
        self.server.stop_nowhere();
        (push.finish(2 * MINUTE), filled)
    }

    /// A push that was refused with these words has changed nothing, and succeeds with room.
    #[track_caller]
    fn refused(&mut self, what: &str, says: &str, push: (Finished, Filled), parts: &[&str]) {
        let (push, filled) = push;
        println!("--- {what}\n{}", push.text());
        push.fails().says(parts);
        assert_eq!(self.app.page(), self.now.1, "{what}");
        drop(filled);
        self.agrees(what);
        self.repository.push(&["main"]).ok();
        self.now = (self.repository.head(), says.to_owned());
        self.agrees(what);
    }

    /// Branch and routes tell the same story, one container is there, and nothing is
    /// left in the repository.
    #[track_caller]
    fn agrees(&self, what: &str) {
        let (commit, page) = &self.now;
        assert_eq!(self.repository.on_server("refs/heads/main"), *commit, "{what}");
        assert_eq!(self.app.page(), *page, "{what}");
        eventually(&format!("{what}: one container is there"), MINUTE, || self.app.containers().len() == 1);
        let repositories = self.server.home.join("data/repos");
        let left = support::files(&repositories).into_iter().filter(|path| {
            let path = path.to_string_lossy();
            path.ends_with(".lock") || ["tmp_objdir", "tmp_pack"].iter().any(|name| path.contains(name))
        });
        assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "{what}");
    }
}

#[test]
fn a_full_disk_refuses_pushes_in_words_and_leaves_nothing_half_done() {
    let mut subject = Subject::new();
    before_anything(&mut subject);
    in_the_pack(&mut subject);
    before_the_build(&mut subject);
    at_the_writes(&mut subject);
    at_the_move(&mut subject);
    after_the_commit_point(&mut subject);
}

fn before_anything(subject: &mut Subject) {
    subject.repository.say("second");
    let filled = Filled::wholly(subject.server);
    let push = subject.repository.push(&["main"]);
    let full = "Push rejected: the server's disk is nearly full.";
    subject.refused("before anything", "second", (push, filled), &[full]);
    // Other changes are told so too.
    let filled = Filled::wholly(subject.server);
    subject.app.ssh("config:set", &["A=1"]).fails().says(&["The server's disk is full."]);
    subject.app.ssh("ps:scale", &["web=2"]).fails().says(&["The server's disk is full."]);
    assert_eq!(subject.app.page(), "second");
    drop(filled);
    subject.app.ssh("config:get", &["A"]).fails();
    subject.agrees("other changes");
}

/// There is room when the push begins, and not enough for all of it.
fn in_the_pack(subject: &mut Subject) {
    let mut noise = vec![0; 12 << 20];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    subject.repository.write("noise", noise);
    subject.repository.say("third");
    let filled = Filled::but(subject.server, 5 << 10);
    let push = subject.repository.push(&["main"]);
    let parts = ["the server's disk is full", "[remote rejected]"];
    subject.refused("in the pack", "third", (push, filled), &parts);
}

fn before_the_build(subject: &mut Subject) {
    subject.repository.say("fourth");
    let push = subject.pushed_while_full_at("turn-taken");
    subject.refused("before the build", "fourth", push, &["Push rejected: the server's disk"]);
}

fn at_the_writes(subject: &mut Subject) {
    for place in ["release-opened", "web-started", "web-healthy", "ready"] {
        let says = format!("full at {place}");
        subject.repository.say(&says);
        let push = subject.pushed_while_full_at(place);
        subject.refused(place, &says, push, &["the server's disk is "]);
    }
}

/// The branch has moved, and neither can the release go live nor the branch be put back.
/// The server is killed in that, and started while the disk is still full.
fn at_the_move(subject: &mut Subject) {
    for killed in [false, true] {
        let says = format!("full at the move, {killed}");
        subject.repository.say(&says);
        let (push, filled) = subject.pushed_while_full_at("branch-moved");
        println!("--- {says}\n{}", push.text());
        push.fails().says(&["the server's disk is "]);
        assert_eq!(subject.app.page(), subject.now.1, "{says}");
        if killed {
            subject.server.kill9();
            let serves = subject.server.try_restart();
            println!("with a full disk it serves: {serves}");
            assert!([subject.now.1.clone(), says.clone()].contains(&subject.app.page()), "{says}");
            drop(filled);
            if !serves {
                subject.server.restart();
            }
        } else {
            drop(filled);
        }
        // Undone, or finished by the next server: in any case the branch names what runs.
        let (old, new) = (subject.now.clone(), (subject.repository.head(), says.clone()));
        eventually(&format!("{says}: the branch names what runs"), 2 * MINUTE, || {
            let there = (subject.repository.on_server("refs/heads/main"), subject.app.page());
            there == old || killed && there == new
        });
        subject.repository.push(&["main"]).ok();
        subject.now = new;
        subject.agrees(&says);
    }
}

/// It is live, whatever else can be written down.
fn after_the_commit_point(subject: &mut Subject) {
    let says = "full after the commit point";
    let commit = subject.repository.say(says);
    let (push, filled) = subject.pushed_while_full_at("committed");
    println!("--- {says}\n{}", push.text());
    push.ok().says(&["Application deployed"]);
    assert_eq!(subject.app.page(), says);
    drop(filled);
    subject.now = (commit, says.to_owned());
    subject.agrees(says);
}
