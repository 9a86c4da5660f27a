//! A pushed commit read straight from git's objects; nothing is checked out.

use super::GitError;
use crate::model::{CommitId, EntryKind, SourceEntry, SourceTree};
use git2::{ObjectType, Oid, Repository};
use std::path::Path;

/// What a tree may have, walked before anything is built from it.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Files, links and submodules.
    pub entries: usize,
    /// Nested directories.
    pub depth: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of one file, which is in memory while it is streamed.
    pub file: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: 100_000, depth: 100, bytes: 2 << 30, file: 256 << 20 }
    }
}

/// First line of a file whose content is stored elsewhere.
/// <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>
const LFS_LINE: &[u8] = b"version https://git-lfs.github.com/spec/v1";

/// Linux takes no longer target (PATH_MAX).
const LONGEST_LINK: u64 = 4096;

/// Pointers are smaller than this by the specification.
const LFS_LIMIT: u64 = 1024;

/// The tree of one commit.
pub struct PushedTree {
    repository: Repository,
    entries: Vec<SourceEntry>,
    objects: Vec<Oid>,
    /// The first line of the commit's message.
    pub subject: String,
    /// When it was committed, in seconds since the epoch; 0 if before.
    pub(super) date: u64,
}

impl PushedTree {
    /// Opens the tree of `commit`; `quarantine` is where a push under way keeps
    /// its objects until its hook agrees.
    pub fn open(
        repository: &Path,
        quarantine: Option<&Path>,
        commit: &CommitId,
        bounds: Bounds,
    ) -> Result<Self, GitError> {
        let repository = Repository::open_bare(repository)?;
        if let Some(path) = quarantine {
            let path = path.to_str().ok_or_else(|| GitError::Name(path.display().to_string()))?;
            repository.odb()?.add_disk_alternate(path)?;
        }
        let mut walk = Walk { bounds, found: Vec::new(), bytes: 0 };
        let (subject, date) = {
            let commit = repository.find_commit(Oid::from_str(commit.as_str())?)?;
            walk.directory(&repository, commit.tree_id(), "", 0)?;
            let subject = String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default()).into_owned();
            (subject, u64::try_from(commit.time().seconds()).unwrap_or_default())
        };
        walk.found.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        let (entries, objects) = walk.found.into_iter().unzip();
        let tree = Self { repository, entries, objects, subject, date };
        tree.refuse_links_out()?;
        tree.refuse_lfs_pointers()?;
        Ok(tree)
    }

    /// What lies below one folder, as a tree of its own.
    #[must_use]
    pub fn below(mut self, folder: &str) -> Self {
        let prefix = format!("{folder}/");
        let all = std::mem::take(&mut self.entries).into_iter().zip(std::mem::take(&mut self.objects));
        let below = all.filter_map(|(entry, object)| {
            let path = entry.path.strip_prefix(&prefix)?.to_owned();
            Some((SourceEntry { path, ..entry }, object))
        });
        (self.entries, self.objects) = below.unzip();
        self
    }

    /// Content of the entry at `index`; of a link, its target.
    pub(super) fn content(&self, index: usize) -> Result<Vec<u8>, GitError> {
        self.with_content(index, <[u8]>::to_vec)
    }

    /// The same for who only looks at it: one copy in memory, not two.
    pub(super) fn with_content<T>(&self, index: usize, look: impl FnOnce(&[u8]) -> T) -> Result<T, GitError> {
        Ok(look(self.repository.find_blob(self.objects[index])?.content()))
    }

    /// A date that changes with the content of the entry at `index`: the first
    /// bytes of its hash.
    pub(super) fn content_date(&self, index: usize) -> u64 {
        let head = self.objects[index].as_bytes().iter().take(4);
        head.fold(0, |date, byte| date << 8 | u64::from(*byte))
    }

    fn refuse_links_out(&self) -> Result<(), GitError> {
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.kind == EntryKind::Symlink {
                if entry.size > LONGEST_LINK {
                    let target = format!("{} bytes", entry.size);
                    return Err(GitError::Link { path: entry.path.clone(), target });
                }
                let target = String::from_utf8_lossy(&self.content(index)?).into_owned();
                let is_link =
                    |path: &str| self.entry(path).is_some_and(|entry| entry.kind == EntryKind::Symlink);
                if leads_out(&entry.path, &target, &is_link) {
                    return Err(GitError::Link { path: entry.path.clone(), target });
                }
            }
        }
        Ok(())
    }

    /// Small files are looked into only where the repository uses LFS at all.
    fn refuse_lfs_pointers(&self) -> Result<(), GitError> {
        let uses_lfs = self
            .entries
            .iter()
            .filter(|entry| entry.path == ".gitattributes" || entry.path.ends_with("/.gitattributes"))
            .any(|entry| {
                let text = self.read(&entry.path, 1 << 20).unwrap_or_default();
                String::from_utf8_lossy(&text).contains("filter=lfs")
            });
        if !uses_lfs {
            return Ok(());
        }
        let pointers: Vec<&str> = self
            .entries
            .iter()
            .filter(|entry| entry.size < LFS_LIMIT)
            .filter(|entry| self.read(&entry.path, LFS_LIMIT).is_some_and(|text| text.starts_with(LFS_LINE)))
            .map(|entry| entry.path.as_str())
            .collect();
        match pointers.first() {
            Some(first) => Err(GitError::LfsPointers { count: pointers.len(), first: (*first).to_owned() }),
            None => Ok(()),
        }
    }
}

