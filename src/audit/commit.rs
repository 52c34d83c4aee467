//! Group commit: what became of one batch of records, for all who wait for it.
//!
//! A record has no channel of its own, which would be an allocation and two atomic handshakes each: one
//! decision about the batch wakes everyone in it.

use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::telemetry::metrics::audit::AuditMetrics;

use super::Unrecorded;
use super::orders::{Orders, WriterOrder};

#[derive(Debug)]
pub(super) struct Commit {
    /// When its first record came, by [`Moment::elapsed`](crate::system::Moment::elapsed).
    pub(super) since: Duration,
    records: AtomicU64,
    counts: Arc<RecordCounts>,
    state: Mutex<CommitState>,
}

#[derive(Debug, Default)]
struct CommitState {
    outcome: Option<Result<(), Unrecorded>>,
    /// `None` while it is queued, then whether the journal has it.
    journaled: Option<bool>,
    waiting: Vec<Waker>,
}

/// What became of records: what the counters say is what the callers saw.
#[derive(Debug)]
pub(super) struct RecordCounts {
    pub(super) metrics: AuditMetrics,
    /// Records that neither the journal nor the second sink has, since the journal last said how many.
    missing: AtomicU64,
}

/// A submitted record. It completes when the record is in the journal, or when it is known that it is not, or
/// too late. Dropped before that, the record is written all the same.
#[derive(Debug)]
#[must_use = "a record is in the trail once its ticket says so"]
pub struct Ticket {
    commit: Arc<Commit>,
    /// Where its waker is among those of the commit.
    place: Option<usize>,
    lead: Option<Lead>,
}

/// The duty to have a batch written, which is done when this is dropped.
#[derive(Debug)]
struct Lead {
    writer: Arc<Orders<WriterOrder>>,
    has_yielded: bool,
}

impl Commit {
    pub(super) fn new(since: Duration, counts: &Arc<RecordCounts>) -> Arc<Self> {
        Arc::new(Self {
            since,
            records: AtomicU64::new(0),
            counts: Arc::clone(counts),
            state: Mutex::default(),
        })
    }

    /// One more record is in the batch; the first leads it. If the batch was decided before it was written, the
    /// record came too late.
    pub(super) fn add(self: &Arc<Self>, leads: Option<&Arc<Orders<WriterOrder>>>) -> Ticket {
        if self.is_settled() {
            self.counts.metrics.records_failed.inc();
        }
        self.records.fetch_add(1, Ordering::Relaxed);
        Ticket {
            commit: Arc::clone(self),
            place: None,
            lead: leads.map(|writer| Lead {
                writer: Arc::clone(writer),
                has_yielded: false,
            }),
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.lock().outcome.is_some()
    }

    /// The journal has it; what it may still wait for is the second sink.
    pub(super) fn journaled(&self) {
        self.lock().journaled = Some(true);
    }

    /// The journal does not have it, and will not. Says whether the second sink may still stand in: not where
    /// its requests were answered 503 already.
    pub(super) fn pass_over(&self) -> bool {
        let mut state = self.lock();
        state.journaled = Some(false);
        if state.outcome.is_some() {
            self.counts.miss(self.records());
        }
        state.outcome.is_none()
    }

    pub(super) fn waits_for_sink(&self) -> bool {
        self.lock().journaled.is_some()
    }

    pub(super) fn is_missing(&self) -> bool {
        let state = self.lock();
        state.journaled == Some(false) && matches!(state.outcome, Some(Err(_)))
    }

    /// Decides it, unless that was done before, counts its records and wakes all who wait. Says whether this
    /// was the decision.
    pub(super) fn settle(&self, outcome: Result<(), Unrecorded>) -> bool {
        let mut state = self.lock();
        if state.outcome.is_some() {
            return false;
        }
        state.outcome = Some(outcome);
        let (records, metrics) = (self.records(), &self.counts.metrics);
        match outcome {
            Ok(()) => metrics.records_written.inc_by(records),
            Err(_) => metrics.records_failed.inc_by(records),
        };
        if outcome.is_err() && state.journaled == Some(false) {
            self.counts.miss(records);
        }
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        true
    }

    fn lock(&self) -> MutexGuard<'_, CommitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Ticket {
    type Output = Result<(), Unrecorded>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(lead) = &mut self.lead {
            // All who are ready to run add their records before this comes to its turn again.
            if !mem::replace(&mut lead.has_yielded, true) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.lead = None;
        }
        let Self { commit, place, .. } = &mut *self;
        let mut state = commit.lock();
        if let Some(outcome) = state.outcome {
            return Poll::Ready(outcome);
        }
        if let Some(waker) = place.and_then(|place| state.waiting.get_mut(place)) {
            waker.clone_from(context.waker());
        } else {
            *place = Some(state.waiting.len());
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.writer.give(WriterOrder::Write);
    }
}

impl RecordCounts {
    pub(super) fn new(metrics: AuditMetrics) -> Arc<Self> {
        let missing = AtomicU64::new(0);
        Arc::new(Self { metrics, missing })
    }

    pub(super) fn refuse(&self) {
        self.metrics.records_refused.inc();
        self.miss(1);
    }

    /// How many are missing; the caller records that, or gives them back.
    pub(super) fn take_missing(&self) -> u64 {
        self.missing.swap(0, Ordering::Relaxed)
    }

    pub(super) fn miss(&self, records: u64) {
        self.missing.fetch_add(records, Ordering::Relaxed);
    }
}
