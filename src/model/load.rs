//! How much an app has to do: its requests, as the proxies count them.

use super::name::AppName;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Cells in each power of ten, by their upper bounds.
const STEPS: [u32; 10] = [100, 125, 160, 200, 250, 315, 400, 500, 630, 800];
const POWERS: usize = 6;

/// Upper bounds of a [`Spread`]'s cells in microseconds, from 0.1 ms to 100 s. What takes
/// longer is in one cell more.
pub const BOUNDS: [u32; STEPS.len() * POWERS + 1] = bounds();

const fn bounds() -> [u32; STEPS.len() * POWERS + 1] {
    let mut bounds = [100_000_000; STEPS.len() * POWERS + 1];
    let (mut cell, mut factor) = (0, 1);
    while cell < STEPS.len() * POWERS {
        bounds[cell] = STEPS[cell % STEPS.len()] * factor;
        cell += 1;
        if cell % STEPS.len() == 0 {
            factor *= 10;
        }
    }
    bounds
}

/// The cell of a time.
pub fn cell(micros: u64) -> usize {
    BOUNDS.partition_point(|&bound| u64::from(bound) < micros)
}

/// Requests by their status; and those whose client has left before there was one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answers {
    /// 101: from then on another protocol is spoken.
    #[serde(rename = "1xx")]
    pub switched: u64,
    /// 2xx
    #[serde(rename = "2xx")]
    pub fine: u64,
    /// 3xx
    #[serde(rename = "3xx")]
    pub elsewhere: u64,
    /// 4xx
    #[serde(rename = "4xx")]
    pub refused: u64,
    /// 5xx
    #[serde(rename = "5xx")]
    pub failed: u64,
    /// No answer was waited for.
    pub gone: u64,
}

impl Answers {
    /// What they are called, in the order of [`Self::all`].
    pub const NAMES: [&'static str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "gone"];

    /// From numbers in that order.
    pub fn from_all([switched, fine, elsewhere, refused, failed, gone]: [u64; 6]) -> Self {
        Self { switched, fine, elsewhere, refused, failed, gone }
    }

    /// The numbers.
    pub fn all(&self) -> [u64; 6] {
        [self.switched, self.fine, self.elsewhere, self.refused, self.failed, self.gone]
    }

    /// All together.
    pub fn sum(&self) -> u64 {
        self.all().iter().sum()
    }

    fn add(&mut self, more: &Self) {
        let (mine, others) = (self.all(), more.all());
        *self = Self::from_all(std::array::from_fn(|place| mine[place] + others[place]));
    }
}

/// How long something took, as numbers per cell: those that are not 0, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spread(Vec<(u8, u32)>);

impl Spread {
    /// From the numbers of all cells.
    pub fn from_cells(cells: impl IntoIterator<Item = u64>) -> Self {
        let cells = cells.into_iter().enumerate().filter(|(_, number)| *number > 0);
        let narrow =
            |(cell, number)| Some((u8::try_from(cell).ok()?, u32::try_from(number).unwrap_or(u32::MAX)));
        Self(cells.filter_map(narrow).collect())
    }

    /// So many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, number)| u64::from(*number)).sum()
    }

    /// Adds others.
    pub fn add(&mut self, more: &Self) {
        for &(cell, number) in &more.0 {
            match self.0.binary_search_by_key(&cell, |(cell, _)| *cell) {
                Ok(place) => self.0[place].1 = self.0[place].1.saturating_add(number),
                Err(place) => self.0.insert(place, (cell, number)),
            }
        }
    }

    /// The time within which such a share of them was done, to within a cell; `None`
    /// without any.
    pub fn within(&self, share: f64) -> Option<Duration> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        // of a count
        let mut left = ((all as f64 * share).ceil() as u64).clamp(1, all);
        for &(cell, number) in &self.0 {
            if left <= u64::from(number) {
                return Some(between(usize::from(cell), left, u64::from(number)));
            }
            left -= u64::from(number);
        }
        None
    }
}

