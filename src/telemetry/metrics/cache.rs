//! The metrics of the cache.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Label, from_zero};

/// Handles to the metrics of the cache.
#[derive(Clone, Debug, Default)]
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
        let it = Self {
            stale_answers: from_zero("reason", STALE_REASONS),
            ..Self::default()
        };
        for (name, help, gauge) in [
            ("cache_entries", "Lists and absences in memory", &it.entries),
            ("cache_bytes", "Memory taken by the cache", &it.bytes),
            (
                "cache_fetches_in_flight",
                "Fetches from Atlas under way",
                &it.fetches_in_flight,
            ),
            ("cache_waiters", "Callers waiting for a fetch", &it.waiters),
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
                "Fetches begun before an entry's time",
                &it.refreshes_ahead,
            ),
            (
                "cache_refreshes_forced",
                "Fetches begun because a caller asked for one",
                &it.refreshes_forced,
            ),
            (
                "cache_fetches_died",
                "Fetches whose task died",
                &it.fetches_died,
            ),
            ("cache_purged", "Entries purged", &it.purged),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "cache_stale_answers",
            "Answers past their time, by why Atlas did not renew them",
            it.stale_answers.clone(),
        );
        it
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
