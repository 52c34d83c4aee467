//! One group commit: everybody whose record is in it waits here, and is woken at once.
//!
//! A record does not get a channel of its own: that would be an allocation and two atomic handshakes a
//! question. The batch is shared by all who are in it.

use std::mem;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Unrecorded;

/// What became of a batch, and who wants to know.
#[derive(Debug)]
pub(super) struct Commit {
    state: AtomicU8,
    /// Changed while `waiting` is locked.
    place: AtomicU8,
    records: AtomicU64,
    /// When its first record came, by [`Moment::elapsed`](crate::system::Moment::elapsed).
    since: Duration,
    waiting: Mutex<Vec<Waker>>,
}

/// What was decided about, for whoever counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decided {
    pub(super) records: u64,
    /// They were refused, and the journal will not have them either.
    pub(super) missing: bool,
}

impl Commit {
    pub(super) fn new(since: Duration) -> Self {
        Self {
            state: AtomicU8::new(OPEN),
            place: AtomicU8::new(QUEUED),
            records: AtomicU64::new(0),
            since,
            waiting: Mutex::new(Vec::with_capacity(USUALLY_WAITING)),
        }
    }

    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// One more record is in the batch.
    pub(super) fn add(&self) {
        self.records.fetch_add(1, Ordering::Relaxed);
    }

    /// The journal has it; what it may still wait for is the second sink.
    pub(super) fn journaled(&self) {
        let _waiting = self.lock();
        self.place.store(JOURNALED, Ordering::Release);
    }

    /// The journal does not have it, and the second sink may stand in. If it was refused already, there is
    /// no need: then this says how many records are missing.
    pub(super) fn pass_over(&self) -> Option<u64> {
        let _waiting = self.lock();
        self.place.store(PASSED_OVER, Ordering::Release);
        self.outcome().map(|_| self.records.load(Ordering::Relaxed))
    }

    /// Whether the journal is done with it, so that it can only wait for the second sink.
    pub(super) fn waits_for_sink(&self) -> bool {
        self.place.load(Ordering::Acquire) != QUEUED
    }

    /// Whether it was refused, and the journal does not have it.
    pub(super) fn is_missing(&self) -> bool {
        self.place.load(Ordering::Acquire) == PASSED_OVER
            && self.outcome().is_some_and(|outcome| outcome.is_err())
    }

    /// Decides it, once: whoever comes second changes nothing. Says whether this was the decision; then
    /// `count` is told before anybody is woken.
    pub(super) fn settle(
        &self,
        outcome: Result<(), Unrecorded>,
        count: impl FnOnce(Decided),
    ) -> bool {
        let state = match outcome {
            Ok(()) => RECORDED,
            Err(Unrecorded::Unwritable) => UNWRITABLE,
            Err(Unrecorded::TooLate) => TOO_LATE,
        };
        let mut waiting = self.lock();
        if self.outcome().is_some() {
            return false;
        }
        count(Decided {
            records: self.records.load(Ordering::Relaxed),
            missing: outcome.is_err() && self.place.load(Ordering::Relaxed) == PASSED_OVER,
        });
        self.state.store(state, Ordering::Release);
        let waiting_now = mem::take(&mut *waiting);
        drop(waiting);
        for waker in waiting_now {
            waker.wake();
        }
        true
    }

    /// The decision; `None` as long as there is none.
    pub(super) fn outcome(&self) -> Option<Result<(), Unrecorded>> {
        match self.state.load(Ordering::Acquire) {
            OPEN => None,
            RECORDED => Some(Ok(())),
            TOO_LATE => Some(Err(Unrecorded::TooLate)),
            _ => Some(Err(Unrecorded::Unwritable)),
        }
    }

    /// Waits for the decision. `place` is whose waker it is; `None` for whoever has not come yet.
    pub(super) fn poll(
        &self,
        context: &Context<'_>,
        place: &mut Option<usize>,
    ) -> Poll<Result<(), Unrecorded>> {
        // Whoever comes for the first time is most likely too early.
        if place.is_some()
            && let Some(outcome) = self.outcome()
        {
            return Poll::Ready(outcome);
        }
        let mut waiting = self.lock();
        // Once it has been decided, nobody would wake us any more.
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        if let Some(waker) = place.and_then(|place| waiting.get_mut(place)) {
            waker.clone_from(context.waker());
        } else {
            *place = Some(waiting.len());
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for so many is made at once, not bit by bit.
const USUALLY_WAITING: usize = 32;
const OPEN: u8 = 0;
const RECORDED: u8 = 1;
const UNWRITABLE: u8 = 2;
const TOO_LATE: u8 = 3;

const QUEUED: u8 = 0;
const JOURNALED: u8 = 1;
const PASSED_OVER: u8 = 2;
