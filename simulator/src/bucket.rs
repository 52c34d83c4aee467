//! Atlas's token bucket: one call takes one token, or is told how long to wait.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// The size of a bucket and how it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSize {
    /// How many calls a full bucket holds.
    pub capacity: u64,
    /// How many come back in each period.
    pub refill: u64,
    /// How long a period is.
    pub period: Duration,
    /// Whether they come back one by one.
    pub filling: Filling,
}

/// When the tokens of a period come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Evenly over the period.
    Gradual,
    /// All of them when the period ends. Atlas's own example shows this: a bucket of 10, refilled
    /// by 5 in 60 seconds, told its caller to wait for 55 seconds; evenly it would be 12 at most.
    Stepwise,
}

impl BucketSize {
    /// "X509 Authentication": 1200, refilled by 500 in 60 seconds.
    pub const X509: Self = Self {
        capacity: 1200,
        refill: 500,
        period: Duration::from_mins(1),
        filling: Filling::Stepwise,
    };

    /// "Database Users": 10000, refilled by 5000 in 60 seconds.
    pub const DATABASE_USERS: Self = Self {
        capacity: 10_000,
        refill: 5000,
        period: Duration::from_mins(1),
        filling: Filling::Stepwise,
    };

    fn step(&self) -> Duration {
        match self.filling {
            Filling::Gradual => self.period / u32::try_from(self.refill).unwrap_or(u32::MAX).max(1),
            Filling::Stepwise => self.period,
        }
        .max(Duration::from_nanos(1))
    }

    fn per_step(&self) -> u64 {
        match self.filling {
            Filling::Gradual => 1,
            Filling::Stepwise => self.refill,
        }
    }
}

/// The set of endpoints that share one bucket per project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EndpointSet {
    DatabaseUsers,
    X509Authentication,
}

/// What a call to a bucketed endpoint was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draw {
    /// One token was taken; so many remain.
    Granted { remaining: u64 },
    /// None was left; the next comes after so many whole seconds.
    Refused { wait_seconds: u64 },
}

/// All buckets, each created full when it is first asked.
#[derive(Debug, Default)]
pub(crate) struct Buckets(HashMap<(EndpointSet, String), Bucket>);

impl Buckets {
    pub(crate) fn draw(
        &mut self,
        set: EndpointSet,
        project: &str,
        size: &BucketSize,
        now: SystemTime,
    ) -> Draw {
        self.bucket(set, project, size, now).draw(size, now)
    }

    pub(crate) fn remaining(
        &mut self,
        set: EndpointSet,
        project: &str,
        size: &BucketSize,
        now: SystemTime,
    ) -> &mut u64 {
        &mut self.bucket(set, project, size, now).tokens
    }

    fn bucket(
        &mut self,
        set: EndpointSet,
        project: &str,
        size: &BucketSize,
        now: SystemTime,
    ) -> &mut Bucket {
        let full = Bucket {
            tokens: size.capacity,
            filled_at: now,
        };
        let bucket = self.0.entry((set, project.to_owned())).or_insert(full);
        bucket.fill(size, now);
        bucket
    }
}

#[derive(Debug)]
struct Bucket {
    tokens: u64,
    filled_at: SystemTime,
}

impl Bucket {
    fn fill(&mut self, size: &BucketSize, now: SystemTime) {
        // A clock that was set back fills nothing.
        let Ok(elapsed) = now.duration_since(self.filled_at) else {
            return;
        };
        let steps = elapsed.as_nanos() / size.step().as_nanos();
        let rest = elapsed.as_nanos() % size.step().as_nanos();
        let added = u64::try_from(steps)
            .unwrap_or(u64::MAX)
            .saturating_mul(size.per_step());
        self.tokens = self.tokens.saturating_add(added).min(size.capacity);
        self.filled_at = now - Duration::from_nanos(u64::try_from(rest).unwrap_or(0));
    }

    fn draw(&mut self, size: &BucketSize, now: SystemTime) -> Draw {
        if let Some(remaining) = self.tokens.checked_sub(1) {
            self.tokens = remaining;
            return Draw::Granted { remaining };
        }
        let since = now.duration_since(self.filled_at).unwrap_or_default();
        let wait = size.step().saturating_sub(since);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Draw::Refused {
            wait_seconds: seconds.max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: &str = "32b6e34b3d91647abb20e7b8";

    fn small(filling: Filling) -> BucketSize {
        BucketSize {
            capacity: 10,
            refill: 5,
            period: Duration::from_mins(1),
            filling,
        }
    }

    fn draw(buckets: &mut Buckets, size: &BucketSize, seconds: u64) -> Draw {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        buckets.draw(EndpointSet::X509Authentication, G, size, now)
    }

    #[test]
    fn a_stepwise_bucket_of_ten_says_55_seconds_as_in_the_documented_example() {
        let mut buckets = Buckets::default();
        let size = small(Filling::Stepwise);
        for left in (0..10).rev() {
            assert_eq!(
                draw(&mut buckets, &size, 0),
                Draw::Granted { remaining: left }
            );
        }
        assert_eq!(
            draw(&mut buckets, &size, 5),
            Draw::Refused { wait_seconds: 55 }
        );
        assert_eq!(
            draw(&mut buckets, &size, 60),
            Draw::Granted { remaining: 4 }
        );
    }

    #[test]
    fn a_gradual_bucket_gives_one_token_every_twelve_seconds() {
        let mut buckets = Buckets::default();
        let size = small(Filling::Gradual);
        for _ in 0..10 {
            draw(&mut buckets, &size, 0);
        }
        assert_eq!(
            draw(&mut buckets, &size, 1),
            Draw::Refused { wait_seconds: 11 }
        );
        assert_eq!(
            draw(&mut buckets, &size, 12),
            Draw::Granted { remaining: 0 }
        );
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_capacity() {
        let mut buckets = Buckets::default();
        let size = small(Filling::Stepwise);
        draw(&mut buckets, &size, 0);
        assert_eq!(
            draw(&mut buckets, &size, 100_000),
            Draw::Granted { remaining: 9 }
        );
    }
}
