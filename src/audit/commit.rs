//! One group commit: everybody whose record is in it waits here, and is woken at once.
//!
//! A record does not get a channel of its own: that would be an allocation and two atomic handshakes a
//! question. The batch is shared by all who are in it.

use std::mem;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use super::Unrecorded;

/// What became of a batch, and who wants to know.
#[derive(Debug)]
pub(super) struct Commit {
    state: AtomicU8,
    /// In the journal already; what it still waits for is the second sink.
    journaled: AtomicBool,
    /// When its first record came, by [`Moment::elapsed`](crate::clock::Moment::elapsed).
    since: Duration,
    waiting: Mutex<Vec<Waker>>,
}

impl Commit {
    pub(super) fn new(since: Duration) -> Self {
        Self {
            state: AtomicU8::new(OPEN),
            journaled: AtomicBool::new(false),
            since,
            waiting: Mutex::new(Vec::with_capacity(USUALLY_WAITING)),
        }
    }

    pub(super) fn since(&self) -> Duration {
        self.since
    }

    pub(super) fn journaled(&self) {
        self.journaled.store(true, Ordering::Release);
    }

    pub(super) fn is_journaled(&self) -> bool {
        self.journaled.load(Ordering::Acquire)
    }

    /// Decides it, once: whoever comes second changes nothing. Says whether this was the decision.
    pub(super) fn settle(&self, outcome: Result<(), Unrecorded>) -> bool {
        let state = match outcome {
            Ok(()) => RECORDED,
            Err(Unrecorded::Unwritable) => UNWRITABLE,
            Err(Unrecorded::TooLate) => TOO_LATE,
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let decided = self
            .state
            .compare_exchange(OPEN, state, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        let waiting_now = mem::take(&mut *waiting);
        drop(waiting);
        for waker in waiting_now {
            waker.wake();
        }
        decided
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
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
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
}

/// Room for so many is made at once, not bit by bit.
const USUALLY_WAITING: usize = 32;
const OPEN: u8 = 0;
const RECORDED: u8 = 1;
const UNWRITABLE: u8 = 2;
const TOO_LATE: u8 = 3;
