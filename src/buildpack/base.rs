//! Base images: their names and how they are made.

use minijinja::context;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

use super::catalog::Catalog;
use super::error::DetectError;
use super::pack::{self, BaseData, Offer, Pack};
use super::render::render;
use crate::model::pin::{ALPINE, CERTIFICATES};
use crate::model::{BaseImage, ImageSource, Recipe};

/// Where a build finds the certificates that it should trust.
pub(super) const CA_FILE: &str = ".paas/ca-bundle.crt";
/// Where they appear inside a build.
pub(super) const CA_TARGET: &str = "/etc/paas/ca-bundle.crt";

/// Their name in the image that brings them to a repository's own Dockerfile,
/// whose `COPY . .` would take them along if they stood in its context.
pub(super) const CA_NAME: &str = "ca-bundle.crt";

/// Those of Alpine's commands that Debian lacks, or has in another form.
pub(super) const ALPINE_COMMANDS: [&str; 3] = ["apk", "addgroup", "adduser"];

/// Raised when the way of making the plain Debian changes.
const DEBOOTSTRAP_EDITION: &str = "debootstrap minbase 1";

/// The two bases of an app.
pub(super) struct Pair {
    /// With compilers.
    pub build: BaseImage,
    /// Slim.
    pub run: BaseImage,
}

/// Every base that this catalog can give: language, version, image. The run
/// base stands before the build base.
pub fn bases(catalog: &Catalog) -> Result<Vec<(String, String, BaseImage)>, DetectError> {
    let mut found: Vec<(String, String, BaseImage)> = Vec::new();
    for pack in pack::all()? {
        for offer in pack.offers(catalog.source) {
            let pair = pair(pack, offer, catalog)?;
            for image in [pair.run, pair.build] {
                if !found.iter().any(|(_, _, known)| known.reference == image.reference) {
                    found.push((pack.key.clone(), offer.version.clone(), image));
                }
            }
        }
    }
    Ok(found)
}

/// What each language can be had in, per image source: language, source,
/// versions as people read them.
pub fn available() -> Result<Vec<(String, ImageSource, String)>, DetectError> {
    let mut found = Vec::new();
    for pack in pack::all()?.iter().filter(|pack| !pack.detect.is_empty()) {
        for source in [ImageSource::Debian, ImageSource::Registry] {
            let each = pack.offers(source).iter().map(|offer| offer.version.clone());
            let versions: Vec<String> = each.chain(pack.further.clone()).collect();
            found.push((pack.key.clone(), source, versions.join(", ")));
        }
    }
    Ok(found)
}

/// An image that holds nothing but the certificates that builds shall trust.
pub(super) fn certificates(catalog: &Catalog) -> Option<BaseImage> {
    let bundle = catalog.ca_bundle.as_ref()?;
    let files = BTreeMap::from([(CA_NAME.to_owned(), bundle.clone())]);
    Some(aid(CERTIFICATES, &format!("FROM scratch\nCOPY {CA_NAME} /\n"), files, bundle))
}

/// An image that holds nothing but Alpine's own commands, for a Debian that stands in.
pub(super) fn alpine() -> Result<BaseImage, DetectError> {
    let mut files = BTreeMap::new();
    for name in ALPINE_COMMANDS {
        files.insert(name.to_owned(), pack::file("debian", name)?.as_bytes().to_vec());
    }
    // Dockerfiles add lines to it, or change them.
    files.insert("repositories".to_owned(), Vec::new());
    let recipe = format!(
        "FROM scratch\nCOPY {} /usr/local/sbin/\nCOPY repositories /etc/apk/\n",
        ALPINE_COMMANDS.join(" ")
    );
    let identity: Vec<u8> = files.values().flatten().copied().chain(recipe.bytes()).collect();
    Ok(aid(ALPINE, &recipe, files, &identity))
}

/// An image that builds copy from, named after what is in it.
fn aid(prefix: &str, recipe: &str, files: BTreeMap<String, Vec<u8>>, identity: &[u8]) -> BaseImage {
    let tag: String = Sha256::digest(identity).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{prefix}{tag}");
    let recipe = Recipe::Build { dockerfile: recipe.to_owned(), files, parents: Vec::new() };
    BaseImage { reference: name.clone(), name, anew: false, recipe }
}

/// Both bases of one version.
pub(super) fn pair(pack: &Pack, offer: &Offer, catalog: &Catalog) -> Result<Pair, DetectError> {
    let data = pack.bases(catalog.source);
    let run = base(pack, offer, &data.run, "", None, catalog)?;
    let build = base(pack, offer, &data.build, "-build", Some(&run), catalog)?;
    Ok(Pair { build, run })
}

fn base(
    pack: &Pack,
    offer: &Offer,
    data: &BaseData,
    suffix: &str,
    run: Option<&BaseImage>,
    catalog: &Catalog,
) -> Result<BaseImage, DetectError> {
    let parent = parent(data, offer, run, catalog)?;
    let Some(template) = &data.template else { return Ok(parent) };
    let text = |parent: &str, ca: bool| recipe_text(pack, offer, template, parent, ca);
    let name = if pack.key == "debian" { "debian".to_owned() } else { format!("{}{suffix}", pack.key) };
    let mut files = BTreeMap::new();
    let mut identity = text(&parent.name, false)?;
    for name in &data.files {
        let content = pack::file(&pack.key, name)?;
        identity.push_str(content);
        files.insert(name.clone(), content.as_bytes().to_vec());
    }
    let name = format!("paas/base-{name}:{}-{}", offer.version, digest(&identity));
    let dockerfile = text(&parent.reference, catalog.ca_bundle.is_some())?;
    if let Some(bundle) = catalog.ca_bundle.as_ref().filter(|_| dockerfile.contains(CA_FILE)) {
        files.insert(CA_FILE.to_owned(), bundle.clone());
    }
    Ok(catalog.choice.image(name, Recipe::Build { dockerfile, parents: vec![parent], files }))
}

