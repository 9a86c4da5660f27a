//! What can go wrong with a deploy.

use super::room::Cramped;
use super::sleep::Wakeful;
use crate::buildpack::DetectError;
use crate::engine::EngineError;
use crate::git::GitError;
use crate::https::HttpsError;
use crate::model::{AppName, CommitId, Evidence, Oversize, ProcessName, Selection};
use crate::store::StoreError;
use crate::webhook::Undelivered;
use crate::x509::CertificateFault;
use std::net::SocketAddr;
use std::time::Duration;

/// Why a web process gets no traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unhealthy {
    /// It has exited.
    Exited {
        /// Its exit code; unknown if the engine has restarted it since, and it runs.
        code: Option<i64>,
        /// Killed by the kernel for want of memory.
        out_of_memory: bool,
    },
    /// Somebody has removed its container.
    Removed,
    /// It listens on nothing.
    Silent,
    /// It listens on loopback addresses only.
    LoopbackOnly(Vec<SocketAddr>),
    /// It listens on several ports, none of them PORT.
    OtherPorts(Vec<u16>),
    /// It listens but gives no HTTP answer.
    NoAnswer,
    /// It answers with a server error.
    ServerError(u16),
    /// It answers the path of its check with this status.
    CheckStatus(String, u16),
    /// Nothing listens where its check asks.
    PortClosed(u16),
    /// The command of its check exits with this status.
    CheckCommand(i64),
}

/// In few words, for the app's log.
impl std::fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { .. } => f.write_str("it has exited"),
            Self::Removed => f.write_str("its container was removed"),
            Self::Silent => f.write_str("it listens on no port"),
            Self::LoopbackOnly(_) => f.write_str("it listens on loopback only"),
            Self::OtherPorts(_) => f.write_str("it listens on other ports"),
            Self::NoAnswer => f.write_str("no answer"),
            Self::ServerError(status) | Self::CheckStatus(_, status) => write!(f, "status {status}"),
            Self::PortClosed(port) => write!(f, "nothing listens on port {port}"),
            Self::CheckCommand(code) => write!(f, "exit status {code}"),
        }
    }
}

