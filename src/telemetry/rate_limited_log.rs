//! Rate-limited log lines: what an outage or a hostile client repeats has one line a minute at most, with how often it
//! happened, and one when it is over. Pure; times are [`Moment::elapsed`](crate::system::Moment::elapsed).

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct RateLimitedLog(Mutex<Streak>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How often it has happened since the last line, this time included; at the end, since it began.
    pub(crate) times: u64,
    pub(crate) span: Duration,
}

#[derive(Debug, Default)]
struct Streak {
    began: Option<Duration>,
    times: u64,
    unreported: u64,
    is_reported: bool,
    /// Also of former streaks: what comes and goes has no more lines than what stays.
    last_line: Option<Duration>,
}

impl RateLimitedLog {
    /// It has happened. What to say, if it is time for a line.
    pub(crate) fn happened(&self, now: Duration) -> Option<Tally> {
        let mut streak = self.streak();
        let began = *streak.began.get_or_insert(now);
        streak.times += 1;
        streak.unreported += 1;
        let waits = |last: Duration| now.saturating_sub(last) < BETWEEN_LINES;
        if streak.last_line.is_some_and(waits) {
            return None;
        }
        streak.last_line = Some(now);
        streak.is_reported = true;
        Some(Tally {
            times: std::mem::take(&mut streak.unreported),
            span: now.saturating_sub(began),
        })
    }

    /// It is over. What to say, if a line has said that it began.
    pub(crate) fn is_over(&self, now: Duration) -> Option<Tally> {
        let mut streak = self.streak();
        let began = streak.began.take()?;
        let times = std::mem::take(&mut streak.times);
        std::mem::take(&mut streak.is_reported).then(|| {
            streak.unreported = 0;
            Tally {
                times,
                span: now.saturating_sub(began),
            }
        })
    }

    fn streak(&self) -> MutexGuard<'_, Streak> {
        self.0.lock().expect("no holder of it panics")
    }
}

const BETWEEN_LINES: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn tally(times: u64, seconds: u64) -> Tally {
        Tally {
            times,
            span: at(seconds),
        }
    }

    #[test]
    fn the_first_is_said_then_one_a_minute_with_their_number_then_the_end() {
        let log = RateLimitedLog::default();
        assert_eq!(log.is_over(at(9)), None);
        assert_eq!(log.happened(at(10)), Some(tally(1, 0)));
        for second in 11..70 {
            assert_eq!(log.happened(at(second)), None);
        }
        assert_eq!(log.happened(at(70)), Some(tally(60, 60)));
        assert_eq!(log.happened(at(71)), None);
        assert_eq!(log.is_over(at(72)), Some(tally(62, 62)));
        assert_eq!(log.is_over(at(73)), None);
    }

    #[test]
    fn what_comes_and_goes_has_two_lines_a_minute_at_most() {
        let log = RateLimitedLog::default();
        let mut lines = 0;
        for second in 0..600 {
            lines += usize::from(log.happened(at(second)).is_some());
            lines += usize::from(log.is_over(at(second)).is_some());
        }
        assert_eq!(lines, 20);
    }
}
