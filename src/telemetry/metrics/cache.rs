//! The metrics of the cache.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Label, Register, from_zero};

/// Handles to the metrics of the cache.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the help text says what each metric counts")]
pub struct CacheMetrics {
    pub entries: Gauge<i64, AtomicI64>,
    pub bytes: Gauge<i64, AtomicI64>,
    pub(crate) fetches_in_flight: Gauge<i64, AtomicI64>,
    pub(crate) waiters: Gauge<i64, AtomicI64>,
    pub(crate) waiters_refused: Counter,
    pub(crate) refreshes_ahead: Counter,
    pub(crate) refreshes_forced: Counter,
    pub(crate) fetches_died: Counter,
    stale_answers: Family<Label<&'static str>, Counter>,
    pub(crate) purged: Counter,
}

impl CacheMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self {
            entries: registry.gauge("cache_entries", "Lists and absences in memory"),
            bytes: registry.gauge("cache_bytes", "Memory taken by the cache"),
            fetches_in_flight: registry
                .gauge("cache_fetches_in_flight", "Fetches from Atlas under way"),
            waiters: registry.gauge("cache_waiters", "Callers waiting for a fetch"),
            waiters_refused: registry.counter(
                "cache_waiters_refused",
                "Callers turned away because too many waited",
            ),
            refreshes_ahead: registry.counter(
                "cache_refreshes_ahead",
                "Fetches begun before an entry's time",
            ),
            refreshes_forced: registry.counter(
                "cache_refreshes_forced",
                "Fetches begun because a caller asked for one",
            ),
            fetches_died: registry.counter("cache_fetches_died", "Fetches whose task died"),
            stale_answers: registry.add(
                "cache_stale_answers",
                "Answers past their time, by why Atlas did not renew them",
                from_zero("reason", STALE_REASONS),
            ),
            purged: registry.counter("cache_purged", "Entries purged"),
        }
    }

    pub(crate) fn stale_answer(&self, reason: &'static str) {
        self.stale_answers
            .get_or_create(&[("reason", reason)])
            .inc();
    }

    #[cfg(test)]
    pub(crate) fn stale_answers(&self, reason: &'static str) -> u64 {
        self.stale_answers
            .get_or_create(&[("reason", reason)])
            .get()
    }
}

impl Default for CacheMetrics {
    fn default() -> Self {
        Self::register(&mut Registry::default())
    }
}

/// Why an answer is past its time, as the audit record says it.
const STALE_REASONS: [&str; 10] = [
    "allowance",
    "bucket_low",
    "busy",
    "cooldown_429",
    "cooldown_503",
    "error",
    "mint_limit",
    "overload",
    "own_share",
    "slow",
];
