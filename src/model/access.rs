//! What an app's log is told of its requests.

use super::app::AppId;
use super::name::AppName;
use serde::{Deserialize, Serialize};

/// That an app's log has a line for each request, and how many at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// The app's number: a log of an app that once had the same name is another's.
    pub app: AppId,
    /// Lines in a second; of errors of the platform as many besides.
    pub per_second: u32,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLine {
    /// When it ended: nanoseconds since the epoch.
    pub at_nanos: i64,
    /// The process that answered or was asked, `web.1`.
    pub process: Option<String>,
    /// Of this release; 0: none.
    pub release: u32,
    /// `at=info method=GET path="/" …`, without control characters.
    pub text: String,
}

/// The lines of one app since the last message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLines {
    /// The app.
    pub app: AppName,
    /// Its number, as the route had it.
    pub id: AppId,
    /// In the order in which the requests ended.
    pub lines: Vec<AccessLine>,
    /// Requests without a line: there were too many, or nobody to be told.
    pub left_out: u64,
}
