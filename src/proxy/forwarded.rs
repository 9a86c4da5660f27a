//! `Forwarded` (RFC 7239): reading what trusted proxies say, and adding our own.

use std::fmt::Write;
use std::net::IpAddr;

/// Longer ones are no chain of proxies.
const LONGEST: usize = 4096;

/// Whether this is a list of elements as the standard has them: something can be
/// added to it without changing what it says.
pub fn is_valid(value: &[u8]) -> bool {
    if value.len() > LONGEST {
        return false;
    }
    let mut rest = value;
    loop {
        rest = match element(rest.trim_ascii_start()) {
            None => return false,
            Some(rest) => rest.trim_ascii_start(),
        };
        match rest.split_first() {
            None => return true,
            Some((b',', after)) => rest = after,
            Some(_) => return false,
        }
    }
}

/// `name=value` and more of them after `;`; returns what follows.
fn element(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = token(rest)?.strip_prefix(b"=")?;
        rest = match rest.strip_prefix(b"\"") {
            Some(quoted) => end_of_quoted(quoted)?,
            None => token(rest)?,
        };
        match rest.strip_prefix(b";") {
            Some(more) => rest = more,
            None => return Some(rest),
        }
    }
}

/// One character at least; returns what follows.
fn token(rest: &[u8]) -> Option<&[u8]> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let length = rest.iter().take_while(|byte| allowed(byte)).count();
    (length > 0).then_some(&rest[length..])
}

fn end_of_quoted(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = match byte {
            b'"' => return Some(after),
            b'\\' => after.split_first().filter(|(byte, _)| **byte >= b' ' && **byte != 0x7f)?.1,
            b'\t' | b' '..=b'~' | 0x80.. => after,
            _ => return None,
        };
    }
}

/// One element. The host is a name or an address with an optional port and can't
/// contain a quote.
pub fn our_element(client: IpAddr, host: &str, scheme: &str) -> String {
    let mut text = String::with_capacity(64 + host.len());
    let _ = match client {
        IpAddr::V4(address) => write!(text, "for={address}"),
        IpAddr::V6(address) => write!(text, "for=\"[{address}]\""),
    };
    let plain = token(host.as_bytes()).is_some_and(<[u8]>::is_empty);
    let quote = if plain { "" } else { "\"" };
    let _ = write!(text, ";host={quote}{host}{quote};proto={scheme}");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_of_the_standard_are_valid_and_nothing_else() {
        let good = [
            "for=\"_gazonk\"",
            "For=\"[2001:db8:cafe::17]:4711\"",
            "for=192.0.2.60;proto=http;by=203.0.113.43",
            "for=192.0.2.43, for=198.51.100.17",
            "for=a,for=b;host=\"a \\\" b\"",
        ];
        let bad = [
            "",
            ",",
            "for",
            "for=",
            "=a",
            "for=a,",
            "for=a;",
            "for=a b",
            "for = a",
            "for=[::1]",
            "for=a:1",
            "for=\"a",
            "for=\"a\\",
            "for=\"a\"b",
            "for=a;;by=b",
            "for=\"\u{7f}\"",
        ];
        for value in good {
            assert!(is_valid(value.as_bytes()), "{value:?}");
        }
        for value in bad {
            assert!(!is_valid(value.as_bytes()), "{value:?}");
        }
        assert!(!is_valid(format!("for={}", "a".repeat(LONGEST)).as_bytes()));
    }

    proptest! {
        #[test]
        fn what_we_add_to_a_valid_list_leaves_it_valid(client: IpAddr, port: Option<u16>, list in "(for=[a-z]{1,5}(;by=\"[ -!#-\\[\\]-~]{0,9}\")?, ?){0,3}") {
            let host = port.map_or("a.localhost".to_owned(), |port| format!("[::1]:{port}"));
            let whole = format!("{list}{}", our_element(client, &host, "http"));
            prop_assert!(is_valid(whole.as_bytes()), "{whole}");
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            is_valid(&bytes);
        }
    }
}
