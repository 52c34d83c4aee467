//! Circuit breaker: whether calls are worth making, by how the last ones ended. Pure; times are
//! [`Moment::elapsed`](crate::system::Moment::elapsed).
//!
//! One stands before the host and counts connections that did not come about; one stands before each
//! project and counts answers that were bad or missing. So a project whose calls fail never blocks another
//! (G23), and a host that is gone is found out once for all.

use std::time::Duration;

use super::sliding_window::SlidingWindow;

#[derive(Clone, Debug, Default)]
pub(crate) struct CircuitBreaker {
    /// Calls and failures of the last ten seconds.
    window: SlidingWindow<(u32, u32), 1, 10>,
    unanswered_in_a_row: u32,
    open: Option<OpenCircuit>,
    failed_at: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OpenCircuit {
    next_probe: Duration,
    probes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// An answer that says nothing against asking again.
    Answered,
    /// A bad answer: counts towards the rate.
    Failed,
    /// No answer at all: counts towards the rate, and in a row.
    Unanswered,
}

impl CircuitBreaker {
    /// Admits a call, or says how long to wait. While open, it lets a probe through now and then.
    pub(super) fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        self.wait(now).map_or(Ok(()), Err)?;
        if let Some(open) = &mut self.open {
            open.probes += 1;
            open.next_probe = now + between_probes(open.probes);
        }
        Ok(())
    }

    pub(super) fn wait(&self, now: Duration) -> Option<Duration> {
        let wait = self.open?.next_probe.saturating_sub(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// Counts a call that has ended. Returns whether that opened the breaker.
    pub(super) fn ended(&mut self, outcome: CallOutcome, now: Duration) -> bool {
        let is_answered = outcome == CallOutcome::Answered;
        if is_answered && self.open.is_some() {
            *self = Self::default();
        }
        self.failed_at = (!is_answered).then_some(now);
        let (calls, failures) = self.window.current(now);
        *calls += 1;
        *failures += u32::from(!is_answered);
        self.unanswered_in_a_row = match outcome {
            CallOutcome::Unanswered => self.unanswered_in_a_row + 1,
            CallOutcome::Answered | CallOutcome::Failed => 0,
        };
        let opens = self.open.is_none()
            && (self.unanswered_in_a_row >= MOST_IN_A_ROW || self.is_mostly_failing(now));
        if opens {
            self.open = Some(OpenCircuit {
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

    fn is_mostly_failing(&self, now: Duration) -> bool {
        let calls: u32 = self.window.recent(now).map(|(calls, _)| calls).sum();
        let failures: u32 = self.window.recent(now).map(|(_, failures)| failures).sum();
        calls >= ENOUGH_CALLS && failures >= calls.div_ceil(2)
    }
}

/// 1, 2, 4 and then every 5 seconds, so that a host that is back is found within 5 (G27).
fn between_probes(probes: usize) -> Duration {
    Duration::from_secs([1, 2, 4].get(probes).copied().unwrap_or(5))
}

const ENOUGH_CALLS: u32 = 20;
const MOST_IN_A_ROW: u32 = 5;
const LATELY: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn five_calls_in_a_row_that_lead_nowhere_open_it_and_one_success_closes_it() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..4 {
            assert!(!breaker.ended(CallOutcome::Unanswered, Duration::ZERO));
        }
        breaker.ended(CallOutcome::Answered, Duration::ZERO);
        for _ in 0..4 {
            breaker.ended(CallOutcome::Unanswered, Duration::ZERO);
        }
        assert!(breaker.admit(Duration::ZERO).is_ok());
        assert!(breaker.ended(CallOutcome::Unanswered, Duration::ZERO));
        assert_eq!(breaker.admit(Duration::ZERO), Err(seconds(1)));
        breaker.ended(CallOutcome::Answered, seconds(1));
        assert!(!breaker.is_open() && breaker.admit(seconds(1)).is_ok());
    }

    #[test]
    fn a_failure_is_told_of_until_a_call_ends_well_or_five_minutes_are_over() {
        let mut breaker = CircuitBreaker::default();
        assert!(!breaker.is_failing(Duration::ZERO));
        breaker.ended(CallOutcome::Failed, Duration::ZERO);
        assert!(breaker.is_failing(seconds(299)) && !breaker.is_failing(seconds(300)));
        breaker.ended(CallOutcome::Answered, seconds(1));
        assert!(!breaker.is_failing(seconds(1)));
        for _ in 0..5 {
            breaker.ended(CallOutcome::Unanswered, seconds(2));
        }
        assert!(breaker.is_failing(seconds(9_000)), "while it is open");
    }

    #[test]
    fn half_of_twenty_calls_in_ten_seconds_open_it() {
        let mut breaker = CircuitBreaker::default();
        for call in 0..19 {
            let how = if call % 2 == 0 {
                CallOutcome::Failed
            } else {
                CallOutcome::Answered
            };
            assert!(!breaker.ended(how, Duration::ZERO));
        }
        let mut later = breaker.clone();
        assert!(breaker.ended(CallOutcome::Failed, seconds(9)));
        assert!(!later.ended(CallOutcome::Failed, seconds(10)));
    }

    #[test]
    fn while_open_it_lets_one_probe_through_after_1_2_4_and_then_every_5_seconds() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..5 {
            breaker.ended(CallOutcome::Unanswered, Duration::ZERO);
        }
        let mut probes = Vec::new();
        for second in 0..=25 {
            // To ask uses nothing up.
            while breaker.wait(seconds(second)).is_none() {
                assert!(breaker.admit(seconds(second)).is_ok());
                probes.push(second);
                breaker.ended(CallOutcome::Unanswered, seconds(second));
            }
        }
        assert_eq!(probes, [1, 3, 7, 12, 17, 22]);
    }
}
