//! The pages that the proxy answers with by itself.

use super::body::ReplyBody;
use super::places::Full;
use super::request::Refusal;
use super::upload::Fault;
use crate::model::AppName;
use bytes::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};

/// Heroku's code of an app that is being worked on.
pub(super) const MAINTENANCE: &str = "H80";

/// When somebody may look again whether it is still so, in seconds.
const LOOK_AGAIN: HeaderValue = HeaderValue::from_static("60");

/// Why the proxy answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    /// The request can't be read in one way only.
    Refused(Refusal),
    /// No app has that host name.
    UnknownHost(String),
    /// The connection's handshake was for a name with another certificate.
    Misdirected(String),
    /// Plain HTTP, where HTTPS is wanted.
    Secure {
        /// The same by HTTPS.
        location: String,
        /// Whether the method must stay.
        keep_method: bool,
    },
    /// The app has sent this name's requests on to another.
    Moved {
        /// The same at that name.
        location: String,
        /// 301, 302, 307 or 308.
        code: u16,
    },
    /// The answer to a challenge of a certificate authority.
    Challenge(String),
    /// The app is being worked on; with its own page for that, if it has one.
    Maintenance(Option<Bytes>),
    /// The app wants to know who asks.
    SignIn(AppName),
    /// Too many passwords are being compared.
    Signing,
    /// The app has no process to answer; with Heroku's code.
    Outage(String),
    /// H10: every process refused the connection.
    Refusing,
    /// H12: no answer in time.
    Timeout,
    /// H13: the connection ended without an answer, or with something else.
    Closed,
    /// H19: the app's last process took no connection in time.
    Busy,
    /// H20: the app slept, and did not wake in time.
    NotAwake,
    /// H11: as many requests wait for the app to wake as may.
    Backlog,
    /// The app sleeps, and this one does not wake it.
    Asleep,
    /// More requests at a time than the client's address, the proxy or the app may have.
    Full(Full),
    /// H27 and H28: the client did not send all of its request; or more than is taken.
    CutOff(Fault),
}

struct Words {
    status: StatusCode,
    code: String,
    title: &'static str,
    text: String,
}

