//! What is known of one project: its limits, and what they learn from each call. Pure.

use std::time::Duration;

use super::circuit_breaker::{CallOutcome, CircuitBreaker};
use super::cooldown::{Cooldown, CooldownCause, CooldownRequest};
use super::demand::ProjectDemand;
use super::retry_budget::RetryBudget;
use super::slots::Slots;
use super::token_bucket::{Quota, TokenBucket, Wait};
use crate::upstream::error::{FetchErrorKind, HeldBack, Urgency};
use crate::upstream::jitter::Jitter;

pub(crate) struct Project<W> {
    pub(crate) bucket: TokenBucket,
    pub(crate) cooldown: Cooldown,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) demand: ProjectDemand,
    pub(super) retries: RetryBudget,
    pub(super) slots: Slots<W>,
}

impl<W> Project<W> {
    pub(super) fn new(bucket: TokenBucket, slots: usize) -> Self {
        Self {
            bucket,
            cooldown: Cooldown::default(),
            breaker: CircuitBreaker::default(),
            demand: ProjectDemand::default(),
            retries: RetryBudget::default(),
            slots: Slots::new(slots),
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
