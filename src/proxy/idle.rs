//! For how long nobody has used an app: what the control plane puts it to sleep by.

use crate::model::AppName;
use std::collections::{BTreeMap, HashMap};

/// How much an app has been used since its processes were first routed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Of the release that answers.
    pub(super) release: u32,
    /// Requests that were sent to them, but for those of crawlers.
    pub(super) requests: u64,
    /// Those of them that have not ended: streams and WebSockets too.
    pub(super) under_way: u64,
}

/// Since when each app is as it was found last.
#[derive(Default)]
pub(super) struct Idleness {
    seen: HashMap<AppName, Seen>,
}

struct Seen {
    usage: Usage,
    /// By the clock.
    since: u64,
}

impl Idleness {
    /// Looks at the apps that may fall asleep, and forgets all others: for how many
    /// seconds each has not been used. Who is new here has been used just now.
    pub(super) fn look(&mut self, apps: Vec<(AppName, Usage)>, now: u64) -> BTreeMap<AppName, u32> {
        let mut before = std::mem::take(&mut self.seen);
        let mut idle = BTreeMap::new();
        for (app, usage) in apps {
            let same = before.remove(&app).filter(|seen| seen.usage == usage && usage.under_way == 0);
            let seen = same.unwrap_or(Seen { usage, since: now });
            let seconds = now.saturating_sub(seen.since) / 1000;
            idle.insert(app.clone(), u32::try_from(seconds).unwrap_or(u32::MAX));
            self.seen.insert(app, seen);
        }
        idle
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_app_is_idle_while_no_request_comes_and_none_is_under_way() {
        let app = AppName::parse("shop").unwrap();
        let mut idleness = Idleness::default();
        let mut idle = |release, requests, under_way, now| {
            let usage = Usage { release, requests, under_way };
            idleness.look(vec![(app.clone(), usage)], now)[&app]
        };
        assert_eq!(idle(1, 5, 0, 1_000), 0, "nobody has looked before");
        assert_eq!(idle(1, 5, 0, 61_000), 60);
        assert_eq!(idle(1, 6, 0, 62_000), 0, "one has come, and was answered");
        assert_eq!(idle(1, 6, 0, 63_000), 1);
        assert_eq!(idle(1, 7, 1, 70_000), 0);
        assert_eq!(idle(1, 7, 1, 170_000), 0, "a stream");
        assert_eq!(idle(1, 7, 0, 180_000), 0, "which has just ended");
        assert_eq!(idle(1, 7, 0, 190_000), 10);
        assert_eq!(idle(2, 7, 0, 200_000), 0, "another release");
        idleness.look(vec![], 300_000);
        assert_eq!(
            idleness.look(vec![(app.clone(), Usage { release: 2, requests: 7, under_way: 0 })], 400_000)
                [&app],
            0
        );
    }
}
