//! Releases: immutable, numbered; and the formation that says how many run.

use super::app::AppId;
use super::checks::HealthCheck;
use super::config::ConfigVars;
use super::http::HttpSettings;
use super::name::ProcessType;
use super::pin::BasePin;
use super::plan::RunCommand;
use super::process_type::{Restart, Size, TypeSettings};
use super::selection::Stopped;
use super::window::Evidence;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Row number of a release, unique over all apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReleaseId(pub i64);

/// A commit's object id: 40 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

/// Text that is no object id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an object id of 40 hex digits")]
pub struct NotACommitId;

impl CommitId {
    /// The only constructor.
    pub fn parse(text: &str) -> Result<Self, NotACommitId> {
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() == 40 && text.bytes().all(hex) { Ok(Self(text.to_owned())) } else { Err(NotACommitId) }
    }

    /// All 40 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }

    /// Git's way of saying "no object".
    pub fn is_zero(&self) -> bool {
        self.0.bytes().all(|c| c == b'0')
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CommitId {
    type Error = NotACommitId;
    fn try_from(text: String) -> Result<Self, NotACommitId> {
        Self::parse(&text)
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> String {
        id.0
    }
}

/// Where a release stands: preparing → ready → current → retired or rolled back, or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseState {
    /// Being built and started; nothing of it is visible.
    Preparing,
    /// Its health check has passed; it may be promoted.
    Ready,
    /// It serves.
    Current,
    /// It served once.
    Retired,
    /// It served, did worse than the one before, and was taken back for that.
    #[serde(rename = "rolled back")]
    RolledBack,
    /// It never served.
    Failed,
}

/// What caused a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// A push to the deploy branch.
    Push,
    /// Config vars were set or unset.
    Config,
    /// `ps:restart`.
    Restart,
    /// `rollback`.
    Rollback,
    /// `ps:resize`.
    Resize,
    /// The release before did worse than the one that this one repeats.
    Automatic,
}

/// One release: commit + image + config + commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Row number.
    pub id: ReleaseId,
    /// The app's.
    pub app: AppId,
    /// `1` for `v1`.
    pub number: u32,
    /// What was built.
    pub commit: CommitId,
    /// Image reference; empty until the build has ended.
    pub image: String,
    /// The image's id (`sha256:…`); empty until the build has ended.
    pub image_id: String,
    /// The app's config vars at that moment.
    pub config: ConfigVars,
    /// Those of all apps at that moment, below the app's own.
    pub global: ConfigVars,
    /// Commands per process type, without `release`.
    pub processes: BTreeMap<ProcessType, RunCommand>,
    /// The port web listens on.
    pub port: u16,
    /// The language's environment, below the config.
    pub env: BTreeMap<String, String>,
    /// See `BuildPlan::worker_mib`.
    pub worker_mib: Option<u32>,
    /// How web is asked whether it is well.
    pub checks: HealthCheck,
    /// What paas.toml says of process types.
    pub types: BTreeMap<ProcessType, TypeSettings>,
    /// What paas.toml says of requests.
    pub http: HttpSettings,
    /// The app's own sizes at that moment (`ps:resize`), above those of paas.toml.
    pub sizes: BTreeMap<ProcessType, Size>,
    /// `Python 3.11`.
    pub runtime: String,
    /// Whether the image runs as root by its own wish (an own Dockerfile).
    pub root: bool,
    /// Why it was made.
    pub why: Why,
    /// Who made it: a key's name, or `local`.
    pub who: String,
    /// Where it stands.
    pub state: ReleaseState,
    /// Seconds since the epoch, UTC.
    pub created_at: i64,
    /// The release that it repeats (`3` for `v3`), if it is no build of its own.
    pub source: Option<u32>,
    /// Seconds for which it is watched after it went live; `None`: as the server says.
    pub watch: Option<u16>,
    /// The number that its containers bear, if it took them over from another release.
    pub took_over: Option<u32>,
    /// Why it was taken back; or, if its own reason is that, why another one was.
    pub evidence: Option<Evidence>,
    /// When it stopped serving, if it has: seconds since the epoch, UTC.
    pub retired_at: Option<i64>,
    /// Which base images its image was built on.
    pub bases: Vec<BasePin>,
    /// Processes that were stopped while it serves.
    pub stopped: Stopped,
}

impl Release {
    /// The number that its containers bear.
    pub fn label(&self) -> u32 {
        self.took_over.unwrap_or(self.number)
    }

    /// The config var of this name that processes see: the app's, else that of all apps.
    pub fn var(&self, key: &str) -> Option<&str> {
        self.config.get(key).or_else(|| self.global.get(key))
    }

    /// What each process of a type gets, as far as somebody said.
    pub fn size(&self, kind: &ProcessType) -> Size {
        let by_command = self.sizes.get(kind).copied().unwrap_or_default();
        by_command.or(self.settings_of(kind).size)
    }

    /// What happens when a process of a type ends.
    pub fn restart(&self, kind: &ProcessType) -> Restart {
        if kind.is_release() { Restart::Never } else { self.settings_of(kind).restart }
    }

    /// Whether new processes of a type start before those of the former release end.
    pub fn overlaps(&self, kind: &ProcessType) -> bool {
        self.settings_of(kind).overlap
    }

    /// How many processes of a type there are where the app does not say.
    pub fn first_count(&self, kind: &ProcessType) -> Option<u32> {
        self.settings_of(kind).count
    }

    /// After how many ends within ten minutes a process of a type is given up, if ever.
    pub fn gives_up_after(&self, kind: &ProcessType) -> Option<usize> {
        let most = self.settings_of(kind).give_up_after.map_or(USUAL_ENDS, usize::from);
        (most > 0).then_some(most)
    }

    /// How long a process of a type has between SIGTERM and SIGKILL.
    pub fn stop_timeout(&self, kind: &ProcessType) -> Duration {
        self.settings_of(kind).stop_timeout.map_or(USUAL_STOP, |seconds| Duration::from_secs(seconds.into()))
    }

    fn settings_of(&self, kind: &ProcessType) -> TypeSettings {
        self.types.get(kind).copied().unwrap_or_default()
    }
}

/// Ends within ten minutes after which a process is given up where nobody says. With
/// the engine's pauses of 0.1 s, doubled each time up to a minute, that takes about a
/// minute.
pub const USUAL_ENDS: usize = 10;

/// Time between SIGTERM and SIGKILL where nobody says.
pub const USUAL_STOP: Duration = Duration::from_secs(30);

/// Most processes of a type.
pub const MOST_PROCESSES: u32 = 100;

/// A change of a type's count: `web=2`, `web+1`, `web-1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// To this count.
    To(u32),
    /// By so many more, or fewer; never below none.
    By(i32),
}

/// How many processes of each type an app wants. Belongs to the app, not a release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Formation(pub BTreeMap<ProcessType, u32>);

impl Formation {
    /// The count of a type: what was set, else 1 for web and 0 for the others.
    pub fn count(&self, kind: &ProcessType) -> u32 {
        self.0.get(kind).copied().unwrap_or_else(|| u32::from(kind.is_web()))
    }

    /// The counts that changes lead to.
    pub fn scaled(&self, changes: &BTreeMap<ProcessType, Scale>) -> BTreeMap<ProcessType, u32> {
        let to = |(kind, change): (&ProcessType, &Scale)| {
            let count = match *change {
                Scale::To(count) => count,
                Scale::By(difference) => self.count(kind).saturating_add_signed(difference),
            };
            (kind.clone(), count.min(MOST_PROCESSES))
        };
        changes.iter().map(to).collect()
    }
}
