//! What is known of a request when it ends.

use hyper::{Method, StatusCode, Uri};
use std::sync::Arc;
use std::time::Instant;
use tracing::debug;

use super::routing::Backend;
use super::upstream::Upstream;

/// One request, for its access line.
pub(super) struct Record {
    /// The method.
    pub(super) method: Method,
    /// Path and query, as they came.
    pub(super) uri: Uri,
    /// The app that answered, and its process; none for a page of our own.
    pub(super) answered_by: Option<(Arc<Backend>, Arc<Upstream>)>,
    /// The status that the client got.
    pub(super) status: StatusCode,
    /// Heroku's code, if the platform answered for the app.
    pub(super) code: Option<&'static str>,
    /// When the request's head had arrived.
    pub(super) started: Instant,
    /// Length of the response's body so far.
    pub(super) bytes: u64,
}

impl Record {
    /// Called once for every request, when its last byte has gone out or its
    /// connection has broken.
    pub(super) fn finish(&self) {
        debug!(
            method = %self.method,
            path = self.uri.path(),
            app = self.answered_by.as_ref().map_or("-", |(backend, _)| backend.app.as_str()),
            process = self.answered_by.as_ref().map_or("-", |(_, upstream)| &upstream.target.process),
            status = self.status.as_u16(),
            code = self.code.unwrap_or("-"),
            ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            bytes = self.bytes,
            "request"
        );
    }
}
