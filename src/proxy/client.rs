//! What all requests of a client's connection have in common, and what TLS asks of them.

use super::Shared;
use super::front::Ends;
use super::headers::{self, Origin};
use super::pages::Page;
use super::places::Place;
use super::routing::{Backend, Entry};
use crate::model::Redirect;
use hyper::header::{HeaderMap, HeaderValue, STRICT_TRANSPORT_SECURITY};
use hyper::{Method, Uri};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;

/// One connection.
pub(super) struct Client {
    /// The proxy.
    pub(super) shared: Arc<Shared>,
    /// By which address it came in.
    pub(super) entry: Entry,
    /// Where it comes from, for the app.
    pub(super) origin: Origin,
    /// The name of the handshake, in lower case.
    pub(super) server_name: Option<String>,
    /// Its place, and its requests.
    pub(super) place: Arc<Place>,
}

impl Client {
    /// A client whose handshake, if there is one, is still to come.
    pub(super) fn new(
        shared: Arc<Shared>,
        stream: &TcpStream,
        Ends { client, to, trusted }: Ends,
        entry: Entry,
        place: Arc<Place>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let port = HeaderValue::from(to.port());
        let peer = HeaderValue::try_from(client.to_string()).map_err(io::Error::other)?;
        let scheme = if entry == Entry::Https { "https" } else { "http" };
        let origin = Origin { peer, client, trusted, port, scheme };
        Ok(Self { shared, entry, origin, server_name: None, place })
    }

    /// What is answered whatever the app may say: a challenge; and to a client that asks
    /// for a name on a connection that was made for another, with another certificate.
    /// (Without a name in the handshake, the request alone decides.)
    pub(super) fn before_the_app(&self, host: &str, uri: &Uri) -> Option<Page> {
        let tls = self.shared.tls.as_ref()?;
        if let Entry::Port(_) = self.entry {
            return None;
        }
        if let Some(answer) = tls.http_answer(host, uri.path()) {
            return Some(Page::Challenge(answer));
        }
        let name = self.server_name.as_deref()?;
        (name != host && !tls.is_same(name, host)).then(|| Page::Misdirected(host.to_owned()))
    }

    /// Whether a plain request is sent on to HTTPS.
    pub(super) fn is_sent_on(&self, backend: &Backend, host: &str) -> bool {
        let tls = self.shared.tls.as_ref();
        backend.https.redirect
            && self.entry == Entry::Hosts
            && !is_local(host)
            && tls.is_some_and(|tls| tls.is_trusted(host))
    }

    /// Where it is sent on to. A client that names another port than ours comes through
    /// something in front of us, which has HTTPS at its usual port.
    pub(super) fn by_https(&self, host: &str, (method, uri): (&Method, &Uri), headers: &HeaderMap) -> Page {
        let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
        let rest = if rest.starts_with('/') { rest } else { "/" };
        let (http, https) = self.shared.web_ports;
        let location = match https {
            _ if headers::port(headers) != http => format!("https://{host}{rest}"),
            443 => format!("https://{host}{rest}"),
            port => format!("https://{host}:{port}{rest}"),
        };
        Page::Secure { location, keep_method: !matches!(*method, Method::GET | Method::HEAD) }
    }

    /// The same at another name: by HTTPS if the client came by it, or if there is a
    /// certificate for that name here.
    pub(super) fn to_another(&self, redirect: &Redirect, uri: &Uri, headers: &HeaderMap) -> Page {
        let host = redirect.to.as_str();
        let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
        let rest = if rest.starts_with('/') { rest } else { "/" };
        let (http, https) = self.web_ports_of(headers);
        let secure = headers::is_secure(headers);
        let here = self.shared.tls.as_ref().is_some_and(|tls| tls.is_trusted(host));
        let location = match (secure || here, http, https) {
            (true, _, Some(port)) => format!("https://{host}:{port}{rest}"),
            (true, _, None) => format!("https://{host}{rest}"),
            (false, Some(port), _) => format!("http://{host}:{port}{rest}"),
            (false, None, _) => format!("http://{host}{rest}"),
        };
        Page::Moved { location, code: redirect.code }
    }

    /// The ports of HTTP and HTTPS that a client has to name, if it came straight to us:
    /// whatever is in front of us has them at their usual places.
    fn web_ports_of(&self, headers: &HeaderMap) -> (Option<u16>, Option<u16>) {
        let (http, https) = self.shared.web_ports;
        let named = headers::port(headers);
        let direct = match self.origin.scheme {
            "https" => headers::names_port(headers, https),
            _ => named == http,
        };
        let unusual = |port: u16, usual: u16| (direct && port != usual && port != 0).then_some(port);
        (unusual(http, 80), unusual(https, 443))
    }

    /// Tells browsers to use HTTPS alone, unless the app has its own say.
    pub(super) fn insist_on_https(&self, backend: &Backend, headers: &mut HeaderMap) {
        let seconds = backend.https.hsts;
        let (Some(tls), Some(name)) = (&self.shared.tls, &self.server_name) else { return };
        if seconds == 0 || is_local(name) || !tls.is_trusted(name) {
            return;
        }
        if let Ok(value) = HeaderValue::try_from(format!("max-age={seconds}")) {
            headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(value);
        }
    }
}

/// Names of this machine, for which no authority vouches.
fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}
