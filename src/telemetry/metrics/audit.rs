//! What is counted of audit.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Handles to the metrics of audit.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    /// Records that are in the journal.
    pub records_written: Counter,
    /// Records that the journal refused: its questions were answered 503.
    pub records_failed: Counter,
    /// Batches of records that waited too long: their questions were answered 503.
    pub batches_late: Counter,
    /// Records that were not even tried, because the journal was known to fail.
    pub records_refused: Counter,
    /// Records that the second sink did not get.
    pub sink_dropped: Counter,
    /// Files that were begun after the first.
    pub rotations: Counter,
    /// Calls of `fdatasync` that failed.
    pub sync_failures: Counter,
    /// From taking a batch to its being in the journal.
    pub write_seconds: Histogram,
    /// How long `fdatasync` took.
    pub sync_seconds: Histogram,
}

impl AuditMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let records = Family::<[(&str, &str); 1], Counter>::default();
        let of = |result| records.get_or_create_owned(&[("result", result)]);
        let metrics = Self {
            records_written: of("written"),
            records_failed: of("failed"),
            records_refused: of("refused"),
            ..Self::default()
        };
        registry.register(
            "audit_records",
            "Audit records, by what became of them",
            records,
        );
        registry.register(
            "audit_write_seconds",
            "Time to write a batch of audit records",
            metrics.write_seconds.clone(),
        );
        registry.register(
            "audit_sync_seconds",
            "Time to bring audit records to the disk",
            metrics.sync_seconds.clone(),
        );
        for (name, help, counter) in [
            (
                "audit_batches_late",
                "Batches of audit records that were not written within a second",
                &metrics.batches_late,
            ),
            (
                "audit_sink_dropped",
                "Audit records that the second sink did not get",
                &metrics.sink_dropped,
            ),
            (
                "audit_rotations",
                "Audit files that were begun after the first",
                &metrics.rotations,
            ),
            (
                "audit_sync_failures",
                "Failed attempts to bring audit records to the disk",
                &metrics.sync_failures,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }
}

impl Default for AuditMetrics {
    fn default() -> Self {
        Self {
            records_written: Counter::default(),
            records_failed: Counter::default(),
            batches_late: Counter::default(),
            records_refused: Counter::default(),
            sink_dropped: Counter::default(),
            rotations: Counter::default(),
            sync_failures: Counter::default(),
            write_seconds: Histogram::new(BOUNDS),
            sync_seconds: Histogram::new(BOUNDS),
        }
    }
}

/// From a write into the page cache to a disk that hangs.
const BOUNDS: [f64; 11] = [
    0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0,
];
