//! What an outage or a stranger repeats is said once, then counted, and at last it is said to be over: one
//! line a minute at most, whatever happens and however often. Pure; times are
//! [`Moment::elapsed`](crate::system::Moment::elapsed).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One thing that may go wrong again and again.
#[derive(Debug, Default)]
pub struct Repeated(Mutex<Spell>);

/// What a line has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How often it has happened since the last line, this time included; at the end, since it began.
    pub times: u64,
    /// How long ago it began.
    pub span: Duration,
}

/// From the first time to the word that it is over.
#[derive(Debug, Default)]
struct Spell {
    began: Option<Duration>,
    times: u64,
    untold: u64,
    is_told: bool,
    /// Also of former spells: what comes and goes is not said more often than what stays.
    last_line: Option<Duration>,
}

impl Repeated {
    /// It has happened. What to say, if it is time for a line.
    pub fn happened(&self, now: Duration) -> Option<Tally> {
        let mut spell = self.spell();
        let began = *spell.began.get_or_insert(now);
        spell.times += 1;
        spell.untold += 1;
        let waits = |last: Duration| now.saturating_sub(last) < BETWEEN_LINES;
        if spell.last_line.is_some_and(waits) {
            return None;
        }
        spell.last_line = Some(now);
        spell.is_told = true;
        Some(Tally {
            times: std::mem::take(&mut spell.untold),
            span: now.saturating_sub(began),
        })
    }

    /// It is over. What to say, if a line has said that it began.
    pub fn is_over(&self, now: Duration) -> Option<Tally> {
        let mut spell = self.spell();
        let began = spell.began.take()?;
        let times = std::mem::take(&mut spell.times);
        std::mem::take(&mut spell.is_told).then(|| {
            spell.untold = 0;
            Tally {
                times,
                span: now.saturating_sub(began),
            }
        })
    }

    fn spell(&self) -> MutexGuard<'_, Spell> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let repeated = Repeated::default();
        assert_eq!(repeated.is_over(at(9)), None);
        assert_eq!(repeated.happened(at(10)), Some(tally(1, 0)));
        for second in 11..70 {
            assert_eq!(repeated.happened(at(second)), None);
        }
        assert_eq!(repeated.happened(at(70)), Some(tally(60, 60)));
        assert_eq!(repeated.happened(at(71)), None);
        assert_eq!(repeated.is_over(at(72)), Some(tally(62, 62)));
        assert_eq!(repeated.is_over(at(73)), None);
    }

    #[test]
    fn what_comes_and_goes_has_two_lines_a_minute_at_most() {
        let repeated = Repeated::default();
        let mut lines = 0;
        for second in 0..600 {
            lines += usize::from(repeated.happened(at(second)).is_some());
            lines += usize::from(repeated.is_over(at(second)).is_some());
        }
        assert_eq!(lines, 20);
    }
}
