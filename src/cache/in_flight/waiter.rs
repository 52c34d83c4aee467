//! The callers that wait for a fetch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use super::{FetchOutcome, FetchProgress, InFlightFetch};
use crate::upstream::Urgency;

#[derive(Debug, Default)]
pub(super) struct Waiters {
    leaders: AtomicUsize,
    pub(super) followers: AtomicUsize,
}

/// A caller that waits for a fetch. Dropped, it costs the others nothing.
#[derive(Debug)]
pub(in crate::cache) struct Waiter {
    progress: watch::Receiver<FetchProgress>,
    required_generation: u32,
    /// Whether the fetch is made because of this caller.
    pub(in crate::cache) leads: bool,
    pub(in crate::cache) began: Duration,
    pub(in crate::cache) urgency: Urgency,
    waiters: Arc<Waiters>,
    gauge: Gauge,
}

impl Waiters {
    fn of(&self, leads: bool) -> &AtomicUsize {
        if leads {
            &self.leaders
        } else {
            &self.followers
        }
    }

    pub(super) fn count(&self) -> usize {
        self.leaders.load(Ordering::Relaxed) + self.followers.load(Ordering::Relaxed)
    }
}

impl Waiter {
    pub(super) fn new(
        fetch: &InFlightFetch,
        required_generation: u32,
        leads: bool,
        gauge: &Gauge,
    ) -> Self {
        fetch.waiters.of(leads).fetch_add(1, Ordering::Relaxed);
        gauge.inc();
        Self {
            progress: fetch.progress.clone(),
            required_generation,
            leads,
            began: fetch.began,
            urgency: fetch.urgency,
            waiters: Arc::clone(&fetch.waiters),
            gauge: gauge.clone(),
        }
    }

    /// Waits for the outcome; `None` if the task died.
    pub(in crate::cache) async fn outcome(&mut self) -> Option<FetchOutcome> {
        let (required, leads) = (self.required_generation, self.leads);
        let serves = |progress: &FetchProgress| {
            progress.outcome.is_some()
                && progress.generation >= required
                && (leads || !progress.repeated)
        };
        self.progress.wait_for(serves).await.ok()?.outcome.clone()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiters.of(self.leads).fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}
