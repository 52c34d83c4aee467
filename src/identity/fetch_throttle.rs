//! The fetch throttle: when an issuer may be asked for its keys. Pure.
//!
//! Keys are fetched periodically, with exponential backoff after a failure. A token with an unknown `kid` may
//! fetch them earlier, but any stranger can write one, so at most once in thirty seconds.

use std::time::Duration;

#[derive(Debug)]
pub(super) struct FetchThrottle {
    published: bool,
    running: bool,
    fetched_for_unknown: Option<Duration>,
    again: bool,
    ended: Option<Duration>,
    due: Duration,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnknownKeyFetch {
    /// A fetch is due now: wake the background task, then wait for it.
    Due,
    /// The issuer was asked too short a time ago.
    Throttled,
    /// A fetch is under way: wait for it.
    UnderWay,
}

impl FetchThrottle {
    /// The first attempt is due at once. To published keys it counts as under way before it begins, so
    /// that callers who come earlier wait for it instead of asking for another.
    pub(super) fn new(published: bool) -> Self {
        Self {
            published,
            running: published,
            fetched_for_unknown: None,
            again: false,
            ended: None,
            due: Duration::ZERO,
            failures: 0,
        }
    }

    /// Goes on where `old` stops. What was under way there ends with its task, so it is begun again.
    pub(super) fn inherit(&mut self, old: &Self, now: Duration) {
        *self = Self {
            published: self.published,
            due: if old.running { now } else { old.due },
            ..*old
        };
    }

    pub(super) fn due(&self) -> Duration {
        self.due
    }

    pub(super) fn was_good(&self) -> bool {
        self.failures == 0
    }

    pub(super) fn unknown_key(&mut self, now: Duration) -> UnknownKeyFetch {
        if self.running {
            return UnknownKeyFetch::UnderWay;
        }
        match self.fetched_for_unknown {
            Some(asked) if now.saturating_sub(asked) < UNKNOWN_KEY_PERIOD => {
                UnknownKeyFetch::Throttled
            }
            _ => {
                self.fetched_for_unknown = Some(now);
                self.running = true;
                self.due = now;
                UnknownKeyFetch::Due
            }
        }
    }

    /// An operator wants the keys as they are now. An attempt that is under way may have begun before they
    /// changed.
    pub(super) fn request(&mut self, now: Duration) {
        self.again = self.running;
        if !self.running {
            let pause_ends = self
                .ended
                .map_or(now, |ended| ended.saturating_add(LEAST_PAUSE));
            self.due = self.due.min(pause_ends.max(now));
        }
    }

    pub(super) fn begin(&mut self) {
        self.running = true;
    }

    pub(super) fn abandon(&mut self) {
        self.running = false;
    }

    /// An attempt ends. After a failure the next comes sooner, but ever later while they go on.
    pub(super) fn end(&mut self, now: Duration, good: bool) {
        self.running = false;
        self.ended = Some(now);
        self.failures = if good {
            0
        } else {
            self.failures.saturating_add(1)
        };
        let pause = if std::mem::take(&mut self.again) {
            LEAST_PAUSE
        } else if !self.published {
            FILE_PERIOD
        } else if good {
            PERIOD
        } else {
            LEAST_PAUSE
                .saturating_mul(1 << (self.failures - 1).min(5))
                .min(LONGEST_BACKOFF)
        };
        self.due = now.saturating_add(pause);
    }
}

const PERIOD: Duration = Duration::from_mins(5);

/// How often a file is read. It is small, and notifications miss files that are swapped by symlink.
const FILE_PERIOD: Duration = Duration::from_secs(2);

const UNKNOWN_KEY_PERIOD: Duration = Duration::from_secs(30);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

const LEAST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn unknown_keys_start_one_fetch_in_thirty_seconds_whatever_comes_of_it() {
        for good in [true, false] {
            let mut throttle = FetchThrottle::new(true);
            assert_eq!(
                throttle.unknown_key(at(0)),
                UnknownKeyFetch::UnderWay,
                "the first attempt is on its way"
            );
            throttle.end(at(0), good);
            assert_eq!(throttle.unknown_key(at(1)), UnknownKeyFetch::Due);
            assert_eq!(throttle.unknown_key(at(1)), UnknownKeyFetch::UnderWay);
            throttle.end(at(5), good);
            assert_eq!(throttle.unknown_key(at(5)), UnknownKeyFetch::Throttled);
            assert_eq!(throttle.unknown_key(at(30)), UnknownKeyFetch::Throttled);
            assert_eq!(throttle.unknown_key(at(31)), UnknownKeyFetch::Due);
        }
    }

    #[test]
    fn failures_are_tried_again_sooner_and_ever_later() {
        let mut throttle = FetchThrottle::new(true);
        let mut pauses = Vec::new();
        for _ in 0..70 {
            throttle.end(at(100), false);
            pauses.push(throttle.due().saturating_sub(at(100)));
        }
        assert_eq!(pauses[..6], [1, 2, 4, 8, 16, 30].map(at));
        assert_eq!(pauses[69], at(30));
        throttle.end(at(100), true);
        assert_eq!(throttle.due(), at(400));
    }

    #[test]
    fn an_operator_is_heard_at_once_but_not_twice_in_a_second() {
        let mut throttle = FetchThrottle::new(true);
        throttle.begin();
        throttle.request(at(0));
        throttle.end(at(5), true);
        assert_eq!(throttle.due(), at(6), "what was under way may be too old");
        throttle.begin();
        throttle.end(at(6), true);
        assert_eq!(throttle.due(), at(306));
        throttle.request(at(6));
        throttle.request(at(6));
        assert_eq!(throttle.due(), at(7));
        throttle.request(at(100));
        assert_eq!(throttle.due(), at(7));
        throttle.begin();
        throttle.end(at(100), true);
        throttle.request(at(200));
        assert_eq!(throttle.due(), at(200));
    }

    #[test]
    fn a_reload_keeps_the_pauses_and_begins_again_what_was_under_way() {
        let mut old = FetchThrottle::new(true);
        old.end(at(0), true);
        let mut throttle = FetchThrottle::new(true);
        throttle.inherit(&old, at(9));
        assert_eq!(throttle.due(), at(300));
        assert_eq!(old.unknown_key(at(10)), UnknownKeyFetch::Due);
        throttle.inherit(&old, at(11));
        assert_eq!(throttle.due(), at(11));
        assert_eq!(throttle.unknown_key(at(11)), UnknownKeyFetch::UnderWay);
    }
}
