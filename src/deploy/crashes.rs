//! What follows when a process has ended: the engine starts it again, waiting
//! longer each time, until it is given up.

use super::{DeployError, Pipeline};
use crate::engine::Event;
use crate::model::{Announcement, App, ProcessState, Release, Restart, USUAL_ENDS};
use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

/// Seconds; ends that lie farther back are forgotten.
const WINDOW: i64 = 600;

/// The engine pauses so long, in seconds, only after nine ends of short runs one
/// after the other, of which an earlier server may have seen the most.
const LONG_PAUSE: i64 = 24;
const SHORT_RUN: i64 = 10;

/// A process that has ended with 0 unseen, while no server looked, has done so
/// at least this long ago, in seconds; before, its end may just not be noted yet.
const UNSEEN: i64 = 30;

/// When containers have ended, seconds since the epoch, by their ids.
#[derive(Default)]
pub(super) struct Crashes(HashMap<String, Vec<i64>>);

impl Crashes {
    /// Notes the end of a run that began at `started`; whether it was one too many,
    /// if there can be.
    pub fn note(&mut self, container: &str, started: i64, at: i64, most: Option<usize>) -> bool {
        let ends = self.0.entry(container.to_owned()).or_default();
        ends.retain(|&end| at - end < WINDOW);
        let paused = ends.last().is_some_and(|&end| started - end >= LONG_PAUSE);
        ends.push(at);
        let unseen = paused && (0..SHORT_RUN).contains(&(at - started));
        most.is_some_and(|most| ends.len() >= most || unseen && most <= USUAL_ENDS)
    }

    /// Forgets a container that is gone.
    pub fn forget(&mut self, container: &str) {
        self.0.remove(container);
    }
}

/// What the end of a process means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The engine starts it again.
    Again,
    /// It is not started again, as its type wants it.
    Stays,
    /// It has done its work, which is to be noted with the engine.
    Done,
    /// It has ended too often.
    GivenUp,
}

fn verdict(restart: Restart, exit_code: i64, too_often: bool) -> Verdict {
    match restart {
        Restart::Never => Verdict::Stays,
        Restart::OnFailure if exit_code == 0 => Verdict::Done,
        _ if too_often => Verdict::GivenUp,
        _ => Verdict::Again,
    }
}

/// Whether a process that is there and does not run is to be started by us: it
/// was never begun, or was ended by a shutdown that nobody saw. The engine
/// starts those again that it shall and that did not end with 0.
pub(super) fn is_dead(state: &ProcessState, now: i64) -> bool {
    let never_began = state.started_at == 0;
    let unseen = state.restart == Restart::OnFailure && state.exit_code == Some(0);
    let settled = state.running || state.restarting;
    !settled && (never_began || unseen && now - state.finished_at >= UNSEEN)
}

impl Pipeline {
    /// A process of the current release has ended.
    pub(super) async fn ended(&self, app: &App, release: &Release, event: &Event, exit_code: i64) {
        let state = self.engine().inspect(&event.container).await.ok();
        let out_of_memory = state.as_ref().is_some_and(|state| state.oom_killed);
        self.platform_line(app.id, &told(release, event, exit_code, out_of_memory));
        let _ = self.publish_running(app.id).await;
        let at = event.at / 1_000_000_000;
        let started = state.map_or(at, |state| state.started_at);
        let most = release.gives_up_after(&event.process.kind);
        let too_often = self.crashes().note(&event.container, started, at, most);
        let outcome = match verdict(release.restart(&event.process.kind), exit_code, too_often) {
            Verdict::Again | Verdict::Stays => Ok(()),
            Verdict::Done => self.engine().set_restart(&event.container, Restart::Never).await,
            Verdict::GivenUp => self.give_up(app, release, event, exit_code, out_of_memory).await,
        };
        if let Err(error) = outcome {
            tracing::warn!(app = %app.name, process = %event.process, %error, "its end could not be noted");
        }
    }

    /// Ends the engine's tries. One that runs again at this moment may be well: it
    /// goes on, and is not started again after its next end.
    async fn give_up(
        &self,
        app: &App,
        release: &Release,
        event: &Event,
        exit_code: i64,
        out_of_memory: bool,
    ) -> Result<(), crate::engine::EngineError> {
        let (engine, process) = (self.engine(), &event.process);
        engine.set_restart(&event.container, Restart::Never).await?;
        if engine.inspect(&event.container).await?.running {
            return Ok(());
        }
        engine.stop(&event.container, Duration::ZERO).await?;
        let line = format!(
            "{process} has crashed: it ended {} times within {} minutes and is not started again; \
             a new deploy or ps:restart {} starts it afresh",
            release.gives_up_after(&process.kind).unwrap_or(USUAL_ENDS),
            WINDOW / 60,
            app.name
        );
        self.platform_line(app.id, &line);
        self.announce(app.id, Announcement::crashed(release, process, exit_code, out_of_memory)).await;
        Ok(())
    }

