//! How the platform asks a web process whether it is well.

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// `GET /` at the start, where any answer below 500 will do; nothing later.
    #[default]
    Start,
    /// A GET of this path, where the answer must be below 400.
    Path(String),
    /// That it accepts a connection.
    Tcp,
    /// This shell line in its container, where the exit status must be 0.
    Command(String),
}

/// One app's check; `[checks]` in paas.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// Whether web must listen on `PORT`, and no other port is adopted.
    pub strict_port: bool,
    /// Seconds between two questions after the start.
    pub interval: u16,
    /// Seconds for an answer.
    pub timeout: u16,
    /// So many failures in a row after the start take a process out of the routes.
    pub attempts: u16,
    /// Seconds until the first good answer.
    pub start_period: u16,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: CheckKind::Start,
            strict_port: false,
            interval: 10,
            timeout: 10,
            attempts: 2,
            start_period: 60,
        }
    }
}

impl HealthCheck {
    /// Whether a process is asked after its start, too.
    pub fn goes_on(&self) -> bool {
        self.kind != CheckKind::Start
    }
}
