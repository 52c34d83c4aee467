//! The metrics of the cache.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Label, Register, from_zero};

words! {
    /// Why a list of an earlier process, or a file of them, is not taken over.
    pub(crate) enum NotRestored {
        /// It is no list of Atlas's.
        Content = "content",
        /// Another credential serves its project now.
        Credential = "credential",
        /// A file: changed, cut, or sealed by another secret.
        Damaged = "damaged",
        /// A file: since it was written the fleet has been told something, and this replica has not heard it.
        Fleet = "fleet",
        /// The calendar was set back: Atlas would have answered in the future.
        Future = "future",
        /// It is past the time for which it may be served.
        Old = "old",
        /// A file: others could have written it.
        Unfit = "unfit",
    }
}

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
    pub(crate) restored: Counter,
    not_restored: Family<Label<NotRestored>, Counter>,
    pub(crate) snapshot_age: Gauge<f64, AtomicU64>,
    pub(crate) snapshot_failures: Counter,
}

impl CacheMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let snapshot_age = Gauge::<f64, AtomicU64>::default();
        snapshot_age.set(f64::INFINITY);
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
            restored: registry.counter(
                "cache_restored",
                "Lists taken over from the snapshot of an earlier process",
            ),
            not_restored: registry.add(
                "cache_not_restored",
                "Lists of a snapshot that were not taken over, by why; a whole file counts once",
                from_zero("reason", NotRestored::ALL),
            ),
            snapshot_age: registry.add(
                "cache_snapshot_age_seconds",
                "How old the snapshot on the disk is; +Inf if there is none",
                snapshot_age,
            ),
            snapshot_failures: registry.counter(
                "cache_snapshot_failures",
                "Snapshots that could not be written, or not removed for a purge",
            ),
        }
    }

    pub(crate) fn not_restored(&self, why: NotRestored) {
        self.not_restored.get_or_create(&[("reason", why)]).inc();
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