impl SourceTree for PushedTree {
    fn entries(&self) -> &[SourceEntry] {
        &self.entries
    }

    fn read(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        let index = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        let entry = &self.entries[index];
        let readable = matches!(entry.kind, EntryKind::File { .. }) && entry.size <= limit;
        if readable { self.content(index).ok() } else { None }
    }
}

/// Most parts of a link's target: each is looked up, for every link of a tree.
const MOST_PARTS: usize = 100;

/// Whether a link's target, followed from the link's directory, leaves the root. What
/// goes up again behind another link may, wherever that leads.
fn leads_out(path: &str, target: &str, is_link: &dyn Fn(&str) -> bool) -> bool {
    if target.starts_with('/') || target.split('/').count() > MOST_PARTS {
        return true;
    }
    let mut at = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let mut linked = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if linked || at.is_empty() => return true,
            ".." => at.truncate(at.rfind('/').unwrap_or(0)),
            part => {
                if !at.is_empty() {
                    at.push('/');
                }
                at.push_str(part);
                linked = linked || is_link(&at);
            }
        }
    }
    false
}

struct Walk {
    bounds: Bounds,
    found: Vec<(SourceEntry, Oid)>,
    bytes: u64,
}

impl Walk {
    fn directory(
        &mut self,
        repository: &Repository,
        id: Oid,
        prefix: &str,
        depth: usize,
    ) -> Result<(), GitError> {
        if depth > self.bounds.depth {
            return Err(GitError::TooDeep { limit: self.bounds.depth });
        }
        for entry in &repository.find_tree(id)? {
            let path = format!("{prefix}{}", printable(entry.name_bytes())?);
            if entry.kind() == Some(ObjectType::Tree) {
                self.directory(repository, entry.id(), &format!("{path}/"), depth + 1)?;
            } else {
                self.leaf(repository, entry.id(), entry.filemode(), path)?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, repository: &Repository, id: Oid, mode: i32, path: String) -> Result<(), GitError> {
        let kind = match mode {
            0o160_000 => EntryKind::Submodule,
            0o120_000 => EntryKind::Symlink,
            mode => EntryKind::File { executable: mode & 0o100 != 0 },
        };
        let size = match kind {
            EntryKind::Submodule => 0,
            // The header is enough: a bomb is not unpacked to learn its size.
            _ => repository.odb()?.read_header(id)?.0 as u64,
        };
        if size > self.bounds.file {
            return Err(GitError::FileTooLarge { path, limit: self.bounds.file });
        }
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.bounds.bytes {
            return Err(GitError::TooLarge { limit: self.bounds.bytes });
        }
        if self.found.len() >= self.bounds.entries {
            return Err(GitError::TooManyFiles { limit: self.bounds.entries });
        }
        self.found.push((SourceEntry { path, kind, size }, id));
        Ok(())
    }
}

fn printable(name: &[u8]) -> Result<&str, GitError> {
    std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.chars().any(char::is_control))
        .ok_or_else(|| GitError::Name(String::from_utf8_lossy(name).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::leads_out;

    #[test]
    fn links_may_point_about_inside_the_tree_only() {
        let out = |path: &str, target: &str| leads_out(path, target, &|path: &str| path == "d/self");
        assert!(!out("a/b/link", "../../c"));
        assert!(!out("link", "dir/../file"));
        assert!(!out("link", "d/self/file"));
        assert!(out("link", "../x"));
        assert!(out("a/link", "b/../../../x"));
        assert!(out("link", "/etc/passwd"));
        assert!(out("link", &"a/../".repeat(100)), "more than anybody needs");
        assert!(out("link", "d/self/../.."), "d/self is a link to d: two up from it is above the root");
    }
}
