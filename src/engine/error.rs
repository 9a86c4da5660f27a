//! What can go wrong with the engine, as data.

use crate::model::AppId;
use std::path::PathBuf;
use std::time::Duration;

/// A build that BuildKit ended with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFailure {
    /// The failing step as the builder names it: `[3/7] RUN pip install …`;
    /// `None` if it failed before any step, such as for a syntax error.
    pub step: Option<String>,
    /// The command's exit code, if a command failed.
    pub exit_code: Option<i64>,
    /// The builder's own words, one line.
    pub message: String,
    /// The last lines that the failing step printed, oldest first.
    pub lines: Vec<String>,
}

/// A build that was ended because of the time it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overtime {
    /// What it might have.
    pub limit: Duration,
    /// Whether that is the time without any sign of life.
    pub silent: bool,
    /// The step it was at, as the builder names it.
    pub step: Option<String>,
}

/// What the engine, or the way to it, answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status, if it was an answer: 404 for what is not there, 409 for
    /// what is in the way.
    pub status: Option<u16>,
    /// In the engine's own words.
    pub message: String,
}

/// Everything that the engine, or the way to it, can refuse.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine URL was given and no socket exists.
    #[error("no engine socket at {tried:?}")]
    NotFound {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The URL's scheme is none of unix, tcp, http.
    #[error("engine URL {url:?} is not unix://, tcp:// or http://")]
    UnsupportedUrl {
        /// As given.
        url: String,
    },
    /// The socket exists and may not be opened.
    #[error("no permission for {socket:?}")]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// Nobody answers, or not as an engine does.
    #[error("no engine answers at {url}")]
    NoAnswer {
        /// Where.
        url: String,
        /// Why, if it is known.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Its API is older than we need.
    #[error("engine API {found} at {url}, needed {needed}")]
    TooOld {
        /// Where.
        url: String,
        /// API version found.
        found: String,
        /// API version needed.
        needed: String,
    },
    /// It has no BuildKit (Podman).
    #[error("{name} at {url} has no BuildKit")]
    NoBuildKit {
        /// Where.
        url: String,
        /// What it calls itself.
        name: String,
    },
    /// A call failed.
    #[error("{doing}")]
    Api {
        /// What was asked: `create container paas-x-web-1-1`.
        doing: String,
        /// The engine's answer.
        source: Refusal,
    },
    /// A call took too long.
    #[error("{doing}: no answer within {limit:?}")]
    Slow {
        /// What was asked.
        doing: String,
        /// The limit.
        limit: Duration,
    },
    /// The build ended with an error.
    #[error("build failed: {}", .0.message)]
    Build(Box<BuildFailure>),
    /// The build took longer than allowed, or said nothing for longer, and was ended.
    #[error("build: over its time of {:?}", .0.limit)]
    Overtime(Box<Overtime>),
    /// The command took longer than allowed and was ended.
    #[error("{what} took longer than {limit:?}")]
    TimedOut {
        /// `command`, `debootstrap`.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The caller's token was cancelled; what was begun has been ended.
    #[error("cancelled")]
    Cancelled,
    /// The build context could not be read.
    #[error("the build context could not be read")]
    Context {
        /// Why.
        source: std::io::Error,
    },
    /// A base image could not be pulled.
    #[error("pull of {reference} failed")]
    Pull {
        /// The image.
        reference: String,
        /// Why.
        source: Refusal,
    },
    /// debootstrap needs root and we are not.
    #[error("debootstrap of {suite} needs root")]
    NeedsRoot {
        /// Debian suite.
        suite: String,
    },
    /// debootstrap failed.
    #[error("debootstrap of {suite} failed with {exit_code:?}")]
    Debootstrap {
        /// Debian suite.
        suite: String,
        /// Its exit code; `None`: killed.
        exit_code: Option<i32>,
        /// The last lines it printed.
        lines: Vec<String>,
    },
    /// A file or a program on this machine.
    #[error("{doing}")]
    Io {
        /// `start debootstrap`, `read the new base`.
        doing: String,
        /// Why.
        source: std::io::Error,
    },
    /// An object of this name exists and is not ours; it is left alone.
    #[error("{name} exists and is not ours")]
    Foreign {
        /// Its name in the engine.
        name: String,
    },
    /// The subnet is in use by something else.
    #[error("subnet {subnet} for app {app:?} is in use")]
    SubnetTaken {
        /// The app whose network it was for.
        app: AppId,
        /// The subnet.
        subnet: ipnet::Ipv4Net,
        /// The engine's answer.
        source: Refusal,
    },
    /// The engine lost touch and may have dropped events: look again.
    #[error("events may be missing")]
    EventGap,
}

impl EngineError {
    /// The HTTP status of the engine's answer, if that is what this is.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } | Self::Pull { source, .. } | Self::SubnetTaken { source, .. } => {
                source.status
            }
            _ => None,
        }
    }

    /// Whether the engine said that there is no such object.
    pub fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }
}
