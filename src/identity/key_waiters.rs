//! Callers that wait until an issuer's keys have been fetched: a bounded queue, fair between sources.
//!
//! Any stranger can name a key that is not known, so strangers decide how many would wait. A caller that finds no
//! place is told at once to come again. One source cannot take all places: when an issuer has changed
//! its keys, callers from elsewhere still find one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who shows a token, as far as is known before it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requester {
    /// A caller at the public listener, by its source.
    Caller(IpAddr),
    /// An operator at the admin listener. Callers take no place of theirs.
    Operator,
}

/// How many wait for the keys of one issuer, by requester; none of them 0.
#[derive(Debug, Default)]
pub(super) struct KeyWaiters(Mutex<HashMap<Requester, usize>>);

/// One place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct KeyWaiter<'w> {
    waiters: &'w KeyWaiters,
    requester: Requester,
}

impl Requester {
    pub(crate) fn at(address: IpAddr) -> Self {
        Self::Caller(network(address))
    }
}

/// The source that an address belongs to: who has one IPv6 address has the 2^64 beside it too.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
    }
}

impl KeyWaiters {
    pub(super) fn enter(&self, requester: Requester) -> Option<KeyWaiter<'_>> {
        let mut counts = self.counts();
        if requester != Requester::Operator && callers(&counts) >= MOST_CALLERS {
            return None;
        }
        let count = counts.entry(requester).or_default();
        if *count >= MOST_PER_REQUESTER {
            return None;
        }
        *count += 1;
        Some(KeyWaiter {
            waiters: self,
            requester,
        })
    }

    pub(super) fn callers(&self) -> usize {
        callers(&self.counts())
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Requester, usize>> {
        // Counting cannot panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn callers(counts: &HashMap<Requester, usize>) -> usize {
    let callers = counts
        .iter()
        .filter(|(who, _)| **who != Requester::Operator);
    callers.map(|(_, count)| count).sum()
}

impl Drop for KeyWaiter<'_> {
    fn drop(&mut self) {
        let mut counts = self.waiters.counts();
        let count = counts.get_mut(&self.requester);
        let count = count.expect("a waiter is counted until it is dropped");
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.requester);
        }
    }
}

const MOST_CALLERS: usize = 512;
const MOST_PER_REQUESTER: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Requester {
        Requester::at(address.parse().unwrap())
    }

    #[test]
    fn a_source_takes_its_share_of_the_places_and_operators_have_their_own() {
        let waiting = KeyWaiters::default();
        let enter = |requester| -> Vec<KeyWaiter<'_>> {
            std::iter::from_fn(|| waiting.enter(requester))
                .take(10_000)
                .collect()
        };
        let places: Vec<Vec<KeyWaiter<'_>>> = (1..=6)
            .map(|host| enter(from(&format!("192.0.2.{host}"))))
            .collect();
        let counts: Vec<usize> = places.iter().map(Vec::len).collect();
        assert_eq!(counts, [128, 128, 128, 128, 0, 0]);
        assert_eq!(waiting.callers(), 512);
        let operators = enter(Requester::Operator);
        assert_eq!(operators.len(), 128);
        drop(places);
        drop(operators);
        assert_eq!(waiting.callers(), 0);
        assert!(waiting.counts().is_empty());
        // One network of IPv6 is one source, and so is IPv4 however it is written.
        let network = enter(from("2001:db8::1"));
        assert_eq!(network.len(), 128);
        assert!(waiting.enter(from("2001:db8::ffff:1")).is_none());
        assert!(waiting.enter(from("2001:db8:0:1::1")).is_some());
        let _plain = enter(from("192.0.2.1"));
        assert!(waiting.enter(from("::ffff:192.0.2.1")).is_none());
    }
}
