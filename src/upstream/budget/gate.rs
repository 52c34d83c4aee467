//! The gate before a project: "wait" goes in, closed comes out, then a probe, then a slow start. Pure.

use std::time::Duration;

/// What Atlas said when it asked us to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CooldownCause {
    /// 429: the project's bucket is spent.
    RateLimited,
    /// 503 with `Retry-After`: Atlas is not available for a while.
    Unavailable,
}

impl CooldownCause {
    /// The status with which Atlas said it.
    pub fn status(self) -> u16 {
        match self {
            Self::RateLimited => 429,
            Self::Unavailable => 503,
        }
    }
}

/// Whether a project may be called at all. Times are
/// [`Moment::elapsed`](crate::system::Moment::elapsed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Atlas has asked us to wait.
    Closed {
        cause: CooldownCause,
        until: Duration,
        /// How long it was closed this time; the next time is at least twice as long.
        wait: Duration,
        /// When the next probe may be made, once the gate's time is over.
        next_probe: Duration,
    },
    /// Nothing speaks against it.
    Open,
    /// A probe was answered: a few calls each second, and more with each.
    Opening {
        cause: CooldownCause,
        since: Duration,
        wait: Duration,
        /// Calls granted in this second of the slow start.
        second: u64,
        granted: u64,
    },
}

impl Gate {
    /// Why it was closed, until calls are as free as ever.
    pub(super) fn cause(self) -> Option<CooldownCause> {
        match self {
            Self::Closed { cause, .. } | Self::Opening { cause, .. } => Some(cause),
            Self::Open => None,
        }
    }

    /// How long it stays closed; `None` if it does not.
    pub(super) fn closed_for(self, now: Duration) -> Option<Duration> {
        match self {
            Self::Closed { until, .. } if now < until => Some(until.saturating_sub(now)),
            Self::Closed { .. } | Self::Open | Self::Opening { .. } => None,
        }
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_open(self, now: Duration) -> bool {
        match self {
            Self::Closed { .. } => false,
            Self::Open => true,
            Self::Opening { since, .. } => now >= since + SLOW_START,
        }
    }

    /// Leave for a probe, or how long to wait for it; `None` if the gate is not closed.
    ///
    /// A probe that is lost is followed by another a second later.
    pub(super) fn probe(&mut self, now: Duration) -> Option<Result<(), Duration>> {
        let Self::Closed { next_probe, .. } = self else {
            return None;
        };
        if now < *next_probe {
            return Some(Err(next_probe.saturating_sub(now)));
        }
        *next_probe = now + BETWEEN_PROBES;
        Some(Ok(()))
    }

    /// Leave for so many calls, or how long to wait for it: while the gate opens, one walk begins in
    /// the first second, two in the next, then four, for ten seconds.
    pub(super) fn admit(&mut self, calls: u64, first: bool, now: Duration) -> Result<(), Duration> {
        let Self::Opening {
            since,
            second,
            granted,
            ..
        } = self
        else {
            return Ok(());
        };
        let elapsed = now.saturating_sub(*since);
        if elapsed >= SLOW_START {
            *self = Self::Open;
            return Ok(());
        }
        if elapsed.as_secs() != *second {
            (*second, *granted) = (elapsed.as_secs(), 0);
        }
        if first && *granted >= 1 << (*second).min(20) {
            let next = Duration::from_secs(*second + 1);
            return Err(next.saturating_sub(elapsed));
        }
        *granted += calls;
        Ok(())
    }

    /// Atlas answered well. True if that was the answer to a probe, which opens the gate.
    pub(super) fn succeeded(&mut self, now: Duration) -> bool {
        let Self::Closed {
            cause, until, wait, ..
        } = *self
        else {
            return false;
        };
        if now < until {
            return false;
        }
        *self = Self::Opening {
            cause,
            since: now,
            wait,
            second: 0,
            granted: 0,
        };
        true
    }

    /// Atlas asked us to wait; returns how long that will be. `late` is added, so that not everybody
    /// comes back at once.
    pub(super) fn close(
        &mut self,
        cause: CooldownCause,
        asked: Option<Duration>,
        late: impl FnOnce(Duration) -> Duration,
        now: Duration,
    ) -> Duration {
        let asked = asked.unwrap_or(UNSAID_WAIT);
        let least = match *self {
            // Several calls may be told to wait at the same time; that is one refusal, not several.
            Self::Closed {
                cause: earlier,
                until,
                wait,
                ..
            } if now < until => {
                let asked_until = now + asked.clamp(SHORTEST_WAIT, LONGEST_WAIT);
                // The cause is that of the answer which is waited for.
                let cause = if asked_until > until { cause } else { earlier };
                let until = until.max(asked_until);
                *self = Self::closed(cause, until, wait);
                return until.saturating_sub(now);
            }
            Self::Closed { wait, .. } | Self::Opening { wait, .. } => wait * 2,
            Self::Open => SHORTEST_WAIT,
        };
        let wait = asked.max(least).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        let until = now + wait + late(wait / 10);
        *self = Self::closed(cause, until, wait);
        until.saturating_sub(now)
    }

    fn closed(cause: CooldownCause, until: Duration, wait: Duration) -> Self {
        Self::Closed {
            cause,
            until,
            wait,
            next_probe: until,
        }
    }
}

const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// A 429 that does not say how long; Atlas's advice is 10, 20, 40 seconds.
const UNSAID_WAIT: Duration = Duration::from_secs(10);
const BETWEEN_PROBES: Duration = Duration::from_secs(1);
const SLOW_START: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::CooldownCause::{RateLimited, Unavailable};
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn none(_: Duration) -> Duration {
        Duration::ZERO
    }

