//! Why no bill of materials could be made; data only, the words are in `words.rs`.

/// Errors of this module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SbomError {
    /// A lock file is larger than we read.
    #[error("{file} is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        file: String,
        /// Bytes.
        limit: u64,
    },
    /// A lock file that is not in its own format.
    #[error("{file} line {line}: no {format}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// From 1; zero for the file as a whole.
        line: usize,
        /// `JSON`, `TOML`.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// More packages than a document may have.
    #[error("{file}: more than {limit} packages")]
    TooMany {
        /// The file that had one too many.
        file: String,
        /// The limit.
        limit: usize,
    },
}
