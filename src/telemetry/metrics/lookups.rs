//! The metrics of lookups and connections.
//!
//! The handles are made once for every pair of [`Outcome`] and [`CacheUse`], so that counting a lookup takes no
//! lock.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Handles to the metrics of lookups. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LookupMetrics(Arc<Handles>);

#[derive(Debug)]
struct Handles {
    counters: [[Counter; CacheUse::ALL.len()]; Outcome::ALL.len()],
    durations: [Histogram; CacheUse::ALL.len()],
    would_have_cost: Counter,
    saved: Counter,
    shed: Counter,
    limited: [Counter; LimitedBy::ALL.len()],
    panicked: Counter,
    connections: Gauge<i64, AtomicI64>,
    in_flight: Gauge<i64, AtomicI64>,
    /// Of those, the ones whose caller is not known.
    unverified: Gauge<i64, AtomicI64>,
    unsent: Gauge<i64, AtomicI64>,
    /// In the order of [`ENCODINGS`].
    compressions: [Counter; ENCODINGS.len()],
}

/// What became of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller left, or the task that answered has panicked.
    Abandoned,
    /// With certificates, or with Atlas's word that there is nothing.
    Answered,
    /// No rule grants it.
    Denied,
    /// We or Atlas could not answer.
    Failed,
    /// The request itself was wrong, or one too many.
    Rejected,
    /// No token, or none that is accepted.
    Unauthenticated,
}

/// What the cache had to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// Coalesced with a fetch that another lookup had begun.
    Collapsed,
    /// From memory, within its time.
    Hit,
    /// Fetched for this lookup.
    Miss,
    /// From memory: Atlas had said that there is nothing.
    Negative,
    /// The cache was not asked.
    None,
    /// From memory, past its time, because Atlas fails.
    Stale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitedBy {
    /// Our share of the project's bucket at Atlas, or what may be taken of it.
    Bucket,
    /// The caller's fair share while that bucket is low.
    FairShare,
    /// Atlas's own word: a 429, or the cooldown after one or after a 503.
    Gate,
    /// The rule's `lookups_per_minute`.
    LookupsPerMinute,
    /// The rule's `misses_per_minute`.
    MissesPerMinute,
}

/// Counts one while it lives.
#[derive(Debug)]
pub struct Present {
    metrics: LookupMetrics,
    gauge: Counted,
}

type Counted = fn(&Handles) -> &Gauge<i64, AtomicI64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    outcome: &'static str,
    cache: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabel {
    cache: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EncodingLabel {
    encoding: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

impl LookupMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let lookups = Family::<LookupLabels, Counter>::default();
        let durations = Family::<CacheLabel, Histogram>::new_with_constructor(histogram);
        let counters = Outcome::ALL.map(|outcome| {
            CacheUse::ALL.map(|cache| {
                let (outcome, cache) = (outcome.word(), cache.word());
                lookups.get_or_create_owned(&LookupLabels { outcome, cache })
            })
        });
        let by_cache = CacheUse::ALL.map(|cache| {
            let cache = cache.word();
            durations.get_or_create_owned(&CacheLabel { cache })
        });
        let metrics = Handles {
            compressions: register_compressions(registry),
            limited: register_limited(registry),
            unsent: register_unsent(registry),
            counters,
            durations: by_cache,
            would_have_cost: Counter::default(),
            saved: Counter::default(),
            shed: Counter::default(),
            panicked: Counter::default(),
            connections: Gauge::default(),
            in_flight: Gauge::default(),
            unverified: Gauge::default(),
        };
        registry.register("lookups", "Lookups, by what became of them", lookups);
        registry.register(
            "lookup_duration_seconds",
            "From the request's head to the answer's record, by what the cache had",
            durations,
        );
        registry.register(
            "upstream_calls_saved",
            "Calls to Atlas that lookups would have cost their callers without this gateway, less what they did cost",
            metrics.saved.clone(),
        );
        registry.register(
            "lookups_would_have_cost",
            "Calls to Atlas that answered lookups would have cost their callers without this gateway",
            metrics.would_have_cost.clone(),
        );
        registry.register(
            "lookups_shed",
            "Lookups refused because too many were under way, too much was unsent or memory was short",
            metrics.shed.clone(),
        );
        registry.register(
            "lookups_panicked",
            "Lookups that were answered with 500 because of a bug",
            metrics.panicked.clone(),
        );
        register_present(registry, &metrics);
        register_build(registry);
        Self(Arc::new(metrics))
    }

    /// Counts a lookup.
    pub fn lookup(&self, outcome: Outcome, cache: CacheUse, duration: Duration) {
        let (outcome, cache) = (outcome.index(), cache.index());
        let counter = self.0.counters.get(outcome).and_then(|row| row.get(cache));
        counter.expect("there is a counter for each pair").inc();
        let histogram = self.0.durations.get(cache);
        let histogram = histogram.expect("there is a histogram for each use of the cache");
        histogram.observe(duration.as_secs_f64());
    }

    pub(crate) fn saved(&self, would_have_cost: u32, saved: u32) {
        self.0.would_have_cost.inc_by(would_have_cost.into());
        self.0.saved.inc_by(saved.into());
    }

    pub(crate) fn shed(&self) {
        self.0.shed.inc();
    }

    pub(crate) fn limited(&self, by: LimitedBy) {
        let counter = self.0.limited.get(by.index());
        counter.expect("there is a counter for each limit").inc();
    }

    pub(crate) fn panicked(&self) {
        self.0.panicked.inc();
    }

    pub(crate) fn compressed(&self, encoding: &str) {
        let mut counters = ENCODINGS.iter().zip(&self.0.compressions);
        let counter = counters.find(|(name, _)| **name == encoding);
        let (_, counter) = counter.expect("every encoding is listed");
        counter.inc();
    }

    /// Shows that an answer holds so many bytes more.
    pub(crate) fn reserved(&self, bytes: u64) {
        self.0
            .unsent
            .inc_by(i64::try_from(bytes).expect("what is held is in memory"));
    }

    /// Shows that it no longer does.
    pub(crate) fn released(&self, bytes: u64) {
        self.0
            .unsent
            .dec_by(i64::try_from(bytes).expect("what is held is in memory"));
    }

    /// How many lookups are under way whose callers are known.
    pub(crate) fn known_under_way(&self) -> usize {
        let known = self.0.in_flight.get() - self.0.unverified.get();
        // Read one after the other, the two may be of different moments.
        usize::try_from(known).unwrap_or_default()
    }

    pub(crate) fn unverified_under_way(&self) -> usize {
        usize::try_from(self.0.unverified.get()).expect("each end has a beginning")
    }

    /// The caller of a lookup under way is not known.
    pub(crate) fn unverified_begins(&self) {
        self.0.unverified.inc();
    }

    /// The caller of one is known by now, or the lookup is over.
    pub(crate) fn unverified_ends(&self) {
        self.0.unverified.dec();
    }

    pub(crate) fn connection(&self) -> Present {
        Present::new(self, |handles| &handles.connections)
    }

    pub(crate) fn request(&self) -> Present {
        Present::new(self, |handles| &handles.in_flight)
    }
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::Abandoned,
        Self::Answered,
        Self::Denied,
        Self::Failed,
        Self::Rejected,
        Self::Unauthenticated,
    ];

    #[expect(
        clippy::as_conversions,
        reason = "the discriminant is the place in `ALL`"
    )]
    const fn index(self) -> usize {
        self as usize
    }

    /// As the audit record and the metrics have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Answered => "answered",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

