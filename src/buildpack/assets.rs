//! A second language for assets: an app of another language whose package.json
//! has a build script gets a stage with Node, whose result takes the place of
//! its files. It runs beside the install of the first language.

use minijinja::context;

use super::base;
use super::catalog::Catalog;
use super::error::DetectError;
use super::pack::{self, Offer};
use super::range::Ranges;
use super::render::render;
use super::source::{self, Files};
use super::version::shorten;
use crate::model::BaseImage;

const MANIFEST: &str = "package.json";

/// The stage, the base that it stands on, and what is printed of it.
pub(super) struct Assets {
    pub text: String,
    pub base: BaseImage,
    pub said: Vec<String>,
}

/// What the templates of other languages copy, and what they copy instead.
const COPIES: [(&str, &str); 2] = [
    ("COPY app/ ./", "COPY --from=assets /app/ ./"),
    ("COPY --chown=1000:1000 app/ ./", "COPY --chown=1000:1000 --from=assets /app/ ./"),
];

/// Reads package.json; `None` if there is nothing to build.
pub(super) fn read(
    files: Files<'_>,
    catalog: &Catalog,
    prologue: &str,
) -> Result<Option<Assets>, DetectError> {
    let Some(text) = files.text(MANIFEST)? else { return Ok(None) };
    let manifest = source::json(MANIFEST, &text)?;
    let script =
        |name: &&str| manifest["scripts"][*name].as_str().is_some_and(|line| !line.trim().is_empty());
    let Some(build) = ["heroku-postbuild", "build"].into_iter().find(script) else { return Ok(None) };
    let pack = pack::get("node")?;
    let (offer, mut said) = choose(pack.offers(catalog.source), manifest["engines"]["node"].as_str());
    let Some(offer) = offer else { return Ok(None) };
    let base = base::pair(pack, offer, catalog)?.build;
    let lock = files.first_of(&["npm-shrinkwrap.json", "package-lock.json"]);
    let verb = if lock.is_some() { "ci" } else { "install" };
    said.insert(0, format!("Node {} for npm run {build}, from {MANIFEST}", offer.version));
    let copies = [Some(MANIFEST), lock, files.first_of(&[".npmrc"])].into_iter().flatten();
    let manifests: Vec<String> = copies.map(|file| format!("app/{file}")).chain(["./".to_owned()]).collect();
    let values = context! {
        node_base => base.reference.as_str(), prologue, manifests, scope => catalog.cache_scope.as_str(),
        install => vec!["npm", verb, "--include=dev"], build => vec!["npm", "run", build],
    };
    Ok(Some(Assets { text: render(pack::COMMON, "assets.j2", values)?, base, said }))
}

/// The Node that package.json asks for, else the default with a word about it.
fn choose(offers: &'static [Offer], wanted: Option<&str>) -> (Option<&'static Offer>, Vec<String>) {
    let Some(wanted) = wanted else { return (offers.first(), Vec::new()) };
    let fits = |offer: &&Offer| Ranges::Npm.contain(wanted.trim(), &offer.release) == Some(true);
    match offers.iter().find(fits) {
        Some(offer) => (Some(offer), Vec::new()),
        None => (
            offers.first(),
            vec![format!("{MANIFEST} asks for Node {}, which cannot be had here", shorten(wanted))],
        ),
    }
}

/// A Dockerfile that takes the app's files from the assets' stage.
pub(super) fn instead(dockerfile: &str, stage: &str) -> String {
    let line = |line: &str| {
        let found = COPIES.iter().find(|(from, _)| *from == line.trim_end());
        found.map_or(line, |(_, to)| to).to_owned() + "\n"
    };
    stage.to_owned() + "\n" + &dockerfile.lines().map(line).collect::<String>()
}
