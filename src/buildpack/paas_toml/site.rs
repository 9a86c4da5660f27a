//! `[static]`: what is served, and how.

use std::collections::BTreeMap;

use super::folder;
use super::section::{Given, Section, bad_value};
use crate::buildpack::error::DetectError;

/// Most rules for headers, and most redirects.
const MOST: usize = 200;

/// Longest path, value or address.
const LONGEST: usize = 1000;

/// Headers that belong to the server.
const RESERVED: [&str; 13] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "keep-alive",
    "last-modified",
    "location",
    "server",
    "transfer-encoding",
    "upgrade",
];

/// The settings of a static site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::buildpack) struct Static {
    /// Folder that is served, relative to the app's root.
    pub root: Option<Given<String>>,
    /// The page that answers where no file does.
    pub fallback: Option<Given<String>>,
    /// Path pattern → header → value.
    pub headers: BTreeMap<String, BTreeMap<String, String>>,
    /// In order.
    pub redirects: Vec<Redirect>,
}

/// One of `[static] redirects`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::buildpack) struct Redirect {
    /// `/old/*`.
    pub from: String,
    /// `/new/:splat`.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Static {
    pub(super) fn read(mut section: Section<'_, '_>) -> Result<Self, DetectError> {
        let mut site =
            Self { root: section.text("root")?, fallback: section.text("fallback")?, ..Self::default() };
        for given in [&mut site.root, &mut site.fallback].into_iter().flatten() {
            given.value = folder("root", &given.value, &given.place())?;
        }
        for (path, headers) in section.named_tables("headers")? {
            check_path(&path, "headers")?;
            let mut rules = BTreeMap::new();
            for (name, value) in headers.entries()? {
                rules.insert(header_name(&name, value.line)?, header_value(&name, value)?);
            }
            site.headers.insert(path.value, rules);
        }
        for entry in section.tables("redirects")? {
            site.redirects.push(redirect(entry.value, entry.line)?);
        }
        let count = site.redirects.len() + site.headers.values().map(BTreeMap::len).sum::<usize>();
        if count > MOST {
            return Err(bad_value(0, "[static]", &format!("{count} rules"), &[&format!("at most {MOST}")]));
        }
        section.finish()?;
        Ok(site)
    }
}

fn redirect(mut entry: Section<'_, '_>, line: usize) -> Result<Redirect, DetectError> {
    let (from, to, status) = (entry.text("from")?, entry.text("to")?, entry.number("status")?);
    entry.finish()?;
    let Some(from) = from else { return Err(bad_value(line, "from", "", &["a path such as /old/*"])) };
    let Some(to) = to else { return Err(bad_value(line, "to", "", &["a path or an address"])) };
    check_path(&from, "from")?;
    if from.value.matches('*').count() > 1 || from.value.contains(['?', '#']) {
        return Err(bad_value(from.line, "from", &from.value, &["a path with at most one *"]));
    }
    let address = ["/", "https://", "http://"].iter().any(|start| to.value.starts_with(start));
    if !address || to.value.len() > LONGEST || !to.value.bytes().all(|c| c.is_ascii_graphic()) {
        return Err(bad_value(
            to.line,
            "to",
            &to.value,
            &["a path that begins with /", "an http(s) address"],
        ));
    }
    let status = status.unwrap_or(Given { value: 301, line });
    if ![301, 302, 303, 307, 308].contains(&status.value) {
        let possible = ["301", "302", "303", "307", "308"];
        return Err(bad_value(status.line, "status", &status.value.to_string(), &possible));
    }
    Ok(Redirect { from: from.value, to: to.value, status: status.value })
}

fn check_path(path: &Given<String>, key: &str) -> Result<(), DetectError> {
    let fine =
        path.value.starts_with('/') && path.value.len() <= LONGEST && !path.value.contains(char::is_control);
    if fine { Ok(()) } else { Err(bad_value(path.line, key, &path.value, &["a path that begins with /"])) }
}

fn header_name(name: &str, line: usize) -> Result<String, DetectError> {
    let word =
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    if word && !RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(name.to_owned());
    }
    Err(bad_value(
        line,
        "header",
        name,
        &["a name such as Cache-Control", "not one that the server itself writes"],
    ))
}

fn header_value(name: &str, value: Given<String>) -> Result<String, DetectError> {
    let fine = |c: u8| c == b' ' || c.is_ascii_graphic();
    if !value.value.is_empty() && value.value.len() <= LONGEST && value.value.bytes().all(fine) {
        return Ok(value.value);
    }
    Err(bad_value(value.line, name, &value.value, &["one line of ASCII"]))
}
