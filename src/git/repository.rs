//! Bare repositories on disk, their deploy branch, and the lease on a deploy.

use super::GitError;
use crate::model::CommitId;
use git2::{Repository, RepositoryInitOptions};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

const LEASE: &str = "paas.lease";

/// Stands in a repository that is no app's yet.
const NEW: &str = "paas.new";

/// Creates an empty bare repository at `path`, which must not exist.
pub fn create(path: &Path) -> Result<(), GitError> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).no_reinit(true).mkpath(true).external_template(false).initial_head("main");
    Repository::init_opts(path, &options)?;
    std::fs::write(path.join(NEW), "").map_err(|error| GitError::Io("mark the repository", error))
}

/// Makes a new repository an app's: from now on it is never removed as left over.
pub fn keep(path: &Path) -> Result<(), GitError> {
    remove_if_there(&path.join(NEW)).map_err(|error| GitError::Io("unmark the repository", error))
}

/// Whether a repository is known to be no app's: the first push to it never came
/// to its hook.
pub fn is_new(path: &Path) -> bool {
    path.join(NEW).exists()
}

/// Points HEAD to the deploy branch, so that a clone checks out what runs.
pub fn set_head(path: &Path, branch: &str) -> Result<(), GitError> {
    Repository::open_bare(path)?.set_head(&format!("refs/heads/{branch}"))?;
    Ok(())
}