/// Why a deploy, or another change of what runs, did not happen.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Detection refused the tree.
    #[error("detection: {0:?}")]
    Detect(DetectError),
    /// The repository or the pushed tree.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The build failed or the engine did.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user went away or pressed Ctrl-C.
    #[error("cancelled")]
    Cancelled,
    /// Somebody else ended it: `builds:cancel`, `apps:destroy`.
    #[error("cancelled by {0}")]
    CancelledBy(String),
    /// Nothing is being prepared.
    #[error("nothing to cancel")]
    NothingToCancel,
    /// The build wants a config var that is not set.
    #[error("no config var {0} for the build")]
    NoSecret(String),
    /// Too little room on a disk.
    #[error("{} has {} bytes left", .0.path.display(), .0.free)]
    DiskFull(Cramped),
    /// app.json wants config vars that are not set.
    #[error("{0} lacks config vars that app.json wants")]
    NoConfig(AppName, Vec<String>),
    /// No proxy is connected, so nothing could be routed.
    #[error("no proxy is connected")]
    NoProxy,
    /// The release command exited with an error.
    #[error("the release command exited with {code}")]
    ReleaseCommand {
        /// Its exit code.
        code: i64,
    },
    /// More memory or CPUs than the server gives a process.
    #[error("{wanted} are more than {most}")]
    TooMuch {
        /// `64G of memory`.
        wanted: String,
        /// `16G`.
        most: String,
    },
    /// A running process does not pass a check that was to be set.
    #[error("{0} does not pass")]
    NotPassed(ProcessName, Unhealthy),
    /// Nothing could be told of the app's files in time.
    #[error("the app's files were not read within {0:?}")]
    DetectionTime(Duration),
    /// The release command took too long.
    #[error("the release command took longer than {0:?}")]
    ReleaseTime(Duration),
    /// A web process is not fit for traffic.
    #[error("{process} is not healthy: {why:?}")]
    Unhealthy {
        /// Which.
        process: ProcessName,
        /// The port it should answer on.
        port: u16,
        /// Why.
        why: Unhealthy,
        /// Its last log lines.
        tail: Vec<String>,
        /// What detection advises, if it knows the line to change.
        advice: Option<String>,
    },
    /// With a share of the requests it did worse than the release that serves.
    #[error("the canary did worse than v{beside}: {evidence}")]
    Worse {
        /// By what.
        evidence: Evidence,
        /// `7` for `v7`.
        beside: u32,
    },
    /// More config vars than a process can be given.
    #[error("{0}: {1}")]
    Oversize(AppName, Oversize),
    /// The app is gone.
    #[error("no such app")]
    NoApp,
    /// More processes than an app's network has addresses for, with those of a next
    /// release beside them: so many of web, so many others.
    #[error("{0} web processes and {1} others are too many")]
    TooMany(u32, u32),
    /// The app is being removed.
    #[error("the app is being removed")]
    BeingRemoved(AppName),
    /// An app's removal has begun, and is gone on with.
    #[error("the app is not wholly removed yet")]
    HalfRemoved(AppName),
    /// Another branch has become the one that deploys, while the push waited.
    #[error("another branch deploys now")]
    OtherBranch(String),
    /// Nothing was deployed yet.
    #[error("the app has no release")]
    NoRelease,
    /// No release of that number; those that could be rolled back to.
    #[error("no release v{0}")]
    NoSuchRelease(u32, Vec<u32>),
    /// It never served; those that did.
    #[error("v{0} never served")]
    NeverServed(u32, Vec<u32>),
    /// It is the current one.
    #[error("v{0} serves already")]
    ServesAlready(u32),
    /// The current release is the first that ever served.
    #[error("nothing to roll back to")]
    NothingBefore,
    /// A release's image was removed.
    #[error("the image of v{0} is gone")]
    ImageGone(u32, CommitId),
    /// The image of what shall start is gone, though it should be kept.
    #[error("there is no image {0}")]
    NoImage(String),
    /// A process type that the release does not have.
    #[error("no process type {0}")]
    NoProcessType(String, Vec<String>),
    /// No process of that name; those of its type.
    #[error("no process {0}")]
    NoProcess(Selection, Vec<ProcessName>),
    /// What was asked for failed for this, and could not be taken back from the store.
    #[error("{0}; it is tried again")]
    Stands(Box<DeployError>),
    /// The server ended while a release was being made.
    #[error("cut off by the end of the server")]
    CutOff,
    /// Messages do not go there.
    #[error("webhook: {0}")]
    NoWebhook(Undelivered),
    /// The app has as many webhooks as it may.
    #[error("too many webhooks")]
    TooManyWebhooks,
    /// More than [`crate::model::MOST_DOMAINS`].
    #[error("too many names")]
    TooManyNames,
    /// Some of what is stopped as a whole.
    #[error("the app is stopped")]
    AllStopped,
    /// It does not fall asleep.
    #[error("it stays awake: {0:?}")]
    StaysAwake(Wakeful),
    /// A certificate that is not taken.
    #[error("certificate: {0}")]
    Certificate(CertificateFault),
    /// The host's certificates of authorities can't be read.
    #[error("{0}")]
    Https(#[from] HttpsError),
    /// A background task died.
    #[error("internal: {0}")]
    Internal(String),
}

impl DeployError {
    /// With what detection advises, where the web process is on loopback only, or
    /// has ended though nothing failed.
    pub(super) fn advised(mut self, loopback: Option<&str>, no_command: Option<&str>) -> Self {
        if let Self::Unhealthy { why, advice, .. } = &mut self {
            let line = match why {
                Unhealthy::LoopbackOnly(_) => loopback,
                Unhealthy::Exited { code: Some(0) | None, .. } => no_command,
                _ => None,
            };
            *advice = line.map(str::to_owned);
        }
        self
    }
}
