//! `[deploy] canary`: a new release gets some of the requests before it goes live.

use std::fmt;
use std::time::Duration;

/// Longest time of a canary, in seconds.
const LONGEST: u64 = 3600;

/// How much of the requests, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    /// Of a hundred requests so many.
    pub percent: u8,
    /// For so many seconds.
    pub seconds: u16,
}

impl Canary {
    /// What is said of a text that is none.
    pub const EXPECTED: &str = "a share and a time such as 10% for 2m";

    /// Reads `10% for 2m`.
    pub fn parse(text: &str) -> Option<Self> {
        let (share, time) = text.split_once(" for ")?;
        let digits = share.trim().strip_suffix('%')?;
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let percent = digits.parse().ok().filter(|percent| plain(digits) && (1..=99).contains(percent))?;
        let time = time.trim();
        let units = [('s', 1), ('m', 60), ('h', 3600)];
        let (number, factor) =
            units.iter().find_map(|&(unit, factor)| Some((time.strip_suffix(unit)?, factor)))?;
        let seconds = number.parse::<u64>().ok().filter(|_| plain(number))?.checked_mul(factor)?;
        let seconds = Some(seconds).filter(|seconds| (1..=LONGEST).contains(seconds))?;
        Some(Self { percent, seconds: seconds.try_into().ok()? })
    }

    /// For how long.
    pub fn time(self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = match self.seconds {
            seconds if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
            seconds => format!("{seconds} s"),
        };
        write!(f, "{}% of the requests for {time}", self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_and_a_time_are_read() {
        let told = |text: &str| Canary::parse(text).map(|canary| canary.to_string());
        assert_eq!(told("10% for 2m"), Some("10% of the requests for 2 min".to_owned()));
        assert_eq!(told("99% for 90s"), Some("99% of the requests for 90 s".to_owned()));
        assert_eq!(told(" 1% for 1h "), Some("1% of the requests for 60 min".to_owned()));
        for bad in [
            "",
            "10%",
            "10 for 2m",
            "0% for 1m",
            "100% for 1m",
            "+5% for 1m",
            "10% for 2h",
            "10% for 0s",
            "10% for 5",
            "10% for",
            "ten% for 1m",
            "10% for +1m",
            "10% for 99999999999999999999h",
        ] {
            assert_eq!(Canary::parse(bad), None, "{bad}");
        }
    }
}
