//! Permission for one call, and what the limits learn when it ends.

use std::time::Duration;

use tracing::warn;

use super::circuit_breaker::CallOutcome;
use super::cooldown::CooldownRequest;
use super::token_bucket::Quota;
use super::{Reservation, Slot};
use crate::telemetry::Tally;

/// Permission to make one call now.
pub(crate) struct CallPermit {
    pub(super) reservation: Reservation,
    pub(super) slot: Slot,
    pub(super) ended_before: u64,
    pub(super) sent_at: Duration,
}

impl CallPermit {
    /// Tells the limits how the call ended: `outcome` is `None` if no connection came about, which says
    /// nothing of the project; `cooldown` is that Atlas asked us to wait, and for how long if it said so.
    ///
    /// Returns how many calls other clients have surely spent since the last answer, and how long the
    /// cooldown is, if one begins.
    pub(crate) fn finish(
        mut self,
        outcome: Option<CallOutcome>,
        quota: Quota,
        cooldown: Option<CooldownRequest>,
    ) -> (u64, Option<Duration>) {
        let limits = &self.reservation.limits;
        let shared = &limits.limiter.0;
        let now = limits.limiter.now();
        self.slot.went_well = Some(outcome == Some(CallOutcome::Answered));
        limits.limiter.learn_of_host(outcome, now);
        let known = (self.ended_before, quota);
        let is_shared = limits.limiter.fleet().is_some();
        let (opened, others, wait) = limits.with_project(|project| {
            project.bucket.share(is_shared);
            let opened = outcome.is_some_and(|outcome| project.breaker.ended(outcome, now));
            let (others, wait) = project.learn(outcome, known, cooldown, (shared.jitter, now));
            (opened, others, wait)
        });
        if let Some(fleet) = limits.limiter.fleet() {
            let asked = cooldown.zip(wait);
            let asked = asked.map(|(request, wait)| (request.cause.status(), wait));
            limits.tell_fleet(
                fleet,
                (outcome, quota, asked),
                now.saturating_sub(self.sent_at),
            );
        }
        let project = &limits.project;
        if opened && let Some(Tally { times, .. }) = shared.projects_failing.happened(now) {
            warn!(%project, times, "Atlas keeps failing for this project; asking it rarely");
        }
        if let (Some(wait), Some(CooldownRequest { cause, .. })) = (wait, cooldown)
            && let Some(Tally { times, .. }) = shared.cooldowns.happened(now)
        {
            let seconds = wait.as_secs();
            warn!(
                %project,
                seconds,
                times,
                "Atlas asked us to leave this project alone for {seconds} s: it answered {}",
                cause.status(),
            );
        }
        (others, wait)
    }
}
