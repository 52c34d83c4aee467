//! Token bucket of one project: our share of it, and an estimate of what is left of it at Atlas. Pure.
//!
//! Atlas's bucket for X.509 calls belongs to a project and is shared with the issuing of certificates
//! and with every other client. Two things hold a call back here:
//!
//! - *our share*: a bucket of our own (GCRA), which holds Atlas's capacity without the reserve and is
//!   refilled by our share of Atlas's refill;
//! - *what is left*: an estimate of Atlas's bucket, corrected by `RateLimit-Remaining`. Below the reserve
//!   nothing is called, and before that the less urgent calls stop first. Between answers the estimate is
//!   a lower bound: Atlas's example of a bucket fills by whole periods, so nothing is expected back before
//!   a whole minute has passed.

mod rates;

use std::time::Duration;

use super::usage::{BucketUsage, QuotaReading};
use crate::fleet::{BucketKnown, BucketRequest, FleetCooldown};
use crate::upstream::error::{HeldBack, Urgency};

pub(crate) use rates::Rates;

/// One project's bucket. Times are [`Moment::elapsed`](crate::system::Moment::elapsed).
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    rates: Rates,
    full_at: Duration,
    /// When the fleet last said so.
    heard_at: Duration,
    /// Atlas's capacity: what is configured, or less if Atlas says so.
    capacity: u64,
    /// What at least remains in Atlas's bucket once all reserved calls are made, as of `seen_at`.
    pub(super) remaining: u64,
    seen_at: Duration,
    /// Calls that have a token and were not sent yet; those under way; and those that have ended.
    reserved: u64,
    in_flight: u64,
    ended: u64,
    /// Whether `remaining` is 0 because of a 429, which says nothing of how soon there is more.
    is_emptied: bool,
    pub(super) usage: BucketUsage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) why: HeldBack,
    /// When a call of this urgency can be made again, if no other call takes the token.
    pub(crate) retry_after: Duration,
}

/// What Atlas's answers tell of a bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToldOfBucket {
    pub(crate) remaining: u64,
    pub(crate) capacity: u64,
    pub(crate) said_ago: Duration,
    /// Calls in a minute, on the average of the last five; those of others are at least so many.
    pub(crate) ours_per_minute: u64,
    pub(crate) others_per_minute: u64,
    /// In how many seconds it is down at the reserve, and empty, at this pace; infinite if never.
    pub(crate) reserve_in: f64,
    pub(crate) empty_in: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) limit: Option<u64>,
    pub(crate) remaining: Option<u64>,
}

impl TokenBucket {
    pub(super) fn new(rates: Rates, now: Duration) -> Self {
        Self {
            rates,
            full_at: now,
            heard_at: now,
            capacity: rates.capacity,
            remaining: rates.capacity,
            seen_at: now,
            reserved: 0,
            in_flight: 0,
            ended: 0,
            is_emptied: false,
            usage: BucketUsage::default(),
        }
    }

    /// Of a project whose state was evicted while it was in use: not full, but at the reserve.
    pub(super) fn evicted(rates: Rates, now: Duration) -> Self {
        let missing = rates.capacity.saturating_sub(rates.reserve * 2);
        Self {
            // All parts of our share take as long as the whole of it.
            full_at: now + times(rates.interval, missing),
            ..Self::new(rates, now)
        }
    }

    pub(super) fn replace_rates(&mut self, rates: Rates, now: Duration) {
        self.refill(now);
        let missing = self.missing(now);
        let same_bucket = self.rates.capacity == rates.capacity;
        self.rates = rates;
        self.full_at = now + times(rates.interval(), missing);
        if !same_bucket {
            self.capacity = rates.capacity;
            self.remaining = self.remaining.min(rates.capacity);
        }
    }

