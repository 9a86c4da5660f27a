//! An app of a test, and its end.

use super::engine;
use super::http::Reply;
use super::repository::Repository;
use super::run::Finished;
use super::server::Server;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

/// A name on the server; nothing of it is left when this is dropped.
pub struct TestApp {
    pub server: &'static Server,
    pub name: String,
}

impl TestApp {
    pub fn new(server: &'static Server, prefix: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix: String = prefix.chars().take(22).collect();
        let name = format!("{}-{:x}-{number}", prefix.trim_end_matches('-'), std::process::id() & 0xfff);
        let mut list =
            std::fs::File::options().create(true).append(true).open(server.home.join("apps")).unwrap();
        writeln!(list, "{name}").unwrap();
        Self { server, name }
    }

    /// A repository with the files of `tests/apps/CASE`, one commit, and this app as its remote.
    pub fn repository(&self, case: &str) -> Repository {
        let repository = Repository::empty(self.server, &self.name);
        repository.copy_case(case);
        repository.commit("First version");
        repository
    }

    /// A repository with one commit of Python's smallest app, which says `text`.
    pub fn saying(&self, text: &str) -> Repository {
        let repository = self.repository("python-plain");
        repository.say(text);
        repository
    }

    /// `ssh paas COMMAND APP ARGS`.
    pub fn ssh(&self, command: &str, args: &[&str]) -> Finished {
        let words: Vec<&str> =
            [command, self.name.as_str()].into_iter().chain(args.iter().copied()).collect();
        self.server.ssh(&words)
    }

    /// A GET of its page.
    pub fn get(&self, path: &str) -> Reply {
        self.server.get(&self.name, path)
    }

    /// Its body, if it answers 200.
    pub fn page(&self) -> String {
        let reply = self.get("/");
        assert_eq!(reply.status, 200, "{reply:?}\n{}", self.server.log());
        reply.body
    }

    /// Everything of it that is in the engine.
    pub fn in_engine(&self) -> Vec<String> {
        engine::objects_of(&self.name)
    }

    /// Names of its containers, running or not.
    pub fn containers(&self) -> Vec<String> {
        engine::containers_of(&self.name)
    }

    /// The image of a release, which only the engine tells: a word that nobody knows is in it.
    #[track_caller]
    pub fn image(&self, release: &str) -> String {
        let found = engine::images_of(&self.name, &format!("{release}-*"));
        assert_eq!(found.len(), 1, "images of {release}: {found:?}");
        found[0].clone()
    }

    /// Destroys it and panics if anything of it is left.
    #[track_caller]
    pub fn destroy(&self) {
        self.server.paas(&["apps:destroy", &self.name, "--confirm", &self.name]).ok();
        assert_eq!(self.in_engine(), Vec::<String>::new(), "left over after apps:destroy");
        assert!(!self.server.paas(&["apps"]).ok().out().contains(&self.name));
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let exists = self.server.paas(&["apps:info", &self.name]).code == 0;
        if std::thread::panicking() {
            self.server.paas(&["apps:destroy", &self.name, "--confirm", &self.name]);
        } else if exists {
            self.destroy();
        }
    }
}
