//! Why an app cannot be built; data only, the words are in `words.rs`.

/// A place in a file of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Path from the root.
    pub file: String,
    /// Line, from 1; zero for the file as a whole.
    pub line: usize,
}

impl Place {
    /// A line of a file.
    pub fn line(file: &str, line: usize) -> Self {
        Self { file: file.to_owned(), line }
    }

    /// A file as a whole.
    pub fn file(file: &str) -> Self {
        Self::line(file, 0)
    }
}

/// What is wrong with a line of a Procfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcfileFault {
    /// No colon.
    NoColon(String),
    /// The word before the colon is no process type.
    BadType(String),
    /// Nothing after the colon.
    NoCommand(String),
    /// The type was declared before, at this line.
    Duplicate(String, usize),
    /// A NUL byte.
    Nul,
    /// More process types than this.
    TooMany(usize),
    /// Nothing is declared at all.
    Empty,
}

/// Why no plan could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetectError {
    /// The tree contains the reserved `.paas/`.
    #[error("reserved path {0}")]
    ReservedPath(String),
    /// No buildpack matched.
    #[error("no buildpack matches")]
    NothingMatched {
        /// Entries of the root.
        seen: Vec<String>,
        /// Folders that would match, the most likely first.
        folders: Vec<String>,
        /// How many files `.dockerignore` keeps out.
        ignored: usize,
    },
    /// The first of several languages could not be planned.
    #[error("{error}")]
    Among {
        /// Why.
        error: Box<DetectError>,
        /// The others, and what would choose them.
        others: Vec<String>,
    },
    /// A file that is nearly called what it must be called.
    #[error("{found} should be {wanted}")]
    Misnamed {
        /// Its name.
        found: String,
        /// The name that is looked for.
        wanted: String,
    },
    /// Files of a language or tool that no buildpack builds.
    #[error("{file} is {what}'s")]
    Foreign {
        /// The file that says so.
        file: String,
        /// `Rust`.
        what: &'static str,
    },
    /// Several containers described in one file, and nothing else.
    #[error("{file} describes several containers")]
    Compose {
        /// `compose.yaml`.
        file: String,
        /// Folders that could be apps.
        folders: Vec<String>,
    },
    /// The administrator does not allow what would build the app.
    #[error("{builder} is not allowed")]
    NotAllowed {
        /// What would: `dockerfile`, `python`.
        builder: String,
        /// What asks for it.
        place: Place,
        /// What may be used.
        allowed: Vec<String>,
    },
    /// The tree has no files.
    #[error("empty tree")]
    Empty,
    /// A Procfile that cannot be read.
    #[error("Procfile line {line}: {fault:?}")]
    Procfile {
        /// From 1.
        line: usize,
        /// What is wrong.
        fault: ProcfileFault,
    },
    /// A file that is not in its own format.
    #[error("{place:?}: {reason}")]
    Malformed {
        /// Where.
        place: Place,
        /// `TOML`, `JSON`, `UTF-8 text`.
        format: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// A key that is not known.
    #[error("{place:?}: unknown key {key}")]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// A value that is not among those possible.
    #[error("{place:?}: {key} = {value:?}")]
    BadValue {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// Those possible.
        possible: Vec<String>,
    },
    /// A file that must be a regular one is a link.
    #[error("{0} is a symbolic link")]
    Symlink(String),
    /// A file named by a setting is missing.
    #[error("{named_by:?} names {file}, which is missing")]
    MissingFile {
        /// The file.
        file: String,
        /// What names it.
        named_by: Place,
    },
    /// A file of the app is larger than we read.
    #[error("{file} is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        file: String,
        /// Bytes.
        limit: u64,
    },
    /// A file that is not done with in reasonable time.
    #[error("{0} takes too long")]
    Endless(String),
    /// A version that is not written as versions are.
    #[error("{place:?}: {text:?} is no version of {language}")]
    BadVersion {
        /// Where.
        place: Place,
        /// The language.
        language: String,
        /// What stands there.
        text: String,
    },
    /// A version that the image source does not have.
    #[error("{place:?}: {language} {text} cannot be had")]
    NoSuchVersion {
        /// Where.
        place: Place,
        /// The language.
        language: String,
        /// What was asked for.
        text: String,
        /// Those that can be had.
        have: Vec<String>,
    },
    /// Lock files of two package managers.
    #[error("two lock files: {0} and {1}")]
    TwoLocks(String, String),
    /// Lock files of two managers where the manifest could name one.
    #[error("two lock files: {first} and {second}")]
    TwoManagers {
        /// One file.
        first: String,
        /// The other.
        second: String,
        /// The manager of the first.
        name: String,
    },
    /// A lock file that lacks what its manifest asks for.
    #[error("{place:?}: {lock} lacks {package}")]
    LockBehind {
        /// Where it is asked for.
        place: Place,
        /// The lock file.
        lock: String,
        /// The dependency: `is-odd 3.0.1`.
        package: String,
        /// The command that brings it up to date.
        command: String,
    },
    /// A script that `package.json` does not have.
    #[error("{place:?} runs the script {name}, which is missing")]
    NoSuchScript {
        /// Where it is run.
        place: Place,
        /// Its name.
        name: String,
        /// Those that are there.
        have: Vec<String>,
    },
    /// A lock file that must be there.
    #[error("{manifest} without {lock}")]
    MissingLock {
        /// The manifest.
        manifest: String,
        /// Its lock.
        lock: String,
        /// The command that writes it.
        command: String,
    },
    /// Something that is not supported.
    #[error("{place:?}: {what} is not supported")]
    Unsupported {
        /// Where it was seen.
        place: Place,
        /// What: `yarn`.
        what: String,
        /// What to do instead.
        instead: String,
    },
    /// Nothing says what the app runs.
    #[error("no process")]
    NoProcess {
        /// `Python`.
        language: String,
        /// Files looked for, or things in them.
        looked_for: Vec<String>,
        /// A Procfile line that fits what was seen.
        suggestion: String,
    },
    /// No Go package to build.
    #[error("no main package")]
    NoMain,
    /// Several binaries and none of them obviously the web process.
    #[error("several binaries: {0:?}")]
    SeveralBinaries(Vec<String>),
    /// A Dockerfile's base that cannot be had without a registry.
    #[error("{place:?}: {image} cannot be had")]
    NoSuchImage {
        /// Where.
        place: Place,
        /// The image.
        image: String,
        /// Those that can be had.
        have: Vec<String>,
    },
    /// A Dockerfile copies from a stage that does not stand before.
    #[error("{place:?}: no stage {name}")]
    NoSuchStage {
        /// Where.
        place: Place,
        /// What it names.
        name: String,
        /// Those that do.
        stages: Vec<String>,
    },
    /// A Dockerfile without a FROM line.
    #[error("{0} has no FROM line")]
    NoFrom(String),
    /// Our own data or template is broken: a fault of ours.
    #[error("buildpack {pack}: {reason}")]
    Broken {
        /// The buildpack.
        pack: String,
        /// What is wrong.
        reason: String,
    },
}

impl DetectError {
    /// The cause itself, whatever is told besides.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Among { error, .. } => error.cause(),
            other => other,
        }
    }
}
