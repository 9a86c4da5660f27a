//! Which base images a build stands on: those of the release before it, so that
//! no push changes them by surprise.

use crate::buildpack::Choice;
use crate::model::BasePin;
use crate::store::bases::KnownBase;
use std::collections::{BTreeMap, BTreeSet};

/// What an app may stand on; of each recipe the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pins {
    /// Those that it was given since its current release, and that release's.
    own: Vec<BasePin>,
    /// All that are known here, the newest first.
    known: Vec<BasePin>,
}

impl Pins {
    /// `known` is sorted, newest first.
    pub fn new(current: &[BasePin], next: &[BasePin], known: &[KnownBase]) -> Self {
        let own = next.iter().chain(current).cloned().collect();
        Self { own, known: known.iter().map(|base| base.pin.clone()).collect() }
    }

    /// The image of a recipe, if there is a reason for a certain one.
    pub fn of(&self, recipe: &str) -> Option<&BasePin> {
        self.all().find(|pin| pin.name == recipe)
    }

    /// What detection is told.
    pub fn choice(&self) -> Choice {
        let mut chosen = BTreeMap::new();
        for pin in self.all() {
            chosen.entry(pin.name.clone()).or_insert_with(|| pin.reference.clone());
        }
        Choice::Pinned(chosen)
    }

    fn all(&self) -> impl Iterator<Item = &BasePin> {
        self.own.iter().chain(&self.known)
    }

    /// Gives up one that is gone; whether it was the app's own.
    pub fn give_up(&mut self, gone: &BasePin) -> bool {
        let is_gone = |pin: &BasePin| pin.reference == gone.reference;
        self.known.retain(|pin| !is_gone(pin));
        let before = self.own.len();
        self.own.retain(|pin| !is_gone(pin));
        self.own.len() < before
    }
}

/// One base of an app, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChange {
    /// What it was; `None`: there was none for this.
    pub before: Option<BasePin>,
    /// What it is.
    pub now: BasePin,
}

/// What changes from one build's bases to the next one's.
pub(super) fn changes(before: &[BasePin], now: &[BasePin]) -> Vec<BaseChange> {
    let same = |pin: &BasePin| before.iter().any(|old| old.image_id == pin.image_id);
    let changed = now.iter().filter(|pin| !same(pin));
    let former = |pin: &BasePin| before.iter().find(|old| old.title() == pin.title()).cloned();
    changed.map(|pin| BaseChange { before: former(pin), now: pin.clone() }).collect()
}

impl std::fmt::Display for BaseChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (title, made) = (self.now.title(), moment(self.now.made_at));
        match &self.before {
            None => write!(f, "{title}: of {made}"),
            Some(old) if old.name == self.now.name => {
                write!(f, "{title}: of {made}, before that of {}", moment(old.made_at))?;
                match (&old.digest, &self.now.digest) {
                    (Some(old), Some(new)) if old != new => write!(f, " ({} to {})", short(old), short(new)),
                    _ => Ok(()),
                }
            }
            Some(_) => write!(f, "{title}: of {made}, by the recipe of this version of paas"),
        }
    }
}

/// `2026-11-21 21:04`, UTC.
pub fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.strftime("%Y-%m-%d %H:%M").to_string())
        .unwrap_or_default()
}

/// `sha256:1f0c9a2b3c4d`
fn short(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}

