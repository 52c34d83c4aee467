//! Connection slots: admission, and eviction when there are too many connections (load shedding).
//!
//! Connections are limited in all and by source: an IPv4 address or a /64 of IPv6, because who has one
//! address of it has all. If the newest were always refused, idle connections could lock every caller out.
//! So the longest idle one is evicted instead: it has nothing in flight, and its client connects anew.
//!
//! The listeners differ in whom they evict ([`Eviction`]):
//!
//! - **Callers' listener**: only idle connections that have had requests, none of them authenticated. A new
//!   connection is not authenticated either, and must not push out one that is. One that has said nothing
//!   yet is gone within `first_byte` anyway; to evict it earlier would let a flood of connections end each
//!   other before any request.
//! - **Admin listener**: any, because a probe that is refused restarts the process. Idle before busy,
//!   unauthenticated before authenticated, then the longest idle or oldest. What an operator has begun is
//!   finished in any case.
//!
//! Only [`SAMPLE`] connections are compared, round robin, so eviction costs the same however many there are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use ahash::RandomState;
use indexmap::IndexMap;
use tokio::sync::Notify;

use super::peer::ConnectionState;
use crate::identity::network;
use crate::telemetry::metrics::connections::{ConnectionMetrics, Reason};

#[derive(Debug)]
pub(crate) struct ConnectionSlots {
    most: usize,
    most_of_a_source: usize,
    eviction: Eviction,
    table: Mutex<SlotTable>,
    refusals: ConnectionMetrics,
}

/// Which connection may be evicted for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// One that is idle and has had requests, none of them authenticated.
    IdleUnauthenticated,
    /// Any, in the order of [`EvictionRank`].
    Any,
}

/// One connection's slot; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    occupant: Arc<Occupant>,
}

#[derive(Debug, Default)]
struct SlotTable {
    next: u64,
    all: ConnectionRing,
    of_source: HashMap<IpAddr, ConnectionRing, RandomState>,
}

/// Connections, sampled round robin.
#[derive(Debug, Default)]
struct ConnectionRing {
    connections: IndexMap<u64, Arc<Occupant>, RandomState>,
    hand: usize,
}

#[derive(Debug)]
struct Occupant {
    number: u64,
    came: Duration,
    source: OnceLock<IpAddr>,
    state: ConnectionState,
    evicted: Notify,
}

/// In the order of eviction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionRank {
    IdleUnauthenticated,
    IdleAuthenticated,
    BusyUnauthenticated,
    BusyAuthenticated,
}

impl ConnectionSlots {
    pub(crate) fn new(
        most: usize,
        most_of_a_source: usize,
        eviction: Eviction,
        refusals: ConnectionMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_of_a_source,
            eviction,
            table: Mutex::default(),
            refusals,
        })
    }

    /// A slot for a connection that comes `now`, if one is free or can be made free.
    pub(crate) fn acquire(self: &Arc<Self>, now: Duration) -> Option<ConnectionSlot> {
        let mut table = self.table();
        if table.all.connections.len() >= self.most {
            self.refusals.refused(Reason::Connections);
            let evicted = table.all.longest_idle(self.eviction)?;
            table.evict(&evicted);
        }
        table.next += 1;
        let occupant = Arc::new(Occupant {
            number: table.next,
            came: now,
            source: OnceLock::new(),
            state: ConnectionState::new(now),
            evicted: Notify::new(),
        });
        table.all.add(&occupant);
        Some(ConnectionSlot {
            slots: Arc::clone(self),
            occupant,
        })
    }

    fn table(&self) -> MutexGuard<'_, SlotTable> {
        self.table
            .lock()
            .expect("nothing panics with the table locked")
    }
}

impl ConnectionSlot {
    /// Whether one more connection from `address` is within its source's limit, or another can be evicted.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        let source = network(address);
        let mut table = self.slots.table();
        if !table.all.connections.contains_key(&self.occupant.number) {
            // It has been evicted meanwhile.
            return false;
        }
        let ring = table.of_source.entry(source).or_default();
        if ring.connections.len() >= self.slots.most_of_a_source {
            self.slots.refusals.refused(Reason::ConnectionsPerSource);
            let Some(evicted) = ring.longest_idle(self.slots.eviction) else {
                return false;
            };
            table.evict(&evicted);
        }
        self.occupant
            .source
            .set(source)
            .expect("a connection is admitted once");
        let ring = table.of_source.entry(source).or_default();
        ring.add(&self.occupant);
        true
    }

    pub(super) fn state(&self) -> &ConnectionState {
        &self.occupant.state
    }

    /// Whether an evicted connection ends without its requests being waited for. A caller's had none when
    /// it was chosen; one that has begun since is finished.
    pub(super) fn ends_at_once(&self) -> bool {
        self.slots.eviction == Eviction::Any || self.state().idle_since().is_some()
    }

    /// Waits until the slot is needed for another connection.
    pub(super) async fn evicted(&self) {
        self.occupant.evicted.notified().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.table().remove(&self.occupant);
    }
}

impl Occupant {
    fn rank(&self) -> (EvictionRank, Duration, u64) {
        let idle_since = self.state.idle_since();
        let rank = match (idle_since.is_some(), self.state.is_authenticated()) {
            (true, false) => EvictionRank::IdleUnauthenticated,
            (true, true) => EvictionRank::IdleAuthenticated,
            (false, false) => EvictionRank::BusyUnauthenticated,
            (false, true) => EvictionRank::BusyAuthenticated,
        };
        (rank, idle_since.unwrap_or(self.came), self.number)
    }
}

impl SlotTable {
    /// Frees a slot at once; the connection is gone when its task has noticed.
    fn evict(&mut self, occupant: &Occupant) {
        self.remove(occupant);
        occupant.evicted.notify_one();
    }

