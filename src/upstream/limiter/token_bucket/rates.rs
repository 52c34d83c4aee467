//! How fast a project's bucket fills, and which share of it is ours.

use std::time::Duration;

use super::{MINUTE, times};
use crate::upstream::config::AtlasLimits;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(in crate::upstream::limiter) capacity: u64,
    pub(super) reserve: u64,
    pub(super) refill: u64,
    own_refill: u64,
    pub(super) share_percent: u64,
    /// The time in which one call comes back to the whole of our share.
    pub(super) interval: Duration,
    /// Of how many replicas each has its part of our share, while they do not know of each other.
    pub(super) replicas: u32,
}

impl Rates {
    pub(crate) fn new(limits: &AtlasLimits) -> Self {
        let share = limits
            .refill_per_minute
            .saturating_mul(limits.share_percent);
        // A minute, by the share in percent: 60 s * 100 / (500 * 50) = 240 ms.
        let nanos = MINUTE.as_nanos() * 100 / u128::from(share.max(1));
        let nanos = u64::try_from(nanos).expect("a minute by a percent is 6e12 ns");
        Self {
            capacity: limits.capacity,
            reserve: limits.reserve,
            refill: limits.refill_per_minute,
            own_refill: share / 100,
            share_percent: limits.share_percent,
            interval: Duration::from_nanos(nanos.max(1)),
            replicas: 1,
        }
    }

    /// The part that one of so many replicas has of our share.
    pub(in crate::upstream::limiter) fn of_one_in(self, replicas: u32) -> Self {
        Self { replicas, ..self }
    }

    pub(in crate::upstream::limiter) fn are_of_one_in(&self, replicas: u32) -> bool {
        self.replicas == replicas
    }

    /// The same part of these rates as of others.
    pub(in crate::upstream::limiter) fn in_place_of(self, former: Self) -> Self {
        self.of_one_in(former.replicas)
    }

    pub(in crate::upstream::limiter) fn time_to_full(&self) -> Duration {
        times(self.interval, self.capacity.saturating_sub(self.reserve))
    }

    /// The time in which one call comes back to our share.
    pub(super) fn interval(&self) -> Duration {
        times(self.interval, u64::from(self.replicas))
    }

    pub(super) fn own_refill(&self) -> u64 {
        (self.own_refill / u64::from(self.replicas)).max(1)
    }
}
