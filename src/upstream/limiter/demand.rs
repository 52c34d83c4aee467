//! Demand of a project: calls that were wanted in the last minutes, granted or not, against what our share of
//! the bucket brings back in that time. Pure.
//!
//! The bucket hides for a while that more is asked for than comes back: a burst is answered in full, and only
//! when the bucket is empty do callers hear of it. A cold start that the bucket was made for stays below 1;
//! users that are more than the share can keep fresh do not.

use std::time::Duration;

use super::sliding_window::SlidingWindow;
use super::usage::as_float;

#[derive(Clone, Debug, Default)]
pub(crate) struct ProjectDemand {
    /// Calls of the last five minutes: as long as a list is kept by default, so that each list in use
    /// comes up once in that time.
    wanted: SlidingWindow<u64, 60, MINUTES>,
    is_above: bool,
}

impl ProjectDemand {
    pub(super) fn wanted(&mut self, calls: u64, now: Duration) {
        *self.wanted.current(now) += calls;
    }

    /// What was wanted, as a part of what our share brings back, where 1 is all of it; and whether that has
    /// just risen above 1. It has to fall well below before it can rise again, so that a demand that just
    /// equals the share is told of once.
    pub(crate) fn measure(&mut self, refill_per_minute: u64, now: Duration) -> (f64, bool) {
        let wanted: u64 = self.wanted.recent(now).sum();
        let ours = refill_per_minute.saturating_mul(MINUTES);
        let rose_above = !self.is_above && wanted > ours;
        self.is_above = wanted > ours || (self.is_above && wanted >= ours / 10 * 8);
        (as_float(wanted) / as_float(ours.max(1)), rose_above)
    }
}

const MINUTES: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(number: u64) -> Duration {
        Duration::from_secs(60 * number)
    }

    fn rises(demand: &mut ProjectDemand, now: Duration) -> bool {
        demand.measure(250, now).1
    }

    #[test]
    fn a_burst_that_the_bucket_is_made_for_is_no_demand_above_the_share() {
        let mut demand = ProjectDemand::default();
        demand.wanted(1_000, minute(0));
        assert!((demand.measure(250, minute(0)).0 - 0.8).abs() < 1e-9);
        demand.wanted(250, minute(4));
        assert!(!rises(&mut demand, minute(4)));
        demand.wanted(1, minute(4));
        assert!(rises(&mut demand, minute(4)));
    }

    #[test]
    fn what_is_older_than_five_minutes_is_forgotten() {
        let mut demand = ProjectDemand::default();
        for now in 0..20 {
            demand.wanted(200, minute(now));
            assert!(demand.measure(250, minute(now)).0 < 0.81);
        }
        assert!(demand.measure(250, minute(25)).0 < 1e-9);
        demand.wanted(7, minute(1_000));
        assert!((demand.measure(7, minute(1_000)).0 - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_demand_about_the_share_is_told_of_once() {
        let mut demand = ProjectDemand::default();
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