impl CacheUse {
    const ALL: [Self; 6] = [
        Self::Collapsed,
        Self::Hit,
        Self::Miss,
        Self::Negative,
        Self::None,
        Self::Stale,
    ];

    #[expect(
        clippy::as_conversions,
        reason = "the discriminant is the place in `ALL`"
    )]
    const fn index(self) -> usize {
        self as usize
    }

    /// As the audit record and the metrics have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Collapsed => "collapsed",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Negative => "negative",
            Self::None => "none",
            Self::Stale => "stale",
        }
    }
}

impl LimitedBy {
    pub(crate) const ALL: [Self; 5] = [
        Self::Bucket,
        Self::FairShare,
        Self::Gate,
        Self::LookupsPerMinute,
        Self::MissesPerMinute,
    ];

    #[expect(
        clippy::as_conversions,
        reason = "the discriminant is the place in `ALL`"
    )]
    const fn index(self) -> usize {
        self as usize
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::FairShare => "fair_share",
            Self::Gate => "gate",
            Self::LookupsPerMinute => "lookups_per_minute",
            Self::MissesPerMinute => "misses_per_minute",
        }
    }
}

impl Present {
    pub(crate) fn metrics(&self) -> &LookupMetrics {
        &self.metrics
    }

    fn new(metrics: &LookupMetrics, gauge: Counted) -> Self {
        gauge(&metrics.0).inc();
        Self {
            metrics: metrics.clone(),
            gauge,
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics.0).dec();
    }
}

fn register_compressions(registry: &mut Registry) -> [Counter; ENCODINGS.len()] {
    let compressions = Family::<EncodingLabel, Counter>::default();
    registry.register(
        "compressions",
        "Times that a list was compressed to be kept, or a form of it for one answer",
        compressions.clone(),
    );
    ENCODINGS.map(|encoding| compressions.get_or_create_owned(&EncodingLabel { encoding }))
}

fn register_limited(registry: &mut Registry) -> [Counter; LimitedBy::ALL.len()] {
    let limited = Family::<LimitLabel, Counter>::default();
    registry.register(
        "lookups_limited",
        "Lookups refused because a limit was reached, by whose it is",
        limited.clone(),
    );
    LimitedBy::ALL.map(|limit| limited.get_or_create_owned(&LimitLabel { by: limit.word() }))
}

fn register_unsent(registry: &mut Registry) -> Gauge<i64, AtomicI64> {
    let unsent = Gauge::default();
    registry.register(
        "unsent_bytes",
        "Room that answers hold which are made as they leave, of `server.limits.unsent_total`",
        unsent.clone(),
    );
    unsent
}

fn register_present(registry: &mut Registry, metrics: &Handles) {
    registry.register(
        "connections",
        "Open connections",
        metrics.connections.clone(),
    );
    registry.register(
        "inflight_requests",
        "Requests under way",
        metrics.in_flight.clone(),
    );
    registry.register(
        "inflight_unverified_requests",
        "Requests under way whose caller is not known, or not yet",
        metrics.unverified.clone(),
    );
}

fn register_build(registry: &mut Registry) {
    let build = Family::<VersionLabel, Gauge>::default();
    let version = env!("CARGO_PKG_VERSION");
    build.get_or_create(&VersionLabel { version }).set(1);
    registry.register("build_info", "The version that runs", build);
}

fn histogram() -> Histogram {
    Histogram::new([
        0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0,
    ])
}

const ENCODINGS: [&str; 3] = ["br", "gzip", "zstd"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_listed_in_the_order_of_its_declaration() {
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), at);
        }
        for (at, cache) in CacheUse::ALL.into_iter().enumerate() {
            assert_eq!(cache.index(), at);
        }
        for (at, limit) in LimitedBy::ALL.into_iter().enumerate() {
            assert_eq!(limit.index(), at);
        }
    }
}
