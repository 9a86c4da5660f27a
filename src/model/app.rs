//! Apps, and the people behind keys.

use super::auth::User;
use super::checks::CheckChange;
use super::domain::Domain;
use super::https::HttpsChoice;
use super::maintenance::Maintenance;
use super::mount::Mount;
use super::name::{AppName, KeyName};
use super::redirect::Redirect;
use super::sleep::Sleep;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;

/// An app's number; paths on disk and engine names of shared things come from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AppId(pub i64);

/// Number of a stored public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyId(pub i64);

/// One app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its number.
    pub id: AppId,
    /// Its name.
    pub name: AppName,
    /// Its repository's directory below `repos/`: a name of ours, not the user's.
    pub repository: String,
    /// The branch whose push deploys, once known: `main`.
    pub deploy_branch: Option<String>,
    /// The stable port on loopback.
    pub port: u16,
    /// The user's wish that nothing runs, until start, restart or a release.
    pub stopped: bool,
    /// What `checks:set` has said.
    pub checks: CheckChange,
    /// What `https:set` has said.
    pub https: HttpsChoice,
    /// Whether it sleeps while nobody asks for it, and how it is with that.
    pub sleep: Sleep,
    /// Names that it answers to besides that of the server.
    pub domains: Vec<Domain>,
    /// Whether people get a page in its place.
    pub maintenance: Option<Maintenance>,
    /// Who may use it; none: everybody.
    pub users: Vec<User>,
    /// Those of its names whose requests go to another.
    pub redirects: Vec<Redirect>,
    /// Paths under names, of others too, that it answers to.
    pub mounts: Vec<Mount>,
    /// Seconds since the epoch, UTC.
    pub created_at: i64,
}

impl App {
    /// Whether it is asleep.
    pub fn is_asleep(&self) -> bool {
        self.sleep.since.is_some()
    }

    /// Whether no process of it is to run, by its user's wish or because it is asleep.
    pub fn rests(&self) -> bool {
        self.stopped || self.is_asleep()
    }

    /// A word that only we know, 16 hex digits, for names that the builder looks up for
    /// whoever says them: any Dockerfile can name an image of the engine or a cache.
    pub fn hidden_word(&self) -> String {
        let digest = Sha256::digest(format!("images and caches of {}", self.repository));
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What the words of its sticky cookie are made with: the same for as long as there
    /// is the app, and another for the next of that name.
    pub fn sticky_key(&self) -> super::StickyKey {
        let digest = Sha256::digest(format!("sticky sessions of {}", self.repository));
        super::StickyKey(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The one status of an app, everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppStatus {
    /// A deploy is under way.
    Building,
    /// Its processes run.
    Running,
    /// Put to sleep for want of requests.
    Sleeping,
    /// Stopped by its user, scaled to nothing, or not deployed yet.
    Stopped,
    /// Its processes have exited.
    Crashed,
    /// Its first deploy failed; nothing ever ran.
    Failed,
}

impl std::fmt::Display for AppStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Building => "building",
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Failed => "failed",
        })
    }
}

/// Who asks: the key that signed, or the owner of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key; `None` for the local socket.
    pub key: Option<(KeyId, KeyName)>,
    /// Where from.
    pub origin: Origin,
}

/// The way by which a caller came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Over SSH from this address.
    Ssh(SocketAddr),
    /// Over the local socket, as this user id.
    Local(u32),
}

impl Caller {
    /// Name for logs and `why` columns.
    pub fn name(&self) -> &str {
        self.key.as_ref().map_or("local", |(_, name)| name.as_str())
    }
}
