//! What one source address may hold of a serving end: a share of its connections and of its handshakes.
//!
//! A handshake comes before anybody knows whose it is. So that one place cannot take them all, each address has turns of its
//! own, and waits for those behind itself alone.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many connections a serving end has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// At a time; the next wait in the kernel's queue.
    pub all: usize,
    /// Of one member at a time. A node needs two; the rest is for those that broke and were not noticed yet. One more
    /// closes the oldest.
    pub of_member: usize,
    /// Handshakes at a time: each costs a signature, and somebody may want them all.
    pub handshakes: usize,
    /// Percent of the connections and of the handshakes that one source address may have, and one of each at least.
    pub address_percent: u8,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { all: 4_096, of_member: 16, handshakes: 64, address_percent: 25 }
    }
}

impl ConnectionLimits {
    /// Connections of one source address at a time.
    pub fn of_address(&self) -> usize {
        self.share(self.all)
    }

    /// Handshakes of one source address at a time.
    pub fn handshakes_of_address(&self) -> usize {
        self.share(self.handshakes)
    }

    fn share(&self, whole: usize) -> usize {
        (whole.saturating_mul(self.address_percent.into()) / 100).clamp(1, whole.max(1))
    }
}

/// Where connections come from: an IPv4 address, or the /64 that a subscriber with IPv6 has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source(IpAddr);

impl Source {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address => address,
        })
    }
}

#[derive(Debug)]
struct Use {
    connections: usize,
    turns: Arc<Semaphore>,
}

/// The addresses that have connections.
#[derive(Debug)]
pub(super) struct Addresses {
    connections: usize,
    handshakes: usize,
    uses: Mutex<HashMap<Source, Use>>,
}

/// A connection's place among those of its address; dropped, there is room for another.
#[derive(Debug)]
pub(super) struct Place {
    addresses: Arc<Addresses>,
    source: Source,
    turns: Arc<Semaphore>,
}

impl Addresses {
    pub(super) fn new(limits: &ConnectionLimits) -> Arc<Self> {
        let (connections, handshakes) = (limits.of_address(), limits.handshakes_of_address());
        Arc::new(Self { connections, handshakes, uses: Mutex::default() })
    }

    /// A place for a connection from `address`; `None`: it has its share of them.
    pub(super) fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let source = Source::of(address);
        let mut uses = self.lock();
        let held = uses
            .entry(source)
            .or_insert_with(|| Use { connections: 0, turns: Arc::new(Semaphore::new(self.handshakes)) });
        if held.connections >= self.connections {
            return None;
        }
        held.connections += 1;
        Some(Place { addresses: Arc::clone(self), source, turns: Arc::clone(&held.turns) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Source, Use>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits for a turn to shake hands among the connections of the same address.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut uses = self.addresses.lock();
        if let Some(held) = uses.get_mut(&self.source) {
            held.connections -= 1;
            if held.connections == 0 {
                uses.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn limits(all: usize, address_percent: u8) -> ConnectionLimits {
        ConnectionLimits { all, address_percent, ..ConnectionLimits::default() }
    }

    #[test]
    fn an_address_has_its_share_of_the_connections_and_gets_it_back() {
        let addresses = Addresses::new(&limits(8, 25));
        let one = address("203.0.113.7");
        let places: Vec<_> = (0..2).map(|_| addresses.place(one).expect("within the share")).collect();
        assert!(addresses.place(one).is_none(), "a quarter of 8 is 2");
        assert!(addresses.place(address("203.0.113.8")).is_some(), "others have theirs");
        drop(places);
        assert!(addresses.lock().is_empty(), "nobody is remembered who holds nothing");
        assert!(addresses.place(one).is_some());
    }

    #[test]
    fn the_addresses_of_one_subscriber_are_one() {
        let addresses = Addresses::new(&limits(4, 25));
        let _place = addresses.place(address("2001:db8:1:2::1")).expect("the first");
        assert!(addresses.place(address("2001:db8:1:2:ffff::9")).is_none(), "the same /64");
        assert!(addresses.place(address("2001:db8:1:3::1")).is_some(), "another /64");
        let _mapped = addresses.place(address("::ffff:203.0.113.7")).expect("IPv4 in IPv6");
        assert!(addresses.place(address("203.0.113.7")).is_none(), "is the same IPv4 address");
    }

    #[test]
    fn a_share_is_one_at_least_and_the_whole_at_most() {
        let of = |all, percent| limits(all, percent).of_address();
        assert_eq!((of(3, 1), of(1, 25), of(10, 100), of(4_096, 25)), (1, 1, 10, 1_024));
    }
}
