//! What can be had at all: for those who look at what was built long ago.

use std::collections::BTreeSet;

use super::base::bases;
use super::catalog::Catalog;
use super::error::DetectError;
use super::pack;
use super::registry;
use crate::model::pin;

/// A buildpack's list of single releases.
const RELEASES: &str = "releases.txt";

/// The bases that a catalog can give, by their titles: `python 3.11`.
pub struct Offered {
    titles: BTreeSet<String>,
    /// Languages of which more can be had than is listed.
    any: Vec<String>,
}

impl Offered {
    /// Those of this catalog.
    pub fn of(catalog: &Catalog) -> Result<Self, DetectError> {
        let titles = bases(catalog)?.into_iter().map(|(.., base)| pin::title(&base.name)).collect();
        let mut any = Vec::new();
        for pack in pack::all()? {
            if pack.further.is_some() || registry::has(&pack.key, RELEASES)? {
                any.push(pack.key.clone());
            }
        }
        Ok(Self { titles, any })
    }

    /// Whether a base of this title can be had.
    pub fn has(&self, title: &str) -> bool {
        let language = title.split(' ').next().unwrap_or_default();
        let language = language.strip_suffix("-build").unwrap_or(language);
        self.titles.contains(title) || self.any.iter().any(|any| any == language)
    }
}

/// What builds apps of this runtime: `python` for `Python 3.11`.
pub fn builder_of(runtime: &str) -> Result<Option<String>, DetectError> {
    if runtime == "Dockerfile" {
        return Ok(Some("dockerfile".to_owned()));
    }
    let name = runtime.rsplit_once(' ').map_or(runtime, |(name, _)| name);
    let says = |pack: &&pack::Pack| pack.runtime.as_deref().map_or(pack.name == name, |text| text == runtime);
    Ok(pack::all()?.iter().find(says).map(|pack| pack.key.clone()))
}
