//! Which Node.

use nodejs_semver::{Range, Version};

use super::fits::{self, Misfit};
use super::manifest::Manifest;
use crate::buildpack::draft::Draft;
use crate::buildpack::error::DetectError;
use crate::buildpack::pack::{self, Offer};
use crate::buildpack::source::Files;
use crate::buildpack::version::{self, Wanted};

/// Every release of which the npm registry has the binary, newest first, each
/// with the checksum of its package.
const RELEASES: &str = "releases.txt";

/// What is needed of the chosen Node.
pub(super) struct Node {
    /// As the recipes want it.
    pub offer: Offer,
    /// `24.21.0`.
    pub release: Version,
}

/// Chooses by what the app says, else the default.
pub(super) fn choose(draft: &mut Draft<'_>, manifest: &Manifest) -> Result<Node, DetectError> {
    let given = draft.version();
    let asked = if given.is_some() { given } else { wanted(draft.files, manifest)? };
    match asked {
        Some(wanted) => of(asked_for(draft, &wanted)?),
        None => unasked(draft, manifest),
    }
}

/// The default, or the last on which the dependencies work.
fn unasked(draft: &mut Draft<'_>, manifest: &Manifest) -> Result<Node, DetectError> {
    let Some(Misfit { offer, package }) = fits::find(draft.files, manifest, draft.offers())? else {
        let node = newest(draft)?;
        draft.decide(format!("Node {}, the default (no engines.node)", node.offer.version));
        return Ok(node);
    };
    let version = &offer.version;
    draft.decide(format!("Node {version}, for {package}"));
    draft.warn(format!("{package} works on no later Node than {version}: engines.node asks for another"));
    of(offer)
}

/// The default.
pub(super) fn newest(draft: &Draft<'_>) -> Result<Node, DetectError> {
    of(draft.newest()?.clone())
}

fn of(offer: Offer) -> Result<Node, DetectError> {
    let broken =
        || DetectError::Broken { pack: "node".to_owned(), reason: "a release is no version".to_owned() };
    let release = Version::parse(&offer.release).map_err(|_| broken())?;
    Ok(Node { offer, release })
}

fn asked_for(draft: &mut Draft<'_>, wanted: &Wanted) -> Result<Offer, DetectError> {
    let offers = draft.offers();
    let from = &wanted.place.file;
    let found = resolve(offers, &wanted.text).map_err(|()| wanted.malformed(draft.pack))?;
    if let Some(offer) = found {
        draft.decide(format!("Node {}, from {from}", offer.version));
        return Ok(offer);
    }
    let exact = version::numbers(wanted.text.trim_start_matches(['v', '=', '^', '~']));
    let Some(offer) = exact.and_then(|parts| version::same_line(offers, &parts)) else {
        return Err(wanted.missing(draft.pack, draft.catalog.source));
    };
    let asked = version::shorten(&wanted.text);
    draft.decide(format!("Node {}, from {from}", offer.version));
    draft.warn(format!("{from} asks for {asked}, which cannot be had: {} is used", offer.release));
    Ok(offer.clone())
}

/// The offer that fits: the newest of a line if one does, else the newest
/// release that can be had exactly. `Err`: that is no version.
fn resolve(offers: &[Offer], text: &str) -> Result<Option<Offer>, ()> {
    let text = text.trim();
    let newest = || offers.iter().max_by_key(|offer| version::numbers(&offer.release)).cloned();
    match text {
        "node" | "stable" | "latest" | "current" => return Ok(newest()),
        "lts/*" | "lts" | "*" | "x" | "" => return Ok(offers.first().cloned()),
        _ => {}
    }
    if let Some(name) = text.strip_prefix("lts/").or_else(|| text.strip_prefix("lts-")) {
        return Ok(long_term(offers, name).cloned());
    }
    let range = Range::parse(text).map_err(|_| ())?;
    let fits = |release: &str| Version::parse(release).is_ok_and(|release| release.satisfies(&range));
    let line = offers.iter().find(|offer| fits(&offer.release)).cloned();
    Ok(line.or_else(|| exact(offers, fits)))
}

