//! Our share of a project's token bucket: a moment and an urgency go in, leave to call or the time to
//! wait comes out. Pure.
//!
//! Atlas's bucket for X.509 calls belongs to a project and is shared with the issuing of certificates
//! and with every other client. Three things hold a call back:
//!
//! - *our share*: a bucket of our own, which holds Atlas's capacity without the reserve and is refilled
//!   by our share of Atlas's refill (a generic cell rate algorithm);
//! - *what is left*: an estimate of Atlas's own bucket, corrected by `RateLimit-Remaining`. Below the
//!   reserve nothing is called, and before that, first what nobody waits for, then what has a stale
//!   answer. Between answers the estimate is a lower bound: Atlas's example of a bucket fills by whole
//!   periods, so nothing is expected back before a whole minute has passed;
//! - *the gate*: after a 429, or a 503 that says when to come back, nothing is called until its time is
//!   over (the cooldown), then a single probe, then one call a second, two, four, for ten seconds (G24).
//!
//! A refusal says which of them it was: our own is no failure of Atlas, and a cooldown after a 503 is no
//! spent bucket.

mod gate;
mod pace;
mod rates;
#[cfg(test)]
mod tests;

pub use gate::CooldownCause;
pub use rates::BudgetView;
pub(crate) use rates::Rates;

use std::time::Duration;

use super::answer::{HeldBack, Urgency};
use gate::Gate;
use pace::{Pace, Told};
use rates::{MINUTE, times};

/// What is known of one project's bucket. Times are [`Moment::elapsed`](crate::system::Moment::elapsed).
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    rates: Rates,
    /// When our own bucket would be full again.
    full_at: Duration,
    /// Atlas's capacity: what is configured, or less if Atlas says so.
    capacity: u64,
    /// What at least remains in Atlas's bucket once all granted calls are made, as of `seen_at`.
    remaining: u64,
    seen_at: Duration,
    /// Calls that were granted and not given back, since the beginning; of those, how many were sent
    /// and how many have ended.
    granted: u64,
    sent: u64,
    ended: u64,
    gate: Gate,
    /// Whether `remaining` is 0 because of a 429, which says nothing of how soon there is more.
    emptied: bool,
    pace: Pace,
}

/// What was known when a call was sent, which says what its answer can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    ended_before: u64,
}

/// Not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    /// What holds it back.
    pub(crate) why: HeldBack,
    /// When a call of this urgency can be granted again, if nobody else takes it.
    pub(crate) retry_after: Duration,
}

impl Budget {
    /// A project that nobody has asked about yet: full.
    pub(crate) fn new(rates: Rates, now: Duration) -> Self {
        Self {
            rates,
            full_at: now,
            capacity: rates.capacity,
            remaining: rates.capacity,
            seen_at: now,
            granted: 0,
            sent: 0,
            ended: 0,
            gate: Gate::Open,
            emptied: false,
            pace: Pace::default(),
        }
    }

    /// A project whose state was forgotten while it was in use: not full, but at the reserve.
    pub(crate) fn forgotten(rates: Rates, now: Duration) -> Self {
        let spent = rates.capacity.saturating_sub(rates.reserve);
        let missing = spent.saturating_sub(rates.reserve);
        Self {
            full_at: now + times(rates.interval, missing),
            ..Self::new(rates, now)
        }
    }

    /// Reckons with other numbers from now on. What was spent stays spent, and Atlas's word about a
    /// smaller bucket comes again with its next answer.
    pub(crate) fn replace_rates(&mut self, rates: Rates, now: Duration) {
        self.fill(now);
        let missing = self.missing(now);
        let same_bucket = self.rates.capacity == rates.capacity;
        self.rates = rates;
        self.full_at = now + times(rates.interval, missing);
        if !same_bucket {
            self.capacity = rates.capacity;
            self.remaining = self.remaining.min(rates.capacity);
        }
    }

    /// Whether forgetting this project would lose nothing.
    pub(crate) fn is_untouched(&self, now: Duration) -> bool {
        self.granted == self.ended && self.full_at <= now && self.gate.is_open(now)
    }

    /// Grants `calls` calls at once, or none of them.
    ///
    /// `first` is false for calls that go on with a walk that was granted before: those do not wait
    /// for the slow start, or a list of several pages could never be read in it.
    pub(crate) fn take(
        &mut self,
        calls: u64,
        urgency: Urgency,
        first: bool,
        now: Duration,
    ) -> Result<(), Spent> {
        self.fill(now);
        let why = self.cooldown();
        let held = |retry_after| Spent { why, retry_after };
        // The probe is how we learn what is left, whatever we believe of it.
        if let Some(probe) = self.gate.probe(now) {
            probe.map_err(held)?;
        } else {
            self.look_at_own_share(calls, urgency, now)?;
            self.look_at_atlas(calls, urgency, now)?;
            self.gate.admit(calls, first, now).map_err(held)?;
        }
        self.spend(calls, now);
        Ok(())
    }

