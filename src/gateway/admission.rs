//! Who is let in while there is much to do (load shedding, G26), and what a miss is charged.

use std::time::Duration;

use super::Gateway;
use crate::cache::{NotAdmitted, Role};
use crate::identity::Caller;
use crate::memory::Stage;
use crate::policy::Permit;
use crate::policy::allowance::BucketView;
use crate::system::Moment;

impl Gateway {
    /// Whether a caller that the cache cannot answer may wait for a fetch. A leader pays for a call.
    pub(super) fn admit(
        &self,
        role: Role,
        permit: &Permit<'_>,
        caller: &Caller,
        now: Moment,
    ) -> Result<(), NotAdmitted> {
        if self.answers_only_hits() {
            return Err(NotAdmitted::Overloaded);
        }
        if role == Role::Follower {
            return Ok(());
        }
        let view = self.upstream.budget_view(&permit.query().project);
        if view.gate.is_some() {
            // It will not cost Atlas a call, and why is not that the caller has spent its allowance.
            return Ok(());
        }
        let whole = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let bucket = BucketView {
            remaining: whole(view.remaining),
            capacity: whole(view.capacity),
            refill_per_minute: whole(view.refill_per_minute),
        };
        self.allowance
            .admit_miss(caller, permit, bucket, now)
            .map_err(NotAdmitted::Spent)
    }

    /// Whether as many tokens are being verified as may be. Callers that wait for an issuer's keys do not count:
    /// they cost nothing, and their number is bounded where they wait.
    pub(super) fn is_full_of_unverified(&self) -> bool {
        let waiting = self.identity.callers_waiting_for_keys();
        let at_work = self.metrics.unverified_under_way().saturating_sub(waiting);
        at_work > self.limits.in_flight
    }

    /// Whether all but hits are shed (load shedding, G26).
    pub(super) fn answers_only_hits(&self) -> bool {
        let in_flight = self.limits.in_flight;
        self.metrics.known_under_way() > in_flight - in_flight / RESERVED_FOR_HITS
            || self.memory.stage() >= Stage::HitsOnly
    }
}

/// The `Retry-After` of a caller that was shed.
pub(crate) const OVERLOAD_PAUSE: Duration = Duration::from_secs(1);

/// A fifth of the lookups under way can only be hits.
const RESERVED_FOR_HITS: usize = 5;
