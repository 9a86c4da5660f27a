//! What the proxy takes out of heads, and what it puts in.

use super::forwarded;
use super::request::{self, tokens};
use hyper::header::{CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
/// The addresses that a request came by.
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What a request is called in logs.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What the app is told about where a request comes from; the same for all
/// requests of a connection.
pub(super) struct Origin {
    /// The client's address.
    pub(super) peer: HeaderValue,
    /// The same as an address.
    pub(super) client: IpAddr,
    /// Whether it is a proxy whose word on where requests come from is kept.
    pub(super) trusted: bool,
    /// The port that it connected to.
    pub(super) port: HeaderValue,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
}

/// Whether this is a claim about where a request comes from, in any of the spellings
/// that an app may take for one: for CGI and its heirs `_` is `-`.
fn is_claim(name: &HeaderName) -> bool {
    let dashed = |wanted: &str| {
        let bytes = name.as_str().bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
        bytes.take(wanted.len()).eq(wanted.bytes())
    };
    let whole = |wanted: &str| name.as_str().len() == wanted.len() && dashed(wanted);
    dashed("x-forwarded-")
        || whole("x-real-ip")
        || whole("forwarded")
        || whole("x-request-id")
        || whole("x-request-start")
}

/// Takes out claims about where a request comes from; of a trusted proxy's only those in
/// a spelling that it would not use.
fn remove_claims(headers: &mut HeaderMap, trusted: bool) {
    let is_false = |name: &&HeaderName| is_claim(name) && (!trusted || name.as_str().contains('_'));
    while let Some(name) = headers.keys().find(is_false).cloned() {
        headers.remove(name);
    }
}

/// Takes the same out of what follows a body, which is nobody's place for it.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    remove_claims(trailers, false);
}

/// The port that the `Host` of a plain request names.
pub(super) fn port(headers: &HeaderMap) -> u16 {
    let host = headers.get(hyper::header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let digits = host.rsplit(|&byte| byte == b':').next().filter(|digits| digits.len() < host.len());
    digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(80)
}

/// Whether the `Host` of a request by HTTPS names this port.
pub(super) fn names_port(headers: &HeaderMap, port: u16) -> bool {
    match headers.get(hyper::header::HOST) {
        Some(host) if host.as_bytes().ends_with(format!(":{port}").as_bytes()) => true,
        _ => port == 443,
    }
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
    tell_origin(headers, origin, host);
    if let Some(protocol) = &upgrade {
        announce_upgrade(headers, protocol.clone());
    }
    upgrade
}

/// Says where a request comes from, in place of what it says of that itself; a
/// trusted proxy's word is kept and added to, as far as it is well-formed.
fn tell_origin(headers: &mut HeaderMap, origin: &Origin, host: &HeaderValue) {
    let scheme = HeaderValue::from_static(origin.scheme);
    let kept = |headers: &HeaderMap, name: &HeaderName, is_valid: fn(&[u8]) -> bool| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().filter(|value| origin.trusted && is_valid(value.as_bytes()))?;
        values.next().is_none().then(|| value.clone())
    };
    // Of a list, what the first of several proxies has seen.
    let proto = headers.get(FORWARDED_PROTO).filter(|_| origin.trusted).and_then(|proto| {
        let first = proto.as_bytes().split(|&byte| byte == b',').next()?.trim_ascii();
        [&b"http"[..], b"https"].contains(&first).then(|| HeaderValue::from_bytes(first).ok())?
    });
    let port = kept(headers, &FORWARDED_PORT, is_port).unwrap_or_else(|| match &proto {
        Some(proto) if *proto == "https" => HeaderValue::from_static("443"),
        Some(_) => HeaderValue::from_static("80"),
        None => origin.port.clone(),
    });
    let told_host = kept(headers, &FORWARDED_HOST, |value| request::host_of(value).is_some());
    let id = kept(headers, &REQUEST_ID, is_id).unwrap_or_else(request_id);
    let start = kept(headers, &REQUEST_START, is_time).unwrap_or_else(now);
    let element = forwarded::our_element(origin.client, host.to_str().unwrap_or_default(), origin.scheme);
    let chain = added(headers, &FORWARDED, origin.trusted, element.as_bytes(), forwarded::is_valid);
    let clients = added(headers, &FORWARDED_FOR, origin.trusted, origin.peer.as_bytes(), is_visible);
    remove_claims(headers, origin.trusted);
    headers.insert(FORWARDED, chain);
    headers.insert(FORWARDED_FOR, clients);
    headers.insert(FORWARDED_HOST, told_host.unwrap_or_else(|| host.clone()));
    headers.insert(FORWARDED_PORT, port);
    headers.insert(FORWARDED_PROTO, proto.unwrap_or(scheme));
    headers.insert(REQUEST_ID, id);
    headers.insert(REQUEST_START, start);
}

