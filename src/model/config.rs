//! Config vars: the environment that a user gives to an app.

use super::name::EnvKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// An app's config vars, byte for byte as they were set.
///
/// `Debug` shows names only: values are secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigVars(pub BTreeMap<EnvKey, String>);

impl fmt::Debug for ConfigVars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Most names that an app's processes may have, its own and those of all apps.
pub const MOST: usize = 1000;

/// Most bytes of them together, with names. Linux takes 2 MiB of environment
/// and arguments with the usual stack limit, and the app's own commands add to it.
/// <https://man7.org/linux/man-pages/man2/execve.2.html>
pub const LARGEST: usize = 1 << 20;

/// More than a process can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Oversize {
    /// So many names.
    #[error("{0} config vars together, and {MOST} is the limit")]
    Count(usize),
    /// So many bytes.
    #[error("{} KiB of config vars together, and {} KiB is the limit", .0.div_ceil(1024), LARGEST / 1024)]
    Bytes(usize),
}

impl ConfigVars {
    /// These, and those of `below` that are not set here.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        let mut all = below.0.clone();
        all.extend(self.0.clone());
        Self(all)
    }

    /// What a process could not be started with.
    pub fn expect_to_fit(&self) -> Result<(), Oversize> {
        let bytes = self.0.iter().map(|(key, value)| key.as_str().len() + value.len() + 2).sum();
        match (self.0.len(), bytes) {
            (count, _) if count > MOST => Err(Oversize::Count(count)),
            (_, bytes) if bytes > LARGEST => Err(Oversize::Bytes(bytes)),
            _ => Ok(()),
        }
    }

    /// The value of one var.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.as_str() == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_no_process_could_be_given_is_told() {
        let vars = |count: usize, length: usize| {
            let key = |number| EnvKey::parse(&format!("K{number:04}")).unwrap();
            ConfigVars((0..count).map(|number| (key(number), "x".repeat(length))).collect())
        };
        assert_eq!(vars(1000, 100).expect_to_fit(), Ok(()));
        let told =
            [vars(1001, 1), vars(9, 120_000)].map(|vars| vars.expect_to_fit().unwrap_err().to_string());
        assert_eq!(
            told,
            [
                "1001 config vars together, and 1000 is the limit",
                "1055 KiB of config vars together, and 1024 KiB is the limit"
            ]
        );
    }

    #[test]
    fn an_apps_own_win() {
        let one = |value: &str| ConfigVars(BTreeMap::from([(EnvKey::parse("A").unwrap(), value.to_owned())]));
        assert_eq!(one("own").over(&one("all")), one("own"));
        assert_eq!(ConfigVars::default().over(&one("all")), one("all"));
    }

    #[test]
    fn debug_shows_no_value() {
        let key = EnvKey::parse("TOKEN").unwrap();
        let vars = ConfigVars(BTreeMap::from([(key, "hunter2".to_owned())]));
        assert_eq!(format!("{vars:?}"), "{\"TOKEN\"}");
    }
}
