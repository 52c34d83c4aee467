//! Who may have a connection, and whose ends when there are too many.
//!
//! There is room for so many connections, and for so many of one source: an IPv4 address, or a /64 of
//! IPv6, because whoever has one address of it has all the others. If the newest had to go once there is
//! no room, whoever came first and said nothing would keep everybody else out for as long as it likes. So
//! one that is idle ends for the one that comes, the longest idle first, at once and without being waited
//! for. It has nothing under way, and clients that keep connections connect anew when one is gone.
//!
//! The two listeners differ in who may lose a connection to a newcomer ([`Eviction`]):
//!
//! - **For callers** only strangers: connections that have had requests, none of them authenticated. Whoever
//!   comes is a stranger as well, and must not take from a caller what the caller has been let in for. So
//!   where all the others are callers, the newest goes. A stranger with a request under way is let finish;
//!   requests are bounded by themselves. And so is one that has said nothing yet: it is gone within
//!   `first_byte`, and if it yielded before that, a storm of connections would end each one before its
//!   first request.
//! - **For operators** anyone, because a probe that is not let in restarts the process. Probes, scrapers
//!   and the operators' own shells often have one address. The order is: strangers that are idle,
//!   operators that are idle, strangers with a request under way, and operators with one; of those alike
//!   the longest idle, or the oldest. What an operator has begun is done in any case.
//!
//! To find who is to go costs a look at so many connections at most, round and round, and not at all
//! ten thousand: the longest idle of those is good enough.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use indexmap::IndexMap;
use tokio::sync::Notify;

use super::http2_streams::Http2Streams;
use crate::identity::network;
use crate::server::idleness::Idleness;
use crate::telemetry::metrics::connections::{ConnectionMetrics, Reason};

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    most: usize,
    most_of_a_source: usize,
    eviction: Eviction,
    table: Mutex<SlotTable>,
    refusals: ConnectionMetrics,
}

/// Whose connection may end for a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// One that is idle and has had requests, but none that was authenticated.
    IdleUnauthenticated,
    /// Any, if there is nobody else.
    Any,
}

/// What the requests of a connection have said of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ConnectionState(Arc<SlotState>);

/// One connection's place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    state: Arc<SlotState>,
}

/// What tells whether a connection is idle.
#[derive(Clone, Debug)]
pub(super) enum Requests {
    OneByOne(Idleness),
    Multiplexed(Http2Streams),
}

#[derive(Debug, Default)]
struct SlotTable {
    next: u64,
    all: ConnectionRing,
    of_source: HashMap<IpAddr, ConnectionRing, RandomState>,
}

/// Connections, of which a few are looked at by turns.
#[derive(Debug, Default)]
struct ConnectionRing {
    connections: IndexMap<u64, Arc<SlotState>, RandomState>,
    hand: usize,
}

#[derive(Debug)]
struct SlotState {
    number: u64,
    came: Duration,
    source: OnceLock<IpAddr>,
    /// From the first whole head on; until then a connection is idle.
    requests: OnceLock<Requests>,
    is_authenticated: AtomicBool,
    /// How many requests wait for something else than their records.
    waiting: AtomicUsize,
    end: Notify,
}

/// A request that waits; dropped, it does not any more.
#[derive(Debug)]
pub struct WaitingRequest(ConnectionState);

/// In the order in which they go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionRank {
    IdleUnauthenticated,
    IdleAuthenticated,
    BusyUnauthenticated,
    BusyAuthenticated,
}

