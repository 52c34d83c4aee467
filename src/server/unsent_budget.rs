//! The budget of unsent bytes (backpressure): what answers may hold until the kernel has them.
//!
//! What counts was made for one answer: indented or compressed. Lists in memory are shared by all their
//! readers and count nowhere. The few hundred bytes around a list, and copies of small lists, are bounded by
//! the number of requests in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ServerLimits;
use crate::telemetry::metrics::lookups::LookupMetrics;

/// The budget of the process.
#[derive(Clone, Debug)]
pub struct UnsentBudget(Arc<SharedBudget>);

#[derive(Debug)]
struct SharedBudget {
    /// Of one connection.
    each: u64,
    all: u64,
    used: AtomicU64,
    metrics: LookupMetrics,
}

/// One connection's share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct UnsentAccount {
    budget: Arc<SharedBudget>,
    used: Arc<AtomicU64>,
}

/// Bytes that one answer may hold; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    account: UnsentAccount,
    bytes: u64,
}

impl UnsentBudget {
    /// What `limits` allow, and never more than an eighth of `ceiling`, the process's memory.
    pub fn new(limits: &ServerLimits, ceiling: Option<u64>, metrics: LookupMetrics) -> Self {
        let most = ceiling.map_or(u64::MAX, |ceiling| ceiling / SHARE_OF_MEMORY);
        Self(Arc::new(SharedBudget {
            each: limits.unsent.0,
            all: limits.unsent_total.0.min(most),
            used: AtomicU64::new(0),
            metrics,
        }))
    }

    /// The share of a connection that begins.
    pub fn account(&self) -> UnsentAccount {
        UnsentAccount {
            budget: Arc::clone(&self.0),
            used: Arc::default(),
        }
    }
}

impl UnsentAccount {
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let bytes = u64::try_from(bytes).expect("64 bits");
        let budget = &self.budget;
        take(&self.used, bytes, budget.each)?;
        if take(&budget.used, bytes, budget.all).is_none() {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        budget.metrics.reserved(bytes);
        Some(Reserved {
            account: self.clone(),
            bytes,
        })
    }

    /// Whether `bytes` are few enough for what is optional: most of the budget is for answers that have to be
    /// made.
    pub(crate) fn has_plenty(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).expect("64 bits");
        let fits = |used: &AtomicU64, most: u64| {
            let used = used.load(Ordering::Relaxed);
            used.saturating_add(bytes) <= most / SHARE_OF_COMPRESSED
        };
        fits(&self.used, self.budget.each) && fits(&self.budget.used, self.budget.all)
    }

    /// Counts what is compressed for one answer.
    pub(crate) fn compressed(&self, encoding: &str) {
        self.budget.metrics.compressed(encoding);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let budget = &self.account.budget;
        self.account.used.fetch_sub(self.bytes, Ordering::Relaxed);
        budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        budget.metrics.released(self.bytes);
    }
}

fn take(used: &AtomicU64, bytes: u64, most: u64) -> Option<u64> {
    let order = Ordering::Relaxed;
    let with = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= most);
    used.fetch_update(order, order, with).ok()
}

const SHARE_OF_MEMORY: u64 = 8;
const SHARE_OF_COMPRESSED: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Size;
    use crate::telemetry::Metrics;

    fn unsent(each: u64, all: u64, ceiling: Option<u64>) -> UnsentBudget {
        let limits = ServerLimits {
            unsent: Size(each),
            unsent_total: Size(all),
            ..ServerLimits::default()
        };
        UnsentBudget::new(&limits, ceiling, Metrics::register().0.lookups)
    }

    #[test]
    fn each_connection_has_its_share_and_all_have_theirs() {
        let unsent = unsent(60, 100, None);
        let (one, other) = (unsent.account(), unsent.account());
        let held = one.reserve(50);
        assert!(held.is_some() && one.reserve(11).is_none());
        assert!(!other.has_plenty(1));
        assert!(other.reserve(51).is_none());
        let rest = other.reserve(50);
        assert!(rest.is_some() && one.reserve(1).is_none());
        drop(held);
        assert!(one.reserve(50).is_some());
        assert!(one.reserve(usize::MAX).is_none());
        drop(rest);
        assert!(one.has_plenty(15) && !one.has_plenty(16));
        assert_eq!(unsent.0.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_more_than_an_eighth_of_the_memory_waits_to_be_read() {
        let account = unsent(1_000, 1_000, Some(80)).account();
        assert!(account.reserve(11).is_none() && account.reserve(10).is_some());
    }
}