    fn remove(&mut self, occupant: &Occupant) {
        self.all.connections.swap_remove(&occupant.number);
        let Some(source) = occupant.source.get() else {
            return;
        };
        if let Some(ring) = self.of_source.get_mut(source) {
            ring.connections.swap_remove(&occupant.number);
            if ring.connections.is_empty() {
                self.of_source.remove(source);
            }
        }
    }
}

impl ConnectionRing {
    fn add(&mut self, occupant: &Arc<Occupant>) {
        self.connections
            .insert(occupant.number, Arc::clone(occupant));
    }

    /// The longest idle of a sample, if it may be evicted.
    fn longest_idle(&mut self, eviction: Eviction) -> Option<Arc<Occupant>> {
        let count = self.connections.len();
        let from = self.hand;
        self.hand = (from + SAMPLE).checked_rem(count)?;
        (from..from + SAMPLE.min(count))
            .filter_map(|at| self.connections.get_index(at % count))
            .map(|(_, occupant)| (occupant.rank(), occupant))
            .filter(|((rank, ..), occupant)| {
                let is_idle_unauthenticated =
                    *rank == EvictionRank::IdleUnauthenticated && occupant.state.has_begun();
                eviction == Eviction::Any || is_idle_unauthenticated
            })
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, occupant)| Arc::clone(occupant))
    }
}

/// How many connections are compared: all of an admin listener's.
const SAMPLE: usize = 100;

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::atlas::Timestamp;
    use crate::system::{Clock, ManualClock};

    struct TestListener {
        slots: Arc<ConnectionSlots>,
        clock: Clock,
        manual_clock: ManualClock,
    }

    impl TestListener {
        fn new(most: usize, most_of_a_source: usize, eviction: Eviction) -> Self {
            let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(0));
            let refusals = ConnectionMetrics::register(&mut Registry::default());
            Self {
                slots: ConnectionSlots::new(most, most_of_a_source, eviction, refusals),
                clock,
                manual_clock,
            }
        }

        /// A connection that has said nothing so far, a second after the one before.
        fn connect(&self, address: &str) -> Option<ConnectionSlot> {
            self.manual_clock.advance(Duration::from_secs(1));
            let slot = self.slots.acquire(self.clock.elapsed())?;
            slot.admits(address.parse().unwrap()).then_some(slot)
        }

        /// One with a request in flight.
        fn busy(&self, address: &str) -> ConnectionSlot {
            let slot = self.connect(address).unwrap();
            slot.state().set_begun();
            slot.state().set_busy();
            slot
        }

        /// One whose request was answered.
        fn idle(&self, address: &str) -> ConnectionSlot {
            let slot = self.busy(address);
            slot.state().set_idle(self.clock.elapsed());
            slot
        }
    }

    fn has_ended(slot: &ConnectionSlot) -> bool {
        let table = slot.slots.table();
        !table.all.connections.contains_key(&slot.occupant.number)
    }

    #[test]
    fn each_network_has_its_own_places_and_gets_them_back() {
        let listener = TestListener::new(100, 2, Eviction::IdleUnauthenticated);
        let mut slots = Vec::new();
        for address in [
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "2001:db8::1",
            "2001:db8::2",
        ] {
            let slot = listener.connect(address).unwrap();
            slot.state().set_authenticated();
            slots.push(slot);
        }
        assert!(listener.connect("192.0.2.1").is_none());
        assert!(listener.connect("2001:db8::3").is_none());
        assert!(listener.connect("2001:db8:0:1::3").is_some());
        slots.remove(0);
        assert!(listener.connect("192.0.2.1").is_some());
        drop(slots);
        let table = listener.slots.table();
        assert!(table.of_source.is_empty() && table.all.connections.is_empty());
    }

    #[test]
    fn a_stranger_that_was_answered_yields_to_a_newest_the_longest_first() {
        for (most, most_of_a_source) in [(3, 100), (100, 3)] {
            let listener = TestListener::new(most, most_of_a_source, Eviction::IdleUnauthenticated);
            let known = listener.idle("192.0.2.1");
            known.state().set_authenticated();
            let oldest = listener.idle("192.0.2.1");
            let newest = listener.idle("192.0.2.1");
            let silent = listener.connect("192.0.2.1").unwrap();
            assert!(has_ended(&oldest) && !has_ended(&newest));
            let busy = listener.busy("192.0.2.1");
            assert!(has_ended(&newest) && !has_ended(&silent));
            // What is left is known, or busy, or has its time to say something.
            assert!(listener.connect("192.0.2.1").is_none());
            assert!(!has_ended(&known) && !has_ended(&silent) && !has_ended(&busy));
        }
    }

    #[test]
    fn the_admin_listener_evicts_idle_ones_first_and_then_any() {
        let listener = TestListener::new(100, 4, Eviction::Any);
        let busy_known = listener.busy("192.0.2.1");
        busy_known.state().set_authenticated();
        let busy = listener.busy("192.0.2.1");
        let idle_known = listener.idle("192.0.2.1");
        idle_known.state().set_authenticated();
        let idle = listener.idle("192.0.2.1");
        let mut newest_of_all = Vec::new();
        for evicted in [&idle, &idle_known, &busy, &busy_known] {
            assert!(!has_ended(evicted));
            let newest = listener.busy("192.0.2.1");
            newest.state().set_authenticated();
            assert!(has_ended(evicted));
            newest_of_all.push(newest);
        }
    }

    #[tokio::test]
    async fn an_evicted_connection_is_told_even_if_it_waits_only_later() {
        let listener = TestListener::new(1, 1, Eviction::Any);
        let slot = listener.connect("192.0.2.1").unwrap();
        let _newest = listener.connect("192.0.2.2").unwrap();
        slot.evicted().await;
    }
}
