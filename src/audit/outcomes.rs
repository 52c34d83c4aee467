//! What became of records, counted once it is known: what the counters say is what the callers saw.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::metrics::audit::AuditMetrics;

use super::Unrecorded;
use super::commit::{Commit, Decided};

/// The counts of one audit trail.
#[derive(Debug)]
pub(super) struct Outcomes {
    metrics: AuditMetrics,
    /// Records that are in no place whose word counts, since the journal last said how many.
    missing: AtomicU64,
}

impl Outcomes {
    pub(super) fn new(metrics: AuditMetrics) -> Self {
        Self {
            metrics,
            missing: AtomicU64::new(0),
        }
    }

    /// Decides a batch, unless that was done before, and counts its records. Says whether this was the
    /// decision.
    pub(super) fn settle(&self, commit: &Commit, outcome: Result<(), Unrecorded>) -> bool {
        commit.settle(outcome, |Decided { records, missing }| {
            match outcome {
                Ok(()) => self.metrics.records_written.inc_by(records),
                Err(_) => self.metrics.records_failed.inc_by(records),
            };
            if missing {
                self.miss(records);
            }
        })
    }

    /// The journal does not have a batch, and will not. Says whether the second sink may still stand in:
    /// not where its questions were answered 503 already.
    pub(super) fn pass_over(&self, commit: &Commit) -> bool {
        match commit.pass_over() {
            None => true,
            Some(records) => {
                self.miss(records);
                false
            }
        }
    }

    /// One came too late for its batch, which was decided before it was written.
    pub(super) fn joined_late(&self) {
        self.metrics.records_failed.inc();
    }

    /// One was not even tried.
    pub(super) fn refuse(&self) {
        self.metrics.records_refused.inc();
        self.miss(1);
    }

    /// Whether the journal has yet to say that records are missing.
    pub(super) fn has_missing(&self) -> bool {
        self.missing.load(Ordering::Relaxed) > 0
    }

    /// How many are missing; they are said in the record that comes next, or given back.
    pub(super) fn take_missing(&self) -> u64 {
        self.missing.swap(0, Ordering::Relaxed)
    }

    pub(super) fn miss(&self, records: u64) {
        self.missing.fetch_add(records, Ordering::Relaxed);
    }
}
