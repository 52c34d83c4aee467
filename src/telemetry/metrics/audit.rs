//! Metrics of the audit trail.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Register;

/// Handles to the metrics of audit.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the help text says what each metric counts")]
pub struct AuditMetrics {
    pub records_written: Counter,
    pub records_failed: Counter,
    pub(crate) batches_late: Counter,
    pub records_refused: Counter,
    pub sink_dropped: Counter,
    pub rotations: Counter,
    pub(crate) sync_failures: Counter,
    pub(crate) refusals_folded: Counter,
    pub retention: RetentionMetrics,
    pub shipping: ShippingMetrics,
    pub(crate) disk_free_bytes: Gauge,
    pub(crate) directory_bytes: Gauge,
    pub(crate) reserve_bytes: Gauge,
    pub(crate) write_seconds: Histogram,
    pub(crate) sync_seconds: Histogram,
}

/// What is done with finished files.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the help text says what each metric counts")]
pub struct RetentionMetrics {
    pub files_packed: Counter,
    pub files_removed: Counter,
    pub failures: Counter,
    pub rounds: Counter,
}

/// What the database of the central trail has.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the help text says what each metric counts")]
pub struct ShippingMetrics {
    pub shipped: Counter,
    pub lag_records: Gauge,
    pub lag_seconds: Gauge<f64, AtomicU64>,
    pub chain_differs: Gauge,
}

impl AuditMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let [written, failed, refused] = register_records(registry);
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
            retention: RetentionMetrics::register(registry),
            shipping: ShippingMetrics::register(registry),
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
            write_seconds: registry.add(
                "audit_write_seconds",
                "Time to write a batch of audit records",
                Histogram::new(BOUNDS),
            ),
            sync_seconds: registry.add(
                "audit_sync_seconds",
                "Time to bring audit records to the disk",
                Histogram::new(BOUNDS),
            ),
        }
    }
}

impl RetentionMetrics {
    fn register(registry: &mut Registry) -> Self {
        Self {
            files_packed: registry.counter(
                "audit_files_packed",
                "Finished audit files that were packed",
            ),
            files_removed: registry.counter(
                "audit_files_removed",
                "Audit files that were removed because of their age or of the size of all",
            ),
            failures: registry.counter(
                "audit_retention_failures",
                "Rounds in which an audit file could not be packed or removed",
            ),
            rounds: registry.counter(
                "audit_retention_rounds",
                "Rounds in which finished audit files were packed or removed, as far as there were any",
            ),
        }
    }
}

impl ShippingMetrics {
    fn register(registry: &mut Registry) -> Self {
        Self {
            shipped: registry.counter(
                "audit_shipped",
                "Audit records that the central database has taken",
            ),
            lag_records: registry.gauge(
                "audit_ship_lag_records",
                "Audit records that the central database does not have yet",
            ),
            lag_seconds: registry.add(
                "audit_ship_lag_seconds",
                "Up to how old they are",
                Gauge::default(),
            ),
            chain_differs: registry.gauge(
                "audit_chain_differs",
                "The first audit record that the central database has otherwise; 0 if there is none",
            ),
        }
    }
}

fn register_records(registry: &mut Registry) -> [Counter; 3] {
    registry.add_counters(
        "audit_records",
        "Audit records, by what became of them",
        "result",
        ["written", "failed", "refused"],
    )
}

impl Default for AuditMetrics {
    fn default() -> Self {
        Self::register(&mut Registry::default())
    }
}

const BOUNDS: [f64; 11] = [
    0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0,
];
