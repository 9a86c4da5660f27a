//! What the administrator's settings mean for detection.

use crate::model::{App, BaseImage, ImageSource, Recipe};
use std::collections::BTreeMap;

/// The name under which an app's build caches are kept: `[a-z0-9-]{1,63}`.
///
/// It becomes part of cache-mount ids in generated Dockerfiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheScope(String);

impl CacheScope {
    /// The only constructor for outside text.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        ((1..=63).contains(&text.len()) && text.bytes().all(valid)).then(|| Self(text.to_owned()))
    }

    /// For catalogs that nothing is built from.
    pub fn nobody() -> Self {
        Self("nobody".to_owned())
    }

    /// The checked text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&App> for CacheScope {
    fn from(app: &App) -> Self {
        Self(format!("app-{}-{}", app.id.0.unsigned_abs(), app.hidden_word()))
    }
}

/// Which of the images that one recipe gave at different times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// These, by recipe; of any other recipe the one that bears its name.
    Pinned(BTreeMap<String, String>),
    /// All are made anew; this mark ends their names.
    Anew(String),
}

impl Default for Choice {
    fn default() -> Self {
        Self::Pinned(BTreeMap::new())
    }
}

impl Choice {
    /// The image that is meant.
    pub(super) fn image(&self, name: String, recipe: Recipe) -> BaseImage {
        let reference = match self {
            Self::Pinned(references) => references.get(&name).unwrap_or(&name).clone(),
            // A pulled one is told from an older one by its digest, once it is here.
            Self::Anew(_) if recipe == Recipe::Pull => name.clone(),
            Self::Anew(mark) => format!("{name}-{mark}"),
        };
        BaseImage { name, reference, anew: matches!(self, Self::Anew(_)), recipe }
    }
}

/// What can be had here, and how builds reach the outside.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Where base images come from.
    pub source: ImageSource,
    /// PEM bundle that builds trust; it reaches build stages only.
    pub ca_bundle: Option<Vec<u8>>,
    /// Whose build caches are used.
    pub cache_scope: CacheScope,
    /// What may build an app, by the administrator's will; `None`: everything.
    pub allow: Option<Vec<String>>,
    /// Which image of each base's recipe is meant.
    pub choice: Choice,
}

impl Catalog {
    /// Whether a builder may be used.
    pub fn allows(&self, builder: &str) -> bool {
        self.allow.as_ref().is_none_or(|names| names.iter().any(|name| name == builder))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_scope_is_safe_in_a_mount_id() {
        assert_eq!(CacheScope::parse("my-app").unwrap().as_str(), "my-app");
        for bad in ["", "a,target=/", "A", "a b", "a\n", &"a".repeat(64)] {
            assert_eq!(CacheScope::parse(bad), None, "{bad:?}");
        }
    }
}
