//! `bun.lock`: JSON with commas where JSON has none, and comments.

use super::SbomError;
use super::component::{Component, Ecosystem, Hash};
use super::graph::reached;
use super::source::{Files, Keys};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashMap};

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    workspaces: BTreeMap<String, Wants>,
    #[serde(default)]
    packages: BTreeMap<String, Vec<Part>>,
}

/// What a package or workspace asks for; only the names lead anywhere.
#[derive(Default, Deserialize)]
struct Wants {
    #[serde(default)]
    dependencies: Keys,
    #[serde(default, rename = "optionalDependencies")]
    optional: Keys,
    #[serde(default, rename = "peerDependencies")]
    peers: Keys,
}

/// A package is a list: `name@version`, registry, what it asks for, checksum.
#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Text(String),
    Wants(Wants),
    Other(IgnoredAny),
}

/// All packages of a lock.
pub(super) fn read(files: Files<'_>, name: &str, text: &str) -> Result<Vec<Component>, SbomError> {
    let lock: Lock = files.json(name, &strict(text))?;
    let keys: HashMap<&str, usize> =
        lock.packages.keys().enumerate().map(|(index, key)| (key.as_str(), index)).collect();
    let edges: Vec<Vec<usize>> = lock
        .packages
        .iter()
        .map(|(key, parts)| {
            let wants = parts
                .iter()
                .filter_map(|part| if let Part::Wants(wants) = part { Some(wants) } else { None });
            wants.flat_map(names).filter_map(|name| resolve(&keys, key, name)).collect()
        })
        .collect();
    let roots = lock.workspaces.values().flat_map(names).filter_map(|name| keys.get(name).copied());
    let needed = reached(roots, &edges);
    let packages = lock.packages.values().zip(needed);
    Ok(packages.filter_map(|(parts, needed)| component(parts, needed)).collect())
}

fn names(wants: &Wants) -> impl Iterator<Item = &str> {
    [&wants.dependencies, &wants.optional, &wants.peers]
        .into_iter()
        .flat_map(|keys| &keys.0)
        .map(String::as_str)
}

/// A package's own copy of another is `it/other`; else it is that of whom it
/// belongs to, and so on up.
fn resolve(keys: &HashMap<&str, usize>, of: &str, name: &str) -> Option<usize> {
    let mut base = of;
    for _ in 0..50 {
        if let Some(index) = keys.get(format!("{base}/{name}").as_str()) {
            return Some(*index);
        }
        let Some((above, _)) = base.rsplit_once('/') else { break };
        base = above;
    }
    keys.get(name).copied()
}

fn component(parts: &[Part], needed: bool) -> Option<Component> {
    let text = |part: &Part| if let Part::Text(text) = part { Some(text.clone()) } else { None };
    let first = parts.first().and_then(text)?;
    let at = first.char_indices().skip(1).find(|(_, c)| *c == '@')?.0;
    let (name, version) = (&first[..at], &first[at + 1..]);
    if version.starts_with("workspace:") || version.starts_with("file:") || version.starts_with("link:") {
        return None;
    }
    let elsewhere = version.contains(['/', '#']);
    let last = parts.iter().skip(1).filter_map(text).next_back().unwrap_or_default();
    Some(Component {
        hashes: Hash::integrity(&last),
        development: !needed,
        ..Component::new(Ecosystem::Npm, name, Some(version).filter(|_| !elsewhere))
    })
}

/// JSON of the same lines: comments and commas before a closing bracket are blanks.
fn strict(text: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut comma = None;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at);
                out.extend(&bytes[at..end]);
                (at, comma) = (end, None);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
                continue;
            }
            b',' => comma = Some(out.len()),
            b']' | b'}' => {
                if let Some(comma) = comma.take() {
                    out[comma] = b' ';
                }
            }
            byte if byte.is_ascii_whitespace() => {}
            _ => comma = None,
        }
        out.push(bytes[at]);
        at += 1;
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Behind the closing quote.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_comments_go_and_texts_stay() {
        assert_eq!(strict("{\"a,]\": [1, 2,\n], // x\n}"), "{\"a,]\": [1, 2 \n]  \n}");
        assert_eq!(strict("{\"a\\\",}\": 1}"), "{\"a\\\",}\": 1}");
        assert_eq!(strict("\"open \\"), "\"open \\");
        assert_eq!(strict("[\"ä\",]"), "[\"ä\" ]");
    }

    #[test]
    fn a_package_finds_its_own_copy_first() {
        let keys: HashMap<&str, usize> = [("a", 0), ("b", 1), ("a/b", 2), ("@x/y", 3)].into();
        assert_eq!(resolve(&keys, "a", "b"), Some(2));
        assert_eq!(resolve(&keys, "a/c", "b"), Some(2));
        assert_eq!(resolve(&keys, "@x/y", "b"), Some(1));
        assert_eq!(resolve(&keys, "a", "z"), None);
    }
}
