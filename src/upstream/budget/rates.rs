//! The numbers of a bucket: limits go in, rates come out; and what people see of them.

use std::time::Duration;

use super::gate::CooldownCause;
use crate::upstream::config::Limits;

/// The configured numbers, as the rules need them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(super) capacity: u64,
    pub(super) reserve: u64,
    pub(super) refill: u64,
    /// Calls that come back to us in a minute.
    pub(super) own_refill: u64,
    pub(super) share_percent: u64,
    /// The time in which one call comes back to our share.
    pub(super) interval: Duration,
}

/// What is known of a project's bucket, for people and for dividing it fairly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetView {
    /// Calls that we may still make at once.
    pub remaining: u64,
    /// Calls that we may make at once when nobody has made any for a while.
    pub capacity: u64,
    /// Calls that come back to us in a minute.
    pub refill_per_minute: u64,
    /// How long Atlas has asked us to wait; `None` while it does not.
    pub gate: Option<Duration>,
    /// What it said then.
    pub gate_cause: Option<CooldownCause>,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        let refill = limits.refill_per_minute;
        let share = refill.saturating_mul(limits.share_percent);
        // A minute, by the share in percent: 60 s * 100 / (500 * 50) = 240 ms.
        let nanos = MINUTE.as_nanos().saturating_mul(100) / u128::from(share.max(1));
        Self {
            capacity: limits.capacity,
            reserve: limits.reserve,
            refill,
            own_refill: share / 100,
            share_percent: limits.share_percent,
            interval: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).max(1)),
        }
    }

    /// How long our own bucket takes to fill from nothing.
    pub(crate) fn time_to_full(&self) -> Duration {
        times(self.interval, self.capacity.saturating_sub(self.reserve))
    }
}

/// `count` spans, one after the other.
pub(super) fn times(span: Duration, count: u64) -> Duration {
    let nanos = span.as_nanos().saturating_mul(u128::from(count));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

pub(super) const MINUTE: Duration = Duration::from_mins(1);
