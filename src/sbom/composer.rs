//! `composer.lock`.

use super::SbomError;
use super::component::{Archive, Component, Ecosystem, Hash, address};
use super::source::{Files, Loose};
use serde::Deserialize;

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    packages: Vec<Package>,
    #[serde(default, rename = "packages-dev")]
    development: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    version: Loose,
    #[serde(default)]
    dist: Option<Place>,
    #[serde(default)]
    source: Option<Place>,
    #[serde(default)]
    license: Vec<Loose>,
}

#[derive(Deserialize)]
struct Place {
    #[serde(default)]
    url: Loose,
    #[serde(default)]
    shasum: Loose,
}

/// All packages of a lock.
pub(super) fn read(files: Files<'_>, name: &str, text: &str) -> Result<Vec<Component>, SbomError> {
    let lock: Lock = files.json(name, text)?;
    let run = lock.packages.iter().map(|package| component(package, false));
    Ok(run.chain(lock.development.iter().map(|package| component(package, true))).collect())
}

fn component(package: &Package, development: bool) -> Component {
    let url = |place: &Option<Place>| place.as_ref()?.url.0.as_deref().and_then(address);
    let shasum = package.dist.as_ref().and_then(|dist| dist.shasum.0.as_deref()).unwrap_or_default();
    let archive = url(&package.dist).map(|place| Archive { place, hash: Hash::hex("sha1", shasum) });
    Component {
        archives: archive.into_iter().collect(),
        repository: url(&package.source),
        development,
        licences: package.license.iter().filter_map(|one| one.0.clone()).collect(),
        ..Component::new(Ecosystem::Composer, &package.name, package.version.0.as_deref())
    }
}
