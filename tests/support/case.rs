//! `tests/apps/CASE/expect.toml`: what is expected of a push of that folder.

use super::repository::case_folder;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One folder of `tests/apps`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The folder's name.
    #[serde(skip)]
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// Must stand in a line that begins with `-----> `.
    pub detected: Option<String>,
    /// Parts of the output of a push that serves.
    #[serde(default)]
    pub lines: Vec<String>,
    /// What must not be in it.
    #[serde(default)]
    pub absent: Vec<String>,
    /// Config vars, set before the push.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// The request that must be answered.
    pub probe: Option<Probe>,
    /// Further ones, made after it.
    #[serde(default)]
    pub also: Vec<Probe>,
    /// The app is deployed and has no web process.
    pub unrouted: Option<Unrouted>,
    /// The push must be refused.
    pub refused: Option<Refused>,
}

/// A request and its answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    pub path: String,
    /// Lines that the request's head has besides.
    #[serde(default)]
    pub request: Vec<String>,
    pub status: u16,
    /// Part of the body.
    #[serde(default)]
    pub body: String,
    /// Lines that the head must have.
    #[serde(default)]
    pub head: Vec<String>,
    /// Whether it has an ETag that, sent back, is answered by 304.
    #[serde(default)]
    pub unchanged: bool,
}

/// An app without a web process.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unrouted {
    /// The type that is scaled to 1 then.
    pub process: String,
    /// What it prints.
    pub prints: String,
}

/// How a push is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Parts of its output.
    pub lines: Vec<String>,
}

/// All of them in order, or those whose name contains `PAAS_CASE`.
#[allow(clippy::disallowed_methods)] // a developer's choice of cases, not a setting
pub fn cases() -> Vec<Case> {
    let wanted = std::env::var("PAAS_CASE").unwrap_or_default();
    let mut names: Vec<String> = std::fs::read_dir(case_folder(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(&wanted))
        .collect();
    names.sort();
    names.into_iter().map(read).collect()
}

fn read(name: String) -> Case {
    let file = case_folder(&name).join("expect.toml");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut case: Case = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let ends = [case.probe.is_some(), case.unrouted.is_some(), case.refused.is_some()];
    let one = ends.iter().filter(|there| **there).count() == 1;
    assert!(one, "{name}: either [probe] or [unrouted] or [refused]");
    case.name = name;
    case
}
