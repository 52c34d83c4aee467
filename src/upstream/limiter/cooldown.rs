//! Cooldown of one project: after a 429, or a 503 that says when to come back, nothing is called until its
//! time is over; then one probe, then a slow start of one fetch a second, two, four, for ten seconds (G24).
//! Pure; times are [`Moment::elapsed`](crate::clock::Moment::elapsed).

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

/// Whether a project may be called at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cooldown {
    /// Calls pass.
    #[default]
    Over,
    /// No call passes before `until`, then a probe at a time.
    Waiting {
        cause: CooldownCause,
        until: Duration,
        /// How long it is this time; the next time is at least twice as long.
        wait: Duration,
        /// When the next probe may be made, once the time is over.
        next_probe: Duration,
    },
    /// A probe was answered: a few fetches each second, and more with each.
    SlowStart {
        cause: CooldownCause,
        since: Duration,
        wait: Duration,
        /// Calls admitted in this second of the slow start.
        second: u64,
        admitted: u64,
    },
}

impl Cooldown {
    /// Why calls are held back, until they are as free as ever.
    pub(super) fn cause(self) -> Option<CooldownCause> {
        match self {
            Self::Waiting { cause, .. } | Self::SlowStart { cause, .. } => Some(cause),
            Self::Over => None,
        }
    }

    /// How long no call passes; `None` if one does.
    pub(crate) fn left(self, now: Duration) -> Option<Duration> {
        match self {
            Self::Waiting { until, .. } => until.checked_sub(now).filter(|left| !left.is_zero()),
            Self::Over | Self::SlowStart { .. } => None,
        }
    }

    /// Why no call passes; `None` if one does.
    pub(crate) fn cause_now(self, now: Duration) -> Option<CooldownCause> {
        self.left(now).and(self.cause())
    }

    pub(super) fn is_over(self, now: Duration) -> bool {
        match self {
            Self::Waiting { .. } => false,
            Self::Over => true,
            Self::SlowStart { since, .. } => now >= since + SLOW_START,
        }
    }

    /// Whether a probe may be made, or how long to wait for it; `None` if there is no need of one. A probe
    /// that is lost is followed by another a second later.
    pub(super) fn probe(&mut self, now: Duration) -> Option<Result<(), Duration>> {
        let Self::Waiting { next_probe, .. } = self else {
            return None;
        };
        if now < *next_probe {
            return Some(Err(next_probe.saturating_sub(now)));
        }
        *next_probe = now + BETWEEN_PROBES;
        Some(Ok(()))
    }

    /// Admits calls in the slow start, or says how long to wait. Those that go on with a fetch (not `first`)
    /// always pass, or a list of several pages could never be read.
    pub(super) fn admit(&mut self, calls: u64, first: bool, now: Duration) -> Result<(), Duration> {
        let Self::SlowStart {
            since,
            second,
            admitted,
            ..
        } = self
        else {
            return Ok(());
        };
        let elapsed = now.saturating_sub(*since);
        if elapsed >= SLOW_START {
            *self = Self::Over;
            return Ok(());
        }
        if elapsed.as_secs() != *second {
            (*second, *admitted) = (elapsed.as_secs(), 0);
        }
        if first && *admitted >= 1 << *second {
            return Err(Duration::from_secs(*second + 1).saturating_sub(elapsed));
        }
        *admitted += calls;
        Ok(())
    }

    /// Atlas answered well. True if that was the answer to a probe: the slow start begins.
    pub(super) fn succeeded(&mut self, now: Duration) -> bool {
        match *self {
            Self::Waiting {
                cause, until, wait, ..
            } if now >= until => {
                *self = Self::SlowStart {
                    cause,
                    since: now,
                    wait,
                    second: 0,
                    admitted: 0,
                };
                true
            }
            Self::Waiting { .. } | Self::Over | Self::SlowStart { .. } => false,
        }
    }