/// Bases of ours that something newer stands in for and that nobody may need:
/// `known` is sorted, newest first.
pub(super) fn superseded(known: &[KnownBase]) -> Vec<&BasePin> {
    let mut seen = BTreeSet::new();
    let old = known.iter().filter(|base| !seen.insert(base.pin.title()));
    old.filter(|base| base.ours).map(|base| &base.pin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(name: &str, mark: &str, made_at: i64) -> BasePin {
        let reference = format!("{name}{mark}");
        let image_id = format!("sha256:{reference}");
        BasePin { name: name.to_owned(), reference, image_id, digest: None, made_at }
    }

    fn known(pins: &[BasePin]) -> Vec<KnownBase> {
        pins.iter().map(|pin| KnownBase { pin: pin.clone(), ours: !pin.name.contains("foreign") }).collect()
    }

    const PYTHON: &str = "paas/base-python:3.11-aaaaaaaaaaaa";
    const NODE: &str = "paas/base-node:24-bbbbbbbbbbbb";

    #[test]
    fn the_last_release_counts_then_what_was_given_since_and_for_a_new_recipe_the_newest() {
        let (old, new) = (pin(PYTHON, "", 1), pin(PYTHON, "-2", 2));
        let here = known(&[new.clone(), old.clone(), pin(NODE, "-3", 3), pin(NODE, "", 1)]);
        let chosen = |pins: &Pins, name: &str| pins.of(name).map(|pin| pin.reference.clone());
        let pins = Pins::new(std::slice::from_ref(&old), &[], &here);
        assert_eq!(chosen(&pins, PYTHON), Some(PYTHON.to_owned()));
        assert_eq!(chosen(&pins, NODE), Some(format!("{NODE}-3")));
        assert_eq!(chosen(&pins, "paas/base-go:1"), None);
        let mut pins = Pins::new(std::slice::from_ref(&old), std::slice::from_ref(&new), &here);
        assert_eq!(chosen(&pins, PYTHON), Some(format!("{PYTHON}-2")));
        let Choice::Pinned(told) = pins.choice() else { unreachable!() };
        assert_eq!((told[PYTHON].as_str(), told.len()), (new.reference.as_str(), 2));

        assert!(pins.give_up(&new));
        assert_eq!(chosen(&pins, PYTHON), Some(PYTHON.to_owned()));
        assert!(pins.give_up(&old));
        assert_eq!(chosen(&pins, PYTHON), None, "it is made by its recipe");
    }

    #[test]
    fn what_changed_is_said_and_why() {
        let day = 24 * 60 * 60;
        let before = [pin(PYTHON, "", day), pin(NODE, "", day)];
        let recipe = pin("paas/base-node:24-cccccccccccc", "", 3 * day);
        let now = [pin(PYTHON, "-2", 2 * day), recipe, pin("paas/base-go:1.27-d", "", day)];
        let said: Vec<String> = changes(&before, &now).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "python 3.11: of 1970-01-03 00:00, before that of 1970-01-02 00:00",
                "node 24: of 1970-01-04 00:00, by the recipe of this version of paas",
                "go 1.27: of 1970-01-02 00:00",
            ]
        );
        assert_eq!(changes(&before, &before), []);

        let pulled = |digest: &str, made_at| BasePin {
            digest: Some(format!("sha256:{digest}")),
            ..pin("golang:1.27-bookworm", digest, made_at)
        };
        let changed = changes(&[pulled("0a1b2c3d4e5f60", day)], &[pulled("1f0c9a2b3c4d5e", 2 * day)]);
        assert_eq!(
            changed[0].to_string(),
            "golang 1.27-bookworm: of 1970-01-03 00:00, before that of 1970-01-02 00:00 \
             (sha256:0a1b2c3d4e5f to sha256:1f0c9a2b3c4d)"
        );
    }

    #[test]
    fn only_what_we_made_and_something_newer_replaces_may_go() {
        let recipe = pin("paas/base-python:3.11-newrecipe", "", 3);
        let foreign = pin("paas/base-foreign:1-a", "", 1);
        let here = known(&[
            recipe,
            pin(PYTHON, "-2", 2),
            pin("paas/base-foreign:1-a", "-2", 2),
            pin(PYTHON, "", 1),
            foreign,
            pin(NODE, "", 1),
        ]);
        let old: Vec<&str> = superseded(&here).into_iter().map(|pin| pin.reference.as_str()).collect();
        assert_eq!(old, [format!("{PYTHON}-2").as_str(), PYTHON]);
    }
}
