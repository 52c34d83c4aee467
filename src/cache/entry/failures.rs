//! What failed attempts to replace an entry have left in it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{CacheEntry, EntryMark};
use crate::cache::freshness::pause_after;
use crate::system::Moment;
use crate::upstream::HeldBack;

impl CacheEntry {
    /// Notes that it could not be replaced: because Atlas failed, or because a rule of ours has held the
    /// call back.
    pub(in crate::cache) fn note_failure(&self, now: Moment, held_back: Option<HeldBack>) {
        let number = held_back.map_or(0, |held_back| {
            let place = HeldBack::ALL.iter().position(|why| *why == held_back);
            let place = place.expect("all reasons to hold a call back are listed");
            u8::try_from(place + 1).expect("there are fewer than 255 of them")
        });
        self.held_back.store(number, Ordering::Relaxed);
        // That we did not ask says nothing new of Atlas.
        if held_back.is_none() {
            let failures = self.failures.load(Ordering::Relaxed);
            self.failures
                .store(failures.saturating_add(1), Ordering::Relaxed);
        }
        let millis = u64::try_from(now.elapsed.as_millis()).expect("no process runs for so long");
        self.failed_at.store(millis + 1, Ordering::Relaxed);
        self.marks
            .fetch_and(!EntryMark::Refreshing.bit(), Ordering::Relaxed);
    }

    /// Whether the last attempt to replace it failed, and it was Atlas that failed.
    pub(in crate::cache) fn has_failed(&self) -> bool {
        self.failed_at.load(Ordering::Relaxed) > 0 && self.held_back().is_none()
    }

    /// The rule that has held back the last call to refresh it.
    pub(in crate::cache) fn held_back(&self) -> Option<HeldBack> {
        let place = usize::from(self.held_back.load(Ordering::Relaxed)).checked_sub(1)?;
        HeldBack::ALL.get(place).copied()
    }

    /// How long ago the last attempt to replace it failed.
    pub(in crate::cache) fn failed_since(&self, now: Moment) -> Option<Duration> {
        let millis = self.failed_at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.elapsed.saturating_sub(Duration::from_millis(millis)))
    }

    /// Whether it is too early for another attempt (backoff): ever longer while Atlas fails, and a moment after
    /// we have held a call back, which has cost nothing.
    pub(in crate::cache) fn waits_after_failure(&self, now: Moment) -> bool {
        let pause = if self.held_back().is_some() {
            AFTER_HOLDING_BACK
        } else {
            pause_after(self.failures.load(Ordering::Relaxed))
        };
        self.failed_within(now, pause)
    }

    pub(in crate::cache) fn failed_within(&self, now: Moment, span: Duration) -> bool {
        self.failed_since(now).is_some_and(|since| since < span)
    }
}

const AFTER_HOLDING_BACK: Duration = Duration::from_secs(1);
