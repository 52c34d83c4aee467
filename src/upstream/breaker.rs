//! The breaker: how calls ended goes in, whether it is worth calling comes out. Pure.
//!
//! One stands before the host and counts connections that did not come about; one stands before each
//! project and counts answers that were bad or missing. So a project whose calls fail never closes the
//! way of another (G23), and a host that is gone is found out once for all.

use std::collections::VecDeque;
use std::time::Duration;

/// A breaker. Times are [`Moment::elapsed`](crate::system::Moment::elapsed).
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker {
    /// Seconds with calls, the oldest first.
    window: VecDeque<Second>,
    in_a_row: u32,
    open: Option<Open>,
    /// When a call last ended badly, if none has ended well since.
    failed_at: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Second {
    number: u64,
    calls: u32,
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    next_probe: Duration,
    probes: usize,
}

/// How a call ended, as a breaker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A bad answer: counts towards the rate.
    Badly,
    /// No answer at all: counts towards the rate, and in a row.
    Nowhere,
    /// An answer that says nothing against asking again.
    Well,
}

impl Breaker {
    /// Leave to call, or how long to wait. While open, one call is let through now and then.
    pub(crate) fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        if let Some(wait) = self.wait(now) {
            return Err(wait);
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        open.probes += 1;
        open.next_probe = now + between_probes(open.probes);
        Ok(())
    }

    /// How long there is no leave to call.
    pub(crate) fn wait(&self, now: Duration) -> Option<Duration> {
        let open = self.open.as_ref()?;
        let wait = open.next_probe.saturating_sub(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// Writes down how a call ended. Returns whether that opened the breaker.
    pub(crate) fn ended(&mut self, how: Ended, now: Duration) -> bool {
        if how == Ended::Well && self.open.is_some() {
            *self = Self::default();
        }
        self.failed_at = (how != Ended::Well).then_some(now);
        self.count(how, now);
        self.in_a_row = match how {
            Ended::Nowhere => self.in_a_row.saturating_add(1),
            Ended::Badly | Ended::Well => 0,
        };
        let opens =
            self.open.is_none() && (self.in_a_row >= MOST_IN_A_ROW || self.mostly_failing());
        if opens {
            self.open = Some(Open {
                next_probe: now + between_probes(0),
                probes: 0,
            });
        }
        opens
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether calls fail: it is open, or the last one has failed, lately.
    pub(crate) fn is_failing(&self, now: Duration) -> bool {
        let lately = |at| now.saturating_sub(at) < LATELY;
        self.is_open() || self.failed_at.is_some_and(lately)
    }

    fn count(&mut self, how: Ended, now: Duration) {
        let number = now.as_secs();
        self.window
            .retain(|second| second.number + WINDOW_SECONDS > number);
        if self.window.back().is_none_or(|last| last.number != number) {
            self.window.push_back(Second {
                number,
                calls: 0,
                failures: 0,
            });
        }
        if let Some(second) = self.window.back_mut() {
            second.calls = second.calls.saturating_add(1);
            second.failures = second
                .failures
                .saturating_add(u32::from(how != Ended::Well));
        }
    }

    fn mostly_failing(&self) -> bool {
        let calls: u32 = self.window.iter().map(|second| second.calls).sum();
        let failures: u32 = self.window.iter().map(|second| second.failures).sum();
        calls >= ENOUGH_CALLS && failures >= calls.div_ceil(2)
    }
}

/// 1, 2, 4 and then every 5 seconds, so that a host that is back is found within 5 (G27).
fn between_probes(probes: usize) -> Duration {
    Duration::from_secs([1, 2, 4].get(probes).copied().unwrap_or(5))
}

const WINDOW_SECONDS: u64 = 10;
const ENOUGH_CALLS: u32 = 20;
const MOST_IN_A_ROW: u32 = 5;
/// For how long a failure is told of that nobody has tried to overcome.
const LATELY: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn five_calls_in_a_row_that_lead_nowhere_open_it_and_one_success_closes_it() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert!(!breaker.ended(Ended::Nowhere, Duration::ZERO));
        }
        breaker.ended(Ended::Well, Duration::ZERO);
        for _ in 0..4 {
            breaker.ended(Ended::Nowhere, Duration::ZERO);
        }
        assert!(breaker.admit(Duration::ZERO).is_ok());
        assert!(breaker.ended(Ended::Nowhere, Duration::ZERO));
        assert_eq!(breaker.admit(Duration::ZERO), Err(seconds(1)));
        breaker.ended(Ended::Well, seconds(1));
        assert!(!breaker.is_open() && breaker.admit(seconds(1)).is_ok());
    }

    #[test]
    fn a_failure_is_told_of_until_a_call_ends_well_or_five_minutes_are_over() {
        let mut breaker = Breaker::default();
        assert!(!breaker.is_failing(Duration::ZERO));
        breaker.ended(Ended::Badly, Duration::ZERO);
        assert!(breaker.is_failing(seconds(299)) && !breaker.is_failing(seconds(300)));
        breaker.ended(Ended::Well, seconds(1));
        assert!(!breaker.is_failing(seconds(1)));
        for _ in 0..5 {
            breaker.ended(Ended::Nowhere, seconds(2));
        }
        assert!(breaker.is_failing(seconds(9_000)), "while it is open");
    }

    #[test]
    fn half_of_twenty_calls_in_ten_seconds_open_it() {
        let mut breaker = Breaker::default();
        for call in 0..19 {
            let how = if call % 2 == 0 {
                Ended::Badly
            } else {
                Ended::Well
            };
            assert!(!breaker.ended(how, Duration::ZERO));
        }
        let mut later = breaker.clone();
        assert!(breaker.ended(Ended::Badly, seconds(9)));
        assert!(!later.ended(Ended::Badly, seconds(10)));
    }

    #[test]
    fn while_open_it_lets_one_probe_through_after_1_2_4_and_then_every_5_seconds() {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            breaker.ended(Ended::Nowhere, Duration::ZERO);
        }
        let mut probes = Vec::new();
        for second in 0..=25 {
            // To ask uses nothing up.
            while breaker.wait(seconds(second)).is_none() {
                assert!(breaker.admit(seconds(second)).is_ok());
                probes.push(second);
                breaker.ended(Ended::Nowhere, seconds(second));
            }
        }
        assert_eq!(probes, [1, 3, 7, 12, 17, 22]);
    }
}
