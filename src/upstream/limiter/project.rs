//! What is known of one project: its limits, and what they learn from each call. Pure.

use std::time::Duration;

use super::circuit_breaker::{CallOutcome, CircuitBreaker};
use super::cooldown::{Cooldown, CooldownCause, CooldownRequest};
use super::demand::ProjectDemand;
use super::retry_budget::RetryBudget;
use super::slots::Slots;
use super::token_bucket::{Quota, TokenBucket, Wait};
use crate::fleet::{BucketAnswer, BucketRefusal, BucketRequest, Observed};
use crate::upstream::error::{FetchErrorKind, HeldBack, Urgency};
use crate::upstream::jitter::Jitter;

#[derive(Clone)]
pub(crate) struct Project<W> {
    pub(crate) bucket: TokenBucket,
    pub(crate) cooldown: Cooldown,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) demand: ProjectDemand,
    pub(super) retries: RetryBudget,
    pub(super) slots: Slots<W>,
    /// Calls that were taken from the fleet's bucket and not made, and those that were made and not taken, since the
    /// fleet was last told.
    returned: u64,
    returned_since: Duration,
    pub(super) untaken: u64,
}

/// How a call ended: its outcome, what Atlas said of its bucket, and the cooldown that begins, by status.
pub(super) type EndedCall = (Option<CallOutcome>, Quota, Option<(u16, Duration)>);

impl<W> Project<W> {
    pub(super) fn new(bucket: TokenBucket, slots: usize) -> Self {
        Self {
            bucket,
            cooldown: Cooldown::default(),
            breaker: CircuitBreaker::default(),
            demand: ProjectDemand::default(),
            retries: RetryBudget::default(),
            slots: Slots::new(slots),
            returned: 0,
            returned_since: Duration::ZERO,
            untaken: 0,
        }
    }

    pub(super) fn take(
        &mut self,
        calls: u64,
        urgency: Urgency,
        first: bool,
        now: Duration,
    ) -> Result<(), Wait> {
        self.bucket.refill(now);
        let why = self.cooldown_reason();
        let wait = |retry_after| Wait { why, retry_after };
        // The probe is how we learn what is left, whatever we believe of it.
        if let Some(probe) = self.cooldown.probe(now) {
            probe.map_err(wait)?;
        } else {
            self.bucket.check(calls, urgency, now)?;
            self.cooldown.admit(calls, first, now).map_err(wait)?;
        }
        self.bucket.take(calls, now);
        Ok(())
    }

    /// What [`take`](Self::take) asks, for the fleet.
    pub(super) fn request(
        &mut self,
        calls: u64,
        urgency: Urgency,
        first: bool,
        now: Duration,
    ) -> BucketRequest {
        self.bucket.refill(now);
        let mut request = self.bucket.request(calls, urgency, now);
        request.first = first;
        let returned = std::mem::take(&mut self.returned);
        if now.saturating_sub(self.returned_since) < LATE_RETURN {
            request.returned = returned;
        }
        request.untaken = std::mem::take(&mut self.untaken);
        request.known.cooldown = self.cooldown.for_fleet(now);
        request
    }

    /// A call that was taken from the fleet's bucket is not made.
    pub(super) fn return_call(&mut self, now: Duration) {
        if self.returned == 0 {
            self.returned_since = now;
        }
        self.returned += 1;
    }

    /// Takes up the fleet's answer to a request of `asked_at`.
    pub(super) fn follow(
        &mut self,
        answer: &BucketAnswer,
        calls: u64,
        asked_at: Duration,
    ) -> Result<(), Wait> {
        self.bucket.follow(&answer.known, asked_at);
        self.cooldown.follow(answer.known.cooldown, asked_at);
        let shortly = |why, after| self.bucket.wait(why, after, Duration::ZERO);
        Err(match answer.taken {
            Ok(()) => {
                self.bucket.taken_elsewhere(calls);
                return Ok(());
            }
            Err(BucketRefusal::BucketLow(after)) => shortly(HeldBack::BucketLow, after),
            Err(BucketRefusal::OwnShare(after)) => shortly(HeldBack::OwnShare, after),
            Err(BucketRefusal::Cooldown(retry_after)) => Wait {
                why: self.cooldown_reason(),
                retry_after,
            },
        })
    }

    /// What the fleet is told of a call that has ended, if it says anything. Calls that were taken within `window` may
    /// not be counted in what Atlas said.
    pub(super) fn observed(
        &self,
        (outcome, quota, cooldown): EndedCall,
        window: Duration,
    ) -> Option<Observed> {
        let is_answered = outcome == Some(CallOutcome::Answered) && cooldown.is_none();
        let (capacity, reserved) = self.bucket.capacity_and_reserved();
        (is_answered || cooldown.is_some()).then_some(Observed {
            is_answered,
            remaining: self.bucket.believed(quota),
            reserved,
            window,
            capacity,
            cooldown,
        })
    }

    /// A call with a token is about to be sent. Returns how many calls have ended before.
    pub(super) fn send(&mut self, urgency: Urgency, now: Duration) -> Result<u64, Wait> {
        if let Some(retry_after) = self.cooldown.left(now) {
            let why = self.cooldown_reason();
            return Err(Wait { why, retry_after });
        }
        if !self.cooldown.is_waiting() {
            self.bucket.check_atlas(0, urgency, now)?;
        }
        Ok(self.bucket.sent())
    }

    /// Learns from a call that was sent and has not [`ended`](TokenBucket::ended) yet. Returns how many calls
    /// other clients have surely spent since the last answer, and how long the cooldown is, if one begins.
    pub(super) fn learn(
        &mut self,
        outcome: Option<CallOutcome>,
        (ended_before, quota): (u64, Quota),
        cooldown: Option<CooldownRequest>,
        (jitter, now): (Jitter, Duration),
    ) -> (u64, Option<Duration>) {
        let is_answered = outcome == Some(CallOutcome::Answered) && cooldown.is_none();
        if is_answered && self.cooldown.succeeded(now) {
            self.bucket.reopened();
        }
        let others = self.bucket.observe(ended_before, quota, now);
        let wait = cooldown.map(|request| {
            if request.cause == CooldownCause::RateLimited {
                self.bucket.emptied(now);
            }
            let late = |tenth| jitter.up_to(tenth);
            self.cooldown.begin(request, late, now)
        });
        (others, wait)
    }

    fn cooldown_reason(&self) -> HeldBack {
        match self.cooldown.cause() {
            Some(CooldownCause::Unavailable) => HeldBack::Unavailable,
            Some(CooldownCause::RateLimited) | None => HeldBack::RateLimited,
        }
    }

    pub(super) fn held_back(&self, wait: Wait) -> FetchErrorKind {
        FetchErrorKind::HeldBack {
            why: wait.why,
            calls_per_minute: self.bucket.own_refill(),
            retry_after: wait.retry_after,
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.bucket.is_in_use() || self.slots.is_in_use()
    }

    pub(super) fn is_idle(&self, now: Duration) -> bool {
        !self.is_in_use()
            && self.bucket.is_full(now)
            && self.cooldown.is_over(now)
            && !self.breaker.is_open()
    }
}

/// What was taken so long ago has come back by itself.
const LATE_RETURN: Duration = Duration::from_secs(5);
