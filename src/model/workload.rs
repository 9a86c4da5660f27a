//! What the engine is asked to run, and what it says is running.

use super::app::AppId;
use super::name::{AppName, ProcessType};
use super::plan::RunCommand;
use super::process_type::Restart;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// `web.1`: one process of an app.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessName {
    /// Its type.
    pub kind: ProcessType,
    /// From 1.
    pub index: u32,
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.kind, self.index))
    }
}

impl ProcessName {
    /// Reads `web.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, index) = text.rsplit_once('.')?;
        Some(Self { kind: ProcessType::parse(kind).ok()?, index: index.parse().ok()? })
    }
}

/// Limits of one container; numbers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes; swap is not granted beyond it.
    pub memory: i64,
    /// Billionths of a CPU.
    pub nano_cpus: i64,
    /// Processes and threads.
    pub pids: i64,
    /// Open files.
    pub nofile: i64,
}

/// Open files are what an engine can grant without rights of its own (it may run
/// in a container with a limit of 20,000).
impl Default for Limits {
    fn default() -> Self {
        Self { memory: 512 << 20, nano_cpus: 1_000_000_000, pids: 512, nofile: 16_384 }
    }
}

/// What all builds together may take of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildLimits {
    /// Bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u32,
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self { memory: 4 << 30, pids: 4096 }
    }
}

/// One container to be started.
#[derive(Clone, PartialEq, Eq)]
pub struct Workload {
    /// The app's number and name.
    pub app: AppId,
    /// The app's name.
    pub app_name: AppName,
    /// `3` for `v3`.
    pub release: u32,
    /// `web.1`; for a release command `release.1`.
    pub process: ProcessName,
    /// Image reference or id.
    pub image: String,
    /// What to run.
    pub command: RunCommand,
    /// Whole environment, in order; values are secrets.
    pub env: Vec<(String, String)>,
    /// Fixed address on the app's network.
    pub address: Ipv4Addr,
    /// Limits.
    pub limits: Limits,
    /// The image wants root (an own Dockerfile): it keeps the few capabilities
    /// without which stock images die.
    pub root: bool,
    /// When the engine starts it again.
    pub restart: Restart,
    /// How long it has between SIGTERM and SIGKILL, whoever ends it.
    pub stop_timeout: Duration,
}

/// A container of ours as the engine sees it, found by its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessState {
    /// The engine's id.
    pub container: String,
    /// The app, from the label `paas.app`.
    pub app: AppId,
    /// From the label `paas.release`.
    pub release: u32,
    /// From the label `paas.process`.
    pub process: ProcessName,
    /// Fixed address.
    pub address: Option<Ipv4Addr>,
    /// Whether it runs now (not restarting, not exited).
    pub running: bool,
    /// Whether the engine waits to start it again.
    pub restarting: bool,
    /// When the engine starts it again.
    pub restart: Restart,
    /// How long it has between SIGTERM and SIGKILL.
    pub stop_timeout: Duration,
    /// Bytes and billionths of a CPU that it may take.
    pub size: (i64, i64),
    /// Exit code of the last run, if it has ended.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// How often the engine restarted it.
    pub restarts: i64,
    /// Start of the present or last run, seconds since the epoch, UTC.
    pub started_at: i64,
    /// End of the last run, if it has ended; likewise.
    pub finished_at: i64,
}