impl Page {
    /// Heroku's code for the access line, if it is one of the platform's.
    pub(super) fn code(&self) -> Option<&'static str> {
        match self {
            Self::Refused(_)
            | Self::UnknownHost(_)
            | Self::Misdirected(_)
            | Self::Secure { .. }
            | Self::Moved { .. }
            | Self::Challenge(_)
            | Self::CutOff(Fault::TooLarge)
            | Self::SignIn(_)
            | Self::Signing
            | Self::Asleep
            | Self::Full(Full::Peer) => None,
            Self::Maintenance(_) => Some(MAINTENANCE),
            Self::NotAwake => Some("H20"),
            Self::Busy => Some("H19"),
            Self::Full(Full::Proxy) => Some("H99"),
            Self::Backlog | Self::Full(Full::App) => Some("H11"),
            Self::Outage(code) if code == "H14" => Some("H14"),
            Self::Outage(_) | Self::Refusing => Some("H10"),
            Self::Timeout => Some("H12"),
            Self::Closed => Some("H13"),
            Self::CutOff(Fault::Broken) => Some("H27"),
            Self::CutOff(Fault::Stalled) => Some("H28"),
        }
    }

    /// What has happened, in few words.
    pub(super) fn title(&self) -> &'static str {
        self.words().title
    }

    /// The status that the client gets.
    pub(super) fn status(&self) -> StatusCode {
        self.words().status
    }

    /// The page as HTML for those whose `Accept` asks for it, else as plain text.
    pub(super) fn response(&self, accept: Option<&HeaderValue>) -> Response<ReplyBody> {
        if let Self::Challenge(answer) = self {
            return challenge(answer);
        }
        let words = self.words();
        let own = if let Self::Maintenance(page) = self { page.clone() } else { None };
        let html = own.is_some() || wants_html(accept);
        let text = || Bytes::from(if html { words.html() } else { words.plain() });
        let mut response = Response::new(ReplyBody::Page(Some(own.unwrap_or_else(text))));
        *response.status_mut() = words.status;
        let headers = response.headers_mut();
        let kind = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Self::Secure { location, .. } | Self::Moved { location, .. } = self
            && let Ok(location) = HeaderValue::from_str(location)
        {
            headers.insert(LOCATION, location);
        } else if let Ok(code) = HeaderValue::from_str(&words.code) {
            headers.insert("x-paas-error", code);
        }
        if let Self::SignIn(realm) = self
            && let Ok(asked) = HeaderValue::from_str(&format!("Basic realm=\"{realm}\", charset=\"UTF-8\""))
        {
            headers.insert(WWW_AUTHENTICATE, asked);
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds);
        }
        if matches!(self, Self::Refused(_) | Self::CutOff(_)) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// When to ask again, in seconds, if anybody knows.
    fn retry_after(&self) -> Option<HeaderValue> {
        match self {
            Self::Maintenance(_) => Some(LOOK_AGAIN),
            Self::Full(_) | Self::Signing => Some(HeaderValue::from_static("1")),
            Self::NotAwake | Self::Backlog => Some(HeaderValue::from_static("5")),
            Self::Asleep => Some(HeaderValue::from_static("3600")),
            _ => None,
        }
    }

    fn words(&self) -> Words {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let (status, code, title, text) = match self {
            Self::Refused(refusal) => {
                (StatusCode::BAD_REQUEST, "bad-request", "Bad request", refusal.words().to_owned())
            }
            Self::UnknownHost(host) => {
                let text = format!("No app answers to {host} here.");
                (StatusCode::NOT_FOUND, "unknown-host", "No such app", text)
            }
            Self::Secure { location, keep_method } => {
                let status = if *keep_method { 308 } else { 301 };
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::PERMANENT_REDIRECT);
                (status, "", "Moved", format!("This is at {location}"))
            }
            Self::Moved { location, code } => {
                let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::TEMPORARY_REDIRECT);
                (status, "", "Moved", format!("This is at {location}"))
            }
            Self::Challenge(answer) => (StatusCode::OK, "", "Challenge", answer.clone()),
            Self::Misdirected(host) => {
                let text = format!("This connection was not made for {host}; make another.");
                (StatusCode::MISDIRECTED_REQUEST, "misdirected", "Misdirected request", text)
            }
            Self::Maintenance(_) => {
                let text = "The app is being worked on; try again in a while.";
                (unavailable, MAINTENANCE, "Maintenance", text.to_owned())
            }
            Self::SignIn(_) => {
                let text = "This app wants a name and a password.";
                (StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", text.to_owned())
            }
            Self::Signing => {
                let text = "Too many passwords are being checked; try again.";
                (StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests", text.to_owned())
            }
            Self::Outage(code) => return outage(code),
            Self::Refusing => return outage("H10"),
            Self::Timeout => {
                (unavailable, "H12", "Request timeout", "The app did not answer in time.".to_owned())
            }
            Self::Closed => {
                let text = "The app closed the connection without an answer.";
                (unavailable, "H13", "No answer", text.to_owned())
            }
            Self::Busy => {
                let text = "The app took no connection in time.";
                (unavailable, "H19", "App too busy", text.to_owned())
            }
            Self::NotAwake => {
                let text = "The app was asleep and did not wake in time; try again.";
                (unavailable, "H20", "App boot timeout", text.to_owned())
            }
            Self::Backlog => {
                let text = "Too many requests wait for the app to wake; try again.";
                (unavailable, "H11", "Backlog too deep", text.to_owned())
            }
            Self::Asleep => {
                let text = "The app is asleep, and crawlers do not wake it.";
                (unavailable, "asleep", "App asleep", text.to_owned())
            }
            Self::Full(Full::Proxy) => {
                let text = "The platform has too many requests under way; try again.";
                (unavailable, "H99", "Platform too busy", text.to_owned())
            }
            Self::Full(Full::Peer) => {
                let text = "Too many requests from your address are under way; try again.";
                (StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests", text.to_owned())
            }
            Self::Full(Full::App) => {
                let text = "The app has as many requests as it takes, and others wait; try again.";
                (unavailable, "H11", "Backlog too deep", text.to_owned())
            }
            Self::CutOff(Fault::TooLarge) => {
                let text = "The request's body is larger than this app takes.";
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Request too large", text.to_owned())
            }
            Self::CutOff(Fault::Broken) => {
                let text = "The request's body ended early.";
                (StatusCode::BAD_REQUEST, "H27", "Request cut off", text.to_owned())
            }
            Self::CutOff(Fault::Stalled) => {
                let text = "The rest of the request's body did not come in time.";
                (StatusCode::REQUEST_TIMEOUT, "H28", "Request too slow", text.to_owned())
            }
        };
        Words { status, code: code.to_owned(), title, text }
    }
}

