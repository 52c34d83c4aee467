//! The whole job: verify the caller, authorize it, answer from the cache or from Atlas, write the record.
//!
//! [`Gateway::lookup`] does it in one `async` function. A reply leaves only after its record is in the audit
//! trail, because it is [`AwaitingRecord`] until then (G15).
//!
//! [`Gateway::lookup_cached`] is its fast path for hits, an optimisation.

mod admission;
mod awaiting_record;
mod deny_file;
mod expirations;
mod fast_path;
mod fetch;
mod fleet_fetch;
mod fleet_purge;
mod inventory;
mod last_hour;
mod outage;
mod panics;
mod refusal;
mod restore;
mod shared_list;
mod snapshot;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use http::{Method, Version};
use tracing::{Instrument, Span, debug_span};

use crate::atlas::CertQuery;
use crate::audit::{
    Arrival, Audit, CacheUse, Closing, Entry, Outcome, Refused, RequestId, Unrecorded,
};
use crate::cache::{Address, Ask, Cache, CacheMode, Encoding, Found};
use crate::fleet::Fleet;
use crate::identity::{Caller, Identity, Unverified};
use crate::insight::KnownLists;
use crate::memory::Memory;
use crate::policy::Policy;
use crate::policy::allowance::{Allowance, AllowancesLeft};
use crate::system::{Clock, Ids, Moment};
use crate::telemetry::metrics::lookups::{LookupMetrics, Present};
use crate::telemetry::metrics::policy::PolicyMetrics;
use crate::telemetry::traces;
use crate::upstream::Upstream;

use awaiting_record::{InFlightGuard, LookupRecord};

pub(crate) use admission::OVERLOAD_PAUSE;
pub(crate) use awaiting_record::AwaitingRecord;
pub(crate) use deny_file::DenyFile;
pub(crate) use expirations::{ExpirationsRequest, FoundExpirations};
pub(crate) use last_hour::{CallCounts, LastHour};
pub(crate) use panics::Panics;
pub(crate) use refusal::{Refusal, Repeats};
pub(crate) use restore::PurgeError;
pub(crate) use snapshot::Snapshot;

/// The parts of a lookup, in the order in which it passes them.
pub(crate) struct Gateway {
    pub(crate) identity: Arc<Identity>,
    pub(crate) policy: ArcSwap<Policy>,
    pub(crate) deny_file: DenyFile,
    pub(crate) policy_metrics: PolicyMetrics,
    pub(crate) allowance: Allowance,
    pub(crate) cache: Cache,
    /// What is shared with other replicas, if there are others.
    pub(crate) fleet: Option<Fleet>,
    pub(crate) upstream: Upstream,
    /// What the next process goes on from.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    /// What the last fetches have found.
    pub(crate) known_lists: KnownLists,
    /// What was asked for, and made of it, lately.
    pub(crate) last_hour: LastHour,
    pub(crate) audit: Audit,
    pub(crate) metrics: LookupMetrics,
    /// What has gone wrong inside.
    pub(crate) panics: Panics,
    /// What is said once for many lookups.
    pub(crate) repeats: Arc<Repeats>,
    pub(crate) memory: Memory,
    /// Where the ids of what no caller has asked for come from.
    pub(crate) ids: Ids,
    pub(crate) clock: Clock,
    pub(crate) limits: LookupLimits,
}

/// What bounds a lookup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookupLimits {
    /// How long a lookup may take from its head to its answer.
    pub(crate) request: Duration,
    /// How many lookups of known callers may be under way, and how many of others beside them.
    pub(crate) in_flight: usize,
}

/// One lookup, as it was asked for.
#[derive(Debug)]
pub(crate) struct LookupRequest<'r> {
    pub(crate) token: Option<&'r [u8]>,
    pub(crate) query: &'r CertQuery,
    pub(crate) address: Address<'r>,
    /// How it was asked; for traces.
    pub(crate) method: &'r Method,
    /// In which version of HTTP; for traces.
    pub(crate) protocol: Version,
    /// Whether Atlas is to be asked anew, if the caller's rule allows it.
    pub(crate) no_cache: bool,
    /// The form in which a large list is to leave, if not as it is.
    pub(crate) encoding: Option<Encoding>,
    /// Up to how many certificates the answer shows all that there are.
    pub(crate) most: usize,
    /// The trace that the caller is in (W3C Trace Context), if it says.
    pub(crate) traceparent: Option<&'r str>,
}

/// A caller's reply, and what the record says of it.
#[derive(Debug)]
pub struct Rendered<R> {
    /// What the caller gets, once the record is written.
    pub(crate) reply: R,
    pub(crate) status: u16,
    pub(crate) error_code: Option<Arc<str>>,
    pub(crate) certificates: Option<u64>,
    /// The answer was shed for want of memory, and the reply is the refusal that says so.
    pub(crate) is_shed: bool,
}

