//! What once broke, step by step, in worlds of their own.

mod canary;
mod health;
mod images;
mod processes;
mod promotion;
mod pushes;
mod sleep;
mod watch;
mod wishes;

use super::apps::{Behaviour, Commit};
use super::command::{Call, Command, observed};
use super::promises;
use super::script::{self, Mishap};
use super::world::{Carried, World, app_name};
use crate::deploy::queue::Turn;
use crate::deploy::{Authorship, Hook};
use crate::deploy::{DeployError, Pipeline, Report};
use crate::git::RefUpdate;
use crate::model::{App, CheckChange, CheckKind, CommitId, ProcessType, Scale, Selection};
use crate::store;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a request takes that is under way: longer than any command here.
const WHILE: Duration = Duration::from_millis(1500);

fn good(number: u8) -> Command {
    Command::Push(Commit { number, behaviour: Behaviour::Good })
}

impl World {
    /// Carries a command out; what it starts in the background may go on.
    fn tries(&mut self, command: Command) -> Result<(), DeployError> {
        match self.carry_out(command.run(Call::new(self, command))) {
            Carried::Out(result) => result,
            Carried::Killed => panic!("nobody was to be killed"),
        }
    }

    #[track_caller]
    fn does(&mut self, command: Command) {
        self.tries(command).unwrap();
    }

    /// The same, and waits until nothing goes on.
    #[track_caller]
    fn does_all(&mut self, command: Command) {
        self.does(command);
        self.settles();
    }

    #[track_caller]
    fn settles(&mut self) {
        assert!(matches!(self.rest(), Ok(Carried::Out(()))));
    }

    /// Begins a command, and leaves it after a while.
    fn begins(&mut self, command: Command, after: Duration) {
        let running = command.run(Call::new(self, command));
        self.carry_out(async move { tokio::time::timeout(after, running).await.unwrap_err() });
    }

    fn app(&self) -> App {
        self.block_on(self.pipeline.find(&app_name())).unwrap().unwrap()
    }

    /// Names of containers, without what is common to all.
    fn runs(&self) -> Vec<String> {
        let state = self.engine().state().clone();
        let mut names: Vec<String> = state
            .containers
            .values()
            .map(|container| container.name.trim_start_matches("paas-shop-").to_owned())
            .collect();
        names.sort();
        names
    }

    /// Processes that take requests.
    fn routed(&self) -> Vec<String> {
        let table = self.table();
        let targets = table.routes.get(&app_name()).map(|route| route.targets.clone()).unwrap_or_default();
        targets.into_iter().map(|target| target.process).collect()
    }

    #[track_caller]
    fn unbroken(&self) {
        assert_eq!(*self.notes().broken.lock().unwrap(), Vec::<String>::new());
    }

    #[track_caller]
    fn waits_until_routed(&mut self, expected: &[&str]) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.routed() != expected {
            assert!(Instant::now() < end, "{:?} take requests instead of {expected:?}", self.routed());
            self.carry_out(async { tokio::time::sleep(Duration::from_millis(5)).await });
        }
    }
}
