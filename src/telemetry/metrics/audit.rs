//! What is counted of audit.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Handles to the metrics of audit.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    /// Records that those have whose word counts: their questions were answered.
    pub records_written: Counter,
    /// Records that they did not have in time: their questions were answered 503.
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
        metrics.register_counters(registry);
        metrics.register_gauges(registry);
        metrics
    }

    fn register_counters(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "audit_batches_late",
                "Batches of audit records that were not written within a second",
                &self.batches_late,
            ),
            (
                "audit_sink_dropped",
                "Audit records that the second sink did not get",
                &self.sink_dropped,
            ),
            (
                "audit_rotations",
                "Audit files that were begun after the first",
                &self.rotations,
            ),
            (
                "audit_sync_failures",
                "Failed attempts to bring audit records to the disk",
                &self.sync_failures,
            ),
            (
                "audit_refusals_folded",
                "Refused requests that have no audit record of their own",
                &self.refusals_folded,
            ),
            (
                "audit_files_packed",
                "Finished audit files that were packed",
                &self.files_packed,
            ),
            (
                "audit_files_removed",
                "Audit files that were removed because of their age or of the size of all",
                &self.files_removed,
            ),
            (
                "audit_retention_failures",
                "Rounds in which an audit file could not be packed or removed",
                &self.retention_failures,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }

    fn register_gauges(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            (
                "audit_disk_free_bytes",
                "What is free on the disk of the audit trail",
                &self.disk_free_bytes,
            ),
            (
                "audit_directory_bytes",
                "What the files of the audit trail take of its disk",
                &self.directory_bytes,
            ),
            (
                "audit_reserve_bytes",
                "While less than this is free, no refusal has an audit record of its own",
                &self.reserve_bytes,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
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
            refusals_folded: Counter::default(),
            files_packed: Counter::default(),
            files_removed: Counter::default(),
            retention_failures: Counter::default(),
            disk_free_bytes: Gauge::default(),
            directory_bytes: Gauge::default(),
            reserve_bytes: Gauge::default(),
            write_seconds: Histogram::new(BOUNDS),
            sync_seconds: Histogram::new(BOUNDS),
        }
    }
}

/// From a write into the page cache to a disk that hangs.
const BOUNDS: [f64; 11] = [
    0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0,
];
