//! Reading a request one way: whom it is for, or why it is refused.

use hyper::header::{self, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Method, Uri, Version};

/// A request that can be read in more than one way; answered with 400 and the
/// connection's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No `Host`.
    NoHost,
    /// More than one `Host`.
    TwoHosts,
    /// A `Host` that is not a name or address with an optional port.
    BadHost,
    /// The target names another host than `Host`.
    OtherHost,
    /// `CONNECT`, or a target that is not a path.
    BadTarget,
    /// Both `Content-Length` and `Transfer-Encoding`.
    TwoLengths,
    /// A transfer coding other than `chunked`.
    BadCoding,
    /// An upgrade to HTTP/2, or of a request with a body.
    BadUpgrade,
    /// An expectation other than `100-continue`.
    BadExpect,
}

/// The checked `Host` of a request.
pub(super) struct Authority {
    value: HeaderValue,
    /// In lower case, without port and trailing dot.
    host: String,
}

impl Authority {
    /// The host name that decides where the request goes.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The header as it came.
    pub(super) fn value(&self) -> &HeaderValue {
        &self.value
    }
}

/// Checks the head of a request that came by `scheme` and leaves its target in origin form.
pub(super) fn check(parts: &mut Parts, scheme: &str) -> Result<Authority, Refusal> {
    check_framing(parts)?;
    check_expectation(&parts.headers)?;
    check_upgrade(parts)?;
    let authority = authority(&parts.headers)?;
    normalize_target(parts, scheme, &authority)?;
    Ok(authority)
}

fn check_framing(parts: &Parts) -> Result<(), Refusal> {
    let headers = &parts.headers;
    let Some(coding) = headers.get(TRANSFER_ENCODING) else {
        return Ok(());
    };
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::TwoLengths);
    }
    let several = headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_some();
    if several || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || parts.version != Version::HTTP_11 {
        return Err(Refusal::BadCoding);
    }
    Ok(())
}

fn check_expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut expectations = headers.get_all(EXPECT).iter();
    if expectations.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        Ok(())
    } else {
        Err(Refusal::BadExpect)
    }
}

/// HTTP/2 by upgrade would pass our reading by; and the bytes of a body are
/// not to be told from those of the new protocol.
fn check_upgrade(parts: &Parts) -> Result<(), Refusal> {
    let headers = &parts.headers;
    if !headers.contains_key(UPGRADE) {
        return Ok(());
    }
    let http2 = headers.contains_key("http2-settings")
        || tokens(headers, &UPGRADE).any(|token| {
            let name = token.split(|&byte| byte == b'/').next().unwrap_or(token);
            name.eq_ignore_ascii_case(b"h2c")
                || name.eq_ignore_ascii_case(b"h2")
                || name.eq_ignore_ascii_case(b"HTTP")
        });
    let body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if http2 || body { Err(Refusal::BadUpgrade) } else { Ok(()) }
}

/// The elements of a comma-separated header, over all its lines.
pub(super) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &header::HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

fn authority(headers: &HeaderMap) -> Result<Authority, Refusal> {
    let mut values = headers.get_all(HOST).iter();
    let value = values.next().ok_or(Refusal::NoHost)?;
    if values.next().is_some() {
        return Err(Refusal::TwoHosts);
    }
    let host = host_of(value.as_bytes()).ok_or(Refusal::BadHost)?;
    Ok(Authority { value: value.clone(), host })
}

/// The host of `host[:port]` in lower case, without a trailing dot.
pub(super) fn host_of(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(end);
    let port_valid = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok() && !digits.starts_with('+'),
        None => port.is_empty(),
    };
    let host_valid = match host.strip_prefix('[') {
        Some(address) => address.trim_end_matches(']').parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    (port_valid && host_valid).then(|| host.to_ascii_lowercase())
}

fn is_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !host.is_empty() && host != "." && host.len() <= 254 && host.bytes().all(allowed)
}

/// Absolute form must agree with `Host`; everything else must be a path.
fn normalize_target(parts: &mut Parts, scheme: &str, authority: &Authority) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::BadTarget);
    }
    if let Some(named) = parts.uri.authority() {
        if parts.uri.scheme_str() != Some(scheme) {
            return Err(Refusal::BadTarget);
        }
        if !named.as_str().as_bytes().eq_ignore_ascii_case(authority.value.as_bytes()) {
            return Err(Refusal::OtherHost);
        }
        parts.uri = origin_form(&parts.uri).ok_or(Refusal::BadTarget)?;
    }
    let path = parts.uri.path();
    let whole_server = path == "*" && parts.method == Method::OPTIONS;
    if path.starts_with('/') || whole_server { Ok(()) } else { Err(Refusal::BadTarget) }
}

fn origin_form(uri: &Uri) -> Option<Uri> {
    let path_and_query = uri.path_and_query()?.clone();
    Uri::builder().path_and_query(path_and_query).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        let cases = [
            ("a", Some("a")),
            ("My-App.Example.com:8080", Some("my-app.example.com")),
            ("app.localhost.", Some("app.localhost")),
            ("under_score", Some("under_score")),
            ("127.0.0.1:1", Some("127.0.0.1")),
            ("[::1]:8080", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (".", None),
            (":80", None),
            ("a:", None),
            ("a:+1", None),
            ("a:65536", None),
            ("a:1:2", None),
            ("a b", None),
            ("a@b", None),
            ("a/b", None),
            ("a\\b", None),
            ("[::1", None),
            ("[a]", None),
            ("[::1]]", None),
            ("[::1]x", None),
            ("\u{430}pp", None),
        ];
        for (text, host) in cases {
            assert_eq!(host_of(text.as_bytes()).as_deref(), host, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_host_has_what_a_page_or_a_log_could_trip_over(text in any::<Vec<u8>>()) {
            if let Some(host) = host_of(&text) {
                prop_assert!(host.bytes().all(|byte| byte.is_ascii_lowercase()
                    || byte.is_ascii_digit() || b"-._[]:".contains(&byte)));
            }
        }
    }
}
