//! `[deploy]`: what happens before and after a release goes live.

use super::processes::seconds;
use super::section::{Section, bad_value};
use crate::buildpack::error::DetectError;
use crate::model::Canary;
use std::time::Duration;

/// Longest watch, in seconds.
const LONGEST_WATCH: u64 = 3600;

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::buildpack) struct Deploy {
    /// How long the release command may take.
    pub release_time: Option<Duration>,
    /// For how many seconds a release is watched after it went live; 0: not at all.
    pub watch: Option<u16>,
    /// How it is tried before it goes live.
    pub canary: Option<Canary>,
}

impl Deploy {
    pub(super) fn read(mut section: Section<'_, '_>) -> Result<Self, DetectError> {
        let release_time = section.text("release_timeout")?;
        let watch = section.text("watch")?;
        let canary = section.text("canary")?;
        section.finish()?;
        let release_time = release_time.map(|given| {
            let expected = ["a time such as 90s, 30m or 2h"];
            let refused = || bad_value(given.line, "release_timeout", &given.value, &expected);
            seconds(&given.value).map(Duration::from_secs).ok_or_else(refused)
        });
        let watch = watch.map(|given| {
            let expected = ["a time of at most 1h, such as 90s or 5m; 0 for none"];
            let refused = || bad_value(given.line, "watch", &given.value, &expected);
            watch_time(&given.value).ok_or_else(refused)
        });
        let canary = canary.map(|given| {
            let refused = || bad_value(given.line, "canary", &given.value, &[Canary::EXPECTED]);
            Canary::parse(&given.value).ok_or_else(refused)
        });
        Ok(Self {
            release_time: release_time.transpose()?,
            watch: watch.transpose()?,
            canary: canary.transpose()?,
        })
    }
}

/// Reads `90s`, `5m`, `0`.
fn watch_time(text: &str) -> Option<u16> {
    if matches!(text, "0" | "0s" | "0m") {
        return Some(0);
    }
    seconds(text).filter(|&seconds| seconds <= LONGEST_WATCH)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_has_an_end() {
        let read = ["90s", "5m", "1h", "0", "2h", "-1s", "60", ""].map(watch_time);
        assert_eq!(read, [Some(90), Some(300), Some(3600), Some(0), None, None, None, None]);
    }
}