/// Where the n-th of a cell's numbers is if they lie evenly.
fn between(cell: usize, nth: u64, of: u64) -> Duration {
    let last = u64::from(BOUNDS[BOUNDS.len() - 1]);
    let Some(&upper) = BOUNDS.get(cell) else { return Duration::from_micros(last) };
    let lower = cell.checked_sub(1).map_or(0, |before| u64::from(BOUNDS[before]));
    Duration::from_micros(lower + (u64::from(upper) - lower) * nth / of.max(1))
}

/// What an app had to do in some time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Requests, those that the proxy has answered in the app's place among them.
    pub answers: Answers,
    /// How long they took, from their head to that of the answer; without those that
    /// had none, or went over to another protocol.
    pub spread: Spread,
    /// Bytes of bodies from clients.
    pub received: u64,
    /// Bytes of bodies to clients.
    pub sent: u64,
    /// Requests that had to wait before a process was asked.
    pub held: u64,
    /// Requests that the proxy has answered by a page, for want of an answer.
    pub pages: u64,
    /// How often a process got no requests for a moment because it took no connection.
    pub ejected: u64,
}

impl Load {
    /// Adds what there was beside.
    pub fn add(&mut self, more: &Self) {
        self.answers.add(&more.answers);
        self.spread.add(&more.spread);
        self.received += more.received;
        self.sent += more.sent;
        self.held += more.held;
        self.pages += more.pages;
        self.ejected += more.ejected;
    }
}

/// An app's load since it was last told, by one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppLoad {
    /// The app.
    pub app: AppName,
    /// Its requests under way just now.
    pub in_flight: u64,
    /// What there was.
    #[serde(default)]
    pub load: Load,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn spread(times: &[u64]) -> Spread {
        let mut cells = [0; BOUNDS.len() + 1];
        times.iter().for_each(|&micros| cells[cell(micros)] += 1);
        Spread::from_cells(cells)
    }

    #[test]
    fn the_cells_grow_by_a_quarter() {
        assert_eq!((BOUNDS[0], BOUNDS[10], BOUNDS[60]), (100, 1000, 100_000_000));
        assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= pair[0] * 3 / 10));
        assert_eq!([0, 100, 101, 100_000_000, 100_000_001].map(cell), [0, 0, 1, 60, 61]);
    }

    #[test]
    fn times_are_found_to_within_a_cell() {
        let some = spread(&(1..=1000).map(|number| number * 1000).collect::<Vec<_>>());
        let millis = |share| some.within(share).unwrap().as_millis();
        assert!((495..=505).contains(&millis(0.5)), "{}", millis(0.5));
        assert!((940..=960).contains(&millis(0.95)), "{}", millis(0.95));
        assert!((985..=1000).contains(&millis(0.99)), "{}", millis(0.99));
        assert_eq!(spread(&[]).within(0.5), None);
        assert_eq!(spread(&[u64::MAX]).within(0.5), Some(Duration::from_secs(100)));
        let unknown: Spread = serde_json::from_str("[[200,1]]").unwrap();
        assert_eq!(unknown.within(1.0), Some(Duration::from_secs(100)), "a cell of another version");
    }

    #[test]
    fn what_another_version_says_can_be_read() {
        let told = r#"{"app":"shop","in_flight":2,"load":{"answers":{"2xx":3,"6xx":1},"sent":7,"more":[]}}"#;
        let load: AppLoad = serde_json::from_str(told).unwrap();
        assert_eq!((load.load.answers.sum(), load.load.sent, load.load.spread.count()), (3, 7, 0));
        let message = r#"{"counts":{"counts":[]}}"#;
        let old: super::super::FromProxy = serde_json::from_str(message).unwrap();
        assert_eq!(serde_json::to_string(&old).unwrap(), message);
    }

    proptest! {
        #[test]
        fn adding_up_is_as_good_as_counting_together(
            some in prop::collection::vec(0_u64..200_000_000, 0..50),
            more in prop::collection::vec(0_u64..200_000_000, 0..50),
        ) {
            let mut added = spread(&some);
            added.add(&spread(&more));
            prop_assert_eq!(added, spread(&[some, more].concat()));
        }
    }
}
