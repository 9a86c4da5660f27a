//! Names to whatever they stand for, at the same cost for ten and ten thousand.

use crate::model::Domain;
use std::collections::HashMap;
use std::sync::Arc;

/// A table by name; an exact name beats a wildcard. A clone shares the names.
#[derive(Clone)]
pub(super) struct ByName<T> {
    exact: HashMap<Arc<str>, T>,
    /// By what is behind the `*.`.
    below: HashMap<Arc<str>, T>,
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), below: HashMap::new() }
    }
}

impl<T> ByName<T> {
    /// Adds a name; the first of two counts.
    pub(super) fn add(&mut self, name: &Domain, value: T) {
        let (names, name) = self.place(name);
        names.entry(name.into()).or_insert(value);
    }

    /// Puts a value in place of the one that a name has.
    pub(super) fn set(&mut self, name: &Domain, value: T) {
        let (names, name) = self.place(name);
        match names.get_mut(name) {
            Some(there) => *there = value,
            None => drop(names.insert(name.into(), value)),
        }
    }

    /// Takes a name out.
    pub(super) fn remove(&mut self, name: &Domain) {
        let (names, name) = self.place(name);
        names.remove(name);
    }

    /// What this very name stands for.
    pub(super) fn of(&self, name: &Domain) -> Option<&T> {
        match name {
            Domain::Exact(name) => self.exact.get(name.as_str()),
            Domain::Below(parent) => self.below.get(parent.as_str()),
        }
    }

    fn place<'a>(&mut self, name: &'a Domain) -> (&mut HashMap<Arc<str>, T>, &'a str) {
        match name {
            Domain::Exact(name) => (&mut self.exact, name.as_str()),
            Domain::Below(parent) => (&mut self.below, parent.as_str()),
        }
    }

    /// All names with what they stand for.
    pub(super) fn all(&self) -> impl Iterator<Item = (String, &T)> {
        let exact = self.exact.iter().map(|(name, value)| (name.to_string(), value));
        let below = self.below.iter().map(|(name, value)| (format!("*.{name}"), value));
        exact.chain(below)
    }

    /// What a host name in lower case stands for.
    pub(super) fn get(&self, host: &str) -> Option<&T> {
        let exact = self.exact.get(host);
        if exact.is_some() || self.below.is_empty() {
            return exact;
        }
        self.below.get(host.split_once('.').map(|(_, parent)| parent)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_exact_name_beats_a_wildcard_and_the_first_counts() {
        let mut names = ByName::default();
        for (name, value) in [("*.a.b", 1), ("x.a.b", 2), ("x.a.b", 3), ("*.b", 4)] {
            names.add(&Domain::parse(name).unwrap(), value);
        }
        let found =
            ["x.a.b", "y.a.b", "a.b", "b", "z.y.a.b", ".a.b", ""].map(|host| names.get(host).copied());
        assert_eq!(found, [Some(2), Some(1), Some(4), None, None, Some(1), None]);
    }
}
