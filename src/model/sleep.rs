//! Apps that sleep while nobody asks for them.

use serde::{Deserialize, Serialize};

/// The shortest and the longest time without a request after which an app may fall
/// asleep, in seconds.
const TIMES: std::ops::RangeInclusive<u32> = 10..=30 * 86_400;

/// How it is with an app's sleep, as its route says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sleeps {
    /// It never sleeps.
    #[default]
    Never,
    /// It is awake. The control plane is told for how long nobody has used it.
    Awake,
    /// No process of it takes requests. They are held, and the control plane is asked to
    /// wake it.
    Asleep,
}

/// An app's sleep, as it is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sleep {
    /// It falls asleep after so many seconds without a request; none: never.
    pub after: Option<u32>,
    /// Since when it is asleep, in seconds since the epoch, UTC; none: it is awake.
    pub since: Option<i64>,
    /// Its last wake.
    pub woken: Option<Woken>,
}

/// How an app woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Woken {
    /// When, in seconds since the epoch, UTC.
    pub at: i64,
    /// From the request for it until its processes took requests, in milliseconds.
    pub took: u32,
}

/// A text that is no time after which an app may fall asleep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotASleep(pub String);

impl Sleep {
    /// Reads `15m`: seconds.
    pub fn time(text: &str) -> Result<u32, NotASleep> {
        let digits = text.strip_suffix(['s', 'm', 'h', 'd']).unwrap_or_default();
        let unit = match text.chars().last() {
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => 1,
        };
        let number = digits.parse::<u32>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let seconds = number.and_then(|number| number.checked_mul(unit));
        seconds
            .filter(|seconds| TIMES.contains(seconds))
            .ok_or_else(|| NotASleep(text.chars().take(60).collect()))
    }
}

/// `15 min`, `1 h 30 min`, `45 s`.
pub fn spoken(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let said: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect();
    if said.is_empty() { "0 s".to_owned() } else { said.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_bounds() {
        let times = ["15m", "10s", "30d", "1h", "90s"].map(|text| Sleep::time(text).ok());
        assert_eq!(times, [Some(900), Some(10), Some(2_592_000), Some(3600), Some(90)]);
        for bad in
            ["", "m", "15", "9s", "31d", "+15m", "-1h", "1.5h", "15 m", "99999999999s", "9999999d", "15µ"]
        {
            assert_eq!(Sleep::time(bad), Err(NotASleep(bad.to_owned())), "{bad}");
        }
        let said = [0, 45, 900, 5400, 90_061].map(spoken);
        assert_eq!(said, ["0 s", "45 s", "15 min", "1 h 30 min", "1 d 1 h 1 min 1 s"]);
    }
}
