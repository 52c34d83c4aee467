//! Metrics of the audit trail.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// Handles to the metrics of audit.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    /// Records that the quorum has: their lookups were answered.
    pub records_written: Counter,
    /// Records that it did not have in time: their lookups were answered 503.
    pub records_failed: Counter,
    /// Batches of records that waited too long: their lookups were answered 503.
    pub batches_late: Counter,
    /// Records that were not even tried, because the journal was known to fail.
    pub records_refused: Counter,
    /// Records that the second sink did not get.
    pub sink_dropped: Counter,
    /// Files that were begun after the first.
    pub rotations: Counter,
    /// Calls of `fdatasync` that failed.
    pub sync_failures: Counter,
    /// Refusals that have no record of their own.
    pub refusals_folded: Counter,
    /// Finished files that were packed.
    pub files_packed: Counter,
    /// Files that were removed, as `keep` and `keep_size` want it.
    pub files_removed: Counter,
    /// Rounds in which a file could not be packed or removed.
    pub retention_failures: Counter,
    /// What is free on the journal's disk.
    pub disk_free_bytes: Gauge,
    /// What the journal takes of it.
    pub directory_bytes: Gauge,
    /// What is kept for callers who were let in.
    pub reserve_bytes: Gauge,
    /// From taking a batch to its being in the journal.
    pub write_seconds: Histogram,
    /// How long `fdatasync` took.
    pub sync_seconds: Histogram,
    /// Of the central database.
    pub shipping: ShippingMetrics,
}

/// Handles to the metrics of shipping to the central database.
#[derive(Clone, Debug)]
pub struct ShippingMetrics {
    /// Records that it has taken.
    pub shipped: Counter,
    /// How many it does not have yet.
    pub lag_records: Gauge,
    /// Up to how old they are.
    pub lag_seconds: Gauge<f64, AtomicU64>,
    /// The first record that it has otherwise; 0 if there is none.
    pub chain_differs: Gauge,
}

impl AuditMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let [written, failed, refused] = register_records(registry);
        let mut registry = NamedMetrics(registry);
        Self {
            records_written: written,
            records_failed: failed,
            records_refused: refused,
            batches_late: registry.counter(
                "audit_batches_late",
                "Batches of audit records that were not written within a second",
            ),
            sink_dropped: registry.counter(
                "audit_sink_dropped",
                "Audit records that the second sink did not get",
            ),
            rotations: registry.counter(
                "audit_rotations",
                "Audit files that were begun after the first",
            ),
            sync_failures: registry.counter(
                "audit_sync_failures",
                "Failed attempts to bring audit records to the disk",
            ),
            refusals_folded: registry.counter(
                "audit_refusals_folded",
                "Refused requests that have no audit record of their own",
            ),
            files_packed: registry.counter(
                "audit_files_packed",
                "Finished audit files that were packed",
            ),
            files_removed: registry.counter(
                "audit_files_removed",
                "Audit files that were removed because of their age or of the size of all",
            ),
            retention_failures: registry.counter(
                "audit_retention_failures",
                "Rounds in which an audit file could not be packed or removed",
            ),
            disk_free_bytes: registry.gauge(
                "audit_disk_free_bytes",
                "What is free on the disk of the audit trail",
            ),
            directory_bytes: registry.gauge(
                "audit_directory_bytes",
                "What the files of the audit trail take of its disk",
            ),
            reserve_bytes: registry.gauge(
                "audit_reserve_bytes",
                "While less than this is free, no refusal has an audit record of its own",
            ),
            write_seconds: registry.histogram(
                "audit_write_seconds",
                "Time to write a batch of audit records",
            ),
            sync_seconds: registry.histogram(
                "audit_sync_seconds",
                "Time to bring audit records to the disk",
            ),
            shipping: registry.shipping(),
        }
    }
}

fn register_records(registry: &mut Registry) -> [Counter; 3] {
    let records = Family::<[(&str, &str); 1], Counter>::default();
    let results = ["written", "failed", "refused"];
    let counters = results.map(|result| records.get_or_create_owned(&[("result", result)]));
    registry.register(
        "audit_records",
        "Audit records, by what became of them",
        records,
    );
    counters
}

impl Default for AuditMetrics {
    /// Metrics that no scrape shows.
    fn default() -> Self {
        Self::register(&mut Registry::default())
    }
}

struct NamedMetrics<'r>(&'r mut Registry);

impl NamedMetrics<'_> {
    fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::default())
    }

    fn histogram(&mut self, name: &str, help: &str) -> Histogram {
        self.add(name, help, Histogram::new(BOUNDS))
    }

    fn shipping(&mut self) -> ShippingMetrics {
        ShippingMetrics {
            shipped: self.counter(
                "audit_shipped",
                "Audit records that the central database has taken",
            ),
            lag_records: self.gauge(
                "audit_ship_lag_records",
                "Audit records that the central database does not have yet",
            ),
            lag_seconds: self.add(
                "audit_ship_lag_seconds",
                "Up to how old they are",
                Gauge::default(),
            ),
            chain_differs: self.gauge(
                "audit_chain_differs",
                "The first audit record that the central database has otherwise; 0 if there is none",
            ),
        }
    }

    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

/// From a write into the page cache to a disk that hangs.
const BOUNDS: [f64; 11] = [
    0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0,
];
