//! What a project asks for in the long run: calls that were wanted go in, the part of our share that
//! they would need comes out. Pure.
//!
//! The bucket hides for a while that more is asked for than comes back to us: a burst is answered in
//! full, and only when it is spent do callers hear of it. So whatever was wanted in the last minutes is
//! counted, granted or not, and set against what our share brings back in that time. A cold start that
//! the bucket was made for stays below; users that are more than the share can keep fresh do not.

use std::time::Duration;

/// What one project has wanted. Times are [`Moment::elapsed`](crate::system::Moment::elapsed).
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand {
    /// Calls of each minute, by its number modulo their count.
    minutes: [u64; MINUTES],
    minute: u64,
    above: bool,
}

/// How a project's demand stands to our share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measured {
    /// 1 is all of our share.
    pub(crate) ratio: f64,
    /// Whether it has just passed 1.
    pub(crate) rose_above: bool,
}

impl Demand {
    /// So many calls were wanted.
    pub(crate) fn wanted(&mut self, calls: u64, now: Duration) {
        self.forget(now);
        let place = place(self.minute);
        if let Some(minute) = self.minutes.get_mut(place) {
            *minute = minute.saturating_add(calls);
        }
    }

    /// What was wanted in the last minutes, against a share that brings back so many calls in one.
    ///
    /// Once above 1 it has to fall well below before it can rise above again, so that a demand that
    /// just equals the share is told of once.
    pub(crate) fn measure(&mut self, refill_per_minute: u64, now: Duration) -> Measured {
        self.forget(now);
        let wanted: u64 = self.minutes.iter().sum();
        let ours = refill_per_minute.saturating_mul(SPAN);
        let rose_above = !self.above && wanted > ours;
        if rose_above {
            self.above = true;
        } else if wanted < ours / 10 * 8 {
            self.above = false;
        }
        Measured {
            ratio: as_float(wanted) / as_float(ours.max(1)),
            rose_above,
        }
    }

    /// Empties the minutes that have passed since the last look.
    fn forget(&mut self, now: Duration) {
        let minute = now.as_secs() / 60;
        let passed = minute.saturating_sub(self.minute).min(SPAN);
        for number in 1..=passed {
            if let Some(old) = self.minutes.get_mut(place(self.minute + number)) {
                *old = 0;
            }
        }
        if passed == SPAN {
            self.minutes = [0; MINUTES];
        }
        self.minute = minute;
    }
}

fn place(minute: u64) -> usize {
    usize::try_from(minute % SPAN).unwrap_or_default()
}

/// Calls of a few minutes are far below where a float skips whole numbers.
fn as_float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// As long as a list is kept by default: whoever is in use comes up once in that time.
const MINUTES: usize = 5;
const SPAN: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(number: u64) -> Duration {
        Duration::from_secs(60 * number)
    }

    fn rises(demand: &mut Demand, now: Duration) -> bool {
        demand.measure(250, now).rose_above
    }

    #[test]
    fn a_burst_that_the_bucket_is_made_for_is_no_demand_above_the_share() {
        let mut demand = Demand::default();
        demand.wanted(1_000, minute(0));
        assert!((demand.measure(250, minute(0)).ratio - 0.8).abs() < 1e-9);
        demand.wanted(250, minute(4));
        assert!(!rises(&mut demand, minute(4)));
        demand.wanted(1, minute(4));
        assert!(rises(&mut demand, minute(4)));
    }

    #[test]
    fn what_is_older_than_five_minutes_is_forgotten() {
        let mut demand = Demand::default();
        for now in 0..20 {
            demand.wanted(200, minute(now));
            assert!(demand.measure(250, minute(now)).ratio < 0.81);
        }
        assert!(demand.measure(250, minute(25)).ratio < 1e-9);
        demand.wanted(7, minute(1_000));
        assert!((demand.measure(7, minute(1_000)).ratio - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_demand_about_the_share_is_told_of_once() {
        let mut demand = Demand::default();
        let mut told = 0;
        for now in 0..100 {
            demand.wanted(if now % 2 == 0 { 240 } else { 265 }, minute(now));
            told += usize::from(rises(&mut demand, minute(now)));
        }
        assert_eq!(told, 1);
        for now in 100..110 {
            demand.wanted(100, minute(now));
            assert!(!rises(&mut demand, minute(now)));
        }
        demand.wanted(2_000, minute(110));
        assert!(rises(&mut demand, minute(110)));
    }
}
