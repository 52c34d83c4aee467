//! Sliding window: one value for each of the last `SLOTS` intervals of `SECONDS` seconds.

use std::collections::VecDeque;
use std::time::Duration;

/// Intervals in which something was noted, with their number; the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct SlidingWindow<T, const SECONDS: u64, const SLOTS: u64>(VecDeque<(u64, T)>);

impl<T: Default, const SECONDS: u64, const SLOTS: u64> SlidingWindow<T, SECONDS, SLOTS> {
    pub(super) fn current(&mut self, now: Duration) -> &mut T {
        let number = now.as_secs() / SECONDS;
        self.0.retain(|(slot, _)| slot + SLOTS > number);
        if self.0.back().is_none_or(|(slot, _)| *slot != number) {
            self.0.push_back((number, T::default()));
        }
        let (_, value) = self.0.back_mut().expect("it was just put there");
        value
    }

    pub(super) fn recent(&self, now: Duration) -> impl DoubleEndedIterator<Item = &T> {
        let number = now.as_secs() / SECONDS;
        let recent = self.0.iter().filter(move |(slot, _)| slot + SLOTS > number);
        recent.map(|(_, value)| value)
    }
}