    /// Atlas asked us to wait; returns for how long we do. `late` is added, so that gateways do not come
    /// back in step.
    pub(super) fn begin(
        &mut self,
        cause: CooldownCause,
        asked: Option<Duration>,
        late: impl FnOnce(Duration) -> Duration,
        now: Duration,
    ) -> Duration {
        let asked = asked.unwrap_or(DEFAULT_WAIT);
        let (cause, until, wait) = match *self {
            // Several calls may be told to wait at the same time; that is one refusal, not several.
            Self::Waiting {
                cause: earlier,
                until,
                wait,
                ..
            } if now < until => {
                let asked_until = now + asked.clamp(SHORTEST_WAIT, LONGEST_WAIT);
                // The cause is that of the answer which is waited for.
                let cause = if asked_until > until { cause } else { earlier };
                (cause, until.max(asked_until), wait)
            }
            Self::Over | Self::Waiting { .. } | Self::SlowStart { .. } => {
                let least = match *self {
                    Self::Over => SHORTEST_WAIT,
                    Self::Waiting { wait, .. } | Self::SlowStart { wait, .. } => wait * 2,
                };
                let wait = asked.max(least).clamp(SHORTEST_WAIT, LONGEST_WAIT);
                (cause, now + wait + late(wait / 10), wait)
            }
        };
        *self = Self::Waiting {
            cause,
            until,
            wait,
            next_probe: until,
        };
        until.saturating_sub(now)
    }
}

const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Of a 429 that does not say how long; Atlas's advice is 10, 20, 40 seconds.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
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
        let mut cooldown = Cooldown::Over;
        let wait = cooldown.begin(
            RateLimited,
            Some(seconds(55)),
            |tenth| tenth,
            Duration::ZERO,
        );
        assert_eq!(wait, Duration::from_millis(60_500));
        let left = Duration::from_millis(500);
        assert_eq!(cooldown.left(seconds(60)), Some(left));
        assert_eq!(cooldown.probe(seconds(60)), Some(Err(left)));
        assert!(!cooldown.succeeded(seconds(60)));
        assert_eq!(cooldown.probe(seconds(61)), Some(Ok(())));
        assert_eq!(cooldown.probe(seconds(61)), Some(Err(seconds(1))));
        assert!(cooldown.succeeded(seconds(61)));
        let started = (61..66).map(|second| {
            let admitted = (0..100).filter(|_| cooldown.admit(1, true, seconds(second)).is_ok());
            admitted.count()
        });
        assert_eq!(started.collect::<Vec<_>>(), [1, 2, 4, 8, 16]);
        assert!(cooldown.admit(1_000, true, seconds(71)).is_ok());
        assert_eq!(cooldown, Cooldown::Over);
    }

    #[test]
    fn a_fetch_that_has_begun_goes_on_in_the_slow_start() {
        let mut cooldown = Cooldown::Over;
        cooldown.begin(RateLimited, Some(seconds(1)), none, Duration::ZERO);
        cooldown.succeeded(seconds(1));
        assert!(cooldown.admit(1, true, seconds(1)).is_ok());
        assert!(cooldown.admit(19, false, seconds(1)).is_ok());
        assert_eq!(cooldown.admit(1, true, seconds(1)), Err(seconds(1)));
    }

    #[test]
    fn a_second_refusal_waits_at_least_twice_as_long_and_never_longer_than_five_minutes() {
        let mut cooldown = Cooldown::Over;
        assert_eq!(
            cooldown.begin(RateLimited, None, none, Duration::ZERO),
            seconds(10)
        );
        // Others that were under way are told the same; it is one refusal.
        assert_eq!(
            cooldown.begin(RateLimited, Some(seconds(3)), none, seconds(1)),
            seconds(9)
        );
        let mut now = seconds(10);
        for expected in [20, 40, 80, 160, 300, 300] {
            assert_eq!(cooldown.probe(now), Some(Ok(())));
            let wait = cooldown.begin(RateLimited, Some(seconds(1)), none, now);
            assert_eq!(wait, seconds(expected));
            now += wait;
        }
        for (asked, waited) in [(0, 1), (1_000_000_000, 300)] {
            let wait =
                Cooldown::Over.begin(RateLimited, Some(seconds(asked)), none, Duration::ZERO);
            assert_eq!(wait, seconds(waited));
        }
    }

    #[test]
    fn the_cause_is_that_of_the_answer_which_is_waited_for() {
        let mut cooldown = Cooldown::Over;
        assert_eq!(cooldown.cause(), None);
        cooldown.begin(Unavailable, Some(seconds(30)), none, Duration::ZERO);
        cooldown.begin(RateLimited, Some(seconds(3)), none, seconds(1));
        assert_eq!(cooldown.cause(), Some(Unavailable));
        cooldown.begin(RateLimited, Some(seconds(60)), none, seconds(1));
        assert_eq!(cooldown.cause(), Some(RateLimited));
        cooldown.succeeded(seconds(61));
        assert_eq!(cooldown.cause(), Some(RateLimited), "while it opens slowly");
        assert!(cooldown.admit(1, true, seconds(71)).is_ok());
        assert_eq!(cooldown.cause(), None);
    }
}
