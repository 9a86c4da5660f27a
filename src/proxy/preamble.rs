//! The PROXY protocol, versions 1 and 2: what a load balancer in front of us says
//! about the connection that it passes on. Read strictly, and one way.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, its end included.
const LINE: usize = 107;
/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Before the addresses of version 2.
const FIXED: usize = 16;
/// Addresses and what may follow them: certificates' names, unique ids.
const EXTRA: usize = 2048;

/// The most bytes that a preamble can have.
pub const LONGEST: usize = FIXED + EXTRA;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preamble {
    /// The beginning of one.
    Partial,
    /// Something else.
    Invalid,
    /// One.
    Complete {
        /// Its bytes; what follows is the client's.
        length: usize,
        /// The client, and the address that it connected to; none for connections of the
        /// load balancer's own, and of kinds that have no such addresses.
        addresses: Option<(SocketAddr, SocketAddr)>,
    },
}

/// Reads the preamble at the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Preamble {
    if is_beginning(bytes, SIGNATURE) {
        return if bytes.len() < FIXED { Preamble::Partial } else { binary(bytes) };
    }
    if is_beginning(bytes, b"PROXY ") { line(bytes) } else { Preamble::Invalid }
}

/// Whether one begins with the other, as far as there is anything.
fn is_beginning(bytes: &[u8], wanted: &[u8]) -> bool {
    let common = bytes.len().min(wanted.len());
    bytes[..common] == wanted[..common]
}

