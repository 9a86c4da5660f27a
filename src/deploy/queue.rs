//! One deploy at a time per app: who has the app, and who waits.

use super::DeployError;
use super::line::{Line, Spot};
use crate::model::{AppId, CommitId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio_util::sync::CancellationToken;

/// What is being done to an app now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// The release that is being made: `4` for `v4`.
    pub release: Option<u32>,
    /// What is being built.
    pub commit: Option<CommitId>,
    /// The step: `building`, `checking health`.
    pub step: &'static str,
    /// Whose doing it is.
    pub who: String,
    /// When it began.
    pub since: Instant,
}

/// Every app's place.
#[derive(Default)]
pub(super) struct Queue {
    places: Mutex<HashMap<AppId, Arc<Place>>>,
}

struct Place {
    turn: Arc<Line>,
    roster: Arc<Line>,
    /// Held from looking at what shall be routed to until it is published.
    publishing: Arc<tokio::sync::Mutex<()>>,
    activity: watch::Sender<Option<Activity>>,
    /// Ends the deploy that has the turn, as long as it can be ended.
    ending: Mutex<Option<Arc<Ending>>>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            turn: Line::new(1),
            roster: Line::new(1),
            publishing: Arc::default(),
            activity: watch::Sender::default(),
            ending: Mutex::default(),
        }
    }
}

/// How somebody else ends a deploy.
#[derive(Default)]
pub(super) struct Ending {
    token: CancellationToken,
    by: OnceLock<String>,
}

impl Ending {
    /// Waits until somebody asks for it; the reason.
    pub async fn asked(&self) -> DeployError {
        self.token.cancelled().await;
        self.reason()
    }

    fn reason(&self) -> DeployError {
        DeployError::CancelledBy(self.by.get().cloned().unwrap_or_default())
    }
}

/// The turn to change an app; dropping it lets the next one in.
pub(super) struct Turn {
    place: Arc<Place>,
    /// When each step began.
    steps: Mutex<Vec<(&'static str, Instant)>>,
    ending: Arc<Ending>,
    _spot: Spot,
}

/// Who has it decides which processes a release has, beside those that a new release
/// starts before it goes live: `ps:scale` and its like, and the exchange of workers after a
/// promotion. It may be held for as long as a worker takes to stop, so that nobody waits
/// for it with the turn in hand: a rollback would have to wait as long.
pub(super) struct Roster {
    _spot: Spot,
}

/// A place in the line for an app's roster.
pub(super) struct RosterLine(Spot);

impl RosterLine {
    pub async fn taken(self) -> Roster {
        let Self(mut spot) = self;
        spot.served(|_| ()).await;
        Roster { _spot: spot }
    }
}

impl Queue {
    fn place(&self, app: AppId) -> Arc<Place> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).entry(app).or_default().clone()
    }

    /// What is being done to an app.
    pub fn activity(&self, app: AppId) -> Option<Activity> {
        self.place(app).activity.borrow().clone()
    }

    /// Waits until nothing is being done to an app, holding nothing.
    pub async fn idle(&self, app: AppId) {
        let mut activity = self.place(app).activity.subscribe();
        let _ = activity.wait_for(Option::is_none).await;
    }

    /// Waits for one's turn and takes it.
    pub async fn take(&self, app: AppId, activity: Activity) -> Turn {
        let place = self.place(app);
        let mut spot = place.turn.queue_up();
        spot.served(|_| ()).await;
        Turn::begin(place, spot, activity)
    }

    /// Takes a place in the line for the roster; nobody who comes later has it before.
    pub fn roster(&self, app: AppId) -> RosterLine {
        RosterLine(self.place(app).roster.queue_up())
    }

    /// The roster if nobody has it, or waits for it.
    pub fn try_roster(&self, app: AppId) -> Option<Roster> {
        Some(Roster { _spot: self.place(app).roster.try_take()? })
    }

    /// Waits for one's turn to publish an app's route: whoever publishes looks at
    /// store and engine with this in hand, so that no older view comes last.
    pub async fn publishing(&self, app: AppId) -> OwnedMutexGuard<()> {
        self.place(app).publishing.clone().lock_owned().await
    }

    /// Takes one's turn if nobody has it.
    pub fn try_take(&self, app: AppId, activity: Activity) -> Option<Turn> {
        let place = self.place(app);
        let spot = place.turn.try_take()?;
        Some(Turn::begin(place, spot, activity))
    }

    /// Asks the deploy or restart that is being prepared to end; returns what it
    /// was doing, or nothing if nothing can be ended.
    pub fn cancel(&self, app: AppId, by: &str) -> Option<Activity> {
        let place = self.place(app);
        {
            // In hand until it is asked: it has not committed, and will not.
            let ending = place.ending.lock().unwrap_or_else(PoisonError::into_inner);
            let ending = ending.as_ref()?;
            let _ = ending.by.set(by.to_owned());
            ending.token.cancel();
        }
        place.activity.borrow().clone()
    }

    /// Forgets an app that is gone.
    pub fn forget(&self, app: AppId) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&app);
    }
}

impl Turn {
    fn begin(place: Arc<Place>, spot: Spot, activity: Activity) -> Self {
        let steps = Mutex::new(vec![(activity.step, Instant::now())]);
        place.activity.send_replace(Some(activity));
        Self { place, steps, ending: Arc::default(), _spot: spot }
    }

    /// From here on, and until [`Turn::commit`], somebody else may end this.
    pub fn may_be_cancelled(&self) -> Arc<Ending> {
        *self.place.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.ending.clone());
        self.ending.clone()
    }

    /// From here on it is too late to end it; an error if somebody has asked for it,
    /// who was told that it ends.
    pub fn commit(&self) -> Result<(), DeployError> {
        *self.place.ending.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.ending.token.is_cancelled() { Err(self.ending.reason()) } else { Ok(()) }
    }

    /// Says which step has begun.
    pub fn step(&self, step: &'static str) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push((step, Instant::now()));
        self.place.activity.send_modify(|activity| {
            if let Some(activity) = activity {
                activity.step = step;
            }
        });
    }

    /// How long each step has taken so far: `detecting 3 ms, building 91 ms`.
    pub fn timings(&self) -> String {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = steps.iter().skip(1).map(|(_, begun)| *begun).chain([Instant::now()]);
        let each = steps.iter().zip(ends);
        let texts = each.map(|((step, begun), end)| format!("{step} {} ms", (end - *begun).as_millis()));
        texts.collect::<Vec<_>>().join(", ")
    }

    /// Says which release is being made.
    pub fn release(&self, number: u32) {
        self.place.activity.send_modify(|activity| {
            if let Some(activity) = activity {
                activity.release = Some(number);
            }
        });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.commit();
        self.place.activity.send_replace(None);
    }
}
