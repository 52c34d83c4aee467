//! Waiting for a fetch, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use super::super::{Entry, FillId};
use crate::upstream::{FetchError, Urgency, Verdict};

/// How many wait for a fetch: those who cause it, and those who share it.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pub(super) leaders: AtomicUsize,
    pub(super) followers: AtomicUsize,
}

/// What a task has brought so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) generation: u32,
    pub(super) outcome: Option<FetchOutcome>,
    /// Whether another fetch is made for the followers.
    pub(super) repeated: bool,
}

/// What came of a fetch.
#[derive(Clone, Debug)]
pub(in super::super) enum FetchOutcome {
    Arrived(Arc<Entry>),
    Failed {
        error: Arc<FetchError>,
        fill_id: FillId,
    },
}

/// A caller that waits.
#[derive(Debug)]
pub(in super::super) struct Waiter {
    pub(super) progress: watch::Receiver<Progress>,
    /// The first generation that will do.
    pub(super) required_generation: u32,
    pub(super) leads: bool,
    pub(super) began: Duration,
    pub(super) urgency: Urgency,
    pub(super) of_fetch: Arc<Waiters>,
    /// How many wait for any fetch, here and in the metrics.
    pub(super) of_all: Arc<AtomicUsize>,
    pub(super) gauge: Gauge,
}

impl Waiters {
    pub(super) fn of(&self, leads: bool) -> &AtomicUsize {
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
    /// Waits for the outcome; `None` if the task died.
    pub(in super::super) async fn outcome(&mut self) -> Option<FetchOutcome> {
        let (required, leads) = (self.required_generation, self.leads);
        let progress = self
            .progress
            .wait_for(|progress| progress.serves(required, leads))
            .await
            .ok()?;
        progress.outcome.clone()
    }

    /// Whether the fetch is made because of this caller.
    pub(in super::super) fn leads(&self) -> bool {
        self.leads
    }

    /// When the fetch began.
    pub(in super::super) fn began(&self) -> Duration {
        self.began
    }

    /// How urgent the fetch is.
    pub(in super::super) fn urgency(&self) -> Urgency {
        self.urgency
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.of_fetch.of(self.leads).fetch_sub(1, Ordering::Relaxed);
        self.of_all.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

impl Progress {
    fn serves(&self, required: u32, leads: bool) -> bool {
        self.outcome.is_some() && self.generation >= required && (leads || !self.repeated)
    }
}

impl FetchOutcome {
    pub(super) fn of(entry: Result<Entry, FetchError>, fill_id: FillId) -> Self {
        match entry {
            Ok(entry) => Self::Arrived(Arc::new(entry)),
            Err(error) => Self::Failed {
                error: Arc::new(error),
                fill_id,
            },
        }
    }

    /// Whether it says nothing of what Atlas has: Atlas could not answer, or was not asked.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Arrived(_) => false,
            Self::Failed { error, .. } => match error.verdict() {
                Verdict::HeldBack(_) | Verdict::Outage => true,
                Verdict::Denial | Verdict::Missing => false,
            },
        }
    }

    /// Whether Atlas was not asked, by a rule of ours.
    pub(super) fn is_held_back(&self) -> bool {
        match self {
            Self::Arrived(_) => false,
            Self::Failed { error, .. } => matches!(error.verdict(), Verdict::HeldBack(_)),
        }
    }
}