fn line(bytes: &[u8]) -> Preamble {
    let visible = &bytes[..bytes.len().min(LINE)];
    let Some(end) = visible.iter().position(|&byte| byte == b'\n') else {
        return if visible.len() < LINE { Preamble::Partial } else { Preamble::Invalid };
    };
    let text = visible[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let Some(text) = text else { return Preamble::Invalid };
    let length = end + 1;
    if text == "PROXY UNKNOWN" || text.starts_with("PROXY UNKNOWN ") {
        return Preamble::Complete { length, addresses: None };
    }
    match addresses_of(text) {
        Some(addresses) => Preamble::Complete { length, addresses: Some(addresses) },
        None => Preamble::Invalid,
    }
}

fn addresses_of(text: &str) -> Option<(SocketAddr, SocketAddr)> {
    let words: Vec<&str> = text.split(' ').collect();
    let ["PROXY", family, from, to, from_port, to_port] = words[..] else { return None };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let from = SocketAddr::new(address(from)?, port(from_port)?);
    Some((from, SocketAddr::new(address(to)?, port(to_port)?)))
}

/// Digits alone, without zeros in front.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

fn binary(bytes: &[u8]) -> Preamble {
    let (command, family) = (bytes[12], bytes[13]);
    let extra = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let known = matches!(command, 0x20 | 0x21) && family >> 4 <= 3 && family & 0xf <= 2;
    if !known || extra > EXTRA {
        return Preamble::Invalid;
    }
    let length = FIXED + extra;
    let Some(content) = bytes.get(FIXED..length) else { return Preamble::Partial };
    let addresses = match (command, family) {
        (0x21, 0x11) => four(content),
        (0x21, 0x21) => six(content),
        // The load balancer's own, or of another kind: passed over, as it says.
        _ => return Preamble::Complete { length, addresses: None },
    };
    match addresses {
        Some(addresses) => Preamble::Complete { length, addresses: Some(addresses) },
        None => Preamble::Invalid,
    }
}

fn four(content: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (from, rest) = content.split_first_chunk::<4>()?;
    let (to, rest) = rest.split_first_chunk::<4>()?;
    let (from_port, to_port) = ports(rest)?;
    Some((SocketAddr::from((*from, from_port)), SocketAddr::from((*to, to_port))))
}

fn six(content: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (from, rest) = content.split_first_chunk::<16>()?;
    let (to, rest) = rest.split_first_chunk::<16>()?;
    let (from_port, to_port) = ports(rest)?;
    Some((SocketAddr::from((*from, from_port)), SocketAddr::from((*to, to_port))))
}

fn ports(bytes: &[u8]) -> Option<(u16, u16)> {
    let (from, rest) = bytes.split_first_chunk::<2>()?;
    let (to, _) = rest.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*from), u16::from_be_bytes(*to)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn complete(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
        match parse(bytes) {
            Preamble::Complete { length, addresses } if length == bytes.len() => addresses,
            other => panic!("{other:?} for {bytes:?}"),
        }
    }

    fn second(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, content].concat()
    }

    #[test]
    fn both_versions_name_the_client() {
        let four = Some(("192.0.2.1:1234".parse().unwrap(), "198.51.100.2:443".parse().unwrap()));
        let six = Some(("[2001:db8::1]:1234".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap()));
        assert_eq!(complete(b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n"), four);
        assert_eq!(complete(b"PROXY TCP6 2001:db8::1 2001:db8::2 1234 443\r\n"), six);
        assert_eq!(complete(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(complete(b"PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n"), None);
        let content = [192, 0, 2, 1, 198, 51, 100, 2, 0x04, 0xd2, 0x01, 0xbb];
        assert_eq!(complete(&second(0x21, 0x11, &content)), four);
        assert_eq!(complete(&second(0x21, 0x11, &[&content[..], &[4, 0, 1, 0]].concat())), four);
        assert_eq!(complete(&second(0x20, 0x00, b"")), None);
        assert_eq!(complete(&second(0x21, 0x31, &[0; 216])), None);
    }

    #[test]
    fn what_is_not_quite_one_is_none() {
        let lines = [
            "PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.2 1234 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1234\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1234 443 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 01234 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1234 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1234 65536\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 1234 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1234 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1234 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1234 443\r\n",
            "PROXY UNKNOWNS\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.2 1234 443\r\n",
            "GET / HTTP/1.1\r\n",
        ];
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        for line in lines.into_iter().chain([long.as_str()]) {
            assert_eq!(parse(line.as_bytes()), Preamble::Invalid, "{line:?}");
        }
        for bytes in [
            second(0x31, 0x11, &[0; 12]),
            second(0x22, 0x11, &[0; 12]),
            second(0x21, 0x41, &[0; 12]),
            second(0x21, 0x13, &[0; 12]),
            second(0x21, 0x11, &[0; 11]),
            second(0x21, 0x21, &[0; 12]),
            second(0x20, 0x00, &[0; EXTRA + 1]),
        ] {
            assert_eq!(parse(&bytes), Preamble::Invalid, "{bytes:?}");
        }
    }

    fn whole() -> impl Strategy<Value = Vec<u8>> {
        let address = (any::<bool>(), any::<u128>(), any::<u32>(), any::<u16>());
        (address, any::<bool>(), 0..40usize).prop_map(|((six, long, short, port), text, more)| {
            let (long, short) = (Ipv6Addr::from(long), Ipv4Addr::from(short));
            match (text, six) {
                (true, true) => format!("PROXY TCP6 {long} {long} {port} {port}\r\n").into_bytes(),
                (true, false) => format!("PROXY TCP4 {short} {short} {port} {port}\r\n").into_bytes(),
                (false, six) => {
                    let octets = if six { long.octets().repeat(2) } else { short.octets().repeat(2) };
                    let content = [octets, port.to_be_bytes().repeat(2), vec![0; more]].concat();
                    second(0x21, if six { 0x21 } else { 0x11 }, &content)
                }
            }
        })
    }

    proptest! {
        #[test]
        fn every_part_of_one_is_partial_and_what_follows_does_not_matter(
            bytes in whole(), tail in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let read = parse(&bytes);
            let whole = matches!(read, Preamble::Complete { length, addresses: Some(_) } if length == bytes.len());
            prop_assert!(whole, "{:?}", read);
            for cut in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..cut]), Preamble::Partial, "{} of {}", cut, bytes.len());
            }
            prop_assert_eq!(parse(&[bytes, tail].concat()), read);
        }

        #[test]
        fn no_bytes_make_it_panic_or_wait_for_ever(bytes in proptest::collection::vec(any::<u8>(), 0..3000), begin in 0..3usize) {
            let bytes = [[&b""[..], b"PROXY ", SIGNATURE][begin], &bytes].concat();
            match parse(&bytes) {
                Preamble::Partial => prop_assert!(bytes.len() < LONGEST),
                Preamble::Invalid => {}
                Preamble::Complete { length, .. } => prop_assert!(length <= bytes.len() && length <= LONGEST),
            }
        }
    }
}
