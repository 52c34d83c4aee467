//! Usage of a project's bucket as Atlas's answers tell it: what other clients have taken, and how soon it
//! will be down at the reserve. Pure.
//!
//! Between two answers, others have taken what is missing of what the bucket would hold if only we had
//! called: what it held, refilled, without our calls. Two things make that a lower bound, so that no client
//! is blamed for what it did not take: nothing is expected back before a whole period has passed, because
//! the bucket may fill by whole periods; and calls of ours that are still under way may have been charged
//! already. What comes back early, or is charged late, is settled by a later answer.

use std::time::Duration;

use super::sliding_window::SlidingWindow;

#[derive(Clone, Debug, Default)]
pub(super) struct BucketUsage {
    last: Option<LastReading>,
    /// Other replicas of our fleet call, too: what they take is not told from what others take, and counts as no one else's.
    is_shared: bool,
    /// The least that remained in each of the last five minutes, and when.
    lows: SlidingWindow<Option<Low>, 60, 5>,
    /// What was spent in each of them.
    spent: SlidingWindow<Spent, 60, 5>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    ours: u64,
    others: u64,
}

#[derive(Clone, Copy, Debug)]
struct Low {
    at: Duration,
    remaining: u64,
}

/// The last answer, and what it is compared with.
#[derive(Clone, Copy, Debug)]
struct LastReading {
    remaining: u64,
    at: Duration,
    /// What the bucket would hold if no client took anything from now on, and up to when it was filled.
    expected: u64,
    filled_at: Duration,
    ended: u64,
    is_shared: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct QuotaReading {
    pub(super) remaining: u64,
    pub(super) at: Duration,
    /// Calls of ours that have ended, this one included; and those that are still under way.
    pub(super) ended: u64,
    pub(super) in_flight: u64,
    pub(super) ended_before: u64,
    /// What the bucket holds at most, and what comes back in a minute.
    pub(super) capacity: u64,
    pub(super) refill: u64,
}

impl BucketUsage {
    /// Whether other replicas of our fleet may call from now on.
    pub(super) fn share(&mut self, is_shared: bool) {
        self.is_shared = is_shared;
    }

    /// Atlas has answered; how many calls others have spent since it last did.
    pub(super) fn observe(&mut self, reading: QuotaReading) -> u64 {
        let QuotaReading { remaining, at, .. } = reading;
        let low = self.lows.current(at);
        if low.is_none_or(|low| remaining <= low.remaining) {
            *low = Some(Low { at, remaining });
        }
        let Some(last) = &mut self.last else {
            self.last = Some(LastReading {
                remaining,
                at,
                expected: remaining,
                filled_at: at,
                ended: reading.ended,
                is_shared: self.is_shared,
            });
            return 0;
        };
        let periods = at.saturating_sub(last.filled_at).as_secs() / MINUTE.as_secs();
        let back = reading.refill.saturating_mul(periods);
        let ours = reading.ended.saturating_sub(last.ended);
        let filled = last.expected.saturating_add(back).min(reading.capacity);
        let expected = filled.saturating_sub(ours);
        let missing = expected
            .saturating_sub(reading.in_flight)
            .saturating_sub(remaining);
        let is_shared = self.is_shared || last.is_shared;
        let others = if is_shared { 0 } else { missing };
        let filled_at = last.filled_at + Duration::from_secs(periods.saturating_mul(60));
        // A bucket that is full has lost what else would have come back in this period. An answer to a
        // call that was sent before the last answer may be the older one.
        let is_full = remaining >= reading.capacity - reading.capacity / 20;
        let has_filled = remaining > expected && is_full && reading.ended_before >= last.ended;
        let (expected, filled_at) = if has_filled || is_shared {
            (remaining, at)
        } else {
            // No more than one period can have come back early.
            let bound = remaining.saturating_sub(reading.refill);
            ((expected - others).max(bound), filled_at)
        };
        let spent = self.spent.current(at);
        spent.ours += ours;
        spent.others += others;
        *last = LastReading {
            remaining,
            at,
            expected,
            filled_at,
            ended: reading.ended,
            is_shared: self.is_shared,
        };
        others
    }

