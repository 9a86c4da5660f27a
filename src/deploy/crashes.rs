//! What follows when a process has ended: the engine starts it again, waiting
//! longer each time, until it is given up.

use super::{DeployError, Pipeline};
use crate::engine::Event;
use crate::model::{Announcement, App, ProcessState, Release, Restart, USUAL_ENDS};
use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Ends that lie farther back are forgotten.
const WINDOW: Duration = Duration::from_secs(600);

/// The engine pauses so long only after nine ends of short runs one after the
/// other, of which an earlier server may have seen the most.
const LONG_PAUSE: Duration = Duration::from_secs(24);
const SHORT_RUN: Duration = Duration::from_secs(10);

/// A process that has ended with 0 unseen, while no server looked, has done so
/// at least this long ago, in seconds; before, its end may just not be noted yet.
const UNSEEN: i64 = 30;

/// One that the engine shall start again, and that it does not, was ended by an engine
/// that came up after it was killed: it takes what it ends then for ended by hand.
/// Seconds after which that is certain.
pub(super) const ABANDONED: i64 = 5;

/// When containers have ended, by their ids.
#[derive(Default)]
pub(super) struct Crashes(HashMap<String, Vec<Instant>>);

impl Crashes {
    /// Notes that a run has ended now; whether it was one end too many, if there can be.
    /// How long the run was is the engine's word, `None` if its clock was set meanwhile.
    pub fn note(
        &mut self,
        container: &str,
        run: Option<Duration>,
        now: Instant,
        most: Option<usize>,
    ) -> bool {
        let ends = self.0.entry(container.to_owned()).or_default();
        ends.retain(|&end| now.duration_since(end) < WINDOW);
        let since = ends.last().map(|&end| now.duration_since(end));
        let paused = since.zip(run).is_some_and(|(since, run)| since >= LONG_PAUSE + run);
        ends.push(now);
        let unseen = paused && run.is_some_and(|run| run < SHORT_RUN);
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
/// was never begun, or was ended by a shutdown that nobody saw, or the engine has
/// given up what it should start again. What we have given up bears another policy.
/// An end that is still to come lies back too: the clock was set back since.
pub(super) fn is_dead(state: &ProcessState, now: i64) -> bool {
    let never_began = state.started_at == 0;
    let unseen = state.restart == Restart::OnFailure && state.exit_code == Some(0);
    let ended_for = (now - state.finished_at).abs();
    let abandoned = state.restart != Restart::Never && !unseen && ended_for >= ABANDONED;
    let settled = state.running || state.restarting;
    !settled && (never_began || abandoned || unseen && ended_for >= UNSEEN)
}

impl Pipeline {
    /// A process of the current release has ended.
    pub(super) async fn ended(&self, app: &App, release: &Release, event: &Event, exit_code: i64) {
        let state = self.engine().inspect(&event.container).await.ok();
        let out_of_memory = state.as_ref().is_some_and(|state| state.oom_killed);
        self.platform_line(app.id, &told(release, event, exit_code, out_of_memory));
        let _ = self.publish_running(app.id).await;
        let at = event.at / 1_000_000_000;
        let run = state.map_or(0, |state| at - state.started_at);
        let run = u64::try_from(run).ok().map(Duration::from_secs);
        let most = release.gives_up_after(&event.process.kind);
        let too_often = self.crashes().note(&event.container, run, Instant::now(), most);
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
            WINDOW.as_secs() / 60,
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
        // One that will have begun in the future began before the clock was set back.
        let for_long = |state: &&ProcessState| (now - state.started_at).unsigned_abs() > WINDOW.as_secs();
        for state in states.iter().filter(|state| state.running).filter(for_long) {
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

    /// Notes ends of runs: container, seconds of the run, seconds on our own clock.
    fn noting(most: Option<usize>) -> impl FnMut(&str, u64, u64) -> bool {
        let (mut crashes, begun) = (Crashes::default(), Instant::now());
        move |container, run, at| {
            crashes.note(container, Some(Duration::from_secs(run)), begun + Duration::from_secs(at), most)
        }
    }

    #[test]
    fn ten_ends_in_ten_minutes_are_too_many() {
        let mut note = noting(Some(10));
        let notes: Vec<bool> = (0..10).map(|n| note("a", 40, n * 60)).collect();
        assert_eq!(notes.iter().filter(|&&too_often| too_often).count(), 1);
        assert!(notes[9]);
        let mut note = noting(Some(10));
        assert!((0..100).all(|n| !note("a", 60, n * 67)), "nine in ten minutes");
        assert!(!note("b", 10, 6700), "each for itself");
        let mut crashes = Crashes::default();
        crashes.note("a", None, Instant::now(), Some(10));
        crashes.forget("a");
        assert!(!crashes.0.contains_key("a"));
    }

    #[test]
    fn a_new_server_sees_by_the_engines_pause_how_it_was_before() {
        let mut note = noting(Some(10));
        assert!(!note("a", 1, 100), "who knows when it ended before");
        assert!(note("a", 1, 127), "after a pause of 26 s, and a run of one");
        assert!(!note("b", 1, 100) && !note("b", 1, 104), "a pause of 3 s");
        assert!(!note("c", 1, 100) && !note("c", 74, 200), "a long run");
    }

    #[test]
    fn a_type_says_how_often() {
        let often = |most| {
            let mut note = noting(most);
            (0..30).position(|n| note("a", 1, n * 9))
        };
        assert_eq!((often(Some(3)), often(Some(20)), often(None)), (Some(2), Some(19), None));
        let mut note = noting(Some(20));
        assert!(!note("a", 1, 100) && !note("a", 1, 127), "who knows");
    }

    #[test]
    fn a_clock_that_is_set_gives_nothing_up() {
        let (mut crashes, begun) = (Crashes::default(), Instant::now());
        let mut note = |run, at| crashes.note("a", run, begun + Duration::from_secs(at), Some(10));
        assert!(!note(Some(Duration::from_secs(1)), 100));
        assert!(!note(None, 127), "an hour back in this run");
        assert!(!note(Some(Duration::from_secs(3601)), 154), "an hour forth");
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
            stop_timeout: std::time::Duration::from_secs(30),
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
        assert!(dead(Restart::OnFailure, 0, 4500), "and the clock was set back since");
        assert!(!dead(Restart::OnFailure, 0, 990), "its end is being noted");
        assert!(dead(Restart::OnFailure, 3, 900) && dead(Restart::Always, 143, 900), "the engine was killed");
        assert!(!dead(Restart::OnFailure, 3, 998) && !dead(Restart::Always, 0, 998), "it may be starting");
        assert!(is_dead(&ProcessState { started_at: 0, ..state(Restart::Always, 0, 0) }, 1000));
    }
}