/// A long-term line by its name, or by how many lines it is behind: `-1`.
fn long_term<'o>(offers: &'o [Offer], name: &str) -> Option<&'o Offer> {
    let mut lines = offers.iter().filter(|offer| !offer.names.is_empty());
    if let Some(behind) = name.strip_prefix('-').and_then(|count| count.parse::<usize>().ok()) {
        return lines.nth(behind);
    }
    lines.find(|offer| offer.names.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// The newest single release that fits, as an offer of its own.
fn exact(offers: &[Offer], fits: impl Fn(&str) -> bool) -> Option<Offer> {
    let known = pack::file("node", RELEASES).unwrap_or_default();
    let mut releases = known.lines().filter_map(|line| line.split_once(' '));
    releases.find_map(|(release, checksum)| {
        if !fits(release) {
            return None;
        }
        let line = version::same_line(offers, &version::numbers(release)?)?;
        let mut offer = line.clone();
        if let Some(from) = offer.more.get("exact_from")
            && version::numbers(release) < version::numbers(from)
        {
            return None;
        }
        offer.version = release.to_owned();
        offer.release = release.to_owned();
        offer.more.insert("sha512".to_owned(), checksum.to_owned());
        Some(offer)
    })
}

fn wanted(files: Files<'_>, manifest: &Manifest) -> Result<Option<Wanted>, DetectError> {
    let in_manifest = |keys: &[&str]| {
        let text = manifest.text(keys).filter(|text| !text.trim().is_empty())?;
        Some(Wanted { text: text.to_owned(), place: manifest.place("node") })
    };
    if let Some(found) = in_manifest(&["engines", "node"]) {
        return Ok(Some(found));
    }
    for file in [".nvmrc", ".node-version"] {
        if let Some(found) = version::first_line(files, file)? {
            return Ok(Some(found));
        }
    }
    if let Some(found) = version::tool_versions(files, &["nodejs", "node"])? {
        return Ok(Some(found));
    }
    if let Some(found) = version::mise(files, &["node", "nodejs"])? {
        return Ok(Some(found));
    }
    let runtime = in_manifest(&["devEngines", "runtime", "version"])
        .filter(|_| manifest.text(&["devEngines", "runtime", "name"]) == Some("node"));
    Ok(in_manifest(&["volta", "node"]).or(runtime))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::ImageSource;

    fn resolved(source: ImageSource, text: &str) -> Result<Option<String>, ()> {
        let offers = pack::get("node").unwrap().offers(source);
        resolve(offers, text).map(|found| found.map(|offer| offer.version))
    }

    #[test]
    fn ranges_are_npms() {
        let version = |text| resolved(ImageSource::Debian, text).unwrap();
        for (text, expected) in [
            (">=18", Some("24")),
            ("^20.1.0 || ^18", Some("20")),
            ("22.x", Some("22")),
            ("v20", Some("20")),
            ("20", Some("20")),
            (">= 18.0.0 < 21", Some("20")),
            ("lts/jod", Some("22")),
            ("lts/Iron", Some("20")),
            ("lts/-1", Some("22")),
            ("lts/*", Some("24")),
            ("node", Some("26")),
            ("*", Some("24")),
            ("20.11.1", Some("20.11.1")),
            ("~20.11", Some("20.11.1")),
            ("=18.16.0", Some("18.16.0")),
            (">=20.0.0 <20.10.0", Some("20.9.0")),
            ("99", None),
            ("0.10", None),
            ("24.99.0", None),
        ] {
            assert_eq!(version(text).as_deref(), expected, "{text}");
        }
        assert_eq!(resolved(ImageSource::Debian, "18; id"), Err(()));
    }

    #[test]
    fn an_exact_release_needs_an_image_of_it() {
        assert_eq!(resolved(ImageSource::Registry, "20.11.1"), Ok(Some("20.11.1".to_owned())));
        assert_eq!(resolved(ImageSource::Registry, "18.12.0"), Ok(None));
    }

    #[test]
    fn every_release_is_one_line_with_its_checksum() {
        let known = pack::file("node", RELEASES).unwrap();
        for line in known.lines() {
            let (release, checksum) = line.split_once(' ').unwrap();
            assert!(version::numbers(release).is_some_and(|parts| parts.len() == 3), "{line}");
            assert!(checksum.len() == 128 && checksum.bytes().all(|c| c.is_ascii_hexdigit()), "{line}");
        }
        for offer in pack::get("node").unwrap().offers(ImageSource::Debian) {
            let line = format!("{} {}", offer.release, offer.more["sha512"]);
            assert!(known.lines().any(|known| known == line), "{line}");
        }
    }
}