impl<'r> LookupRequest<'r> {
    fn ask(&self, now: Moment) -> Ask<'r> {
        Ask {
            address: self.address,
            mode: if self.no_cache {
                CacheMode::ForceRefresh
            } else {
                CacheMode::Cached
            },
            now,
        }
    }

    /// The span of this lookup, in its caller's trace if it is in one.
    fn span(&self, request_id: &RequestId) -> Span {
        let span = traces::lookup(&traces::Request {
            request_id,
            method: self.method,
            protocol: self.protocol,
            scheme: self.address.scheme,
            host: self.address.host,
            root: self.address.root,
        });
        if let (Some(traceparent), false) = (self.traceparent, span.is_disabled()) {
            traces::continue_trace(&span, traceparent);
        }
        span
    }

    /// The compression that `found` is to leave in and has not been made in yet.
    fn lacks(&self, found: &Found) -> Option<Encoding> {
        self.encoding
            .filter(|encoding| found.entry.lacks(self.most, found.as_of.wall, *encoding))
    }
}

impl Gateway {
    /// The whole job. Dropped before its end, the lookup is on record as abandoned.
    ///
    /// `render` turns what came of it into the caller's reply.
    pub(crate) async fn lookup<R: Unpin>(
        &self,
        arrival: Arrival<'_>,
        request: &LookupRequest<'_>,
        render: impl Fn(&Result<Found, Refusal>, AllowancesLeft) -> Rendered<R>,
    ) -> Result<(R, Option<Present>), Unrecorded> {
        let span = request.span(&arrival.request_id);
        let mut record = self.begin(arrival, request);
        record.traced = traces::Traced::of(&span);
        let trace_id = record.traced.as_ref().and_then(|traced| traced.trace_id());
        record.entry.set_trace(trace_id);
        let resolved = self.resolve(request, &mut record).instrument(span);
        // A panic costs its own request an answer of 500, on record like every other.
        let outcome = AssertUnwindSafe(resolved).catch_unwind().await;
        let outcome = outcome.unwrap_or(Err(Refusal::Panicked));
        record.commit(self, &outcome, render).await
    }

    /// The list that a caller may have, or why not.
    async fn resolve(
        &self,
        request: &LookupRequest<'_>,
        record: &mut LookupRecord<'_>,
    ) -> Result<Found, Refusal> {
        let identity = debug_span!("identity");
        let verified = self.verify(request.token, record);
        let caller = verified.instrument(identity).await?;
        record.entry.set_caller(&caller);
        if self.metrics.known_under_way() > self.limits.in_flight {
            return Err(Refusal::overloaded());
        }
        let now = self.clock.now();
        let policy = self.policy.load_full();
        let permit = debug_span!("policy")
            .in_scope(|| policy.authorize(&caller, request.query))
            .map_err(|denied| Refusal::denied(denied, &mut record.entry))?;
        record.entry.set_rule(Some(permit.rule()));
        let admitted = self.allowance.admit_lookup(&caller, &permit, now);
        record.allowances = self.allowance.left(&caller, &permit, now);
        admitted.map_err(Refusal::RateLimited)?;

        let admit = |role| self.admit(role, &permit, &caller, now);
        let fetch = self.fetch(record.entry.request_id());
        let found = self
            .cache
            .get_or_fetch(&permit, request.ask(now), admit, fetch)
            .instrument(debug_span!("cache"));
        let spent = now.elapsed.saturating_sub(record.arrived.elapsed);
        let left = self.limits.request.saturating_sub(spent);
        let found = self.clock.timeout(left, found).await;
        let found = found.map_err(|_| Refusal::TimedOut)?;

        record.allowances = self.allowance.left(&caller, &permit, self.clock.now());
        // While the caller waited, its token may have ended and its right may have been withdrawn (G11).
        let now = self.clock.now();
        if now.wall >= caller.expires_at {
            return Err(Refusal::Unauthenticated(Unverified::Expired));
        }
        self.policy
            .load()
            .authorize(&caller, request.query)
            .map_err(|denied| Refusal::denied(denied, &mut record.entry))?;
        let found = found?;
        // The first call was charged when the caller was admitted.
        let further = found.upstream_calls.saturating_sub(1);
        self.allowance.charge(&caller, &permit, further, now);
        Ok(self.compress(found, request).await)
    }