/// Those who ask read nothing but the text.
fn challenge(answer: &str) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Page(Some(Bytes::from(answer.to_owned()))));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn outage(code: &str) -> Words {
    let (title, text) = match code {
        "H10" => ("App crashed", "The app has crashed or is still starting."),
        "H14" => ("No web processes", "The app has no web process running."),
        "H99" => ("Platform error", "The platform can't reach the app at present."),
        _ => ("App unavailable", "The app can't answer at present."),
    };
    Words { status: StatusCode::SERVICE_UNAVAILABLE, code: code.to_owned(), title, text: text.to_owned() }
}

impl Refusal {
    fn words(self) -> &'static str {
        match self {
            Self::NoHost => "The request has no Host header.",
            Self::TwoHosts => "The request has more than one Host header.",
            Self::BadHost => "The Host header is not a host name with an optional port.",
            Self::OtherHost => "The request line names another host than the Host header.",
            Self::BadTarget => "The request line has no path.",
            Self::TwoLengths => "The request has both Content-Length and Transfer-Encoding.",
            Self::BadCoding => "The only transfer coding that is known here is chunked.",
            Self::BadUpgrade => "This server does not upgrade requests with a body, nor to HTTP/2.",
            Self::BadExpect => "The only expectation that is known here is 100-continue.",
        }
    }
}

impl Words {
    /// The status line's number and the platform's code: `503 · H10`.
    fn mark(&self) -> String {
        let status = self.status.as_u16();
        if self.code.starts_with('H') { format!("{status} · {}", self.code) } else { status.to_string() }
    }

    fn plain(&self) -> String {
        format!("{} ({})\n{}\n", self.title, self.mark(), self.text)
    }

    fn html(&self) -> String {
        let (title, mark, text) = (self.title, escape(&self.mark()), escape(&self.text));
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n\
             <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;\
             margin:20vh auto 0;padding:0 1rem}}small{{color:#767676}}</style>\n\
             <h1>{title}</h1>\n<p>{text}</p>\n<small>{mark}</small>\n</html>\n"
        )
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn wants_html(accept: Option<&HeaderValue>) -> bool {
    let accepted = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.to_ascii_lowercase().contains("text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_stays_text() {
        let words = Page::UnknownHost("<i a='b'>&\"".to_owned()).words();
        assert!(words.html().contains("No app answers to &lt;i a=&#39;b&#39;&gt;&amp;&quot; here."));
    }

    #[test]
    fn every_refusal_says_what_is_wrong() {
        let refusals = [
            Refusal::NoHost,
            Refusal::TwoHosts,
            Refusal::BadHost,
            Refusal::OtherHost,
            Refusal::BadTarget,
            Refusal::TwoLengths,
            Refusal::BadCoding,
            Refusal::BadUpgrade,
            Refusal::BadExpect,
        ];
        let texts: String = refusals.iter().map(|&refusal| Page::Refused(refusal).words().plain()).collect();
        insta::assert_snapshot!(texts, @r"
        Bad request (400)
        The request has no Host header.
        Bad request (400)
        The request has more than one Host header.
        Bad request (400)
        The Host header is not a host name with an optional port.
        Bad request (400)
        The request line names another host than the Host header.
        Bad request (400)
        The request line has no path.
        Bad request (400)
        The request has both Content-Length and Transfer-Encoding.
        Bad request (400)
        The only transfer coding that is known here is chunked.
        Bad request (400)
        This server does not upgrade requests with a body, nor to HTTP/2.
        Bad request (400)
        The only expectation that is known here is 100-continue.
        ");
    }

    #[test]
    fn every_outage_has_its_page() {
        let codes = ["H10", "H14", "H99", "H81"];
        let texts: String = codes.iter().map(|code| outage(code).plain()).collect();
        insta::assert_snapshot!(texts, @r"
        App crashed (503 · H10)
        The app has crashed or is still starting.
        No web processes (503 · H14)
        The app has no web process running.
        Platform error (503 · H99)
        The platform can't reach the app at present.
        App unavailable (503 · H81)
        The app can't answer at present.
        ");
    }
}