impl ConnectionSlots {
    pub(super) fn new(
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

    /// A place for a connection that comes `now`, if there is one or somebody yields.
    pub(super) fn acquire(self: &Arc<Self>, now: Duration) -> Option<ConnectionSlot> {
        let mut table = self.table();
        if table.all.connections.len() >= self.most {
            self.refusals.refused(Reason::Connections);
            let evicted = table.all.longest_idle(self.eviction)?;
            table.end(&evicted);
        }
        table.next += 1;
        let state = Arc::new(SlotState {
            number: table.next,
            came: now,
            source: OnceLock::new(),
            requests: OnceLock::new(),
            is_authenticated: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            end: Notify::new(),
        });
        table.all.add(&state);
        Some(ConnectionSlot {
            slots: Arc::clone(self),
            state,
        })
    }

    fn table(&self) -> MutexGuard<'_, SlotTable> {
        // Nothing in here panics half-way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionSlot {
    /// Whether there is room for a connection from `address`, too, or somebody yields.
    pub(super) fn is_from(&self, address: IpAddr) -> bool {
        let source = network(address);
        let mut table = self.slots.table();
        if !table.all.connections.contains_key(&self.state.number) {
            // It has yielded meanwhile.
            return false;
        }
        let row = table.of_source.entry(source).or_default();
        if row.connections.len() >= self.slots.most_of_a_source {
            self.slots.refusals.refused(Reason::ConnectionsPerSource);
            let Some(evicted) = row.longest_idle(self.slots.eviction) else {
                return false;
            };
            table.end(&evicted);
        }
        // It is set once, here.
        let _ = self.state.source.set(source);
        table.of_source.entry(source).or_default().add(&self.state);
        true
    }

    /// The first whole head has come.
    pub(super) fn serves(&self, requests: &Requests) {
        // It is set once.
        let _ = self.state.requests.set(requests.clone());
    }

    pub(super) fn state(&self) -> ConnectionState {
        ConnectionState(Arc::clone(&self.state))
    }

    /// Whether a connection that yields ends without its requests being waited for. For callers it had none
    /// when it was chosen; one that has begun since is let finish.
    pub(super) fn ends_at_once(&self, requests: &Requests) -> bool {
        self.slots.eviction == Eviction::Any || requests.idle_since().is_some()
    }

    /// Waits until the place is needed for another.
    pub(super) async fn evicted(&self) {
        self.state.end.notified().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.table().remove(&self.state);
    }
}

impl Drop for WaitingRequest {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConnectionState {
    /// A request was authenticated.
    pub fn set_authenticated(&self) {
        // Reading first keeps the cache line shared between cores.
        if !self.0.is_authenticated.load(Ordering::Relaxed) {
            self.0.is_authenticated.store(true, Ordering::Relaxed);
        }
    }

    /// A request waits from now on.
    pub fn wait(&self) -> WaitingRequest {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        WaitingRequest(self.clone())
    }

    /// Whether any request waits.
    pub fn has_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }
}

impl Requests {
    /// Since when none is under way; `None` while one is.
    fn idle_since(&self) -> Option<Duration> {
        match self {
            Self::OneByOne(idleness) => idleness.since(),
            Self::Multiplexed(streams) => streams.idle_since(),
        }
    }
}

impl SlotState {
    /// Whoever has the least goes first.
    fn rank(&self) -> (EvictionRank, Duration, u64) {
        let idle_since = self
            .requests
            .get()
            .map_or(Some(self.came), Requests::idle_since);
        let is_authenticated = self.is_authenticated.load(Ordering::Relaxed);
        match (idle_since, is_authenticated) {
            (Some(since), false) => (EvictionRank::IdleUnauthenticated, since, self.number),
            (Some(since), true) => (EvictionRank::IdleAuthenticated, since, self.number),
            (None, false) => (EvictionRank::BusyUnauthenticated, self.came, self.number),
            (None, true) => (EvictionRank::BusyAuthenticated, self.came, self.number),
        }
    }
}

impl SlotTable {
    /// Ends a connection. Its place is free at once; it is gone when its task has noticed.
    fn end(&mut self, state: &SlotState) {
        self.remove(state);
        state.end.notify_one();
    }

    fn remove(&mut self, state: &SlotState) {
        self.all.connections.swap_remove(&state.number);
        let Some(source) = state.source.get() else {
            return;
        };
        if let Some(row) = self.of_source.get_mut(source) {
            row.connections.swap_remove(&state.number);
            if row.connections.is_empty() {
                self.of_source.remove(source);
            }
        }
    }
}

impl ConnectionRing {
    fn add(&mut self, state: &Arc<SlotState>) {
        self.connections.insert(state.number, Arc::clone(state));
    }

    /// The longest idle of some connections that may yield.
    fn longest_idle(&mut self, eviction: Eviction) -> Option<Arc<SlotState>> {
        let count = self.connections.len();
        let from = self.hand;
        self.hand = (from + LOOKED_AT).checked_rem(count)?;
        (from..from + LOOKED_AT.min(count))
            .filter_map(|at| self.connections.get_index(at.checked_rem(count)?))
            .map(|(_, state)| (state.rank(), state))
            .filter(|((rank, ..), state)| match eviction {
                Eviction::IdleUnauthenticated => {
                    *rank == EvictionRank::IdleUnauthenticated && state.requests.get().is_some()
                }
                Eviction::Any => true,
            })
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, state)| Arc::clone(state))
    }
}

