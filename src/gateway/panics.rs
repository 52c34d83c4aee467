//! The panics of the last minute, which may be more than an accident (G30).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// When lookups have panicked lately.
#[derive(Debug, Default)]
pub(crate) struct Panics(Mutex<VecDeque<Duration>>);

impl Panics {
    /// Notes one, at a time of [`Moment::elapsed`](crate::system::Moment::elapsed).
    pub(super) fn note(&self, now: Duration) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.push_back(now);
        if latest.len() > TOO_MANY {
            latest.pop_front();
        }
    }

    /// Whether three have come within the minute before `now`.
    pub(crate) fn are_too_many(&self, now: Duration) -> bool {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.len() == TOO_MANY
            && latest
                .front()
                .is_some_and(|first| now.saturating_sub(*first) < Duration::from_mins(1))
    }
}

const TOO_MANY: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_panics_within_a_minute_are_too_many_and_not_for_ever() {
        let panics = Panics::default();
        let at = Duration::from_secs;
        panics.note(at(0));
        panics.note(at(50));
        assert!(!panics.are_too_many(at(50)));
        panics.note(at(61));
        assert!(!panics.are_too_many(at(61)), "the first is too long ago");
        panics.note(at(70));
        assert!(panics.are_too_many(at(70)));
        assert!(panics.are_too_many(at(109)));
        assert!(!panics.are_too_many(at(110)));
    }
}
