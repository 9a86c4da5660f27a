//! What one address may have at a time: connections, and requests on all of them.

use std::collections::HashMap;
use std::collections::hash_map;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections and requests per address; loopback is not counted.
pub(super) struct Peers {
    connections: u32,
    requests: u32,
    counts: Arc<Mutex<Counts>>,
}

type Counts = HashMap<IpAddr, Load>;

struct Load {
    connections: u32,
    requests: Arc<AtomicU32>,
}

/// A connection's count, given back when dropped.
pub(super) struct Seat {
    peer: Option<IpAddr>,
    /// Of all its address's connections.
    requests: Arc<AtomicU32>,
    limit: u32,
    counts: Arc<Mutex<Counts>>,
}

impl Peers {
    /// At most so many of either per IPv4 address or IPv6 /64.
    pub(super) fn new(connections: u32, requests: u32) -> Self {
        Self { connections, requests, counts: Arc::default() }
    }

    /// Counts one more connection, unless the address has its fill.
    pub(super) fn admit(&self, peer: IpAddr) -> Option<Seat> {
        let counts = Arc::clone(&self.counts);
        if peer.is_loopback() {
            return Some(Seat { peer: None, requests: Arc::default(), limit: u32::MAX, counts });
        }
        let peer = network(peer);
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let load = all.entry(peer).or_insert_with(|| Load { connections: 0, requests: Arc::default() });
        if load.connections >= self.connections {
            return None;
        }
        load.connections += 1;
        let requests = Arc::clone(&load.requests);
        Some(Seat { peer: Some(peer), requests, limit: self.requests, counts })
    }
}

impl Seat {
    /// Counts one more request; whether its address may have it.
    pub(super) fn request(&self) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed) < self.limit
    }

    /// One has ended.
    pub(super) fn answered(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let hash_map::Entry::Occupied(mut load) = all.entry(peer) {
            load.get_mut().connections -= 1;
            if load.get().connections == 0 {
                load.remove();
            }
        }
    }
}

/// Whoever has one IPv6 address has the /64 around it.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_fill_and_gets_it_back() {
        let peers = Peers::new(2, 9);
        let first = peers.admit(address("192.0.2.1"));
        let second = peers.admit(address("192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(peers.admit(address("192.0.2.1")).is_none());
        assert!(peers.admit(address("192.0.2.2")).is_some());
        drop(first);
        let third = peers.admit(address("192.0.2.1"));
        assert!(third.is_some());
        drop((second, third));
        assert!(peers.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_and_loopback_not_at_all() {
        let peers = Peers::new(1, 9);
        let _first = peers.admit(address("2001:db8::1")).unwrap();
        assert!(peers.admit(address("2001:db8::ffff:1")).is_none());
        assert!(peers.admit(address("2001:db8:0:1::1")).is_some());
        let local: Vec<_> = (0..5).map(|_| peers.admit(address("127.0.0.1")).unwrap()).collect();
        assert_eq!(local.len(), 5);
    }
}