/// How many connections are looked at for one that yields: all of an operators' listener.
const LOOKED_AT: usize = 100;

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::atlas::Timestamp;
    use crate::system::{Clock, ManualClock};

    struct Listener {
        slots: Arc<ConnectionSlots>,
        clock: Clock,
        manual_clock: ManualClock,
    }

    impl Listener {
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
            slot.is_from(address.parse().unwrap()).then_some(slot)
        }

        /// One with a request under way.
        fn busy(&self, address: &str) -> (ConnectionSlot, Idleness) {
            let slot = self.connect(address).unwrap();
            let idleness = Idleness::new(self.clock.clone());
            slot.serves(&Requests::OneByOne(idleness.clone()));
            (slot, idleness)
        }

        /// One whose request was answered.
        fn idle(&self, address: &str) -> ConnectionSlot {
            let (slot, idleness) = self.busy(address);
            idleness.begins();
            slot
        }
    }

    fn has_ended(slot: &ConnectionSlot) -> bool {
        let table = slot.slots.table();
        !table.all.connections.contains_key(&slot.state.number)
    }

    #[test]
    fn each_network_has_its_own_places_and_gets_them_back() {
        let listener = Listener::new(100, 2, Eviction::IdleUnauthenticated);
        let mut state = Vec::new();
        for address in [
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "2001:db8::1",
            "2001:db8::2",
        ] {
            let slot = listener.connect(address).unwrap();
            slot.state().set_authenticated();
            state.push(slot);
        }
        assert!(listener.connect("192.0.2.1").is_none());
        assert!(listener.connect("2001:db8::3").is_none());
        assert!(listener.connect("2001:db8:0:1::3").is_some());
        state.remove(0);
        assert!(listener.connect("192.0.2.1").is_some());
        drop(state);
        let table = listener.slots.table();
        assert!(table.of_source.is_empty() && table.all.connections.is_empty());
    }

    #[test]
    fn a_stranger_that_was_answered_yields_to_a_newcomer_the_longest_first() {
        for (most, most_of_a_source) in [(3, 100), (100, 3)] {
            let listener = Listener::new(most, most_of_a_source, Eviction::IdleUnauthenticated);
            let known = listener.idle("192.0.2.1");
            known.state().set_authenticated();
            let oldest = listener.idle("192.0.2.1");
            let newest = listener.idle("192.0.2.1");
            let silent = listener.connect("192.0.2.1").unwrap();
            assert!(has_ended(&oldest) && !has_ended(&newest));
            let (busy, _) = listener.busy("192.0.2.1");
            assert!(has_ended(&newest) && !has_ended(&silent));
            // What is left is known, or busy, or has its time to say something.
            assert!(listener.connect("192.0.2.1").is_none());
            assert!(!has_ended(&known) && !has_ended(&silent) && !has_ended(&busy));
        }
    }

    #[test]
    fn who_comes_to_the_operators_listener_always_gets_in() {
        let listener = Listener::new(100, 4, Eviction::Any);
        let (busy_known, _) = listener.busy("192.0.2.1");
        busy_known.state().set_authenticated();
        let (busy, _) = listener.busy("192.0.2.1");
        let idle_known = listener.idle("192.0.2.1");
        idle_known.state().set_authenticated();
        let idle = listener.idle("192.0.2.1");
        let mut newcomers = Vec::new();
        for evicted in [&idle, &idle_known, &busy, &busy_known] {
            assert!(!has_ended(evicted));
            let (newcomer, _) = listener.busy("192.0.2.1");
            newcomer.state().set_authenticated();
            assert!(has_ended(evicted));
            newcomers.push(newcomer);
        }
    }

    #[tokio::test]
    async fn who_yields_is_told_even_if_it_waits_only_later() {
        let listener = Listener::new(1, 1, Eviction::Any);
        let slot = listener.connect("192.0.2.1").unwrap();
        let _newcomer = listener.connect("192.0.2.2").unwrap();
        slot.evicted().await;
    }
}
