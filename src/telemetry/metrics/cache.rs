//! What is counted of the cache.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the metrics of the cache.
#[derive(Clone, Debug, Default)]
pub struct CacheMetrics {
    /// Lists and absences in memory.
    pub entries: Gauge<i64, AtomicI64>,
    /// What they weigh.
    pub bytes: Gauge<i64, AtomicI64>,
    /// Walks under way.
    pub walks: Gauge<i64, AtomicI64>,
    /// Callers who wait for one.
    pub waiters: Gauge<i64, AtomicI64>,
    /// Callers who were turned away because too many waited.
    pub waiters_refused: Counter,
    /// Walks begun ahead of time.
    pub refreshes_ahead: Counter,
    /// Walks begun because a caller insisted.
    pub refreshes_forced: Counter,
    /// Second walks for those who waited for one that failed.
    pub reelections: Counter,
    /// Walks that ended without a result because their task died.
    pub walks_died: Counter,
    /// Answers that were too old, given because Atlas could not answer.
    pub stale_answers: Counter,
    /// Entries that were purged.
    pub purged: Counter,
}

impl CacheMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let it = Self::default();
        for (name, help, gauge) in [
            ("cache_entries", "Lists and absences in memory", &it.entries),
            ("cache_bytes", "Memory taken by the cache", &it.bytes),
            (
                "cache_walks",
                "Walks through Atlas's pages under way",
                &it.walks,
            ),
            ("cache_waiters", "Callers waiting for a walk", &it.waiters),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            (
                "cache_waiters_refused",
                "Callers turned away because too many waited",
                &it.waiters_refused,
            ),
            (
                "cache_refreshes_ahead",
                "Walks begun before an entry's time",
                &it.refreshes_ahead,
            ),
            (
                "cache_refreshes_forced",
                "Walks begun because a caller asked for one",
                &it.refreshes_forced,
            ),
            (
                "cache_reelections",
                "Second walks for those who waited for one that failed",
                &it.reelections,
            ),
            ("cache_walks_died", "Walks whose task died", &it.walks_died),
            (
                "cache_stale_answers",
                "Answers past their time, given because Atlas could not answer",
                &it.stale_answers,
            ),
            ("cache_purged", "Entries purged", &it.purged),
        ] {
            registry.register(name, help, counter.clone());
        }
        it
    }
}