    #[test]
    fn after_its_time_one_probe_passes_and_then_a_few() {
        let mut gate = Gate::Open;
        let wait = gate.close(
            RateLimited,
            Some(seconds(55)),
            |tenth| tenth,
            Duration::ZERO,
        );
        assert_eq!(wait, Duration::from_millis(60_500));
        let left = Duration::from_millis(500);
        assert_eq!(gate.closed_for(seconds(60)), Some(left));
        assert_eq!(gate.probe(seconds(60)), Some(Err(left)));
        assert!(!gate.succeeded(seconds(60)));
        assert_eq!(gate.probe(seconds(61)), Some(Ok(())));
        assert_eq!(gate.probe(seconds(61)), Some(Err(seconds(1))));
        assert!(gate.succeeded(seconds(61)));
        let started = (61..66).map(|second| {
            let admitted = (0..100).filter(|_| gate.admit(1, true, seconds(second)).is_ok());
            admitted.count()
        });
        assert_eq!(started.collect::<Vec<_>>(), [1, 2, 4, 8, 16]);
        assert!(gate.admit(1_000, true, seconds(71)).is_ok());
        assert_eq!(gate, Gate::Open);
    }

    #[test]
    fn a_walk_that_has_begun_goes_on_while_the_gate_opens() {
        let mut gate = Gate::Open;
        gate.close(RateLimited, Some(seconds(1)), none, Duration::ZERO);
        gate.succeeded(seconds(1));
        assert!(gate.admit(1, true, seconds(1)).is_ok());
        assert!(gate.admit(19, false, seconds(1)).is_ok());
        assert_eq!(gate.admit(1, true, seconds(1)), Err(seconds(1)));
    }

    #[test]
    fn a_second_refusal_waits_at_least_twice_as_long_and_never_longer_than_five_minutes() {
        let mut gate = Gate::Open;
        assert_eq!(
            gate.close(RateLimited, None, none, Duration::ZERO),
            seconds(10)
        );
        // Others that were under way are told the same; it is one refusal.
        assert_eq!(
            gate.close(RateLimited, Some(seconds(3)), none, seconds(1)),
            seconds(9)
        );
        let mut now = seconds(10);
        for expected in [20, 40, 80, 160, 300, 300] {
            assert_eq!(gate.probe(now), Some(Ok(())));
            let wait = gate.close(RateLimited, Some(seconds(1)), none, now);
            assert_eq!(wait, seconds(expected));
            now += wait;
        }
        for (asked, waited) in [(0, 1), (1_000_000_000, 300)] {
            let wait = Gate::Open.close(RateLimited, Some(seconds(asked)), none, Duration::ZERO);
            assert_eq!(wait, seconds(waited));
        }
    }

    #[test]
    fn the_cause_is_that_of_the_answer_which_is_waited_for() {
        let mut gate = Gate::Open;
        assert_eq!(gate.cause(), None);
        gate.close(Unavailable, Some(seconds(30)), none, Duration::ZERO);
        gate.close(RateLimited, Some(seconds(3)), none, seconds(1));
        assert_eq!(gate.cause(), Some(Unavailable));
        gate.close(RateLimited, Some(seconds(60)), none, seconds(1));
        assert_eq!(gate.cause(), Some(RateLimited));
        gate.succeeded(seconds(61));
        assert_eq!(gate.cause(), Some(RateLimited), "while it opens slowly");
        assert!(gate.admit(1, true, seconds(71)).is_ok());
        assert_eq!(gate.cause(), None);
    }
}
