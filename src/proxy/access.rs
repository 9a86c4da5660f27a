//! What is known of a request when it ends, and the line that its app's log gets.

use super::headers;
use super::meter::Ongoing;
use super::pages::{MAINTENANCE, Page};
use super::routing::Backend;
use super::upstream::Upstream;
use crate::model::AccessLine;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::debug;

/// The longest text of one field, in bytes; what is longer is cut and ends in `…`.
const LONGEST: usize = 1024;

/// One request, for its access line.
pub(super) struct Record {
    /// The method.
    pub(super) method: Method,
    /// Path and query, as they came.
    pub(super) uri: Uri,
    /// What else its head said; none before it was checked.
    pub(super) head: Option<Box<Head>>,
    /// The app that it is for.
    pub(super) app: Option<Arc<Backend>>,
    /// The process that answered, or was the last to be asked.
    pub(super) process: Option<Arc<Upstream>>,
    /// The status that the client got.
    pub(super) status: StatusCode,
    /// Heroku's code and what it means, if the platform answered for the app.
    pub(super) code: Option<(&'static str, &'static str)>,
    /// When the request's head had arrived.
    pub(super) started: Instant,
    /// What it took to have a connection to the process.
    pub(super) connect: Option<Duration>,
    /// Length of the response's body so far.
    pub(super) bytes: u64,
    /// The request among its app's, if it has reached one.
    pub(super) ongoing: Option<Ongoing>,
}

/// Of a request's head, once it is prepared for the app, what a line says.
pub(super) struct Head {
    host: HeaderValue,
    id: HeaderValue,
    clients: HeaderValue,
    secure: bool,
}

impl Head {
    /// Of these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let value = |name| headers.get(name).cloned().unwrap_or(HeaderValue::from_static(""));
        Self {
            host: value(HOST),
            id: value(headers::REQUEST_ID),
            clients: value(headers::FORWARDED_FOR),
            secure: headers::is_secure(headers),
        }
    }
}

impl Record {
    /// A request that has just come.
    pub(super) fn new(method: Method, uri: Uri, started: Instant) -> Self {
        Self {
            method,
            uri,
            head: None,
            app: None,
            process: None,
            status: StatusCode::OK,
            code: None,
            started,
            connect: None,
            bytes: 0,
            ongoing: None,
        }
    }

    /// The client gets a page of our own of so many bytes.
    pub(super) fn paged(mut self, page: &Page, bytes: u64) -> Self {
        self.status = page.status();
        self.code = page.code().map(|code| (code, page.title()));
        self.bytes = bytes;
        if let Some(ongoing) = &mut self.ongoing {
            ongoing.answered_by_page(self.status, page.code(), self.started.elapsed());
            ongoing.sent(bytes);
        }
        self
    }

    /// Bytes from the client have passed through a tunnel.
    pub(super) fn received(&self, bytes: usize) {
        if let Some(ongoing) = &self.ongoing {
            ongoing.received(bytes);
        }
    }

