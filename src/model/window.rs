//! The watch window after a promotion: what is kept for it, and when a release
//! is worse than the one before.

use super::app::AppId;
use super::workload::ProcessName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A release with fewer errors than this is never taken back for them: one bad
/// answer of two says nothing.
const FEWEST_ERRORS: u64 = 10;

/// So many points of a hundred more of the answers have to be errors than before.
const WORSE_BY: u64 = 10;

/// The release before has to have answered so often that its share of errors says
/// something.
const FEWEST_ANSWERS: u64 = 20;

/// Where that says nothing, so many of a hundred answers have to be errors.
const BAD_BY_ITSELF: u64 = 30;

/// A process that exits so often has not exited by chance.
const FEWEST_EXITS: u32 = 3;

/// For each exit of a process of the release before, so many more are let pass.
const EXITS_PER_FORMER: u32 = 4;

/// A release that went live a moment ago, while the one before stands by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The app.
    pub app: AppId,
    /// The release that is watched: `7` for `v7`.
    pub release: u32,
    /// The one that served before it.
    pub before: u32,
    /// Which web processes stand by: those whose containers bear this number.
    pub standby: u32,
    /// When it ends: seconds since the epoch, UTC.
    pub until: i64,
    /// How the release before did at last.
    pub former: Seen,
}

impl Window {
    /// Whether a container is one of those that stand by.
    pub fn keeps(&self, state: &super::ProcessState) -> bool {
        state.app == self.app && state.release == self.standby && state.process.kind.is_web()
    }
}

/// A release that did worse than the one before, and what took its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenBack {
    /// `7` for `v7`.
    pub release: u32,
    /// How it did.
    pub evidence: Evidence,
    /// What took its place.
    pub by: u32,
    /// Which one that repeats.
    pub source: Option<u32>,
}

/// What was seen of a release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Requests that were answered.
    pub answers: u64,
    /// Those of them with a status from 500 on.
    pub errors: u64,
    /// How often each process has exited with an error.
    pub exits: BTreeMap<String, u32>,
}

impl Seen {
    /// A process has exited with an error.
    pub fn exited(&mut self, process: &ProcessName) {
        let exits = self.exits.entry(process.to_string()).or_default();
        *exits = exits.saturating_add(1);
    }

    /// Without the exits.
    #[must_use]
    pub fn answered(&self) -> Self {
        Self { exits: BTreeMap::new(), ..self.clone() }
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.errors += other.errors;
        for (process, exits) in &other.exits {
            *self.exits.entry(process.clone()).or_default() += exits;
        }
    }

    fn most_exits(&self) -> u32 {
        self.exits.values().copied().max().unwrap_or_default()
    }
}

/// Why a release was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// More of its answers were errors than before.
    Errors {
        /// Of so many answers.
        answers: u64,
        /// So many were errors.
        errors: u64,
        /// And of so many answers of the release before.
        former_answers: u64,
        /// So many.
        former_errors: u64,
    },
    /// A process of it exited again and again.
    Exits {
        /// Which: `worker.1`.
        process: String,
        /// How often.
        exits: u32,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors { answers, errors, former_answers: 0, .. } => {
                write!(f, "{errors} of {answers} answers were 5xx")
            }
            Self::Errors { answers, errors, former_answers, former_errors } => write!(
                f,
                "{errors} of {answers} answers were 5xx ({former_errors} of {former_answers} before)"
            ),
            Self::Exits { process, exits } => write!(f, "{process} exited {exits} times"),
        }
    }
}

/// Whether a release is worse than the one before, and by what. The former one's
/// numbers are of its last minutes, not of its life: one that has been failing
/// since its database is down is no better than its successor. Exits are to be of as long
/// a time: a worker that exits every quarter of an hour does so three times in an hour.
pub fn worse(now: &Seen, former: &Seen) -> Option<Evidence> {
    let let_pass = FEWEST_EXITS + EXITS_PER_FORMER.saturating_mul(former.most_exits());
    let crashing = now.exits.iter().max_by_key(|(_, exits)| **exits).filter(|(_, exits)| **exits >= let_pass);
    if let Some((process, &exits)) = crashing {
        return Some(Evidence::Exits { process: process.clone(), exits });
    }
    let bound = if former.answers < FEWEST_ANSWERS {
        BAD_BY_ITSELF.max(share(former) + WORSE_BY)
    } else {
        share(former) + WORSE_BY
    };
    let failing = now.errors >= FEWEST_ERRORS && share(now) >= bound;
    failing.then_some(Evidence::Errors {
        answers: now.answers,
        errors: now.errors,
        former_answers: former.answers,
        former_errors: former.errors,
    })
}

/// Errors of a hundred answers, rounded down.
fn share(seen: &Seen) -> u64 {
    (seen.errors.min(seen.answers) * 100).checked_div(seen.answers).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answers(answers: u64, errors: u64) -> Seen {
        Seen { answers, errors, ..Seen::default() }
    }

    fn exits(process: &str, exits: u32) -> Seen {
        Seen { exits: BTreeMap::from([(process.to_owned(), exits)]), ..Seen::default() }
    }

    fn text(now: &Seen, former: &Seen) -> String {
        worse(now, former).map_or_else(|| "stays".to_owned(), |evidence| evidence.to_string())
    }

    #[test]
    fn a_release_with_more_errors_is_worse() {
        let none = Seen::default();
        assert_eq!(text(&answers(80, 40), &none), "40 of 80 answers were 5xx");
        assert_eq!(text(&answers(80, 12), &none), "stays", "nobody knows how it was before");
        assert_eq!(text(&answers(80, 12), &answers(60, 1)), "12 of 80 answers were 5xx (1 of 60 before)");
        assert_eq!(text(&answers(10, 10), &answers(500, 5)), "10 of 10 answers were 5xx (5 of 500 before)");
        assert_eq!(text(&answers(9, 9), &none), "stays", "too few to tell");
        assert_eq!(text(&answers(1000, 90), &none), "stays", "one of a hundred more is no failure");
        assert_eq!(text(&answers(0, 0), &none), "stays");
    }

    #[test]
    fn a_release_that_is_no_worse_than_the_one_before_stays() {
        assert_eq!(text(&answers(100, 55), &answers(100, 50)), "stays");
        assert_eq!(text(&answers(100, 100), &answers(40, 40)), "stays");
        assert_eq!(text(&answers(100, 100), &answers(4, 4)), "stays");
        assert_eq!(
            text(&answers(100, 61), &answers(100, 50)),
            "61 of 100 answers were 5xx (50 of 100 before)"
        );
        assert_eq!(text(&exits("web.1", 6), &exits("web.1", 1)), "stays");
        assert_eq!(text(&exits("web.1", 9), &exits("worker.1", 2)), "stays", "it crashes as ever");
    }

    #[test]
    fn a_process_that_exits_again_and_again_is_evidence_of_web_and_worker_alike() {
        assert_eq!(text(&exits("web.1", 3), &Seen::default()), "web.1 exited 3 times");
        assert_eq!(text(&exits("worker.2", 7), &exits("web.1", 1)), "worker.2 exited 7 times");
        assert_eq!(text(&exits("web.1", 2), &Seen::default()), "stays");
        let mut each = exits("web.1", 2);
        each.add(&exits("web.2", 2));
        assert_eq!(text(&each, &Seen::default()), "stays", "each may have had bad luck");
        each.exited(&ProcessName::parse("web.2").unwrap());
        assert_eq!(text(&each, &Seen::default()), "web.2 exited 3 times");
    }
}
