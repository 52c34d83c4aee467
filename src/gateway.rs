//! The whole job, in order: verify, authorize, look up, write down.
//!
//! A question comes in with the moment it arrived; what is written for its caller goes out only after
//! its record is in the audit trail, because it is [`AwaitingRecord`] until then (G15).

mod asking;
mod deny_file;
mod last_lists;
mod outage;
mod panics;
mod refusal;
mod repeats;
mod savings;
mod walk;
mod awaiting_record;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Method, Version};
use tracing::{Span, debug_span};

use crate::atlas::CertQuery;
use crate::audit::{
    Arrival, Audit, CacheUse, Closing, Entry, Outcome, Refused, RequestId, Unrecorded,
};
use crate::cache::{Address, Ask, Cache, CacheMode, Encoding, Found};
use crate::clock::{Clock, Moment};
use crate::identity::{Caller, Identity, Requester};
use crate::memory::Memory;
use crate::policy::allowance::Allowance;
use crate::policy::{Permit, Policy};
use crate::telemetry::metrics::lookups::LookupMetrics;
use crate::telemetry::metrics::policy::PolicyMetrics;
use crate::telemetry::traces;
use crate::upstream::Upstream;

use awaiting_record::{Begun, InFlightGuard};

pub use awaiting_record::{AwaitingRecord, Unanswered};
pub use deny_file::{DenyFile, ReadList};
pub use last_lists::LastLists;
pub use panics::Panics;
pub use refusal::Refusal;
pub use repeats::Repeats;

/// The parts of a lookup, in the order in which it passes them.
pub struct Gateway {
    /// Who is calling.
    pub identity: Arc<Identity>,
    /// May they.
    pub policy: ArcSwap<Policy>,
    /// Where the list of those comes from who are denied at once.
    pub deny_file: DenyFile,
    /// What is shown of both.
    pub policy_metrics: PolicyMetrics,
    /// How much may they.
    pub allowance: Allowance,
    /// What is remembered.
    pub cache: Cache,
    /// How Atlas is asked.
    pub upstream: Upstream,
    /// What the last fetches have found.
    pub last_lists: Arc<LastLists>,
    /// What is written down.
    pub audit: Audit,
    /// What is counted.
    pub metrics: LookupMetrics,
    /// What has gone wrong inside.
    pub panics: Panics,
    /// What is said once for many lookups.
    pub repeats: Arc<Repeats>,
    /// How much memory is left.
    pub memory: Memory,
    /// Where the time comes from.
    pub clock: Clock,
    /// What bounds a lookup.
    pub bounds: Bounds,
}

/// What bounds a lookup.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long one may take from its head to its answer.
    pub request: Duration,
    /// How many may be under way of callers who are known, and how many of others beside them.
    pub in_flight: usize,
}

/// One question as it was asked.
///
/// It only borrows, and is itself lent: what is handed on by value is copied at each step.
#[derive(Debug)]
pub struct Lookup<'r> {
    /// The caller's token; `None` if there is none.
    pub token: Option<&'r [u8]>,
    /// Which certificates.
    pub query: &'r CertQuery,
    /// How the caller addressed this gateway.
    pub address: Address<'r>,
    /// How it was asked; for traces.
    pub method: &'r Method,
    /// In which version of HTTP; for traces.
    pub protocol: Version,
    /// Whether Atlas is to be asked anew, if the caller's rule allows it.
    pub no_cache: bool,
    /// The form in which a large list is to leave, if not as it is.
    pub encoding: Option<Encoding>,
    /// Up to how many certificates the answer shows all that there are.
    pub most: usize,
    /// The trace that the caller is in (W3C Trace Context), if it says.
    pub traceparent: Option<&'r str>,
}

/// A list that its caller may have.
#[derive(Debug)]
pub struct Answer {
    /// The list and where it came from.
    pub found: Found,
    /// When it is given: what has expired until then is not part of it.
    pub now: Moment,
}

/// What was written for a caller, and what the record says of it.
#[derive(Debug)]
pub struct Written<R> {
    /// What the caller gets, once the record is written.
    pub reply: R,
    /// The reply's status.
    pub status: u16,
    /// The code of an error.
    pub error_code: Option<Arc<str>>,
    /// How many certificates are in the reply.
    pub certificates: Option<u64>,
    /// There was no room for the answer, and the reply is the refusal that says so.
    pub is_shed: bool,
}

/// Whose question it is.
enum Whose {
    /// Nobody's yet; memory may know.
    Unverified(Requester),
    /// A caller's whose token was verified just now.
    Verified(Arc<Caller>),
}

/// How far a question has come.
enum Step {
    /// Memory has the answer.
    Answer(Answer),
    /// Memory has the answer, but not yet in the form that is wanted.
    Compress { answer: Answer, encoding: Encoding },
    /// The list is not remembered, or is to be asked for anew.
    Ask {
        caller: Arc<Caller>,
        permit: Permit<'static>,
    },
    /// The token is not remembered. Verifying it is one span of a trace, of which the memory was the
    /// beginning.
    Verify { span: Span, asker: Requester },
}

impl<'r> Lookup<'r> {
    /// What the cache is asked.
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
}

impl Lookup<'_> {
    /// The span of this lookup, in its caller's trace if it is in one. Only for traces: nothing is made of
    /// it while there are none.
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

    /// What is left to do to an answer.
    fn form(&self, answer: Answer) -> Step {
        let (entry, now) = (&answer.found.entry, answer.now.wall);
        match self.encoding {
            Some(encoding) if entry.lacks(self.most, now, encoding) => {
                Step::Compress { answer, encoding }
            }
            _ => Step::Answer(answer),
        }
    }
}

