//! A folder of a repository as an app of its own.

use crate::model::{SourceEntry, SourceTree};

/// What lies below one folder, with paths from there.
pub(super) struct Subfolder<'a> {
    tree: &'a dyn SourceTree,
    prefix: String,
    entries: Vec<SourceEntry>,
}

impl<'a> Subfolder<'a> {
    /// `None` if nothing lies there.
    pub fn of(tree: &'a dyn SourceTree, folder: &str) -> Option<Self> {
        let prefix = format!("{folder}/");
        let below = tree.entries().iter().filter_map(|entry| {
            entry
                .path
                .strip_prefix(&prefix)
                .map(|path| SourceEntry { path: path.to_owned(), ..entry.clone() })
        });
        let entries: Vec<SourceEntry> = below.collect();
        (!entries.is_empty()).then_some(Self { tree, prefix, entries })
    }
}

impl SourceTree for Subfolder<'_> {
    fn entries(&self) -> &[SourceEntry] {
        &self.entries
    }

    fn read(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        self.tree.read(&format!("{}{path}", self.prefix), limit)
    }
}
