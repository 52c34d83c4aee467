//! How far the shipping of this replica's chain has come, and what is wrong with it: what metrics, readiness and
//! retention ask.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::atlas::Timestamp;
use crate::telemetry::metrics::audit::ShippingMetrics;

use super::shipment::Difference;

/// Shared by the shipper, who writes it, and all who want to know.
#[derive(Debug)]
pub(in crate::audit) struct ShippingProgress {
    shipped: AtomicU64,
    state: Mutex<ShippingState>,
    metrics: ShippingMetrics,
}

#[derive(Debug)]
struct ShippingState {
    /// All records up to this time are in the database, as far as is known.
    until: Timestamp,
    fault: Option<String>,
    differs: bool,
}

impl ShippingProgress {
    pub(super) fn new(metrics: ShippingMetrics, now: Timestamp) -> Self {
        let state = ShippingState {
            until: now,
            fault: None,
            differs: false,
        };
        Self {
            shipped: AtomicU64::new(0),
            state: Mutex::new(state),
            metrics,
        }
    }

    /// The last record that the database has, by its own word. 0 until it was asked.
    pub(in crate::audit) fn shipped(&self) -> u64 {
        self.shipped.load(Ordering::Acquire)
    }

    /// What is wrong.
    pub(in crate::audit) fn fault(&self) -> Option<String> {
        self.lock().fault.clone()
    }

    /// The database has so much of the chain.
    pub(super) fn reached(&self, seq: u64, until: Option<Timestamp>, records: u64) {
        self.shipped.store(seq, Ordering::Release);
        self.metrics.shipped.inc_by(records);
        let mut state = self.lock();
        state.until = until.unwrap_or(state.until);
        state.fault = None;
        state.differs = false;
        self.metrics.chain_differs.set(0);
    }

    /// Nothing can be shipped. Says whether that is new.
    pub(super) fn failed(&self, why: String) -> bool {
        self.lock().fault.replace(why).is_none()
    }

    /// The journal does not continue what the database has. Says whether that is new.
    pub(super) fn differs(&self, difference: Difference) -> bool {
        let mut state = self.lock();
        state.fault = Some(format!("the central trail has another past: {difference}"));
        self.metrics
            .chain_differs
            .set(i64::try_from(difference.seq).unwrap_or(i64::MAX));
        !std::mem::replace(&mut state.differs, true)
    }

    /// Shows how far the database is behind the journal, whose last record is `written`.
    pub(super) fn show_lag(&self, written: u64, now: Timestamp) {
        let records = written.saturating_sub(self.shipped());
        let seconds = if records == 0 {
            0.0
        } else {
            now.since(self.lock().until).as_secs_f64()
        };
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        self.metrics.lag_records.set(records);
        self.metrics.lag_seconds.set(seconds);
    }

    fn lock(&self) -> MutexGuard<'_, ShippingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
