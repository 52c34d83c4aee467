//! The record of a lookup under way, and the reply that waits for it.
//!
//! A lookup that is dropped before its end is on record, and counted, as abandoned.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::{Gateway, OVERLOAD_PAUSE, Refusal, Rendered};
use crate::audit::usage::would_have_cost;
use crate::audit::{CacheUse, Closing, Entry, Outcome, Refused, Ticket, Unrecorded};
use crate::cache::{CacheStatus, Found, Staleness};
use crate::policy::allowance::AllowancesLeft;
use crate::system::{Clock, Moment};
use crate::telemetry::metrics::lookups::{LookupMetrics, Present};
use crate::telemetry::traces::{End, Traced};

/// A lookup under way: its record, which is committed when it is answered.
pub(super) struct LookupRecord<'l> {
    pub(super) arrived: Moment,
    pub(super) entry: Entry<'l>,
    pub(super) in_flight: InFlightGuard,
    pub(super) traced: Option<Box<Traced>>,
    /// What is left to the caller.
    pub(super) allowances: AllowancesLeft,
}

/// A reply that is given out once its record is in the audit trail, and only then.
///
/// With it comes what counts the lookup as one in flight, which it is until its reply has left. It borrows
/// nothing of the request.
#[must_use = "what is not waited for was not answered"]
pub(crate) struct AwaitingRecord<R> {
    /// `None` once it was handed out.
    reply: Option<R>,
    /// Without one its record is folded.
    ticket: Result<Option<Ticket>, Unrecorded>,
    in_flight: InFlightGuard,
    outcome: Outcome,
    cache: CacheUse,
    duration: Duration,
    savings: Savings,
    traced: Option<Box<Traced>>,
}

impl LookupRecord<'_> {
    /// Renders the reply and submits its record.
    pub(super) fn commit<R>(
        self,
        gateway: &Gateway,
        outcome: &Result<Found, Refusal>,
        render: impl Fn(&Result<Found, Refusal>, AllowancesLeft) -> Rendered<R>,
    ) -> AwaitingRecord<R> {
        let Self {
            arrived,
            mut entry,
            in_flight,
            mut traced,
            allowances,
        } = self;
        let mut rendered = render(outcome, allowances);
        let shed = rendered.is_shed.then_some(Err(Refusal::Overloaded {
            retry_after: OVERLOAD_PAUSE,
        }));
        let outcome = shed.as_ref().unwrap_or(outcome);
        let now = arrived.at(gateway.clock.elapsed());
        let closing = closing(outcome, &rendered, now);
        if let Some(traced) = &mut traced {
            traced.answered(&End {
                status: closing.status,
                error_code: closing.error_code,
                outcome: closing.outcome.word(),
                cache: closing.cache.word(),
                upstream_calls: closing.upstream_calls,
            });
        }
        let refused = match outcome {
            Ok(_) => Refused::OnItsOwn,
            Err(refusal) => gateway.refuse(refusal, &mut entry, &closing),
        };
        let (became, cache) = (closing.outcome, closing.cache);
        let savings = Savings::of(&closing);
        if let Some(rule) = entry.rule().filter(|_| became != Outcome::Denied) {
            let calls = (closing.upstream_calls, savings.saved);
            gateway.policy_metrics.rules.lookup(rule, cache, calls);
        }
        let ticket = match refused {
            Refused::OnItsOwn => entry.submit(&closing).map(Some),
            Refused::Folded => Ok(None),
            Refused::TooMany(refusals) => {
                rendered = render(&Err(Refusal::TooManyRefusals(refusals)), allowances);
                Ok(None)
            }
        };
        AwaitingRecord {
            ticket,
            in_flight,
            outcome: became,
            cache,
            duration: now.elapsed.saturating_sub(arrived.elapsed),
            savings,
            traced,
            reply: Some(rendered.reply),
        }
    }
}

impl<R: Unpin> Future for AwaitingRecord<R> {
    type Output = Result<(R, Option<Present>), Unrecorded>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let recorded = match &mut this.ticket {
            Ok(Some(ticket)) => ready!(Pin::new(ticket).poll(context)),
            Ok(None) => Ok(()),
            Err(problem) => Err(*problem),
        };
        let in_flight = &mut this.in_flight;
        let outcome = match recorded {
            Ok(()) => this.outcome,
            Err(_) => Outcome::Failed,
        };
        let reply = this.reply.take();
        let reply = reply.expect("a future is not polled after its end");
        in_flight.ended(outcome, this.cache, this.duration);
        if let Some(traced) = this.traced.take() {
            traced.ended(recorded.is_ok());
        }
        recorded?;
        let present = in_flight.present.take();
        let Savings {
            would_have_cost,
            saved,
        } = this.savings;
        if would_have_cost > 0
            && let Some(present) = &present
        {
            present.metrics().saved(would_have_cost, saved);
        }
        Poll::Ready(Ok((reply, present)))
    }
}