    /// A part of the answer's body is on its way.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(ongoing) = &self.ongoing {
            ongoing.sent(bytes);
        }
    }

    /// Called once for every request, when its last byte has gone out or its
    /// connection has broken.
    pub(super) fn finish(&self) {
        debug!(
            method = %self.method,
            path = self.uri.path(),
            app = self.app.as_ref().map_or("-", |app| app.app.as_str()),
            process = self.process.as_ref().map_or("-", |process| &process.target.process),
            status = self.status.as_u16(),
            code = self.code.map_or("-", |code| code.0),
            ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            bytes = self.bytes,
            "request"
        );
        let lane = self.app.as_ref().and_then(|app| app.lane.as_ref());
        if let (Some(lane), Some(head)) = (lane, &self.head) {
            lane.put(self.is_error(), || self.line(head));
        }
    }

    /// Whether something went wrong: a page for maintenance is as its user wants it.
    fn is_error(&self) -> bool {
        self.code.is_some_and(|(code, _)| code != MAINTENANCE)
    }

    fn line(&self, head: &Head) -> AccessLine {
        let process = self.process.as_ref().map(|process| &process.target);
        AccessLine {
            at_nanos: now(),
            process: process.map(|process| process.process.clone()),
            release: process.map_or(0, |process| process.release),
            text: self.text(head),
        }
    }

    /// Heroku's form.
    fn text(&self, head: &Head) -> String {
        let mut text = String::with_capacity(256);
        match self.code {
            Some((code, title)) => {
                let at = if self.is_error() { "error" } else { "info" };
                let _ = write!(text, "at={at} code={code} desc=\"{title}\"");
            }
            None => text.push_str("at=info"),
        }
        let path = self.uri.path_and_query().map_or("", |path| path.as_str());
        text.push_str(" method=");
        push(&mut text, self.method.as_str().as_bytes());
        text.push_str(" path=\"");
        push(&mut text, path.as_bytes());
        text.push_str("\" host=");
        push(&mut text, head.host.as_bytes());
        text.push_str(" request_id=");
        push(&mut text, head.id.as_bytes());
        text.push_str(" fwd=\"");
        push(&mut text, head.clients.as_bytes());
        text.push_str("\" process=");
        if let Some(process) = &self.process {
            text.push_str(&process.target.process);
        }
        text.push_str(" connect=");
        if let Some(connect) = self.connect {
            let _ = write!(text, "{}ms", connect.as_millis());
        }
        let (service, status) = (self.started.elapsed().as_millis(), self.status.as_u16());
        let scheme = if head.secure { "https" } else { "http" };
        let _ = write!(text, " service={service}ms status={status} bytes={} protocol={scheme}", self.bytes);
        text
    }
}

/// Text of a client's, in which nothing can end the field or the line, cut at its
/// greatest length.
fn push(text: &mut String, bytes: &[u8]) {
    for &byte in bytes.iter().take(LONGEST) {
        match byte {
            b'"' | b'\\' | ..=0x1f | 0x7f.. => {
                let _ = write!(text, "%{byte:02X}");
            }
            plain => text.push(char::from(plain)),
        }
    }
    if bytes.len() > LONGEST {
        text.push('…');
    }
}

/// Nanoseconds since the epoch.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn pushed(bytes: &[u8]) -> String {
        let mut text = String::new();
        push(&mut text, bytes);
        text
    }

    #[test]
    fn a_line_is_herokus() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("shop.localhost:8080"));
        headers.insert(headers::REQUEST_ID, HeaderValue::from_static("8f2c"));
        headers.insert(headers::FORWARDED_FOR, HeaderValue::from_static("192.0.2.7"));
        headers.insert("authorization", HeaderValue::from_static("Basic hunter2"));
        headers.insert("cookie", HeaderValue::from_static("session=hunter2"));
        let head = Head::of(&headers);
        let uri: Uri = "/c\"art?item=%22a%22".parse().unwrap();
        let record = Record::new(Method::POST, uri, Instant::now());
        let good = Record { connect: Some(Duration::from_micros(1900)), bytes: 12, ..record }.text(&head);
        let record = Record::new(Method::GET, Uri::from_static("/"), Instant::now());
        let bad = record.paged(&Page::Timeout, 61).text(&head);
        let service =
            |text: &str| text.split(' ').find(|word| word.starts_with("service=")).map(str::to_owned);
        let lines = [good, bad].map(|line| line.replace(&service(&line).unwrap(), "service=0ms")).join("\n");
        insta::assert_snapshot!(lines, @r#"
        at=info method=POST path="/c%22art?item=%22a%22" host=shop.localhost:8080 request_id=8f2c fwd="192.0.2.7" process= connect=1ms service=0ms status=200 bytes=12 protocol=http
        at=error code=H12 desc="Request timeout" method=GET path="/" host=shop.localhost:8080 request_id=8f2c fwd="192.0.2.7" process= connect= service=0ms status=503 bytes=61 protocol=http
        "#);
    }

    #[test]
    fn a_long_path_is_cut() {
        let cut = pushed("/x".repeat(2000).as_bytes());
        assert_eq!((cut.chars().count(), cut.ends_with("/x…")), (LONGEST + 1, true));
    }

    proptest! {
        #[test]
        fn nothing_that_a_client_says_ends_a_field_or_a_line(bytes: Vec<u8>) {
            let text = pushed(&bytes);
            prop_assert!(!text.contains(['"', '\\']) && !text.chars().any(char::is_control), "{text:?}");
        }
    }
}
