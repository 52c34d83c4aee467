//! A place to wait for a walk: a flight's progress goes in, what its walk brought comes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use super::super::{Entry, FillId};
use crate::upstream::{FetchError, Urgency, Verdict};

/// Who waits for a flight.
#[derive(Debug, Default)]
pub(super) struct Seats {
    pub(super) leaders: AtomicUsize,
    pub(super) followers: AtomicUsize,
}

/// What a flight has brought so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) walk: u32,
    pub(super) landing: Option<Landing>,
    /// Whether another walk is made for those who waited.
    pub(super) repeated: bool,
}

/// What a walk brought.
#[derive(Clone, Debug)]
pub(in super::super) enum Landing {
    Arrived(Arc<Entry>),
    Failed {
        error: Arc<FetchError>,
        fill_id: FillId,
    },
}

/// A place to wait.
#[derive(Debug)]
pub(in super::super) struct Seat {
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) wants: u32,
    pub(super) leads: bool,
    pub(super) began: Duration,
    pub(super) urgency: Urgency,
    pub(super) seats: Arc<Seats>,
    pub(super) waiting: Arc<AtomicUsize>,
    /// How many wait, as the metrics have it.
    pub(super) waiters: Gauge,
}

impl Seats {
    pub(super) fn of(&self, leads: bool) -> &AtomicUsize {
        if leads {
            &self.leaders
        } else {
            &self.followers
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.leaders.load(Ordering::Relaxed) + self.followers.load(Ordering::Relaxed)
    }
}

impl Seat {
    /// Waits for what the flight brings; `None` if its task died.
    pub(in super::super) async fn landing(&mut self) -> Option<Landing> {
        let (wants, leads) = (self.wants, self.leads);
        let progress = self
            .progress
            .wait_for(|progress| progress.serves(wants, leads))
            .await
            .ok()?;
        progress.landing.clone()
    }

    /// Whether the walk is made because of this asker.
    pub(in super::super) fn leads(&self) -> bool {
        self.leads
    }

    /// When the walk began.
    pub(in super::super) fn began(&self) -> Duration {
        self.began
    }

    /// How much the walk matters.
    pub(in super::super) fn urgency(&self) -> Urgency {
        self.urgency
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.of(self.leads).fetch_sub(1, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiters.dec();
    }
}

impl Progress {
    fn serves(&self, wants: u32, leads: bool) -> bool {
        self.landing.is_some() && self.walk >= wants && (leads || !self.repeated)
    }
}

impl Landing {
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
