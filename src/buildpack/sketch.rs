//! Small apps as a list of files, for tests.
#![allow(clippy::unwrap_used)]

use super::{CacheScope, Catalog, Choice, DetectError, describe, plan};
use crate::model::{BuildPlan, EntryKind, ImageSource, ProcessType, SourceEntry, SourceTree};
use std::collections::BTreeMap;

/// A tree of texts.
pub(super) struct Sketch {
    pub(super) entries: Vec<SourceEntry>,
    texts: BTreeMap<String, String>,
}

impl Sketch {
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let texts: BTreeMap<String, String> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let file = |(path, text): (&String, &String)| SourceEntry {
            path: path.clone(),
            kind: EntryKind::File { executable: false },
            size: text.len() as u64,
        };
        Self { entries: texts.iter().map(file).collect(), texts }
    }
}

impl SourceTree for Sketch {
    fn entries(&self) -> &[SourceEntry] {
        &self.entries
    }

    fn read(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        self.texts.get(path).filter(|text| text.len() as u64 <= limit).map(|text| text.clone().into_bytes())
    }
}

pub(super) fn catalog(source: ImageSource) -> Catalog {
    let cache_scope = CacheScope::parse("app-1").unwrap();
    let ca_bundle = Some(b"pem".to_vec());
    Catalog { source, ca_bundle, cache_scope, allow: None, choice: Choice::default() }
}

pub(super) fn planned(files: &[(&str, &str)]) -> Result<BuildPlan, DetectError> {
    plan(&Sketch::of(files), &catalog(ImageSource::Debian))
}

pub(super) fn detected(files: &[(&str, &str)]) -> String {
    describe(&planned(files).unwrap())
}

/// Decisions and notices alone.
pub(super) fn said(files: &[(&str, &str)]) -> String {
    let plan = planned(files).unwrap();
    for line in plan.decisions.iter().chain(&plan.notices) {
        assert!(line.chars().count() <= 65, "{line}");
    }
    [plan.decisions, plan.notices].concat().join("\n")
}

pub(super) fn web(files: &[(&str, &str)]) -> String {
    planned(files).unwrap().processes[&ProcessType::web()].to_string()
}
