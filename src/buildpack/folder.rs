//! A folder on disk as a source tree, for `paas detect`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::model::{EntryKind, SourceEntry, SourceTree};

/// A folder without its `.git`. Links are seen and not followed.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    entries: Vec<SourceEntry>,
}

impl Folder {
    /// Lists a folder. Names that are not UTF-8 are passed over.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let root = path.as_ref().to_owned();
        let mut entries = Vec::new();
        list(&root, "", &mut entries)?;
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { root, entries })
    }
}

fn list(folder: &Path, prefix: &str, entries: &mut Vec<SourceEntry>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name == ".git" {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), &format!("{path}/"), entries)?;
        } else if kind.is_symlink() {
            entries.push(SourceEntry { path, kind: EntryKind::Symlink, size: 0 });
        } else if kind.is_file() {
            let metadata = entry.metadata()?;
            let executable = metadata.permissions().mode() & 0o100 != 0;
            entries.push(SourceEntry { path, kind: EntryKind::File { executable }, size: metadata.len() });
        }
    }
    Ok(())
}

impl SourceTree for Folder {
    fn entries(&self) -> &[SourceEntry] {
        &self.entries
    }

    fn read(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        if !self.has_file(path) {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(self.root.join(path)).ok()?.take(limit.saturating_add(1)).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= limit).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn links_and_git_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::write(root.join(".git/config"), "x").unwrap();
        fs::create_dir_all(root.join("a")).unwrap();
        fs::write(root.join("a/b"), "hello").unwrap();
        fs::write(root.join("a.txt"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        let tree = Folder::open(root).unwrap();
        let paths: Vec<&str> = tree.entries().iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["a.txt", "a/b", "link"]);
        assert_eq!(tree.read("a/b", 5), Some(b"hello".to_vec()));
        assert_eq!(tree.read("a/b", 4), None);
        assert_eq!(tree.read("link", 10_000), None);
    }
}