/// Elements at a list's end that are looked at one by one if the whole is none.
const TAIL: usize = 32;

/// As much of a list as is well-formed, from its end: that is what proxies have added to
/// whatever their client said.
fn good_tail(list: &[u8], is_valid: fn(&[u8]) -> bool) -> &[u8] {
    if is_valid(list) {
        return list;
    }
    let ends = list.iter().enumerate().rev().filter(|(_, byte)| **byte == b',');
    let tails = ends.take(TAIL).map(|(comma, _)| list[comma + 1..].trim_ascii());
    tails.filter(|tail| is_valid(tail)).last().unwrap_or_default()
}

/// Our part of a list, behind what is there if that is to be kept.
fn added(
    headers: &HeaderMap,
    name: &HeaderName,
    trusted: bool,
    ours: &[u8],
    is_valid: fn(&[u8]) -> bool,
) -> HeaderValue {
    let mut list = Vec::new();
    if trusted {
        let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let lines = lines.join(&b", "[..]);
        list.extend_from_slice(good_tail(&lines, is_valid));
    }
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(ours);
    HeaderValue::from_bytes(&list).unwrap_or(HeaderValue::from_static("unknown"))
}

fn is_visible(value: &[u8]) -> bool {
    (1..=4096).contains(&value.len()) && value.iter().all(|byte| (b' '..=b'~').contains(byte))
}

fn is_port(value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).unwrap_or_default();
    !text.starts_with('+') && text.parse::<u16>().is_ok()
}

