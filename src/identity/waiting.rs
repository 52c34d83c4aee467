//! Places for those who wait until an issuer's keys have been fetched: few, and few for each asker.
//!
//! Anybody can name a key that nobody knows, so strangers decide how many would wait. Whoever finds no
//! place is told at once to come again. One source cannot take all places: when an issuer has changed
//! its keys, callers from elsewhere still find one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who shows a token, as far as is known before it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// Somebody at the public listener, by address or, for IPv6, by network: whoever has one address has
    /// the 2^64 beside it too.
    Caller(IpAddr),
    /// Somebody at the admin listener. Callers take no place of theirs.
    Operator,
}

/// The places of one issuer.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    callers: usize,
    by_asker: HashMap<Asker, usize>,
}

/// One place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'w> {
    waiting: &'w Waiting,
    asker: Asker,
}

impl Asker {
    /// Somebody who calls from this address.
    pub fn at(address: IpAddr) -> Self {
        Self::Caller(network(address))
    }
}

/// The source that an address belongs to: whoever has one IPv6 address has the 2^64 beside it too.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
    }
}

impl Waiting {
    /// A place, if there is one.
    pub(super) fn enter(&self, asker: Asker) -> Option<Place<'_>> {
        let mut counts = self.counts();
        let is_caller = matches!(asker, Asker::Caller(_));
        if is_caller && counts.callers >= MOST_CALLERS {
            return None;
        }
        let count = counts.by_asker.entry(asker).or_default();
        if *count >= MOST_PER_ASKER {
            return None;
        }
        *count += 1;
        counts.callers += usize::from(is_caller);
        Some(Place {
            waiting: self,
            asker,
        })
    }

    /// How many callers wait.
    pub(super) fn callers(&self) -> usize {
        self.counts().callers
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counting cannot panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut counts = self.waiting.counts();
        counts.callers -= usize::from(matches!(self.asker, Asker::Caller(_)));
        if let Entry::Occupied(mut count) = counts.by_asker.entry(self.asker) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

const MOST_CALLERS: usize = 512;
const MOST_PER_ASKER: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Asker {
        Asker::at(address.parse().unwrap())
    }

    #[test]
    fn a_source_takes_its_share_of_the_places_and_operators_have_their_own() {
        let waiting = Waiting::default();
        let enter = |asker| -> Vec<Place<'_>> {
            std::iter::from_fn(|| waiting.enter(asker))
                .take(10_000)
                .collect()
        };
        let places: Vec<Vec<Place<'_>>> = (1..=6)
            .map(|host| enter(from(&format!("192.0.2.{host}"))))
            .collect();
        let counts: Vec<usize> = places.iter().map(Vec::len).collect();
        assert_eq!(counts, [128, 128, 128, 128, 0, 0]);
        assert_eq!(waiting.callers(), 512);
        let operators = enter(Asker::Operator);
        assert_eq!(operators.len(), 128);
        drop(places);
        drop(operators);
        assert_eq!(waiting.callers(), 0);
        assert!(waiting.counts().by_asker.is_empty());
        // One network of IPv6 is one source, and so is IPv4 however it is written.
        let network = enter(from("2001:db8::1"));
        assert_eq!(network.len(), 128);
        assert!(waiting.enter(from("2001:db8::ffff:1")).is_none());
        assert!(waiting.enter(from("2001:db8:0:1::1")).is_some());
        let _plain = enter(from("192.0.2.1"));
        assert!(waiting.enter(from("::ffff:192.0.2.1")).is_none());
    }
}
