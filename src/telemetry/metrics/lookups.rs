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

use super::{Label, Register};
use crate::system::REVISION;

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
    compressions: [Counter; ENCODINGS.len()],
    unsent: Gauge<i64, AtomicI64>,
    present: PresentGauges,
}

#[derive(Debug)]
struct PresentGauges {
    connections: Gauge<i64, AtomicI64>,
    in_flight: Gauge<i64, AtomicI64>,
    /// Of those in flight, the ones whose caller is not known.
    unverified: Gauge<i64, AtomicI64>,
}

words! {
    /// What became of a lookup.
    pub enum Outcome {
        /// The caller left, or the task that answered has panicked.
        Abandoned = "abandoned",
        /// With certificates, or with Atlas's word that there is nothing.
        Answered = "answered",
        /// No rule grants it.
        Denied = "denied",
        /// We or Atlas could not answer.
        Failed = "failed",
        /// The request itself was wrong, or one too many.
        Rejected = "rejected",
        /// No token, or none that is accepted.
        Unauthenticated = "unauthenticated",
    }
}

words! {
    /// What the cache had to do with an answer.
    pub enum CacheUse {
        /// Coalesced with a fetch that another lookup had begun.
        Collapsed = "collapsed",
        /// From memory, within its time.
        Hit = "hit",
        /// Fetched for this lookup.
        Miss = "miss",
        /// From memory: Atlas had said that there is nothing.
        Negative = "negative",
        /// The cache was not asked.
        None = "none",
        /// From memory, past its time, because Atlas fails.
        Stale = "stale",
    }
}

words! {
    pub(crate) enum LimitedBy {
        /// Our share of the project's bucket at Atlas, or what may be taken of it.
        Bucket = "bucket",
        /// The caller's fair share while that bucket is low.
        FairShare = "fair_share",
        /// Atlas's own word: a 429, or the cooldown after one or after a 503.
        Gate = "gate",
        /// The rule's `lookups_per_minute`.
        LookupsPerMinute = "lookups_per_minute",
        /// The rule's `misses_per_minute`.
        MissesPerMinute = "misses_per_minute",
    }
}

/// Counts one while it lives.
#[derive(Debug)]
pub struct Present {
    metrics: LookupMetrics,
    gauge: Counted,
}

type Counted = fn(&PresentGauges) -> &Gauge<i64, AtomicI64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    outcome: Outcome,
    cache: CacheUse,
}

