//! Which Go: the newest that can be had, unless an app wants a certain one.

use super::module::Module;
use crate::buildpack::draft::Draft;
use crate::buildpack::error::DetectError;
use crate::buildpack::pack::{Offer, Pack};
use crate::buildpack::version::{self, Wanted};

/// The Go that is there, and the toolchain that it is told to use: itself, or
/// one that it gets from the module proxy and whose checksum it looks up.
pub(super) struct Choice {
    pub offer: &'static Offer,
    /// `local`, `go1.22.12`.
    pub toolchain: String,
}

/// Decides by `paas.toml`, `go.mod`, `.go-version`, `.tool-versions`.
pub(super) fn choose(draft: &mut Draft<'_>, modules: &[Module]) -> Result<Choice, DetectError> {
    let newest = draft.newest()?;
    let pinned = draft.version().or_else(|| modules.iter().find_map(|module| module.pinned.clone()));
    if let Some(wanted) = pinned {
        return exactly(draft, &wanted, newest);
    }
    let mut minima = modules.iter().filter_map(|module| module.minimum.as_ref());
    if let Some(first) = minima.next() {
        let highest = minima
            .fold(first, |best, next| if number(&next.text) > number(&best.text) { next } else { best });
        return at_least(draft, highest);
    }
    let file = match version::first_line(draft.files, ".go-version")? {
        Some(found) => Some(found),
        None => version::tool_versions(draft.files, &["golang", "go"])?,
    };
    if let Some(wanted) = file {
        return exactly(draft, &wanted, newest);
    }
    draft.decide(format!("Go {}, the newest (no go line)", newest.version));
    Ok(local(newest))
}

fn local(offer: &'static Offer) -> Choice {
    Choice { offer, toolchain: "local".to_owned() }
}

/// A `go` line is a minimum: newer ones build the same program.
fn at_least(draft: &mut Draft<'_>, wanted: &Wanted) -> Result<Choice, DetectError> {
    let least = number(&wanted.text).ok_or_else(|| wanted.malformed(draft.pack))?;
    let enough = |offer: &&Offer| version::numbers(&offer.release).is_some_and(|release| release >= least);
    let Some(offer) = draft.offers().iter().find(enough) else { return Err(missing(draft, wanted)) };
    let asked = version::shorten(&wanted.text);
    draft.decide(format!("Go {}, at least {asked} from {}", offer.version, wanted.place.file));
    Ok(local(offer))
}

/// A version that is asked for by name.
fn exactly(draft: &mut Draft<'_>, wanted: &Wanted, newest: &'static Offer) -> Result<Choice, DetectError> {
    let parts = number(&wanted.text).ok_or_else(|| wanted.malformed(draft.pack))?;
    if let Some(offer) = version::by_prefix(draft.offers(), &parts) {
        draft.decide(format!("Go {}, from {}", offer.version, wanted.place.file));
        return Ok(local(offer));
    }
    let older = version::numbers(&newest.release).is_some_and(|release| parts < release);
    let Some(release) = full(draft.pack, &parts).filter(|_| older) else {
        return Err(missing(draft, wanted));
    };
    draft.decide(format!("Go {release}, from {}, by the module proxy", wanted.place.file));
    Ok(Choice { offer: newest, toolchain: format!("go{release}") })
}

/// The full number of a version, the last of its line if it names a line.
fn full(pack: &Pack, parts: &[u64]) -> Option<String> {
    match parts {
        [major, minor] => pack.tools.get(&format!("{major}.{minor}")).cloned(),
        [major, minor, patch] => {
            pack.tools.contains_key(&format!("{major}.{minor}")).then(|| format!("{major}.{minor}.{patch}"))
        }
        _ => None,
    }
}

/// The refusal, with the lines that the module proxy has too.
fn missing(draft: &Draft<'_>, wanted: &Wanted) -> DetectError {
    let mut error = wanted.missing(draft.pack, draft.catalog.source);
    if let DetectError::NoSuchVersion { have, .. } = &mut error {
        have.extend(draft.pack.tools.keys().rev().cloned());
        have.dedup();
    }
    error
}

/// Numbers of `1.21`, `1.21.3`, `go1.21rc2`.
fn number(text: &str) -> Option<Vec<u64>> {
    let text = text.strip_prefix("go").unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let suffix = &text[end..];
    let early = suffix.is_empty() || suffix.starts_with("rc") || suffix.starts_with("beta");
    early.then(|| version::numbers(&text[..end]))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_gos() {
        assert_eq!(number("1.21; id"), None);
        assert_eq!(number("go1.23rc2"), Some(vec![1, 23]));
    }
}