    /// From now on this replica has the whole of our share, or its part of it. When that is full again stays the same,
    /// so nothing that was spent is forgotten.
    pub(super) fn divide(&mut self, replicas: u32) {
        self.rates = self.rates.of_one_in(replicas);
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.reserved + self.in_flight > 0
    }

    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }

    pub(super) fn check(&self, calls: u64, urgency: Urgency, now: Duration) -> Result<(), Wait> {
        let needed = calls.saturating_add(self.kept_back(urgency));
        if self.available(now) < needed {
            let spare = times(self.rates.interval(), self.burst().saturating_sub(needed));
            let enough_at = self.full_at.max(now).saturating_sub(spare);
            return Err(self.wait(HeldBack::OwnShare, enough_at, now));
        }
        self.check_atlas(calls, urgency, now)
    }

    pub(super) fn check_atlas(
        &self,
        calls: u64,
        urgency: Urgency,
        now: Duration,
    ) -> Result<(), Wait> {
        let needed = self.least(urgency).saturating_add(calls);
        let missing = needed.saturating_sub(self.remaining);
        if missing == 0 {
            return Ok(());
        }
        let periods = missing.div_ceil(self.rates.refill.max(1));
        let enough_at = self.seen_at + times(MINUTE, periods);
        Err(self.wait(HeldBack::BucketLow, enough_at, now))
    }

    /// What must be left of our share for more urgent calls.
    fn kept_back(&self, urgency: Urgency) -> u64 {
        match urgency {
            // Renewals draw from our share of the bucket only.
            Urgency::Warm | Urgency::Inventory | Urgency::RefreshAhead => {
                self.burst() * (100 - self.rates.share_percent) / 100
            }
            Urgency::Miss | Urgency::Revalidate => 0,
        }
    }

    /// What must be left at Atlas.
    fn least(&self, urgency: Urgency) -> u64 {
        let least = match urgency {
            Urgency::Warm | Urgency::Inventory | Urgency::RefreshAhead => self.capacity * 40 / 100,
            Urgency::Revalidate => self.capacity * 20 / 100,
            Urgency::Miss => 0,
        };
        least.max(self.reserve())
    }

    pub(super) fn wait(&self, why: HeldBack, until: Duration, now: Duration) -> Wait {
        Wait {
            why,
            retry_after: until.saturating_sub(now).max(self.rates.interval()),
        }
    }

    pub(super) fn take(&mut self, calls: u64, now: Duration) {
        self.full_at = self.full_at.max(now) + times(self.rates.interval(), calls);
        self.remaining = self.remaining.saturating_sub(calls);
        self.reserved += calls;
    }

    pub(super) fn give_back(&mut self) {
        self.full_at = self.full_at.saturating_sub(self.rates.interval());
        self.remaining = (self.remaining + 1).min(self.capacity);
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// A call is sent now. Returns how many had ended before, which says what its answer can know.
    pub(super) fn sent(&mut self) -> u64 {
        self.reserved = self.reserved.saturating_sub(1);
        self.in_flight += 1;
        self.ended
    }

    pub(super) fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.ended += 1;
    }

    /// Whether other replicas of our fleet may call from now on.
    pub(super) fn share(&mut self, is_shared: bool) {
        self.usage.share(is_shared);
    }

    /// Corrects the estimate by what Atlas says in the answer to a call that has not [`ended`](Self::ended)
    /// yet. Returns how many calls other clients have surely spent since the last answer. Numbers that
    /// cannot be are ignored.
    pub(super) fn observe(&mut self, ended_before: u64, quota: Quota, now: Duration) -> u64 {
        if let Some(limit) = quota.limit.filter(|limit| *limit > 0) {
            self.capacity = limit.min(self.rates.capacity);
        }
        let capacity = quota.limit.unwrap_or(self.rates.capacity);
        let mut others = 0;
        if let Some(remaining) = self.believed(quota) {
            let others_in_flight = self.in_flight.saturating_sub(1);
            others = self.usage.observe(QuotaReading {
                remaining,
                at: now,
                ended: self.ended + 1,
                in_flight: others_in_flight,
                ended_before,
                capacity,
                refill: self.rates.refill,
            });
            // What is reserved will surely be missing; what had not ended when this call was sent, and
            // what came after it, may be missing.
            let ended_since = self.ended.saturating_sub(ended_before);
            let maybe = self.reserved + others_in_flight + ended_since;
            let most = remaining.saturating_sub(self.reserved);
            self.remaining = self.remaining.clamp(remaining.saturating_sub(maybe), most);
            self.seen_at = now;
        }
        self.remaining = self.remaining.min(self.capacity);
        others
    }

    /// What remains at Atlas by an answer of it, unless that cannot be.
    pub(super) fn believed(&self, quota: Quota) -> Option<u64> {
        let capacity = quota.limit.unwrap_or(self.rates.capacity);
        quota.remaining.filter(|remaining| *remaining <= capacity)
    }

    pub(super) fn emptied(&mut self, now: Duration) {
        self.remaining = 0;
        self.seen_at = now;
        self.is_emptied = true;
    }

    /// The probe after a cooldown was answered. What is left is unknown unless the answer says so; the
    /// slow start feels its way.
    pub(super) fn reopened(&mut self) {
        if std::mem::take(&mut self.is_emptied) {
            self.remaining = self.capacity;
        }
    }

    /// The same question to the fleet's bucket, which is filled as far as this one knows.
    pub(super) fn request(&self, calls: u64, urgency: Urgency, now: Duration) -> BucketRequest {
        let mut whole = self.clone();
        whole.divide(1);
        BucketRequest {
            calls,
            first: true,
            kept_back: whole.kept_back(urgency),
            least: self.least(urgency),
            burst: whole.burst(),
            interval: whole.rates.interval(),
            capacity: self.capacity,
            refill: self.rates.refill,
            returned: 0,
            untaken: 0,
            known: BucketKnown {
                missing: self.full_at.saturating_sub(now),
                heard_ago: now.saturating_sub(self.heard_at),
                remaining: self.remaining,
                seen_ago: now.saturating_sub(self.seen_at),
                cooldown: FleetCooldown::default(),
            },
        }
    }

    /// Takes up what the fleet's bucket holds, which was asked at `asked_at`: this one follows it, so that a replica
    /// that is alone goes on from there.
    pub(super) fn follow(&mut self, fleet: &BucketKnown, asked_at: Duration) {
        self.full_at = self.full_at.max(asked_at + fleet.missing);
        self.heard_at = asked_at;
        if self.seen_at > asked_at {
            // Atlas has answered meanwhile.
            self.remaining = self.remaining.min(fleet.remaining);
        } else {
            self.remaining = fleet.remaining.min(self.capacity);
            self.seen_at = asked_at.saturating_sub(fleet.seen_ago);
        }
    }

    /// So many calls were taken from the fleet's bucket, which this one follows.
    pub(super) fn taken_elsewhere(&mut self, calls: u64) {
        self.reserved += calls;
    }

    pub(super) fn capacity_and_reserved(&self) -> (u64, u64) {
        (self.capacity, self.reserved)
    }

    pub(crate) fn left(&self, now: Duration) -> (u64, u64) {
        let mut refilled = self.clone();
        refilled.refill(now);
        let theirs = refilled.remaining.saturating_sub(refilled.reserve());
        (refilled.available(now).min(theirs), self.burst())
    }

    pub(crate) fn own_refill(&self) -> u64 {
        self.rates.own_refill()
    }

    /// What Atlas has last said remains, if it was asked within five minutes; and in how many seconds it is
    /// down at the reserve, at the pace of these minutes.
    pub(crate) fn forecast(&self, now: Duration) -> Option<(u64, f64)> {
        let remaining = self.usage.remaining(now)?;
        Some((remaining, self.usage.reserve_in(self.reserve(), now)))
    }

    /// What Atlas's answers tell of the bucket, if it was asked within five minutes.
    pub(crate) fn told(&self, now: Duration) -> Option<ToldOfBucket> {
        let remaining = self.usage.remaining(now)?;
        let (ours_per_minute, others_per_minute, said_ago) = self.usage.per_minute(now);
        Some(ToldOfBucket {
            remaining,
            capacity: self.capacity,
            said_ago,
            ours_per_minute,
            others_per_minute,
            reserve_in: self.usage.reserve_in(self.reserve(), now),
            empty_in: self.usage.reserve_in(0, now),
        })
    }

    /// Adds what whole periods have brought back to Atlas's bucket.
    pub(super) fn refill(&mut self, now: Duration) {
        let periods = now.saturating_sub(self.seen_at).as_secs() / 60;
        if periods > 0 {
            let back = periods.saturating_mul(self.rates.refill);
            self.remaining = self.remaining.saturating_add(back).min(self.capacity);
            self.seen_at += times(MINUTE, periods);
        }
    }

    fn available(&self, now: Duration) -> u64 {
        self.burst().saturating_sub(self.missing(now))
    }

    fn missing(&self, now: Duration) -> u64 {
        let missing = self.full_at.saturating_sub(now).as_nanos();
        let missing = missing.div_ceil(self.rates.interval().as_nanos());
        u64::try_from(missing).unwrap_or(u64::MAX)
    }

    fn burst(&self) -> u64 {
        let burst = self.capacity.saturating_sub(self.reserve());
        (burst / u64::from(self.rates.replicas)).max(1)
    }

    /// The reserve, in proportion if Atlas's bucket is smaller than configured.
    fn reserve(&self) -> u64 {
        self.rates.reserve * self.capacity / self.rates.capacity.max(1)
    }
}

fn times(span: Duration, count: u64) -> Duration {
    let nanos = span.as_nanos().saturating_mul(u128::from(count));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

const MINUTE: Duration = Duration::from_mins(1);