fn parent(
    data: &BaseData,
    offer: &Offer,
    run: Option<&BaseImage>,
    catalog: &Catalog,
) -> Result<BaseImage, DetectError> {
    match (data.parent.as_str(), run) {
        ("run", Some(run)) => Ok(run.clone()),
        ("debian", _) => plain_debian(offer.more.get("debian"), catalog),
        ("debootstrap", _) => {
            let suite = offer.more.get("suite").cloned().unwrap_or_default();
            let name = format!("paas/base-bootstrap:{suite}-{}", digest(DEBOOTSTRAP_EDITION));
            Ok(catalog.choice.image(name, Recipe::Debootstrap { suite }))
        }
        (image, _) => {
            let mut name = image.replace("{version}", &offer.version);
            for (key, value) in &offer.more {
                name = name.replace(&format!("{{{key}}}"), value);
            }
            Ok(catalog.choice.image(name, Recipe::Pull))
        }
    }
}

/// Debian in the version that an offer names, else the first.
fn plain_debian(version: Option<&String>, catalog: &Catalog) -> Result<BaseImage, DetectError> {
    let pack = pack::get("debian")?;
    let wanted = |offer: &&Offer| version.is_none_or(|version| offer.version == *version);
    let data = &pack.bases(catalog.source).run;
    match pack.offers(catalog.source).iter().find(wanted) {
        Some(offer) => base(pack, offer, data, "", None, catalog),
        None => Err(DetectError::Broken { pack: pack.key.clone(), reason: "offers nothing".to_owned() }),
    }
}

fn recipe_text(
    pack: &Pack,
    offer: &Offer,
    template: &str,
    parent: &str,
    ca: bool,
) -> Result<String, DetectError> {
    let mount =
        if ca { format!("--mount=type=bind,source={CA_FILE},target={CA_TARGET} ") } else { String::new() };
    let values = context! {
        parent, version => offer.version.as_str(), release => offer.release.as_str(), tools => pack.tools.clone(),
        ca_mount => mount, ca => if ca { CA_TARGET } else { "" }, ..minijinja::Value::from_pairs(offer.more.clone())
    };
    render(&pack.key, template, values)
}

/// The first 12 hex digits of a text's SHA-256.
fn digest(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    let head = hash.iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{head:012x}")
}

/// Whether this source makes its bases here.
pub(super) fn self_made(catalog: &Catalog) -> bool {
    catalog.source == ImageSource::Debian
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::buildpack::{CacheScope, Choice};

    fn catalog(source: ImageSource, ca_bundle: Option<Vec<u8>>) -> Catalog {
        let cache_scope = CacheScope::parse("test").unwrap();
        Catalog { source, ca_bundle, cache_scope, allow: None, choice: Choice::default() }
    }

    #[test]
    fn names_do_not_depend_on_the_certificates() {
        for source in [ImageSource::Registry, ImageSource::Debian] {
            let names = |ca| -> Vec<String> {
                bases(&catalog(source, ca))
                    .unwrap()
                    .into_iter()
                    .map(|(_, _, image)| image.reference)
                    .collect()
            };
            assert_eq!(names(None), names(Some(b"pem".to_vec())));
        }
    }

    #[test]
    fn another_image_of_a_recipe_has_another_name_and_the_same_recipe() {
        let listed =
            |choice: Choice| bases(&Catalog { choice, ..catalog(ImageSource::Debian, None) }).unwrap();
        let (plain, anew) = (listed(Choice::default()), listed(Choice::Anew("20261121-210455".to_owned())));
        for ((.., first), (.., second)) in plain.iter().zip(&anew) {
            assert_eq!(first.name, second.name);
            assert_eq!(second.reference, format!("{}-20261121-210455", second.name));
            let Recipe::Build { dockerfile, parents, .. } = &second.recipe else { continue };
            assert!(dockerfile.contains(&format!("FROM {}", parents[0].reference)), "{dockerfile}");
            assert!(second.anew && parents[0].anew && parents[0].reference.ends_with("-20261121-210455"));
        }
        let python = &plain.iter().find(|(language, ..)| language == "python").unwrap().2;
        let pins = BTreeMap::from([(python.name.clone(), "paas/base-python:old".to_owned())]);
        let pinned = listed(Choice::Pinned(pins));
        let found = pinned.iter().find(|(.., image)| image.name == python.name).unwrap();
        assert_eq!((found.2.reference.as_str(), found.2.anew), ("paas/base-python:old", false));
    }

    #[test]
    fn certificates_come_only_where_something_is_fetched() {
        let all = bases(&catalog(ImageSource::Debian, Some(b"pem".to_vec()))).unwrap();
        let mut with: Vec<(&str, bool)> = all
            .iter()
            .filter(|(_, _, image)| matches!(&image.recipe, Recipe::Build { files, .. } if files.contains_key(CA_FILE)))
            .map(|(language, _, image)| (language.as_str(), image.reference.contains("-build:")))
            .collect();
        with.dedup();
        let node = [("node", false), ("node", true)].repeat(17);
        assert_eq!(with, [vec![("go", true), ("python", true)], node, vec![("bun", false)]].concat());
    }
}
