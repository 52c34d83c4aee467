//! Cooldown of one project: after a 429, or a 503 that says when to come back, nothing is called until its
//! time is over; then one probe, then a slow start of one fetch a second, two, four, for ten seconds (G24).
//! Pure; times are [`Moment::elapsed`](crate::system::Moment::elapsed).

use std::time::Duration;

use crate::fleet::{FleetCooldown, FleetPhase};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CooldownCause {
    /// 429: the project's bucket is spent.
    RateLimited,
    /// 503 with `Retry-After`: Atlas is not available for a while.
    Unavailable,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CooldownRequest {
    pub(crate) cause: CooldownCause,
    /// For how long, if it said so.
    pub(crate) wait: Option<Duration>,
}

impl CooldownCause {
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::RateLimited => 429,
            Self::Unavailable => 503,
        }
    }

    pub(super) fn of_status(status: u16) -> Self {
        match status {
            503 => Self::Unavailable,
            _ => Self::RateLimited,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cooldown {
    /// Why calls are held back; `None` while they are as free as ever.
    cause: Option<CooldownCause>,
    /// How long it is this time; the next time is at least twice as long.
    wait: Duration,
    until: Duration,
    /// When the next probe may be made, once the time is over.
    next_probe: Duration,
    slow_start: Option<SlowStart>,
}

/// A few fetches each second, and more with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlowStart {
    since: Duration,
    second: u64,
    admitted: u64,
}

impl Cooldown {
    pub(super) fn cause(self) -> Option<CooldownCause> {
        self.cause
    }

    /// Whether no call passes but a probe.
    pub(super) fn is_waiting(self) -> bool {
        self.cause.is_some() && self.slow_start.is_none()
    }

    pub(crate) fn left(self, now: Duration) -> Option<Duration> {
        let left = self.until.saturating_sub(now);
        (self.is_waiting() && !left.is_zero()).then_some(left)
    }

    pub(crate) fn cause_now(self, now: Duration) -> Option<CooldownCause> {
        self.left(now).and(self.cause)
    }

    pub(super) fn is_over(self, now: Duration) -> bool {
        let is_over = |start: SlowStart| now >= start.since + SLOW_START;
        self.cause.is_none() || self.slow_start.is_some_and(is_over)
    }

    /// Whether a probe may be made, or how long to wait for it; `None` if there is no need of one. A probe
    /// that is lost is followed by another a second later.
    pub(super) fn probe(&mut self, now: Duration) -> Option<Result<(), Duration>> {
        if !self.is_waiting() {
            return None;
        }
        let wait = self.next_probe.saturating_sub(now);
        if !wait.is_zero() {
            return Some(Err(wait));
        }
        self.next_probe = now + BETWEEN_PROBES;
        Some(Ok(()))
    }

    /// Admits calls in the slow start, or says how long to wait. Those that go on with a fetch (not `first`)
    /// always pass, or a list of several pages could never be read.
    pub(super) fn admit(&mut self, calls: u64, first: bool, now: Duration) -> Result<(), Duration> {
        if self.is_over(now) {
            *self = Self::default();
        }
        let Some(start) = &mut self.slow_start else {
            return Ok(());
        };
        let elapsed = now.saturating_sub(start.since);
        if elapsed.as_secs() != start.second {
            (start.second, start.admitted) = (elapsed.as_secs(), 0);
        }
        if first && start.admitted >= 1 << start.second {
            return Err(Duration::from_secs(start.second + 1).saturating_sub(elapsed));
        }
        start.admitted += calls;
        Ok(())
    }

    /// Atlas answered well. True if that was the answer to a probe: the slow start begins.
    pub(super) fn succeeded(&mut self, now: Duration) -> bool {
        let is_probe = self.is_waiting() && now >= self.until;
        if is_probe {
            self.slow_start = Some(SlowStart {
                since: now,
                second: 0,
                admitted: 0,
            });
        }
        is_probe
    }

    /// What the fleet is told of it.
    pub(super) fn for_fleet(self, now: Duration) -> FleetCooldown {
        FleetCooldown {
            phase: FleetPhase::default(),
            left: self.left(now).unwrap_or_default(),
            cause: self.cause.map_or(0, CooldownCause::status),
            wait: self.wait,
        }
    }

    /// Takes up the fleet's, as it was at `asked_at`: Atlas may have told another replica to wait, or have answered
    /// its probe.
    pub(super) fn follow(&mut self, fleet: FleetCooldown, asked_at: Duration) {
        let left = self.left(asked_at);
        match fleet.phase {
            // What Atlas has asked meanwhile, the fleet will hear.
            FleetPhase::Open | FleetPhase::Slow if left.is_some() => {}
            FleetPhase::Closed if left.is_some_and(|left| left > fleet.left) => {}
            FleetPhase::Open => *self = Self::default(),
            FleetPhase::Slow => {
                self.succeeded(asked_at);
            }
            FleetPhase::Closed => {
                let until = asked_at + fleet.left;
                *self = Self {
                    cause: Some(CooldownCause::of_status(fleet.cause)),
                    wait: fleet.wait,
                    until,
                    next_probe: until,
                    slow_start: None,
                };
            }
        }
    }

    /// Atlas asked us to wait; returns for how long we do. `late` is added, so that gateways do not come
    /// back in step.
    pub(super) fn begin(
        &mut self,
        request: CooldownRequest,
        late: impl FnOnce(Duration) -> Duration,
        now: Duration,
    ) -> Duration {
        let asked = request.wait.unwrap_or(DEFAULT_WAIT);
        if self.left(now).is_some() {
            // Several calls may be told to wait at the same time; that is one refusal, not several. The
            // cause is that of the answer which is waited for.
            let until = now + asked.clamp(SHORTEST_WAIT, LONGEST_WAIT);
            if until > self.until {
                (self.cause, self.until) = (Some(request.cause), until);
            }
        } else {
            let least = self.cause.map_or(SHORTEST_WAIT, |_| self.wait * 2);
            self.wait = asked.max(least).clamp(SHORTEST_WAIT, LONGEST_WAIT);
            self.until = now + self.wait + late(self.wait / 10);
            self.cause = Some(request.cause);
            self.slow_start = None;
        }
        self.next_probe = self.until;
        self.until.saturating_sub(now)
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

    fn asked(cause: CooldownCause, wait: Option<Duration>) -> CooldownRequest {
        CooldownRequest { cause, wait }
    }

    fn none(_: Duration) -> Duration {
        Duration::ZERO
    }

    #[test]
    fn after_its_time_one_probe_passes_and_then_a_few() {
        let mut cooldown = Cooldown::default();
        let wait = cooldown.begin(
            asked(RateLimited, Some(seconds(55))),
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
        assert_eq!(cooldown, Cooldown::default());
    }

    #[test]
    fn a_fetch_that_has_begun_goes_on_in_the_slow_start() {
        let mut cooldown = Cooldown::default();
        cooldown.begin(asked(RateLimited, Some(seconds(1))), none, Duration::ZERO);
        cooldown.succeeded(seconds(1));
        assert!(cooldown.admit(1, true, seconds(1)).is_ok());
        assert!(cooldown.admit(19, false, seconds(1)).is_ok());
        assert_eq!(cooldown.admit(1, true, seconds(1)), Err(seconds(1)));
    }

    #[test]
    fn a_second_refusal_waits_at_least_twice_as_long_and_never_longer_than_five_minutes() {
        let mut cooldown = Cooldown::default();
        assert_eq!(
            cooldown.begin(asked(RateLimited, None), none, Duration::ZERO),
            seconds(10)
        );
        // Others that were under way are told the same; it is one refusal.
        assert_eq!(
            cooldown.begin(asked(RateLimited, Some(seconds(3))), none, seconds(1)),
            seconds(9)
        );
        let mut now = seconds(10);
        for expected in [20, 40, 80, 160, 300, 300] {
            assert_eq!(cooldown.probe(now), Some(Ok(())));
            let wait = cooldown.begin(asked(RateLimited, Some(seconds(1))), none, now);
            assert_eq!(wait, seconds(expected));
            now += wait;
        }
        for (said, waited) in [(0, 1), (1_000_000_000, 300)] {
            let wait = Cooldown::default().begin(
                asked(RateLimited, Some(seconds(said))),
                none,
                Duration::ZERO,
            );
            assert_eq!(wait, seconds(waited));
        }
    }

    #[test]
    fn the_cause_is_that_of_the_answer_which_is_waited_for() {
        let mut cooldown = Cooldown::default();
        assert_eq!(cooldown.cause(), None);
        cooldown.begin(asked(Unavailable, Some(seconds(30))), none, Duration::ZERO);
        cooldown.begin(asked(RateLimited, Some(seconds(3))), none, seconds(1));
        assert_eq!(cooldown.cause(), Some(Unavailable));
        cooldown.begin(asked(RateLimited, Some(seconds(60))), none, seconds(1));
        assert_eq!(cooldown.cause(), Some(RateLimited));
        cooldown.succeeded(seconds(61));
        assert_eq!(cooldown.cause(), Some(RateLimited), "while it opens slowly");
        assert!(cooldown.admit(1, true, seconds(71)).is_ok());
        assert_eq!(cooldown.cause(), None);
    }
}
