//! The config vars that app.json or a language wants, where an app lacks them.

use crate::model::{ConfigVars, EnvKey, WantedVar};
use std::collections::BTreeMap;

/// Adds values (at the app's `first` deploy) and secrets that are not set; the
/// names of those that somebody must set.
pub(super) fn fill(
    config: &mut ConfigVars,
    global: &ConfigVars,
    wanted: &BTreeMap<EnvKey, WantedVar>,
    first: bool,
) -> Vec<String> {
    let mut missing = Vec::new();
    let lacks =
        |config: &ConfigVars, key: &EnvKey| !config.0.contains_key(key) && !global.0.contains_key(key);
    for (key, wanted) in wanted.iter().filter(|(key, _)| lacks(config, key)).collect::<Vec<_>>() {
        match wanted {
            WantedVar::Value(value) if first => drop(config.0.insert(key.clone(), value.clone())),
            WantedVar::Secret => match secret() {
                Some(secret) => drop(config.0.insert(key.clone(), secret)),
                None => missing.push(key.to_string()),
            },
            WantedVar::Required => missing.push(key.to_string()),
            WantedVar::Value(_) | WantedVar::Asked | WantedVar::Optional => {}
        }
    }
    missing
}

/// The names of those that are asked for and that nobody has set.
pub(super) fn unset(wanted: &BTreeMap<EnvKey, WantedVar>, set: impl Fn(&str) -> bool) -> Vec<&str> {
    let asked = wanted.iter().filter(|(_, wanted)| **wanted == WantedVar::Asked);
    asked.map(|(key, _)| key.as_str()).filter(|key| !set(key)).collect()
}

/// 64 random bytes in hex, as Rails makes them; none if the system gives none.
fn secret() -> Option<String> {
    let mut bytes = [0_u8; 64];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_is_not_set_is_added_and_values_only_once() {
        let key = |name: &str| EnvKey::parse(name).unwrap();
        let vars = |pairs: &[(&str, &str)]| {
            ConfigVars(pairs.iter().map(|(name, value)| (key(name), (*value).to_owned())).collect())
        };
        let wanted = BTreeMap::from([
            (key("LEVEL"), WantedVar::Value("info".into())),
            (key("SET"), WantedVar::Value("other".into())),
            (key("TOKEN"), WantedVar::Secret),
            (key("MUST"), WantedVar::Required),
            (key("GLOBAL"), WantedVar::Required),
            (key("MAY"), WantedVar::Optional),
            (key("HOPED"), WantedVar::Asked),
            (key("GIVEN"), WantedVar::Asked),
        ]);
        assert_eq!(unset(&wanted, |name| name == "GIVEN"), ["HOPED"]);
        let global = vars(&[("GLOBAL", "1")]);
        let mut config = vars(&[("SET", "mine")]);
        assert_eq!(fill(&mut config, &global, &wanted, true), ["MUST"]);
        let names: Vec<String> = config.0.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["LEVEL", "SET", "TOKEN"]);
        assert_eq!((config.get("SET"), config.get("LEVEL")), (Some("mine"), Some("info")));
        let token = config.get("TOKEN").unwrap().to_owned();
        assert_eq!(token.len(), 128);
        fill(&mut config, &global, &wanted, true);
        assert_eq!(config.get("TOKEN"), Some(token.as_str()));
        let mut later = ConfigVars::default();
        fill(&mut later, &global, &wanted, false);
        assert_eq!((later.get("LEVEL"), later.get("TOKEN").is_some()), (None, true));
    }
}
