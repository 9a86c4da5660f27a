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
    /// Pushes that wait before git starts, so that each finds the branch as the one before
    /// has left it.
    door: Arc<Line>,
    activity: watch::Sender<Option<Activity>>,
    /// Deploys that can be ended now: the one that has the turn, and those that wait for it.
    endings: Mutex<Vec<Arc<Ending>>>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            turn: Line::new(1),
            roster: Line::new(1),
            publishing: Arc::default(),
            door: Line::new(1),
            activity: watch::Sender::default(),
            endings: Mutex::default(),
        }
    }
}

/// How somebody else ends a deploy.
#[derive(Default)]
pub(super) struct Ending {
    token: CancellationToken,
    by: OnceLock<String>,
    release: OnceLock<u32>,
    /// Cancelled when it has ended and nothing is left of it.
    over: CancellationToken,
}

impl Ending {
    /// Which release it was to be, if it had come to that.
    pub fn release(&self) -> Option<u32> {
        self.release.get().copied()
    }

    /// Waits until nothing is left of it.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Waits until somebody asks for it; the reason.
    pub async fn asked(&self) -> DeployError {
        self.token.cancelled().await;
        self.reason()
    }

    fn ask(&self, by: &str) {
        let _ = self.by.set(by.to_owned());
        self.token.cancel();
    }

    fn reason(&self) -> DeployError {
        DeployError::CancelledBy(self.by.get().cloned().unwrap_or_default())
    }
}

/// The turn to change an app; dropping it lets the next one in.
pub(super) struct Turn {
    /// When each step began.
    begun: Mutex<Vec<(&'static str, Instant)>>,
    // Before the place in the line: it is over before the next one has the turn.
    steps: Steps,
    _spot: Spot,
}

/// A place in the line for an app's turn; dropping it leaves the line.
pub(super) struct Standing {
    steps: Steps,
    spot: Spot,
}

/// What is done in a turn, or is to be.
struct Steps {
    ending: Arc<Ending>,
    place: Arc<Place>,
}

impl Standing {
    /// From here on, and until [`Turn::commit`], somebody else may end this.
    pub fn may_be_cancelled(&self) -> Arc<Ending> {
        self.steps.may_be_cancelled(false)
    }

    /// Waits for the turn; `said` hears how many are before, whenever that changes.
    pub async fn turn(self, activity: Activity, said: impl FnMut(usize)) -> Turn {
        let Self { steps, mut spot } = self;
        spot.served(said).await;
        Turn::begin(steps, spot, activity)
    }
}

impl Steps {
    fn may_be_cancelled(&self, has_turn: bool) -> Arc<Ending> {
        let mut endings = self.place.endings.lock().unwrap_or_else(PoisonError::into_inner);
        if !endings.iter().any(|known| Arc::ptr_eq(known, &self.ending)) {
            // Who has the turn comes before all who stand in line for it.
            let place = if has_turn { 0 } else { endings.len() };
            endings.insert(place, self.ending.clone());
        }
        self.ending.clone()
    }

    fn commit(&self) -> Result<(), DeployError> {
        let mut endings = self.place.endings.lock().unwrap_or_else(PoisonError::into_inner);
        endings.retain(|known| !Arc::ptr_eq(known, &self.ending));
        drop(endings);
        if self.ending.token.is_cancelled() { Err(self.ending.reason()) } else { Ok(()) }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let _ = self.commit();
        self.ending.over.cancel();
    }
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

    /// Takes the last place in the line for an app's turn.
    pub fn stand(&self, app: AppId) -> Standing {
        let place = self.place(app);
        let spot = place.turn.queue_up();
        Standing { steps: Steps { ending: Arc::default(), place }, spot }
    }

    /// Waits for one's turn and takes it.
    pub async fn take(&self, app: AppId, activity: Activity) -> Turn {
        self.stand(app).turn(activity, |_| ()).await
    }

    /// Takes the last place among the pushes that wait before git starts.
    pub fn door(&self, app: AppId) -> Spot {
        self.place(app).door.queue_up()
    }

    /// Whether pushes wait before git starts, or one of them is just starting it.
    pub fn is_door_taken(&self, app: AppId) -> bool {
        self.place(app).door.try_take().is_none()
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
        Some(Turn::begin(Steps { ending: Arc::default(), place }, spot, activity))
    }

    /// Asks the deploy or restart that is being prepared to end, or the first push that
    /// waits if none is; nothing if nothing can be ended.
    pub fn cancel(&self, app: AppId, by: &str) -> Option<Arc<Ending>> {
        let place = self.place(app);
        // In hand until it is asked: it has not committed, and will not.
        let endings = place.endings.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = endings.first()?.clone();
        ending.ask(by);
        Some(ending)
    }

    /// The same for all of them.
    pub fn cancel_all(&self, app: AppId, by: &str) {
        let place = self.place(app);
        let endings = place.endings.lock().unwrap_or_else(PoisonError::into_inner);
        endings.iter().for_each(|ending| ending.ask(by));
    }

    /// Forgets an app that is gone.
    pub fn forget(&self, app: AppId) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&app);
    }
}

impl Turn {
    fn begin(steps: Steps, spot: Spot, activity: Activity) -> Self {
        let begun = Mutex::new(vec![(activity.step, Instant::now())]);
        steps.place.activity.send_replace(Some(activity));
        Self { begun, steps, _spot: spot }
    }

    /// From here on, and until [`Turn::commit`], somebody else may end this.
    pub fn may_be_cancelled(&self) -> Arc<Ending> {
        self.steps.may_be_cancelled(true)
    }

    /// From here on it is too late to end it; an error if somebody has asked for it,
    /// who was told that it ends.
    pub fn commit(&self) -> Result<(), DeployError> {
        self.steps.commit()
    }

    /// Says which step has begun.
    pub fn step(&self, step: &'static str) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push((step, Instant::now()));
        self.steps.place.activity.send_modify(|activity| {
            if let Some(activity) = activity {
                activity.step = step;
            }
        });
    }

    /// How long each step has taken so far: `detecting 3 ms, building 91 ms`.
    pub fn timings(&self) -> String {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = begun.iter().skip(1).map(|(_, begun)| *begun).chain([Instant::now()]);
        let each = begun.iter().zip(ends);
        let texts = each.map(|((step, begun), end)| format!("{step} {} ms", (end - *begun).as_millis()));
        texts.collect::<Vec<_>>().join(", ")
    }

    /// Says which release is being made.
    pub fn release(&self, number: u32) {
        let _ = self.steps.ending.release.set(number);
        self.steps.place.activity.send_modify(|activity| {
            if let Some(activity) = activity {
                activity.release = Some(number);
            }
        });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.steps.place.activity.send_replace(None);
    }
}