/// Calls to Atlas's API, of one lookup.
#[derive(Clone, Copy)]
struct Savings {
    /// What Atlas would have charged the caller.
    would_have_cost: u32,
    /// That without what the lookup has cost Atlas here; never below 0.
    saved: u32,
}

impl Savings {
    /// Of a lookup that ended like this. It is reckoned from what is on record, so that `audit usage` comes
    /// to the same.
    fn of(closing: &Closing<'_>) -> Self {
        let would_have_cost = if closing.outcome == Outcome::Answered {
            would_have_cost(closing.certificates)
        } else {
            0
        };
        let would_have_cost =
            u32::try_from(would_have_cost).expect("a list has fewer than 4,000 million pages");
        Self {
            would_have_cost,
            saved: would_have_cost.saturating_sub(closing.upstream_calls),
        }
    }
}

/// One lookup in flight. Dropped before its end, it was abandoned, and is counted as that.
pub(super) struct InFlightGuard {
    /// `None` once it went with the reply.
    present: Option<Present>,
    /// Where it is counted while its caller is not known, or not yet.
    unverified: Option<LookupMetrics>,
    ended: bool,
    /// It is not counted as a lookup when it ends.
    is_other: bool,
    clock: Clock,
    /// On the clock's [`Moment::elapsed`].
    arrived: Duration,
}

impl InFlightGuard {
    pub(super) fn new(metrics: &LookupMetrics, clock: &Clock, arrived: Moment) -> Self {
        Self {
            clock: clock.clone(),
            arrived: arrived.elapsed,
            present: Some(metrics.request()),
            unverified: None,
            ended: false,
            is_other: false,
        }
    }

    /// Of a question that is not a lookup.
    pub(super) fn uncounted(metrics: &LookupMetrics, clock: &Clock, arrived: Moment) -> Self {
        let mut guard = Self::new(metrics, clock, arrived);
        guard.is_other = true;
        guard
    }

    /// Its caller is not known.
    pub(super) fn unverified(&mut self, metrics: &LookupMetrics) {
        if self.unverified.is_none() {
            metrics.unverified_begins();
            self.unverified = Some(metrics.clone());
        }
    }

    /// Its caller is known by now.
    pub(super) fn verified(&mut self) {
        if let Some(metrics) = self.unverified.take() {
            metrics.unverified_ends();
        }
    }

    fn ended(&mut self, outcome: Outcome, cache: CacheUse, duration: Duration) {
        self.ended = true;
        if let Some(present) = self.present.as_ref().filter(|_| !self.is_other) {
            present.metrics().lookup(outcome, cache, duration);
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.verified();
        if !self.ended {
            let took = self.clock.elapsed().saturating_sub(self.arrived);
            self.ended(Outcome::Abandoned, CacheUse::None, took);
        }
    }
}

/// What the record says of how a lookup ended.
fn closing<'w, R>(
    outcome: &'w Result<Found, Refusal>,
    rendered: &'w Rendered<R>,
    now: Moment,
) -> Closing<'w> {
    let mut closing = Closing {
        status: rendered.status,
        error_code: rendered.error_code.as_deref(),
        certificates: rendered.certificates,
        ..Closing::abandoned(now)
    };
    match outcome {
        Ok(found) => {
            closing.outcome = Outcome::Answered;
            closing.cache = found.status.cache_use();
            if let CacheStatus::Stale(why) = found.status {
                closing.reason = Some(why.word());
            }
            closing.fill_id = Some(found.entry.fill_id().uuid());
            closing.fill_replica = found.entry.cost().replica.as_deref();
            closing.age = Some(found.entry.age(now));
            closing.list = Some(*found.entry.tag(found.as_of.wall).as_bytes());
            closing.upstream_calls = found.upstream_calls;
        }
        Err(refusal) => close_refused(&mut closing, refusal),
    }
    closing
}

/// Adds to a record why there is no answer.
pub(super) fn close_refused<'w>(closing: &mut Closing<'w>, refusal: &'w Refusal) {
    closing.outcome = refusal.outcome();
    match refusal {
        Refusal::Fetch {
            error,
            fill_id,
            status,
            upstream_calls,
        } => {
            closing.reason = error.reason_unsent();
            closing.cache = status.cache_use();
            // Without a call there is no record of a fetch that it could name.
            closing.fill_id = error.was_sent().then(|| fill_id.uuid());
            closing.upstream_calls = *upstream_calls;
        }
        Refusal::Unauthenticated(why) => {
            closing.reason = Some(why.reason());
            closing.claim = why.claim();
        }
        Refusal::Denied(why) => closing.reason = Some(why.reason()),
        Refusal::Overloaded { .. } => closing.reason = Some("shed"),
        Refusal::RateLimited(_) => closing.reason = Some(Staleness::Allowance.word()),
        Refusal::NoInventory { .. }
        | Refusal::NoKeys
        | Refusal::NoToken
        | Refusal::Panicked
        | Refusal::TimedOut
        | Refusal::TooManyRefusals(_) => {}
    }
}
