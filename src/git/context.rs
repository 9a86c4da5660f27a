//! The build context: a pushed tree as a tar, streamed.

use super::{GitError, PushedTree};
use crate::model::{EntryKind, SourceTree};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use tar::{Builder, EntryType, Header};

/// The date of what is added, and the earliest of a commit.
const MTIME: u64 = 1_262_304_000; // 2010-01-01

/// The dates that files get: the same for every build of a commit. BuildKit's
/// cache looks at names, modes and content, and is missed for no date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dates {
    /// The commit's. Servers of files tell browsers by size and date whether a
    /// file is still the same, so one date for all times would keep old pages.
    Commit,
    /// Made of the file's content: another content, another date.
    Content,
}

/// Longest name that fits a tar header, bytes.
const SHORT: usize = 100;

/// Writes every file of `tree` that `excluded` does not name below `root` (empty:
/// at the top), those in `unix_lines` without the line ends of Windows, then `added`
/// as they are named.
///
/// Modes are 755 or 644, owners 0, dates as `dates` says; submodules are empty directories.
pub fn write_tar(
    tree: &PushedTree,
    root: &str,
    excluded: &dyn Fn(&str) -> bool,
    added: &BTreeMap<String, Vec<u8>>,
    unix_lines: &BTreeSet<String>,
    dates: Dates,
    into: impl Write,
) -> Result<(), GitError> {
    let mut tar = Builder::new(into);
    for (path, content) in added {
        let header = header(EntryType::Regular, 0o644, content.len() as u64, MTIME);
        put(&mut tar, header, path, content)?;
    }
    let kept = tree.entries().iter().enumerate().filter(|(_, entry)| !excluded(&entry.path));
    let slash = if root.is_empty() { "" } else { "/" };
    let named = kept.map(|(index, entry)| (index, format!("{root}{slash}{}", entry.path)));
    // A long name or link needs a block of its own in front of it, and an archive
    // that begins with one is none to the engine: they go last.
    let (short, long): (Vec<_>, Vec<_>) = named
        .partition(|(index, path)| path.len() < SHORT && tree.entries()[*index].kind != EntryKind::Symlink);
    for (index, path) in short.iter().chain(&long) {
        let unix = unix_lines.contains(&tree.entries()[*index].path);
        append(&mut tar, tree, *index, path, dates, unix)?;
    }
    tar.into_inner()
        .and_then(|mut into| into.flush())
        .map_err(|error| GitError::Io("write the build context", error))
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    tree: &PushedTree,
    index: usize,
    path: &str,
    dates: Dates,
    unix: bool,
) -> Result<(), GitError> {
    let entry = &tree.entries()[index];
    let date = match dates {
        Dates::Commit => tree.date.clamp(MTIME, u64::from(u32::MAX)),
        Dates::Content => tree.content_date(index),
    };
    match entry.kind {
        EntryKind::Submodule => put(tar, header(EntryType::Directory, 0o755, 0, date), path, &[]),
        EntryKind::File { executable } => {
            let mode = if executable { 0o755 } else { 0o644 };
            let header = |size| header(EntryType::Regular, mode, size, date);
            if unix {
                let content = without_returns(&tree.content(index)?);
                return put(tar, header(content.len() as u64), path, &content);
            }
            tree.with_content(index, |content| put(tar, header(entry.size), path, content))?
        }
        EntryKind::Symlink => {
            let target = String::from_utf8_lossy(&tree.content(index)?).into_owned();
            let mut header = header(EntryType::Symlink, 0o777, 0, date);
            tar.append_link(&mut header, path, &target)
                .map_err(|error| GitError::Io("write the build context", error))
        }
    }
}

/// A text whose lines end as on Unix.
fn without_returns(content: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(content.len());
    for (index, byte) in content.iter().enumerate() {
        if *byte != b'\r' || content.get(index + 1) != Some(&b'\n') {
            kept.push(*byte);
        }
    }
    kept
}

fn header(kind: EntryType, mode: u32, size: u64, date: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(date);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn put<W: Write>(
    tar: &mut Builder<W>,
    mut header: Header,
    path: &str,
    content: &[u8],
) -> Result<(), GitError> {
    tar.append_data(&mut header, path, content)
        .map_err(|error| GitError::Io("write the build context", error))
}
