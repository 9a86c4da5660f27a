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

impl ConfigVars {
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
    fn debug_shows_no_value() {
        let key = EnvKey::parse("TOKEN").unwrap();
        let vars = ConfigVars(BTreeMap::from([(key, "hunter2".to_owned())]));
        assert_eq!(format!("{vars:?}"), "{\"TOKEN\"}");
    }
}
