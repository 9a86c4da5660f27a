//! What the proxy takes out of heads, and what it puts in.

use super::request::tokens;
use hyper::header::{CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What the app is told about where a request comes from; the same for all
/// requests of a connection.
pub(super) struct Origin {
    /// The client's address.
    pub(super) peer: HeaderValue,
    /// The port that it connected to.
    pub(super) port: HeaderValue,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
}

/// Removes what concerns one connection only, what `Connection` names included.
///
/// Returns the protocol that the message asks to change to, if it does.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.remove(UPGRADE);
    let mut upgrading = false;
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            tokens(headers, &CONNECTION).filter_map(|token| HeaderName::from_bytes(token).ok()).collect();
        headers.remove(CONNECTION);
        for name in named {
            upgrading |= name == UPGRADE;
            // Names that routing and framing rest on are not a client's to remove.
            if !is_end_to_end(&name) {
                headers.remove(name);
            }
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    upgrade.filter(|_| upgrading)
}

fn is_end_to_end(name: &HeaderName) -> bool {
    use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST};
    [&HOST, &CONTENT_LENGTH, &CONTENT_TYPE, &COOKIE, &AUTHORIZATION, &CACHE_CONTROL, &TE].contains(&name)
}

/// Says that the connection changes its protocol, in either direction.
pub(super) fn announce_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Makes a request's head fit for a target; foreign claims about its origin
/// are replaced.
///
/// Returns the protocol that the request asks to change to, if it does.
pub(super) fn prepare_request(
    headers: &mut HeaderMap,
    origin: &Origin,
    host: &HeaderValue,
) -> Option<HeaderValue> {
    let trailers = tokens(headers, &TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    let upgrade = remove_hop_by_hop(headers);
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // hyper has promised the client that it may go on as soon as we read.
    headers.remove(EXPECT);
    headers.remove(FORWARDED);
    headers.insert(FORWARDED_FOR, origin.peer.clone());
    headers.insert(FORWARDED_HOST, host.clone());
    headers.insert(FORWARDED_PORT, origin.port.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(origin.scheme));
    headers.insert(REQUEST_ID, request_id());
    headers.insert(REQUEST_START, now());
    if let Some(protocol) = &upgrade {
        announce_upgrade(headers, protocol.clone());
    }
    upgrade
}

/// 32 hexadecimal digits that no other request has.
fn request_id() -> HeaderValue {
    static KEYS: LazyLock<(RandomState, RandomState)> =
        LazyLock::new(|| (RandomState::new(), RandomState::new()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = (u128::from(KEYS.0.hash_one(number)) << 64) | u128::from(KEYS.1.hash_one(number));
    let text: [u8; 32] = std::array::from_fn(|place| DIGITS[(id >> (4 * (31 - place))) as usize & 15]);
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

/// Unix time in milliseconds.
fn now() -> HeaderValue {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    HeaderValue::from(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
