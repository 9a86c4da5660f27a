//! What becomes of an app's requests besides being passed on.

use super::access::AccessLog;
use super::auth::User;
use super::http::HttpSettings;
use super::maintenance::Maintenance;
use super::mount::Mount;
use super::redirect::Redirect;
use super::route::Target;
use super::sleep::Sleeps;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// An app's own rules for its requests. Part of its route; whatever is left out is as the
/// proxy does it by itself, so that tables of other versions can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Whether its log is told of each request. A control plane that does not say so
    /// would not understand the lines.
    pub access_log: Option<AccessLog>,
    /// Whether a page is shown in its place.
    pub maintenance: Option<Maintenance>,
    /// Who may come in; none: everybody.
    pub users: Vec<User>,
    /// Names whose requests go to another name.
    pub redirects: Vec<Redirect>,
    /// Paths under names, of others too, that are this app's.
    pub mounts: Vec<Mount>,
    /// `[http]` of the release that serves.
    pub http: HttpSettings,
    /// What the words of the sticky cookie are made with, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky_key: Option<StickyKey>,
    /// How much each target gets.
    #[serde(skip_serializing_if = "Weights::is_even")]
    pub weights: Weights,
    /// A release beside the one that serves, whose answers are counted as its own: `8`
    /// for `v8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<u32>,
    /// Whether the app sleeps, or may.
    pub sleeps: Sleeps,
}

/// What the words of a sticky cookie are made with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StickyKey(pub String);

/// Whoever knows it can choose a process.
impl fmt::Debug for StickyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StickyKey")
    }
}

/// How much of an app's requests each target gets; those that are not named get 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weights(BTreeMap<SocketAddr, u32>);

impl Weights {
    /// Of a hundred requests so many for `some`, the rest for `others`, in each as many
    /// for one as for the next.
    pub fn share(percent: u8, some: &[Target], others: &[Target]) -> Self {
        let count = |targets: &[Target]| u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let percent = u32::from(percent.min(100));
        let each = |targets: &[Target], weight: u32| {
            targets.iter().map(|target| (target.address, weight)).collect::<Vec<_>>()
        };
        let some_each = each(some, percent.saturating_mul(count(others)));
        let others_each = each(others, (100 - percent).saturating_mul(count(some)));
        Self(some_each.into_iter().chain(others_each).collect())
    }

    /// Whether all get as much.
    pub fn is_even(&self) -> bool {
        self.0.is_empty()
    }

    /// That of a target.
    pub fn of(&self, target: &Target) -> u32 {
        self.0.get(&target.address).copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn targets(release: u32, numbers: std::ops::Range<u8>) -> Vec<Target> {
        let one = |number| Target {
            address: format!("10.0.0.{number}:5000").parse().unwrap(),
            process: format!("web.{number}"),
            release,
        };
        numbers.map(one).collect()
    }

    #[test]
    fn a_share_is_that_of_all_processes_of_a_release_together() {
        let (new, old) = (targets(8, 1..3), targets(7, 3..8));
        let weights = Weights::share(10, &new, &old);
        let sum = |targets: &[Target]| targets.iter().map(|target| weights.of(target)).sum::<u32>();
        assert_eq!(sum(&new) * 9, sum(&old));
        assert_eq!(weights.of(&old[0]), weights.of(&old[4]));
        assert_eq!(Weights::default().of(&new[0]), 1);
    }

    #[test]
    fn tables_of_other_versions_are_read() {
        assert_eq!(serde_json::from_str::<Traffic>("{}").unwrap(), Traffic::default());
        let newer = r#"{"http":{"sticky":true,"x":1},"sticky_key":"ab","weights":{"10.0.0.1:80":9},"y":{}}"#;
        let read: Traffic = serde_json::from_str(newer).unwrap();
        assert!(read.http.sticky && !read.weights.is_even());
    }
}