    fn spend(&mut self, calls: u64, now: Duration) {
        self.full_at = self.full_at.max(now) + times(self.rates.interval, calls);
        self.remaining = self.remaining.saturating_sub(calls);
        self.granted += calls;
    }

    /// Gives back a call that was granted and never sent.
    pub(crate) fn give_back(&mut self, calls: u64) {
        self.full_at = self
            .full_at
            .saturating_sub(times(self.rates.interval, calls));
        self.remaining = self.remaining.saturating_add(calls).min(self.capacity);
        self.granted -= calls.min(self.granted);
    }

    /// A call that was granted before is about to be sent, unless what was learnt meanwhile speaks
    /// against it: the gate has closed, or others have taken what was left.
    pub(crate) fn send(&mut self, urgency: Urgency, now: Duration) -> Result<Sent, Spent> {
        if let Some(retry_after) = self.gate(now) {
            let why = self.cooldown();
            return Err(Spent { why, retry_after });
        }
        if !matches!(self.gate, Gate::Closed { .. }) {
            self.look_at_atlas(0, urgency, now)?;
        }
        self.sent += 1;
        Ok(Sent {
            ended_before: self.ended,
        })
    }

    /// A call that was sent has ended, with or without an answer.
    pub(crate) fn ended(&mut self) {
        self.ended += 1;
    }

    /// Counts a call that was made and answered in any case: the challenge of a Digest exchange.
    pub(crate) fn challenged(&mut self, now: Duration) {
        self.spend(1, now);
        self.sent += 1;
        self.ended += 1;
    }

    /// Corrects the estimate by what Atlas says of its bucket in the answer to a call that has not
    /// ended yet; says how many calls others have spent since the last answer, as far as that is sure.
    /// Numbers that cannot be are ignored.
    pub(crate) fn observe(
        &mut self,
        sent: Sent,
        limit: Option<u64>,
        remaining: Option<u64>,
        now: Duration,
    ) -> u64 {
        let mut others = 0;
        if let Some(limit) = limit.filter(|limit| *limit > 0) {
            self.capacity = limit.min(self.rates.capacity);
        }
        let most = limit.unwrap_or(self.rates.capacity);
        if let Some(remaining) = remaining.filter(|remaining| *remaining <= most) {
            others = self.pace.told(Told {
                remaining,
                at: now,
                ended: self.ended + 1,
                in_flight: self.sent.saturating_sub(self.ended + 1),
                ended_before: sent.ended_before,
                capacity: most,
                refill: self.rates.refill,
            });
            // What was granted and not sent will surely be missing; what had not ended when this call
            // was sent, and what came after it, may be missing.
            let surely = self.granted.saturating_sub(self.sent);
            let maybe = self.granted.saturating_sub(sent.ended_before + 1);
            let most = remaining.saturating_sub(surely);
            let least = remaining.saturating_sub(maybe.max(surely));
            self.remaining = self.remaining.clamp(least, most);
            self.seen_at = now;
        }
        self.remaining = self.remaining.min(self.capacity);
        others
    }

    /// What Atlas has last said remains, if it was asked within five minutes.
    pub(crate) fn told_remaining(&self, now: Duration) -> Option<u64> {
        self.pace.remaining(now)
    }

    /// In how many seconds what remains is down at the reserve, at the pace of the last five minutes;
    /// infinite if it never is.
    pub(crate) fn reserve_in(&self, now: Duration) -> f64 {
        self.pace.reserve_in(self.reserve(), now)
    }

    /// Atlas answered well: a probe opens the gate, slowly. Comes before [`Self::observe`].
    pub(crate) fn succeeded(&mut self, now: Duration) {
        if self.gate.succeeded(now) && self.emptied {
            // What is left is unknown unless the answer says so; the slow start feels its way.
            self.remaining = self.capacity;
            self.emptied = false;
        }
    }

