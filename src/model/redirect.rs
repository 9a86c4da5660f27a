//! Names whose requests are sent on to another name.

use super::domain::Domain;
use super::name::HostName;
use serde::{Deserialize, Serialize};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// A name of the app's.
    pub from: Domain,
    /// Where its requests go, with their path and query.
    pub to: HostName,
    /// 301, 302, 307 or 308.
    pub code: u16,
}

impl Redirect {
    /// What a redirect may answer with.
    pub const CODES: [u16; 4] = [301, 302, 307, 308];
}