    /// Has the engine start those again that were nearly given up and have run well since.
    pub(super) async fn trust_again(
        &self,
        release: &Release,
        states: &[ProcessState],
    ) -> Result<(), DeployError> {
        let now = crate::store::now();
        for state in states.iter().filter(|state| state.running && now - state.started_at > WINDOW) {
            let restart = release.restart(&state.process.kind);
            if state.restart != restart {
                self.engine().set_restart(&state.container, restart).await?;
            }
        }
        Ok(())
    }

    pub(super) fn crashes(&self) -> std::sync::MutexGuard<'_, Crashes> {
        self.crashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(release: &Release, event: &Event, exit_code: i64, out_of_memory: bool) -> String {
    let Event { process, .. } = event;
    let kind = &process.kind;
    if !out_of_memory {
        return format!("{process} exited with status {exit_code}");
    }
    let limit = release.size(kind).memory.map_or(String::new(), |memory| format!(" of {memory}"));
    format!(
        "{process} exited with status {exit_code}: it needed more memory than its limit{limit} (R15); \
         raise it with ps:resize APP {kind} --memory SIZE"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{AppId, ProcessName};

    #[test]
    fn ten_ends_in_ten_minutes_are_too_many() {
        let mut crashes = Crashes::default();
        let notes: Vec<bool> = (0..10).map(|at| crashes.note("a", at * 60 - 40, at * 60, Some(10))).collect();
        assert_eq!(notes.iter().filter(|&&too_often| too_often).count(), 1);
        assert!(notes[9]);
        let mut crashes = Crashes::default();
        assert!(
            (0..100).all(|at| !crashes.note("a", at * 67 - 60, at * 67, Some(10))),
            "nine in ten minutes"
        );
        assert!(!crashes.note("b", 6690, 6700, Some(10)), "each for itself");
        crashes.forget("a");
        assert!(!crashes.0.contains_key("a"));
    }

    #[test]
    fn a_new_server_sees_by_the_engines_pause_how_it_was_before() {
        let mut crashes = Crashes::default();
        assert!(!crashes.note("a", 99, 100, Some(10)), "who knows when it ended before");
        assert!(crashes.note("a", 126, 127, Some(10)), "after a pause of 26 s, and a run of one");
        assert!(
            !crashes.note("b", 99, 100, Some(10)) && !crashes.note("b", 103, 104, Some(10)),
            "a pause of 3 s"
        );
        assert!(
            !crashes.note("c", 99, 100, Some(10)) && !crashes.note("c", 126, 200, Some(10)),
            "a long run"
        );
    }

    #[test]
    fn a_type_says_how_often() {
        let mut crashes = Crashes::default();
        let mut often =
            |most| (0..30).position(|at| crashes.note(&format!("{most:?}"), at * 9, at * 9 + 1, most));
        assert_eq!((often(Some(3)), often(Some(20)), often(None)), (Some(2), Some(19), None));
        assert!(!crashes.note("a", 99, 100, Some(20)) && !crashes.note("a", 126, 127, Some(20)), "who knows");
    }

    #[test]
    fn each_policy_has_its_own_end() {
        use Verdict::{Again, Done, GivenUp, Stays};
        for (restart, code, too_often, expected) in [
            (Restart::Always, 0, false, Again),
            (Restart::Always, 0, true, GivenUp),
            (Restart::Always, 3, true, GivenUp),
            (Restart::OnFailure, 0, false, Done),
            (Restart::OnFailure, 0, true, Done),
            (Restart::OnFailure, 3, false, Again),
            (Restart::OnFailure, 3, true, GivenUp),
            (Restart::Never, 3, true, Stays),
        ] {
            assert_eq!(verdict(restart, code, too_often), expected, "{restart:?} {code} {too_often}");
        }
    }

    #[test]
    fn a_work_that_is_done_is_not_begun_again() {
        let state = |restart, exit_code, finished_at| ProcessState {
            container: "c".into(),
            app: AppId(1),
            release: 1,
            process: ProcessName::parse("worker.1").unwrap(),
            address: None,
            running: false,
            restarting: false,
            restart,
            size: (0, 0),
            exit_code: Some(exit_code),
            oom_killed: false,
            restarts: 0,
            started_at: 1,
            finished_at,
        };
        let dead = |restart, code, finished| is_dead(&state(restart, code, finished), 1000);
        assert!(
            !dead(Restart::Never, 0, 1) && !dead(Restart::Never, 1, 1),
            "done, or never to be begun again"
        );
        assert!(dead(Restart::OnFailure, 0, 900), "a shutdown ended it: its end was not noted");
        assert!(!dead(Restart::OnFailure, 0, 990), "its end is being noted");
        assert!(!dead(Restart::OnFailure, 3, 900), "given up");
        assert!(!dead(Restart::Always, 0, 900), "given up");
        assert!(is_dead(&ProcessState { started_at: 0, ..state(Restart::Always, 0, 0) }, 1000));
    }
}
