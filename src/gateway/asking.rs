//! A question that memory could not answer goes in; its answer comes out, however long it takes.

use tracing::Instrument;

use super::awaiting_record::Begun;
use super::{Answer, Gateway, Lookup, OVERLOAD_PAUSE, Refusal, Step, Whose};
use crate::audit::Entry;
use crate::cache::{Ask, Staleness};
use crate::clock::Moment;
use crate::identity::{Caller, Unverified};
use crate::memory::Stage;
use crate::policy::Permit;
use crate::policy::allowance::{BucketView, Spent};

impl Gateway {
    /// Goes on from `step` to the end, however long it takes.
    pub(super) async fn find_out(
        &self,
        mut step: Step,
        begun: &mut Begun<'_>,
        lookup: &Lookup<'_>,
    ) -> Result<Answer, Refusal> {
        let arrived = begun.arrived;
        let (entry, in_flight) = (&mut begun.entry, &mut begun.in_flight);
        let mut now = arrived;
        loop {
            step = match step {
                Step::Verify { span, asker } => {
                    let token = lookup.token.ok_or(Refusal::NoToken)?;
                    let verified = self.identity.verify_for(asker, token, entry.holder(), now);
                    let verified = verified.instrument(span).await;
                    let caller = verified.map_err(Refusal::unverified)?;
                    // The issuer's keys may have been fetched for it, and while they were, a token or a
                    // certificate may have ended.
                    now = self.clock.now();
                    if now.wall >= caller.expires_at {
                        return Err(Refusal::Unauthenticated(Unverified::Expired));
                    }
                    in_flight.verified();
                    self.decide(entry, lookup, now, Whose::Verified(caller))?
                }
                Step::Ask { caller, permit } => {
                    let ask = lookup.ask(now);
                    let spent = now.elapsed.saturating_sub(arrived.elapsed);
                    let left = self.bounds.request.saturating_sub(spent);
                    let waiting = self.wait(&permit, &caller, ask, entry);
                    let answer = self.clock.timeout(left, waiting).await;
                    lookup.form(answer.map_err(|_| Refusal::TimedOut)??)
                }
                Step::Compress { answer, encoding } => {
                    let (kept, wall) = (&answer.found.entry, answer.now.wall);
                    if kept.compress(wall, encoding).await {
                        self.metrics.compressed(encoding.name());
                    }
                    // A certificate may have ended meanwhile.
                    let now = self.clock.now();
                    return Ok(Answer { now, ..answer });
                }
                Step::Answer(answer) => return Ok(answer),
            }
        }
    }

    /// What the cache does not know.
    async fn wait(
        &self,
        permit: &Permit<'_>,
        caller: &Caller,
        ask: Ask<'_>,
        entry: &mut Entry<'_>,
    ) -> Result<Answer, Refusal> {
        let query = permit.query();
        if self.is_crowded() && self.cache.would_ask(permit, ask) {
            let retry_after = OVERLOAD_PAUSE;
            let old = self.cache.stale(permit, Staleness::Overload);
            let found = old.ok_or(Refusal::Overloaded { retry_after })?;
            return Ok(Answer {
                found,
                now: ask.now,
            });
        }
        let admit = || self.admit_miss(permit, caller, ask.now);
        let fetch = self.fetch(entry.request_id());
        let found = self.cache.get_or_fetch(permit, ask, admit, fetch).await;
        let now = self.clock.now();
        // A token may have ended and a rule may have gone while the caller waited (G11).
        if now.wall >= caller.expires_at {
            return Err(Refusal::Unauthenticated(Unverified::Expired));
        }
        self.policy
            .load()
            .authorize(caller, query)
            .map_err(|denied| Refusal::denied(denied, entry))?;
        let found = found?;
        // The first call was counted when the caller was let through.
        let further = found.upstream_calls.saturating_sub(1);
        self.allowance.charge(caller, permit, further, now);
        Ok(Answer { found, now })
    }

    /// Whether the caller may cost Atlas a call. Charges it for one if so.
    fn admit_miss(&self, permit: &Permit<'_>, caller: &Caller, now: Moment) -> Result<(), Spent> {
        let view = self.upstream.budget_view(&permit.query().project);
        if view.gate.is_some() {
            // It will not cost Atlas a call, and why is not that the caller has had its share.
            return Ok(());
        }
        let whole = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let bucket = BucketView {
            remaining: whole(view.remaining),
            capacity: whole(view.capacity),
            refill_per_minute: whole(view.refill_per_minute),
        };
        self.allowance.admit_miss(caller, permit, bucket, now)
    }

    /// Whether there is room only for those whom memory answers: they are shed last (G26).
    fn is_crowded(&self) -> bool {
        let in_flight = self.bounds.in_flight;
        self.metrics.known_under_way() > in_flight - in_flight / KEPT_FOR_HITS
            || self.memory.stage() >= Stage::HitsOnly
    }
}

/// A fifth of the lookups under way can only be hits.
const KEPT_FOR_HITS: usize = 5;