impl LookupMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let lookups = Family::<LookupLabels, Counter>::default();
        let lookups = registry.add("lookups", "Lookups, by what became of them", lookups);
        let durations = Family::<Label<CacheUse>, Histogram>::new_with_constructor(histogram);
        let durations = registry.add(
            "lookup_duration_seconds",
            "From the request's head to the answer's record, by what the cache had",
            durations,
        );
        let build = Family::<[(&str, &str); 2], Gauge>::default();
        let build = registry.add("build_info", "The version and the revision that run", build);
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("revision", REVISION),
        ];
        build.get_or_create(&labels).set(1);
        Self(Arc::new(Handles {
            counters: Outcome::ALL.map(|outcome| {
                let counter =
                    |cache| lookups.get_or_create_owned(&LookupLabels { outcome, cache });
                CacheUse::ALL.map(counter)
            }),
            durations: CacheUse::ALL
                .map(|cache| durations.get_or_create_owned(&[("cache", cache)])),
            would_have_cost: registry.counter(
                "lookups_would_have_cost",
                "Calls to Atlas that answered lookups would have cost their callers without this gateway",
            ),
            saved: registry.counter(
                "upstream_calls_saved",
                "Calls to Atlas that lookups would have cost their callers without this gateway, less what they did cost",
            ),
            shed: registry.counter(
                "lookups_shed",
                "Lookups refused because too many were under way, too much was unsent or memory was short",
            ),
            limited: registry.add_counters(
                "lookups_limited",
                "Lookups refused because a limit was reached, by whose it is",
                "by",
                LimitedBy::ALL,
            ),
            panicked: registry.counter(
                "lookups_panicked",
                "Lookups that were answered with 500 because of a bug",
            ),
            compressions: registry.add_counters(
                "compressions",
                "Times that a list was compressed to be kept, or a form of it for one answer",
                "encoding",
                ENCODINGS,
            ),
            unsent: registry.gauge(
                "unsent_bytes",
                "Bytes held by answers that are made as they leave, of `server.limits.unsent_total`",
            ),
            present: PresentGauges::register(registry),
        }))
    }

    /// Counts a lookup.
    pub fn lookup(&self, outcome: Outcome, cache: CacheUse, duration: Duration) {
        let row = of(&Outcome::ALL, &self.0.counters, &outcome);
        of(&CacheUse::ALL, row, &cache).inc();
        let histogram = of(&CacheUse::ALL, &self.0.durations, &cache);
        histogram.observe(duration.as_secs_f64());
    }

    pub(crate) fn saved(&self, would_have_cost: u32, saved: u32) {
        self.0.would_have_cost.inc_by(would_have_cost.into());
        self.0.saved.inc_by(saved.into());
    }

    /// What answered lookups would have cost their callers, since the start.
    pub(crate) fn would_have_cost(&self) -> u64 {
        self.0.would_have_cost.get()
    }

    pub(crate) fn shed(&self) {
        self.0.shed.inc();
    }

    pub(crate) fn limited(&self, by: LimitedBy) {
        of(&LimitedBy::ALL, &self.0.limited, &by).inc();
    }

    pub(crate) fn panicked(&self) {
        self.0.panicked.inc();
    }

    pub(crate) fn compressed(&self, encoding: &str) {
        of(&ENCODINGS, &self.0.compressions, &encoding).inc();
    }

    pub(crate) fn reserved(&self, bytes: u64) {
        self.0
            .unsent
            .inc_by(i64::try_from(bytes).expect("what is held is in memory"));
    }

    pub(crate) fn released(&self, bytes: u64) {
        self.0
            .unsent
            .dec_by(i64::try_from(bytes).expect("what is held is in memory"));
    }

    /// How many lookups are under way whose callers are known.
    pub(crate) fn known_under_way(&self) -> usize {
        let known = self.0.present.in_flight.get() - self.0.present.unverified.get();
        // Read one after the other, the two may be of different moments.
        usize::try_from(known).unwrap_or_default()
    }

    pub(crate) fn unverified_under_way(&self) -> usize {
        usize::try_from(self.0.present.unverified.get()).expect("each end has a beginning")
    }

    /// The caller of a lookup under way is not known.
    pub(crate) fn unverified_begins(&self) {
        self.0.present.unverified.inc();
    }

    /// The caller of one is known by now, or the lookup is over.
    pub(crate) fn unverified_ends(&self) {
        self.0.present.unverified.dec();
    }

    pub(crate) fn connection(&self) -> Present {
        Present::new(self, |gauges| &gauges.connections)
    }

    pub(crate) fn request(&self) -> Present {
        Present::new(self, |gauges| &gauges.in_flight)
    }
}

impl Present {
    pub(crate) fn metrics(&self) -> &LookupMetrics {
        &self.metrics
    }

    fn new(metrics: &LookupMetrics, gauge: Counted) -> Self {
        gauge(&metrics.0.present).inc();
        Self {
            metrics: metrics.clone(),
            gauge,
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics.0.present).dec();
    }
}

impl PresentGauges {
    fn register(registry: &mut Registry) -> Self {
        Self {
            connections: registry.gauge("connections", "Open connections"),
            in_flight: registry.gauge("inflight_requests", "Requests under way"),
            unverified: registry.gauge(
                "inflight_unverified_requests",
                "Requests under way whose caller is not known, or not yet",
            ),
        }
    }
}

pub(super) fn of<'v, T: PartialEq, V>(all: &[T], values: &'v [V], one: &T) -> &'v V {
    let at = all.iter().position(|it| it == one);
    at.and_then(|at| values.get(at))
        .expect("each of them is counted")
}

fn histogram() -> Histogram {
    Histogram::new([
        0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0,
    ])
}

const ENCODINGS: [&str; 3] = ["br", "gzip", "zstd"];