    /// How many calls of ours, and at least how many of others, were made in a minute, on the average of the last
    /// five; and how long ago Atlas last answered.
    pub(super) fn per_minute(&self, now: Duration) -> (u64, u64, Duration) {
        let recent: Vec<&Spent> = self.spent.recent(now).collect();
        let minutes = u64::try_from(recent.len().max(1)).expect("there are five");
        let mean = |of: fn(&Spent) -> u64| {
            let sum: u64 = recent.iter().map(|spent| of(spent)).sum();
            sum.div_ceil(minutes)
        };
        let ago = self
            .last
            .map_or(Duration::ZERO, |last| now.saturating_sub(last.at));
        (mean(|it| it.ours), mean(|it| it.others), ago)
    }

    /// What Atlas has last said remains, if it was asked within five minutes.
    pub(super) fn remaining(&self, now: Duration) -> Option<u64> {
        let last = self.last?;
        let is_recent = now.saturating_sub(last.at) < WINDOW;
        is_recent.then_some(last.remaining)
    }

    /// In how many seconds the bucket is down at the reserve, at the pace of the last five minutes;
    /// infinite if it never is, or Atlas was not asked within them.
    pub(super) fn reserve_in(&self, reserve: u64, now: Duration) -> f64 {
        let (Some(last), Some(remaining)) = (self.last, self.remaining(now)) else {
            return f64::INFINITY;
        };
        let left = remaining.saturating_sub(reserve);
        if left == 0 {
            return 0.0;
        }
        let loss = self.loss_per_minute(now).filter(|loss| *loss > 0.0);
        let Some(loss) = loss else {
            return f64::INFINITY;
        };
        let passed = now.saturating_sub(last.at).as_secs_f64();
        (as_float(left) / loss * 60.0 - passed).max(0.0)
    }

    /// How many calls fewer there are after each minute, on the average of the last five: between the
    /// lowest points of the first of these minutes and of the last one, because a bucket that fills by
    /// whole periods goes up and down within each.
    fn loss_per_minute(&self, now: Duration) -> Option<f64> {
        let mut lows = self.lows.recent(now).flatten();
        let (first, last) = (lows.next()?, lows.next_back()?);
        let between = last.at.saturating_sub(first.at);
        let fall = as_float(first.remaining) - as_float(last.remaining);
        (between >= MINUTE).then(|| fall * 60.0 / between.as_secs_f64())
    }
}

/// Buckets, and calls of a few minutes, are far below where a float skips whole numbers.
pub(super) fn as_float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

const MINUTE: Duration = Duration::from_mins(1);
const WINDOW: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// A bucket of Atlas's usual size, asked by us alone, one call after the other.
    #[derive(Default)]
    struct Bucket {
        usage: BucketUsage,
        ended: u64,
    }

    impl Bucket {
        fn told(&mut self, remaining: u64, seconds: u64) -> u64 {
            self.told_while((self.ended, 0), remaining, seconds)
        }

        fn told_while(
            &mut self,
            (ended_before, in_flight): (u64, u64),
            remaining: u64,
            seconds: u64,
        ) -> u64 {
            self.ended += 1;
            self.usage.observe(QuotaReading {
                remaining,
                at: Duration::from_secs(seconds),
                ended: self.ended,
                in_flight,
                ended_before,
                capacity: 1_200,
                refill: 500,
            })
        }

        fn reserve_in(&self, seconds: u64) -> f64 {
            self.usage.reserve_in(200, Duration::from_secs(seconds))
        }
    }

