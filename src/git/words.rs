//! What the user is told about a tree that cannot be built.

use super::GitError;
use crate::model::Problem;

impl GitError {
    /// Title, cause and next step.
    pub fn problem(&self) -> Problem {
        let refused = |cause: String, next: &str| {
            Problem::new("Push rejected: this tree cannot be built.", cause, next)
        };
        match self {
            Self::TooManyFiles { limit } => refused(
                format!("The commit has more than {limit} files."),
                "Remove what does not belong in it (node_modules, venv, data).",
            ),
            Self::TooDeep { limit } => {
                refused(format!("Its directories are nested deeper than {limit}."), "Flatten them.")
            }
            Self::TooLarge { limit } => refused(
                format!("Its files are larger than {} MiB together.", limit >> 20),
                "Keep large data out of the repository, in a volume or a bucket.",
            ),
            Self::FileTooLarge { path, limit } => refused(
                format!("{path} is larger than {} MiB.", limit >> 20),
                "Keep large data out of the repository, in a volume or a bucket.",
            ),
            Self::Name(name) => refused(
                format!("A file name is not printable UTF-8: {name:?}"),
                "Rename the file (git mv) and commit.",
            ),
            Self::Link { path, target } => refused(
                format!("The link {path} leads out of the tree, to {target}"),
                "Point it to a file of the repository, by a relative path.",
            ),
            Self::LfsPointers { count, first } => refused(
                format!(
                    "{count} file(s) are Git LFS pointers, such as {first}:\ntheir content is not in the push."
                ),
                "Store them in git itself: git lfs migrate export --include='*'",
            ),
            Self::Moved(branch) => Problem::new(
                "Push rejected: somebody else was faster.",
                format!("{branch} has moved since your push began."),
                "Fetch, merge and push again.",
            ),
            error if error.is_disk_full() => Problem::new(
                "Push rejected: the server's disk is full.",
                "The repository could not be written.",
                "Nothing has changed. Make room on the server, then do this again.",
            ),
            Self::Git(_) | Self::Io(..) => Problem::new(
                "Push rejected: the repository could not be read.",
                "This is a fault of the server; its log has the details.",
                "Push again; if it stays, tell the server's administrator.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_a_tree() {
        let errors = [
            GitError::TooManyFiles { limit: 100_000 },
            GitError::TooDeep { limit: 100 },
            GitError::TooLarge { limit: 2 << 30 },
            GitError::FileTooLarge { path: "zeros".into(), limit: 256 << 20 },
            GitError::Name("a\u{fffd}".into()),
            GitError::Link { path: "etc".into(), target: "/etc".into() },
            GitError::LfsPointers { count: 2, first: "logo.png".into() },
            GitError::Moved("main".into()),
            GitError::Io("read", std::io::Error::other("x")),
            GitError::Io("write", std::io::ErrorKind::StorageFull.into()),
        ];
        let text: Vec<String> = errors.iter().map(|error| error.problem().to_string()).collect();
        insta::assert_snapshot!(text.join("\n\n"));
    }
}
