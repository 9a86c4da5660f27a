//! What a container listens on, read from the kernel's own tables.

use super::DockerEngine;
use crate::engine::EngineError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The engine's name server inside every container.
const ENGINE_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// State `TCP_LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

impl DockerEngine {
    /// Addresses that a running container listens on (TCP), in order; empty
    /// if it does not run.
    pub async fn listening(&self, container: &str) -> Result<Vec<SocketAddr>, EngineError> {
        let Some(pid) = self.pid(container).await? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for table in ["tcp", "tcp6"] {
            // The process may end at any moment: no table, no listener.
            let text = tokio::fs::read_to_string(format!("/proc/{pid}/net/{table}")).await;
            found.extend(listeners(&text.unwrap_or_default()));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// The listeners of a table in the form of `/proc/net/tcp` or `tcp6`, without
/// the engine's name server.
fn listeners(table: &str) -> impl Iterator<Item = SocketAddr> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let local = fields.next()?;
            (fields.nth(1)? == LISTEN).then(|| socket_address(local))?
        })
        .filter(|address| address.ip() != ENGINE_DNS)
}

/// `0100007F:1F90` → `127.0.0.1:8080`: words of 32 bits in the host's order.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<u8> = (0..address.len() / 8)
        .map(|word| u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok())
        .collect::<Option<Vec<u32>>>()?
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    let ip = match words.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(words).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0B00007F:8F5B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 3 1
   3: 0200010A:1388 0100010A:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4 1
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 0:0
   1: 00000000000000000000000001000000:0BB9 00000000000000000000000000000000:0000 0A 0:0
";

    #[test]
    fn listeners_are_read_and_the_engines_dns_is_not_one() {
        let found: Vec<String> = listeners(TCP).chain(listeners(TCP6)).map(|a| a.to_string()).collect();
        assert_eq!(found, ["127.0.0.1:8080", "0.0.0.0:5000", "[::]:3000", "[::1]:3001"]);
    }

    #[test]
    fn nonsense_is_no_listener() {
        for text in ["", "x\n", "x\n 0: zz:1 0:0 0A", "x\n 0: 01:1 0:0 0A", "x\n 0: 0100007F 0:0 0A"] {
            assert_eq!(listeners(text).count(), 0, "{text:?}");
        }
    }
}
