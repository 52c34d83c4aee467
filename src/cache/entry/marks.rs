//! What becomes of an entry while it is kept: that it was asked for, was purged or could not be
//! replaced goes in; what may be done with it comes out.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Entry;
use crate::cache::freshness::pause_after;
use crate::system::Moment;
use crate::upstream::HeldBack;

/// What may be said of an entry besides.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// Nobody waited for it.
    Ahead,
    /// A caller has forced the fetch.
    Forced,
    /// It has been asked for since it came.
    InUse,
    /// A soft purge, or a calendar that ran ahead, has ended its fresh life.
    Softened,
    /// The memory keeps it.
    IndexedKey,
    /// It is being refreshed ahead of its end.
    Refreshing,
}

impl Entry {
    /// Whether later callers are answered from it, too.
    pub fn is_stored(&self) -> bool {
        self.has(Mark::IndexedKey)
    }

    pub(in crate::cache) fn is_ahead(&self) -> bool {
        self.has(Mark::Ahead)
    }

    pub(in crate::cache) fn was_forced(&self) -> bool {
        self.has(Mark::Forced)
    }

    /// Notes that a caller has forced the fetch.
    pub(in crate::cache) fn note_force(&self) {
        self.mark(Mark::Forced);
    }

    pub(in crate::cache) fn is_softly_purged(&self) -> bool {
        self.has(Mark::Softened)
    }

    pub(in crate::cache) fn keep(&self) {
        self.mark(Mark::IndexedKey);
    }

    /// Ends the fresh life; the stale one ends when it would have.
    pub(in crate::cache) fn mark_stale(&self) {
        self.mark(Mark::Softened);
    }

    /// Notes that it was asked for.
    pub(in crate::cache) fn use_it(&self) {
        // Reading first keeps the cache line shared between cores.
        if !self.has(Mark::InUse) {
            self.mark(Mark::InUse);
        }
    }

    /// Whether it was asked for again.
    pub(in crate::cache) fn is_in_use(&self) -> bool {
        self.has(Mark::InUse)
    }

    /// Whether a caller that asks now is to cause a refresh ahead: the list is in use, and no refresh is under way.
    pub(in crate::cache) fn is_due_for_refresh(&self, now: Moment) -> bool {
        self.has(Mark::InUse) && !self.has(Mark::Refreshing) && !self.waits_after_failure(now)
    }

    /// Takes the refresh upon the caller; `false` if another has it.
    pub(in crate::cache) fn begin_refresh(&self) -> bool {
        self.mark(Mark::Refreshing)
    }

    /// Notes that it could not be replaced: because Atlas failed, or because a rule of ours has held the
    /// call back.
    pub(in crate::cache) fn note_failure(&self, now: Moment, held_back: Option<HeldBack>) {
        let place = HeldBack::ALL.iter().position(|why| Some(*why) == held_back);
        let number = place.and_then(|place| u8::try_from(place + 1).ok());
        self.held_back
            .store(number.unwrap_or_default(), Ordering::Relaxed);
        // That we did not ask says nothing new of Atlas.
        if held_back.is_none() {
            let failures = self.failures.load(Ordering::Relaxed);
            self.failures
                .store(failures.saturating_add(1), Ordering::Relaxed);
        }
        let millis = u64::try_from(now.elapsed.as_millis()).unwrap_or(u64::MAX);
        self.failed_at
            .store(millis.saturating_add(1), Ordering::Relaxed);
        self.marks
            .fetch_and(!Mark::Refreshing.bit(), Ordering::Relaxed);
    }

    /// Whether it was Atlas that failed when it was last to be replaced in vain.
    pub(in crate::cache) fn has_failed(&self) -> bool {
        self.failed_at.load(Ordering::Relaxed) > 0 && self.held_back().is_none()
    }

    /// What has held the last call to refresh it back.
    pub(in crate::cache) fn held_back(&self) -> Option<HeldBack> {
        let place = usize::from(self.held_back.load(Ordering::Relaxed)).checked_sub(1)?;
        HeldBack::ALL.get(place).copied()
    }

    /// How long ago it was last to be replaced in vain.
    pub(in crate::cache) fn failed_since(&self, now: Moment) -> Option<Duration> {
        let millis = self.failed_at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.elapsed.saturating_sub(Duration::from_millis(millis)))
    }

    /// Whether it is too early to try again after it was to be replaced in vain: ever longer while Atlas
    /// fails, and a moment after we have held a call back, which has cost nothing.
    pub(in crate::cache) fn waits_after_failure(&self, now: Moment) -> bool {
        let pause = if self.held_back().is_some() {
            AFTER_HOLDING_BACK
        } else {
            pause_after(self.failures.load(Ordering::Relaxed))
        };
        self.failed_within(now, pause)
    }

    /// Whether it was to be replaced in vain less than `span` ago.
    pub(in crate::cache) fn failed_within(&self, now: Moment, span: Duration) -> bool {
        self.failed_since(now).is_some_and(|since| since < span)
    }

    fn has(&self, mark: Mark) -> bool {
        self.marks.load(Ordering::Relaxed) & mark.bit() != 0
    }

    /// Sets a mark; says whether it was not there before.
    fn mark(&self, mark: Mark) -> bool {
        self.marks.fetch_or(mark.bit(), Ordering::Relaxed) & mark.bit() == 0
    }
}

const AFTER_HOLDING_BACK: Duration = Duration::from_secs(1);

impl Mark {
    pub(super) const fn bit(self) -> u8 {
        match self {
            Self::Ahead => 1,
            Self::InUse => 2,
            Self::Softened => 4,
            Self::IndexedKey => 8,
            Self::Refreshing => 16,
            Self::Forced => 32,
        }
    }
}
