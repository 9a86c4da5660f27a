//! What a pushed commit, or a folder on disk, looks like to those who only read it.

/// What an entry of a source tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link; its content is the target. Never followed by us.
    Symlink,
    /// A submodule: an empty directory in the build.
    Submodule,
}

/// One file, link or submodule of a source tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// Path from the root, `/`-separated, no leading slash.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes.
    pub size: u64,
}

/// A read-only tree of files. Directories exist only through their files.
pub trait SourceTree {
    /// All entries, sorted by path (byte order).
    fn entries(&self) -> &[SourceEntry];

    /// Content of a regular file, at most `limit` bytes; `None` if there is no
    /// regular file at `path` (a symlink does not count) or it is larger.
    fn read(&self, path: &str, limit: u64) -> Option<Vec<u8>>;

    /// The entry at exactly this path.
    fn entry(&self, path: &str) -> Option<&SourceEntry> {
        let entries = self.entries();
        entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok().map(|index| &entries[index])
    }

    /// Whether a regular file is at this path.
    fn has_file(&self, path: &str) -> bool {
        matches!(self.entry(path), Some(SourceEntry { kind: EntryKind::File { .. }, .. }))
    }
}

/// The path that a file means by `target`, relative to its own folder; never above
/// the root.
pub fn beside(from: &str, target: &str) -> String {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// UTF-16 with its mark, which PowerShell's `pip freeze > requirements.txt` writes
/// and installers read; `None` for anything else.
pub fn utf16(bytes: &[u8]) -> Option<String> {
    let (mark, rest) = bytes.split_at_checked(2)?;
    let unit = match mark {
        [0xff, 0xfe] => u16::from_le_bytes,
        [0xfe, 0xff] => u16::from_be_bytes,
        _ => return None,
    };
    let units: Vec<u16> = rest.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16(&units).ok()
}
