//! What becomes of an app's requests besides being passed on.

use super::access::AccessLog;
use serde::{Deserialize, Serialize};

/// An app's own rules for its requests. Part of its route; whatever is left out is as the
/// proxy does it by itself, so that tables of other versions can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Whether its log is told of each request. A control plane that does not say so
    /// would not understand the lines.
    pub access_log: Option<AccessLog>,
}