    /// Atlas asked us to wait. `late` is added, so that not everybody comes back at once.
    pub(crate) fn close_gate(
        &mut self,
        cause: CooldownCause,
        wait: Option<Duration>,
        late: impl FnOnce(Duration) -> Duration,
        now: Duration,
    ) -> Duration {
        match cause {
            CooldownCause::RateLimited => {
                self.remaining = 0;
                self.seen_at = now;
                self.emptied = true;
            }
            // Says nothing of the bucket.
            CooldownCause::Unavailable => {}
        }
        self.gate.close(cause, wait, late, now)
    }

    /// How long the gate stays closed; `None` if it does not.
    pub(crate) fn gate(&self, now: Duration) -> Option<Duration> {
        self.gate.closed_for(now)
    }

    /// Why the gate is closed; `None` if it is not.
    pub(crate) fn gate_cause(&self, now: Duration) -> Option<CooldownCause> {
        self.gate(now).and_then(|_| self.gate.cause())
    }

    /// What holds a call back that the gate does not let through.
    fn cooldown(&self) -> HeldBack {
        match self.gate.cause() {
            Some(CooldownCause::Unavailable) => HeldBack::Unavailable,
            Some(CooldownCause::RateLimited) | None => HeldBack::RateLimited,
        }
    }

    /// Calls that come back to us in a minute.
    pub(crate) fn own_refill(&self) -> u64 {
        self.rates.own_refill
    }

    pub(crate) fn view(&self, now: Duration) -> BudgetView {
        let mut filled = self.clone();
        filled.fill(now);
        let ours = filled.available(now);
        let theirs = filled.remaining.saturating_sub(filled.reserve());
        BudgetView {
            remaining: ours.min(theirs),
            capacity: self.burst(),
            refill_per_minute: self.rates.own_refill,
            gate: self.gate(now),
            gate_cause: self.gate_cause(now),
        }
    }

    fn look_at_own_share(&self, calls: u64, urgency: Urgency, now: Duration) -> Result<(), Spent> {
        let kept_back = match urgency {
            // What nobody waits for draws from our share of the bucket only.
            Urgency::RefreshAhead => {
                let kept = 100_u64.saturating_sub(self.rates.share_percent);
                self.burst().saturating_mul(kept) / 100
            }
            Urgency::Miss | Urgency::Revalidate => 0,
        };
        let needed = calls.saturating_add(kept_back);
        if self.available(now) >= needed {
            return Ok(());
        }
        let empty_at = self.full_at.max(now);
        let enough_at = empty_at.saturating_sub(times(
            self.rates.interval,
            self.burst().saturating_sub(needed),
        ));
        Err(Spent {
            why: HeldBack::OwnShare,
            retry_after: enough_at.saturating_sub(now).max(self.rates.interval),
        })
    }

    fn look_at_atlas(&self, calls: u64, urgency: Urgency, now: Duration) -> Result<(), Spent> {
        let least = match urgency {
            Urgency::RefreshAhead => self.capacity.saturating_mul(40) / 100,
            Urgency::Revalidate => self.capacity.saturating_mul(20) / 100,
            Urgency::Miss => 0,
        };
        let least = least.max(self.reserve());
        if self.remaining >= least.saturating_add(calls) {
            return Ok(());
        }
        let missing = least.saturating_add(calls).saturating_sub(self.remaining);
        let periods = missing.div_ceil(self.rates.refill.max(1));
        let enough_at = self.seen_at + times(MINUTE, periods);
        Err(Spent {
            why: HeldBack::BucketLow,
            retry_after: enough_at.saturating_sub(now).max(self.rates.interval),
        })
    }

    /// Adds what whole periods have brought back to Atlas's bucket.
    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.seen_at);
        let periods = passed.as_secs() / MINUTE.as_secs();
        if periods > 0 {
            let back = periods.saturating_mul(self.rates.refill);
            self.remaining = self.remaining.saturating_add(back).min(self.capacity);
            self.seen_at += times(MINUTE, periods);
        }
    }

    /// What our own bucket holds.
    fn available(&self, now: Duration) -> u64 {
        self.burst().saturating_sub(self.missing(now))
    }

    /// Calls of our own bucket that have not come back yet.
    fn missing(&self, now: Duration) -> u64 {
        let missing = self.full_at.saturating_sub(now);
        let missing = missing.as_nanos().div_ceil(self.rates.interval.as_nanos());
        u64::try_from(missing).unwrap_or(u64::MAX)
    }

    fn burst(&self) -> u64 {
        self.capacity.saturating_sub(self.reserve())
    }

    /// The reserve, in proportion if Atlas's bucket is smaller than configured.
    fn reserve(&self) -> u64 {
        let whole = self.rates.reserve.saturating_mul(self.capacity);
        whole / self.rates.capacity.max(1)
    }
}