    #[test]
    fn what_is_missing_between_two_answers_was_taken_by_others() {
        let mut bucket = Bucket::default();
        for (remaining, seconds, others) in [
            (900, 0, 0),
            (899, 0, 0),
            (598, 1, 300),
            // 500 have come back: the bucket would hold 1097 without us.
            (997, 61, 100),
            // It holds 1200 at most.
            (1_199, 3_600, 0),
            (0, 3_600, 1_198),
        ] {
            assert_eq!(bucket.told(remaining, seconds), others, "{remaining}");
        }
    }

    #[test]
    fn nobody_is_blamed_whether_a_bucket_fills_by_steps_or_steadily() {
        for steps in [true, false] {
            let mut bucket = Bucket::default();
            let (mut level, mut taken) = (600.0_f64, 0);
            for second in 0..1_200 {
                level += match (steps, second % 60) {
                    (true, 30) => 500.0,
                    (true, _) => 0.0,
                    (false, _) => 500.0 / 60.0,
                };
                level = level.min(1_200.0) - 8.0;
                for call in (0..8).rev() {
                    let remaining = format!("{:.0}", level.floor() + f64::from(call));
                    taken += bucket.told(remaining.parse().unwrap(), second);
                }
            }
            assert_eq!(taken, 0, "by steps: {steps}");
        }
    }

    #[test]
    fn a_bucket_that_stays_full_blames_nobody() {
        let mut bucket = Bucket::default();
        let (mut level, mut taken) = (1_200, 0);
        for second in 0..1_200 {
            if second % 60 == 30 {
                level = 1_200;
            }
            level -= 1;
            taken += bucket.told(level, second);
        }
        assert_eq!(taken, 0);
    }

    #[test]
    fn what_others_take_steadily_is_seen_however_the_bucket_fills() {
        for steps in [true, false] {
            let mut bucket = Bucket::default();
            let (mut level, mut taken) = (650.0_f64, 0);
            for second in 0..1_201 {
                level += match (steps, second % 60) {
                    (true, 30) => 500.0,
                    (true, _) => 0.0,
                    (false, _) => 500.0 / 60.0,
                };
                level = level.min(1_200.0) - 500.0 / 60.0;
                if second % 10 == 0 {
                    level -= 1.0;
                    let remaining = format!("{:.0}", level.floor());
                    taken += bucket.told(remaining.parse().unwrap(), second);
                }
            }
            assert!((9_000..=10_001).contains(&taken), "{steps}: {taken}");
        }
    }

    #[test]
    fn answers_out_of_order_and_calls_under_way_are_nobody_elses() {
        let mut bucket = Bucket::default();
        bucket.told(1_199, 0);
        // Three calls are charged; the last one is answered first.
        assert_eq!(bucket.told_while((1, 2), 1_196, 0), 0);
        assert_eq!(bucket.told_while((1, 1), 1_198, 0), 0);
        assert_eq!(bucket.told_while((1, 0), 1_197, 0), 0);
        assert_eq!(bucket.told(1_195, 0), 0);
        assert_eq!(bucket.told(1_144, 0), 50);
    }

    #[test]
    fn the_reserve_is_as_far_as_the_pace_says() {
        let mut bucket = Bucket::default();
        assert!(bucket.reserve_in(0).is_infinite());
        for minute in 0..6 {
            bucket.told(1_200 - 50 * minute, 60 * minute);
        }
        // 750 above the reserve, 50 a minute.
        let left = bucket.reserve_in(300);
        assert!((left - 900.0).abs() < 1e-6, "{left}");
        assert!(bucket.reserve_in(360) < left);
        assert!(bucket.reserve_in(601).is_infinite());
        bucket.told(200, 602);
        assert!(bucket.reserve_in(602) <= 0.0);
        bucket.told(1_199, 3_600);
        assert!(bucket.reserve_in(3_600).is_infinite());
    }

    #[test]
    fn what_was_said_longer_than_five_minutes_ago_is_not_said_any_more() {
        let mut bucket = Bucket::default();
        bucket.told(209, 0);
        let remaining = |seconds| bucket.usage.remaining(Duration::from_secs(seconds));
        assert_eq!((remaining(299), remaining(300)), (Some(209), None));
    }
}