/// What a branch names.
pub fn branch(path: &Path, branch: &str) -> Result<Option<CommitId>, GitError> {
    let repository = Repository::open_bare(path)?;
    match repository.refname_to_id(&format!("refs/heads/{branch}")) {
        Ok(id) => Ok(CommitId::parse(&id.to_string()).ok()),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Moves a branch from `from` to `to` (zero: it does not exist), if nobody has
/// moved it since.
pub fn move_branch(path: &Path, branch: &str, from: &CommitId, to: &CommitId) -> Result<(), GitError> {
    let repository = Repository::open_bare(path)?;
    let name = format!("refs/heads/{branch}");
    if from.is_zero() {
        // Does not overwrite: one that has come since is somebody's move.
        repository.reference(&name, git2::Oid::from_str(to.as_str())?, false, "paas")?;
        return Ok(());
    }
    let mut reference = repository.find_reference(&name)?;
    if reference.target().map(|id| id.to_string()).as_deref() != Some(from.as_str()) {
        return Err(GitError::Moved(branch.to_owned()));
    }
    if to.is_zero() {
        reference.delete()?;
    } else {
        let (from, to) = (git2::Oid::from_str(from.as_str())?, git2::Oid::from_str(to.as_str())?);
        repository.reference_matching(&name, to, true, from, "paas")?;
    }
    Ok(())
}

/// Makes `refs/releases/vN` name a release's commit. It is hidden from pushes and
/// keeps the commit from ever being pruned.
pub fn name_release(path: &Path, number: u32, commit: &CommitId) -> Result<(), GitError> {
    let id = git2::Oid::from_str(commit.as_str())?;
    Repository::open_bare(path)?.reference(
        &format!("refs/releases/v{number}"),
        id,
        true,
        "paas: promoted",
    )?;
    Ok(())
}

/// Removes that name.
pub fn forget_release(path: &Path, number: u32) -> Result<(), GitError> {
    let repository = Repository::open_bare(path)?;
    match repository.find_reference(&format!("refs/releases/v{number}")) {
        Ok(mut reference) => Ok(reference.delete()?),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes a release's name what it shall be, and points HEAD to the deploy branch, if they are not so already.
pub fn put_names_right(
    path: &Path,
    release: Option<(u32, &CommitId)>,
    branch: Option<&str>,
) -> Result<(), GitError> {
    let repository = Repository::open_bare(path)?;
    if let Some((number, commit)) = release {
        let there = repository.refname_to_id(&format!("refs/releases/v{number}"));
        if there.map_or(true, |id| id.to_string() != commit.as_str()) {
            name_release(path, number, commit)?;
        }
    }
    if let Some(branch) = branch {
        let head = repository.find_reference("HEAD")?;
        if head.symbolic_target()? != Some(&format!("refs/heads/{branch}")) {
            set_head(path, branch)?;
        }
    }
    Ok(())
}

/// Creates a branch at a commit that is there.
pub fn create_branch(path: &Path, branch: &str, commit: &CommitId) -> Result<(), GitError> {
    let id = git2::Oid::from_str(commit.as_str())?;
    Repository::open_bare(path)?.reference(
        &format!("refs/heads/{branch}"),
        id,
        false,
        "paas: apps:branch",
    )?;
    Ok(())
}

/// Removes what a killed receive-pack leaves: stale lock files, which refuse
/// every later push, and quarantine directories. Only safe with the lease held.
pub fn sweep(path: &Path) -> std::io::Result<()> {
    let objects = path.join("objects");
    for entry in std::fs::read_dir(&objects)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("tmp_objdir-") {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    for name in ["HEAD.lock", "packed-refs.lock", "shallow.lock", "config.lock"] {
        remove_if_there(&path.join(name))?;
    }
    sweep_locks(&path.join("refs"))
}

fn sweep_locks(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)?.flatten() {
        if entry.file_type()?.is_dir() {
            sweep_locks(&entry.path())?;
        } else if entry.file_name().to_string_lossy().ends_with(".lock") {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The right to deploy from a repository: a file lock that git and the hooks
/// inherit, so that it lasts until the last of server, git and hooks has ended,
/// whichever of them is killed. The process group of git is written into it.
pub struct Lease {
    file: File,
}

impl Lease {
    /// Opens the lease's file without locking it.
    pub fn open(repository: &Path) -> Result<Self, GitError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(repository.join(LEASE))
            .map_err(|error| GitError::Io("open the lease", error))?;
        Ok(Self { file })
    }

    /// Another descriptor of the same open file, for a child to inherit: locking
    /// either locks both.
    pub fn share(&self) -> Result<OwnedFd, GitError> {
        let file = self.file.try_clone().map_err(|error| GitError::Io("share the lease", error))?;
        Ok(file.into())
    }

    /// Takes the lock; `false` if another open file has it. (`File::try_lock` is
    /// flock(2), which belongs to the open file, not to the process.)
    pub fn lock(&self) -> Result<bool, GitError> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(GitError::Io("lock the lease", error)),
        }
    }

    /// Gives the lock up for all holders of this open file.
    pub fn unlock(&self) {
        let _ = self.file.unlock();
    }

    /// Writes git's process group into the lease.
    pub fn record(&mut self, group: u32) -> Result<(), GitError> {
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{group}")
        };
        write(&mut self.file).map_err(|error| GitError::Io("write the lease", error))
    }

    /// The process group of the last holder.
    pub fn holder(&mut self) -> Option<i32> {
        let mut text = String::new();
        self.file.rewind().ok()?;
        self.file.read_to_string(&mut text).ok()?;
        text.trim().parse().ok().filter(|&group| group > 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lease_is_held_by_the_open_file_and_its_copies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.git");
        create(&path).unwrap();
        let (first, second) = (Lease::open(&path).unwrap(), Lease::open(&path).unwrap());
        let inherited = first.share().unwrap();
        assert!(first.lock().unwrap());
        drop(first);
        assert!(!second.lock().unwrap(), "a copy still holds it");
        drop(inherited);
        assert!(second.lock().unwrap());
    }

    #[test]
    fn only_a_repository_that_never_became_an_apps_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.git");
        create(&path).unwrap();
        assert!(is_new(&path));
        keep(&path).unwrap();
        assert!(!is_new(&path));
    }

    #[test]
    fn stale_locks_and_quarantines_are_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.git");
        create(&path).unwrap();
        let junk = ["refs/heads/main.lock", "HEAD.lock", "objects/tmp_objdir-incoming-x/pack/p"];
        for name in junk {
            std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            std::fs::write(path.join(name), "").unwrap();
        }
        sweep(&path).unwrap();
        assert!(junk.iter().all(|name| !path.join(name).exists()));
        assert!(path.join("HEAD").exists());
    }
}
