//! What can go wrong with a repository or a pushed tree.

use std::io;

/// The system's words for `ENOSPC`, as git and libgit2 pass them on.
pub(super) const NO_ROOM: &str = "No space left on device";

/// Errors of this module. Paths are as they stand in the tree, unescaped.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The tree has more entries than a build may have.
    #[error("more than {limit} files")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// Directories are nested deeper than a build may have.
    #[error("deeper than {limit} directories")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The files together are larger than a build may be.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The limit, bytes.
        limit: u64,
    },
    /// One file is larger than a build may have.
    #[error("{path} is larger than {limit} bytes")]
    FileTooLarge {
        /// The file.
        path: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// A path that is no UTF-8 or has control characters.
    #[error("a name that is not printable UTF-8: {0:?}")]
    Name(String),
    /// A link that leads out of the tree.
    #[error("link {path} leads out of the tree to {target}")]
    Link {
        /// The link.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// Files whose content is elsewhere.
    #[error("{count} Git LFS pointers")]
    LfsPointers {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// The reference was moved by somebody else meanwhile.
    #[error("{0} was moved meanwhile")]
    Moved(String),
    /// libgit2's own errors.
    #[error("git: {0}")]
    Git(#[from] git2::Error),
    /// The file system's.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] io::Error),
}

impl GitError {
    /// Whether the repository's disk has no room left.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Git(error) => error.message().contains(NO_ROOM),
            Self::Io(_, error) => error.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// Whether what was asked for is not in the repository.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Git(error) if error.code() == git2::ErrorCode::NotFound)
    }
}
