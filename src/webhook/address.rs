//! Where messages may go: not to the server itself, its apps or its network.

use super::Undelivered;
use hyper::Uri;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long a name's resolution may take.
const RESOLVE: Duration = Duration::from_secs(5);

/// Where the proxy serves the world: another app of this server may be told.
const PUBLIC_PORTS: [u16; 2] = [80, 443];

/// Longest address.
const LONGEST: usize = 2000;

/// What is nobody's public address. Documentation and benchmark ranges are among
/// them: routers of a private network may still lead there.
const PRIVATE: [&str; 25] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// An address that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whether it is to be `https`.
    pub tls: bool,
    /// Name or number.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// As `Host` says it.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

impl Place {
    /// Reads `https://example.com/path`; what is wrong with it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        if url.len() > LONGEST || !url.bytes().all(|c| c.is_ascii_graphic()) {
            return Err("it is too long, or has characters that no address has");
        }
        let uri: Uri = url.parse().map_err(|_| "it is no address")?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it begins neither with https:// nor with http://"),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("user and password are not sent; use a secret, or put a token into the path");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("it names no host");
        }
        // `Authority::port` passes over one that is too large.
        let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
            "" if tls => 443,
            "" => 80,
            port => port[1..].parse().ok().filter(|port| *port > 0).ok_or("its port is none")?,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: authority.to_string(), target })
    }

    /// Its addresses now, if messages may go to all of them. Whoever connects takes
    /// one of these and does not ask again: the next answer could be another.
    pub async fn resolve(&self, allowed: &[IpNet]) -> Result<Vec<SocketAddr>, Undelivered> {
        let asked = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found = tokio::time::timeout(RESOLVE, asked).await;
        let found: Vec<SocketAddr> = match found {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        if found.is_empty() {
            return Err(Undelivered::NoAddress);
        }
        if let Some(address) = found.iter().find(|address| !may_go_to(address.ip(), allowed)) {
            return Err(Undelivered::Private(address.ip()));
        }
        if !PUBLIC_PORTS.contains(&self.port) && found.iter().any(|one| is_own(one.ip(), allowed)) {
            return Err(Undelivered::Own);
        }
        Ok(found)
    }
}

/// Whether it is an address of this machine. What listens there on other ports may be
/// kept from the world by a firewall in front, which we would be behind.
fn is_own(ip: IpAddr, allowed: &[IpNet]) -> bool {
    let ip = inner(ip);
    let own = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    let mut own = own.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
    });
    !allowed.iter().any(|net| net.contains(&ip)) && own.any(|own| own == ip)
}

/// Whether messages may go to this address.
pub fn may_go_to(ip: IpAddr, allowed: &[IpNet]) -> bool {
    let ip = inner(ip);
    allowed.iter().any(|net| net.contains(&ip))
        || !PRIVATE.iter().filter_map(|net| net.parse::<IpNet>().ok()).any(|net| net.contains(&ip))
}

/// The IPv4 address that is written in an IPv6 one, if there is one.
fn inner(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let v4 = |high: u16, low: u16| IpAddr::from(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        // By NAT64, and by 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        _ => ip,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_range_can_be_read() {
        assert!(PRIVATE.iter().all(|net| net.parse::<IpNet>().is_ok()));
    }

    #[test]
    fn only_public_addresses_are_allowed_unless_the_administrator_says_so() {
        for private in [
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "10.210.0.2",
            "172.17.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001:0:1::1",
        ] {
            assert!(!may_go_to(private.parse().unwrap(), &[]), "{private}");
        }
        for public in
            ["1.1.1.1", "172.32.0.1", "11.0.0.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::"]
        {
            assert!(may_go_to(public.parse().unwrap(), &[]), "{public}");
        }
        let allowed = ["10.1.0.0/16".parse().unwrap()];
        assert!(may_go_to("10.1.2.3".parse().unwrap(), &allowed));
        assert!(may_go_to("::ffff:10.1.2.3".parse().unwrap(), &allowed));
        assert!(!may_go_to("10.2.2.3".parse().unwrap(), &allowed));
    }

    #[test]
    fn addresses_are_read_strictly() {
        let place = Place::parse("https://Hooks.example.com/a?b=c").unwrap();
        assert_eq!((place.tls, place.port, place.target.as_str()), (true, 443, "/a?b=c"));
        let place = Place::parse("http://[::1]:8080").unwrap();
        assert_eq!((place.host.as_str(), place.port, place.target.as_str()), ("::1", 8080, "/"));
        for bad in [
            "",
            "example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://",
            "https://a:b@example.com/",
            "http://example.com:0/",
            "http://example.com:99999/",
            "http://exa mple.com/",
            "http://exämple.com/",
            "http://example.com/\r\nX: y",
            "gopher://127.0.0.1:6379/_",
        ] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
        assert!(Place::parse(&format!("http://example.com/{}", "a".repeat(2000))).is_err());
    }

    #[tokio::test]
    async fn spellings_of_an_address_are_resolved_before_they_are_judged() {
        for host in ["127.1", "2130706433", "0x7f.1", "localhost", "[::ffff:127.0.0.1]", "0"] {
            let place = Place::parse(&format!("http://{host}/")).unwrap();
            let refused = place.resolve(&[]).await.unwrap_err();
            assert!(matches!(refused, Undelivered::Private(_) | Undelivered::NoAddress), "{host}: {refused}");
        }
    }
}
