//! The fast path of hits: [`Gateway::lookup`] for a remembered token and a fresh list, without a future. An
//! optimisation, without which every test passes (`server.fast_path`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{AwaitingRecord, Gateway, LookupRequest, Refusal, Rendered};
use crate::audit::Arrival;
use crate::cache::Found;
use crate::identity::Caller;
use crate::policy::allowance::AllowancesLeft;
use crate::telemetry::traces;

/// A caller, the rule that lets it, and the list that the cache has for it.
struct Hit {
    caller: Arc<Caller>,
    rule: Arc<str>,
    found: Found,
    allowances: AllowancesLeft,
}

impl Gateway {
    /// The fast path: [`Gateway::lookup`] for a remembered token and a fresh list, without a future and
    /// without a wait. `None` where it takes more than that, and for a lookup that is traced; nothing has been
    /// counted, charged or written then.
    pub(crate) fn lookup_cached<R>(
        &self,
        arrival: &Arrival<'_>,
        request: &LookupRequest<'_>,
        render: impl Fn(&Result<Found, Refusal>, AllowancesLeft) -> Rendered<R>,
    ) -> Option<AwaitingRecord<R>> {
        if traces::are_recorded() {
            return None;
        }
        // Where this panics the plain path will, too, and put it on record.
        let hit = catch_unwind(AssertUnwindSafe(|| self.hit(arrival, request)));
        let Hit {
            caller,
            rule,
            found,
            allowances,
        } = hit.ok()??;
        let mut record = self.begin(arrival.borrowed(), request);
        record.entry.set_caller(&caller);
        record.entry.set_rule(Some(&rule));
        record.allowances = allowances;
        Some(record.commit(self, &Ok(found), render))
    }

    fn hit(&self, arrival: &Arrival<'_>, request: &LookupRequest<'_>) -> Option<Hit> {
        let now = arrival.at;
        let holder = arrival.origin.holder();
        let caller = self.identity.get_cached(request.token?, holder, now)?;
        if self.metrics.known_under_way() >= self.limits.in_flight {
            return None;
        }
        let policy = self.policy.load();
        let permit = policy.authorize(&caller, request.query).ok()?;
        let found = self.cache.get_cached(&permit, request.ask(now))?;
        if request.lacks(&found).is_some() {
            return None;
        }
        // Last, because what is charged here must not be charged again.
        self.allowance.admit_lookup(&caller, &permit, now).ok()?;
        self.identity.count_cached();
        Some(Hit {
            allowances: self.allowance.left(&caller, &permit, now),
            rule: Arc::clone(permit.rule()),
            caller,
            found,
        })
    }
}