    /// The caller of a token. A remembered one is known at once; of others only so many are verified at a time,
    /// so that no flood of unknown tokens keeps known callers waiting (G26).
    async fn verify(
        &self,
        token: Option<&[u8]>,
        record: &mut LookupRecord<'_>,
    ) -> Result<Arc<Caller>, Refusal> {
        let Some(token) = token else {
            record.in_flight.unverified(&self.metrics);
            return Err(Refusal::NoToken);
        };
        let (holder, arrived) = (record.entry.holder(), record.arrived);
        if let Some(caller) = self.identity.get_cached(token, holder, arrived) {
            self.identity.count_cached();
            return Ok(caller);
        }
        record.in_flight.unverified(&self.metrics);
        if self.is_full_of_unverified() {
            return Err(Refusal::overloaded());
        }
        let asker = record.entry.asker();
        let verified = self.identity.verify_for(asker, token, holder, arrived);
        let caller = verified.await.map_err(Refusal::unverified)?;
        // The issuer's keys may have been fetched for it, and meanwhile the token may have ended.
        if self.clock.now().wall >= caller.expires_at {
            return Err(Refusal::Unauthenticated(Unverified::Expired));
        }
        record.in_flight.verified();
        Ok(caller)
    }

    /// Makes the compressed form that the caller takes, once for all who take it.
    async fn compress(&self, mut found: Found, request: &LookupRequest<'_>) -> Found {
        if let Some(encoding) = request.lacks(&found) {
            if found.entry.compress(found.as_of.wall, encoding).await {
                self.metrics.compressed(encoding.name());
            }
            // A certificate may have expired meanwhile.
            found.as_of = self.clock.now();
        }
        found
    }

    fn begin<'l>(&'l self, arrival: Arrival<'l>, request: &LookupRequest<'l>) -> LookupRecord<'l> {
        let arrived = arrival.at;
        let mut entry = self.audit.entry(arrival);
        entry.set_query(request.query);
        LookupRecord {
            arrived,
            entry,
            in_flight: InFlightGuard::new(&self.metrics, &self.clock, arrived),
            traced: None,
            allowances: AllowancesLeft::default(),
        }
    }

    /// Puts a malformed request on record. Where there were too many of them already, `render` renders another
    /// reply.
    pub(crate) async fn reject<R>(
        &self,
        arrival: Arrival<'_>,
        path: &[u8],
        mut rendered: Rendered<R>,
        render: impl FnOnce(&Refusal) -> Rendered<R>,
    ) -> Result<R, Unrecorded> {
        let arrived = arrival.at;
        let mut entry = self.audit.entry(arrival);
        entry.set_invalid_path(path);
        let now = arrived.at(self.clock.elapsed());
        let closing = Closing {
            outcome: Outcome::Rejected,
            status: rendered.status,
            error_code: rendered.error_code.as_deref(),
            ..Closing::abandoned(now)
        };
        let recorded = match entry.refuse(&closing) {
            Refused::OnItsOwn => entry.close(closing).await,
            Refused::Folded => Ok(()),
            Refused::TooMany(refusals) => {
                rendered = render(&Refusal::TooManyRefusals(refusals));
                Ok(())
            }
        };
        let outcome = match recorded {
            Ok(()) => Outcome::Rejected,
            Err(_) => Outcome::Failed,
        };
        let took = now.elapsed.saturating_sub(arrived.elapsed);
        self.metrics.lookup(outcome, CacheUse::None, took);
        recorded.map(|()| rendered.reply)
    }

    /// What lookups would have cost their callers, and what has been made for them, since the start.
    pub(crate) fn call_counts(&self) -> CallCounts {
        CallCounts {
            would_have_cost: self.metrics.would_have_cost(),
            made: self.upstream.certificate_calls(),
        }
    }

    /// Brings the gauges of the policy up to date; for a scrape.
    pub(crate) fn show_policy(&self) {
        let policy = self.policy.load();
        self.policy_metrics
            .show(policy.unused().len(), policy.deny_list().len());
    }

    /// Counts a refusal, and tells the operator of it, if it is not folded.
    #[cold]
    fn refuse(&self, refusal: &Refusal, entry: &mut Entry<'_>, closing: &Closing<'_>) -> Refused {
        self.count(refusal);
        let refused = entry.refuse(closing);
        if refused == Refused::OnItsOwn {
            refusal.log(entry.request_id(), self);
        }
        refused
    }

    fn count(&self, refusal: &Refusal) {
        if matches!(refusal, Refusal::Overloaded { .. }) {
            self.metrics.shed();
        } else if matches!(refusal, Refusal::Panicked) {
            self.metrics.panicked();
            self.panics.note(self.clock.elapsed());
        } else if let Some(limit) = refusal.limited_by() {
            self.metrics.limited(limit);
        }
    }
}