fn is_id(value: &[u8]) -> bool {
    (1..=200).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

fn is_time(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"t=").unwrap_or(value);
    (1..=32).contains(&digits.len()) && digits.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// Whether the client's own connection was secure, as far as we believe it; of a
/// head that was prepared.
pub(super) fn is_secure(headers: &HeaderMap) -> bool {
    headers.get(FORWARDED_PROTO).is_some_and(|proto| proto == "https")
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const OURS: [HeaderName; 7] = [
        FORWARDED,
        FORWARDED_FOR,
        FORWARDED_HOST,
        FORWARDED_PORT,
        FORWARDED_PROTO,
        REQUEST_ID,
        REQUEST_START,
    ];

    fn origin(trusted: bool) -> Origin {
        let client: IpAddr = "192.0.2.7".parse().unwrap();
        let peer = HeaderValue::from_static("192.0.2.7");
        Origin { peer, client, trusted, port: HeaderValue::from_static("80"), scheme: "http" }
    }

    fn prepared(lines: &[(&str, &str)], trusted: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        prepare_request(&mut headers, &origin(trusted), &HeaderValue::from_static("a.localhost"));
        headers
    }

    #[test]
    fn a_trusted_proxys_word_is_kept_and_added_to() {
        let said = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "7.7.7.7"),
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example.com"),
            ("x-request-id", "mine"),
            ("x-request-start", "t=123"),
        ];
        let headers = prepared(&said, true);
        let now = OURS.map(|name| headers[name].to_str().unwrap().to_owned());
        let ours = "for=192.0.2.7;host=a.localhost;proto=http";
        assert_eq!(
            now,
            [
                &format!("for=6.6.6.6, {ours}"),
                "6.6.6.6, 7.7.7.7, 192.0.2.7",
                "shop.example.com",
                "443",
                "https",
                "mine",
                "t=123",
            ]
        );
        let headers = prepared(&said, false);
        let now = OURS.map(|name| headers[name].to_str().unwrap().to_owned());
        assert_eq!(now[..5], [ours, "192.0.2.7", "a.localhost", "80", "http"]);
        assert!(now[5] != "mine" && now[6] != "t=123");
    }

    #[test]
    fn nonsense_is_replaced_whoever_says_it() {
        let said = [
            ("forwarded", "for=a b"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-port", "+80"),
            ("x-forwarded-host", "a/b"),
            ("x-request-id", "a b"),
            ("x-request-start", "yesterday"),
        ];
        let headers = prepared(&said, true);
        for (name, nonsense) in said {
            assert!(!headers[name].to_str().unwrap().contains(nonsense), "{name}");
        }
    }

    #[test]
    fn a_clients_nonsense_does_not_take_what_its_proxy_says_with_it() {
        let long = "1".repeat(5000);
        let said = [
            ("x-forwarded-for", &*format!("{long}, 6.6.6.6, 7.7.7.7")),
            ("forwarded", "for=\"x, for=6.6.6.6, for=\"[2001:db8::7]\""),
            ("x-forwarded-proto", "https, http"),
        ];
        let headers = prepared(&said, true);
        assert_eq!(headers[FORWARDED_FOR], "6.6.6.6, 7.7.7.7, 192.0.2.7");
        let chain = "for=6.6.6.6, for=\"[2001:db8::7]\", for=192.0.2.7;host=a.localhost;proto=http";
        assert_eq!(headers[FORWARDED], chain);
        assert_eq!(
            (&headers[FORWARDED_PROTO], &headers[FORWARDED_PORT]),
            (&"https".parse().unwrap(), &"443".parse().unwrap())
        );
    }

    #[test]
    fn no_spelling_and_no_relative_of_a_claim_passes() {
        let said = [
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded_proto", "https"),
            ("x_real_ip", "6.6.6.6"),
            ("x_request-id", "mine"),
            ("x-forwarded-ssl", "on"),
            ("x-forwarded-prefix", "/x"),
            ("x-real-ip", "6.6.6.6"),
            ("x-forward", "kept"),
            ("x_other", "kept"),
        ];
        let names = |trusted| {
            let headers = prepared(&said, trusted);
            let names = headers.keys().filter(|name| !OURS.contains(name)).map(ToString::to_string);
            names.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["x-forward", "x_other"]);
        assert_eq!(
            names(true),
            ["x-forward", "x-forwarded-prefix", "x-forwarded-ssl", "x-real-ip", "x_other"]
        );
    }

    #[test]
    fn the_port_is_that_of_the_host() {
        for (host, wanted) in [("a", 80), ("a:8080", 8080), ("[::1]", 80), ("[::1]:81", 81)] {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().unwrap());
            assert_eq!(port(&headers), wanted, "{host}");
        }
    }

    fn lines() -> impl Strategy<Value = Vec<(String, String)>> {
        let known = prop::sample::select(vec![
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-proto",
            "x-request-id",
            "x-request-start",
            "connection",
            "keep-alive",
            "te",
            "upgrade",
            "proxy-connection",
            "expect",
            "x-a",
            "x-b",
            "cookie",
        ]);
        let value = prop_oneof![
            "[ -~]{0,20}",
            Just("x-a, x-b, close".to_owned()),
            Just("upgrade, x-forwarded-for".to_owned()),
            Just("trailers".to_owned()),
        ];
        prop::collection::vec((known.prop_map(str::to_owned), value), 0..12)
    }

    proptest! {
        #[test]
        fn whatever_comes_the_app_hears_our_word_once(lines in lines(), trusted: bool) {
            let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (&**name, value.trim())).collect();
            let headers = prepared(&lines, trusted);
            for name in &OURS {
                prop_assert_eq!(headers.get_all(name).iter().count(), 1, "{}", name);
            }
            let clients = headers[FORWARDED_FOR].to_str().unwrap();
            prop_assert!(clients.ends_with("192.0.2.7") && (trusted || clients == "192.0.2.7"));
            prop_assert!(forwarded::is_valid(headers[FORWARDED].as_bytes()));
            for gone in ["keep-alive", "proxy-connection", "expect", "transfer-encoding"] {
                prop_assert!(!headers.contains_key(gone));
            }
            let connection = headers.get(CONNECTION).map(HeaderValue::as_bytes);
            prop_assert_eq!(connection.is_some(), headers.contains_key(UPGRADE));
            let said = lines.iter().filter(|line| line.0 == "connection");
            let named: Vec<String> =
                said.flat_map(|line| line.1.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect();
            for name in ["x-a", "x-b"] {
                let before: Vec<&str> = lines.iter().filter(|line| line.0 == name).map(|line| line.1).collect();
                let after: Vec<_> = headers.get_all(name).iter().collect();
                let wanted = if named.iter().any(|named| named == name) { Vec::new() } else { before };
                prop_assert_eq!(after, wanted, "{}", name);
            }
        }
    }
}