impl Gateway {
    /// Answers one question from memory; where that is not enough, what there is to wait for.
    ///
    /// `write` turns what came of it into the caller's reply, which [`AwaitingRecord`] hands out.
    pub fn answer<'l, R>(
        &'l self,
        arrival: Arrival<'l>,
        lookup: &Lookup<'l>,
        write: impl Fn(&Result<Answer, Refusal>) -> Written<R>,
    ) -> Result<AwaitingRecord<R>, Box<Unanswered>> {
        let (arrived, request_id) = (arrival.at, arrival.request_id);
        let asker = arrival.origin.asker();
        let mut entry = self.audit.entry(arrival);
        entry.set_query(lookup.query);
        let mut in_flight = InFlightGuard::new(&self.metrics, &self.clock, arrived);
        let span = lookup.span(&request_id);
        let decide = || {
            let whose = Whose::Unverified(asker);
            span.in_scope(|| self.decide(&mut entry, lookup, arrived, whose))
        };
        // A panic costs its own request an answer of 500, on record like every other.
        let mut step = catch_unwind(AssertUnwindSafe(decide)).unwrap_or(Err(Refusal::Panicked));
        if matches!(step, Ok(Step::Verify { .. }) | Err(Refusal::NoToken)) {
            in_flight.unverified(&self.metrics);
            if step.is_ok() && self.is_full_of_strangers() {
                step = Err(Refusal::overloaded());
            }
        }
        let begun = Begun {
            arrived,
            entry,
            in_flight,
            traced: traces::Traced::of(&span),
        };
        let outcome = match step {
            Ok(Step::Answer(answer)) => Ok(answer),
            Err(refusal) => Err(refusal),
            Ok(step @ (Step::Ask { .. } | Step::Compress { .. } | Step::Verify { .. })) => {
                let begun = begun.into_owned();
                return Err(Box::new(Unanswered { begun, step, span }));
            }
        };
        Ok(begun.end(self, &outcome, write))
    }

    /// Puts a request on record that was no question. Where there were too many of them already, `write`
    /// writes another reply.
    pub async fn reject<R>(
        &self,
        arrival: Arrival<'_>,
        path: &[u8],
        mut written: Written<R>,
        write: impl FnOnce(&Refusal) -> Written<R>,
    ) -> Result<R, Unrecorded> {
        let arrived = arrival.at;
        let mut entry = self.audit.entry(arrival);
        entry.set_invalid_path(path);
        let now = arrived.at(self.clock.elapsed());
        let closing = Closing {
            outcome: Outcome::Rejected,
            status: written.status,
            error_code: written.error_code.as_deref(),
            ..Closing::abandoned(now)
        };
        let recorded = match entry.refuse(&closing) {
            Refused::OnItsOwn => entry.close(closing).await,
            Refused::Folded => Ok(()),
            Refused::TooMany(refusals) => {
                written = write(&Refusal::TooManyRefusals(refusals));
                Ok(())
            }
        };
        let outcome = match recorded {
            Ok(()) => Outcome::Rejected,
            Err(_) => Outcome::Failed,
        };
        let took = now.elapsed.saturating_sub(arrived.elapsed);
        self.metrics
            .lookup(outcome.word(), CacheUse::None.word(), took);
        recorded.map(|()| written.reply)
    }

    /// Decides what a caller may have, as far as memory goes. Who is remembered is known before anything
    /// is asked about room, and then only those count who are known as well (G26).
    fn decide(
        &self,
        entry: &mut Entry<'_>,
        lookup: &Lookup<'_>,
        now: Moment,
        whose: Whose,
    ) -> Result<Step, Refusal> {
        let token = lookup.token.ok_or(Refusal::NoToken)?;
        let caller = match whose {
            Whose::Verified(caller) => caller,
            Whose::Unverified(asker) => {
                let span = debug_span!("identity");
                let holder = entry.holder();
                let known = span.in_scope(|| self.identity.get_cached(token, holder, now));
                let Some(caller) = known else {
                    return Ok(Step::Verify { span, asker });
                };
                caller
            }
        };
        entry.set_caller(&caller);
        if self.metrics.known_under_way() > self.bounds.in_flight {
            return Err(Refusal::overloaded());
        }
        let policy = self.policy.load();
        let permit = debug_span!("policy")
            .in_scope(|| policy.authorize(&caller, lookup.query))
            .map_err(|denied| Refusal::denied(denied, entry))?;
        entry.set_rule(Some(permit.rule()));
        self.allowance
            .admit_lookup(&caller, &permit, now)
            .map_err(Refusal::RateLimited)?;
        let known =
            debug_span!("cache").in_scope(|| self.cache.get_cached(&permit, lookup.ask(now)));
        match known {
            Some(found) => Ok(lookup.form(Answer { found: found?, now })),
            None => Ok(Step::Ask {
                caller,
                permit: permit.into_owned(),
            }),
        }
    }

    /// Brings the gauges of the policy up to date; for a scrape.
    pub fn show_policy(&self) {
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

    /// Whether there is no room for another whose caller is not known. Those who wait for keys take none:
    /// they do nothing, and are bounded where they wait.
    fn is_full_of_strangers(&self) -> bool {
        let waiting = self.identity.callers_waiting_for_keys();
        let at_work = self.metrics.unverified_under_way().saturating_sub(waiting);
        at_work > self.bounds.in_flight
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

/// How long whoever is turned away for want of room is asked to wait.
pub const OVERLOAD_PAUSE: Duration = Duration::from_secs(1);
