//! A reply and what came of its question go in; the reply comes out once it is on record.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use tracing::{Instrument, Span};

use super::savings::Savings;
use super::{Answer, Gateway, Lookup, OVERLOAD_PAUSE, Refusal, Step, Written};
use crate::audit::{CacheUse, Closing, Entry, Outcome, Refused, Ticket, Unrecorded};
use crate::cache::{Source, Staleness};
use crate::clock::{Clock, Moment};
use crate::telemetry::metrics::lookups::{LookupMetrics, Present};
use crate::telemetry::traces::{End, Traced};

/// A question that is on record as soon as it is answered; dropped before, as abandoned.
pub(super) struct Begun<'l> {
    pub(super) arrived: Moment,
    pub(super) entry: Entry<'l>,
    pub(super) in_flight: InFlightGuard,
    pub(super) traced: Option<Box<Traced>>,
}

/// A question that memory alone cannot answer.
#[must_use = "what nobody waits for was abandoned"]
pub struct Unanswered {
    pub(super) begun: Begun<'static>,
    pub(super) step: Step,
    pub(super) span: Span,
}

/// A reply that nobody has yet: it comes out once its record is in the audit trail, and only then.
///
/// With it comes what counts the request as one under way, which it is until its reply has left.
///
/// It holds nothing of the request. So the request can be dropped before the wait for the record, and
/// hyper reads the next head into the same buffer instead of into a new one.
#[must_use = "what is not waited for was not answered"]
pub struct AwaitingRecord<R> {
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

impl Begun<'_> {
    /// The same, for when what it was read from is gone.
    pub(super) fn into_owned(self) -> Begun<'static> {
        Begun {
            arrived: self.arrived,
            entry: self.entry.into_owned(),
            in_flight: self.in_flight,
            traced: self.traced,
        }
    }

    /// Writes the reply and hands its record in.
    pub(super) fn end<R>(
        self,
        gateway: &Gateway,
        outcome: &Result<Answer, Refusal>,
        write: impl Fn(&Result<Answer, Refusal>) -> Written<R>,
    ) -> AwaitingRecord<R> {
        let Self {
            arrived,
            mut entry,
            in_flight,
            mut traced,
        } = self;
        let mut written = write(outcome);
        let shed = written.is_shed.then_some(Err(Refusal::Overloaded {
            retry_after: OVERLOAD_PAUSE,
        }));
        let outcome = shed.as_ref().unwrap_or(outcome);
        let now = arrived.at(gateway.clock.elapsed());
        let closing = closing(outcome, &written, now);
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
        let ticket = match refused {
            Refused::OnItsOwn => entry.submit(&closing).map(Some),
            Refused::Folded => Ok(None),
            Refused::TooMany(refusals) => {
                written = write(&Err(Refusal::TooManyRefusals(refusals)));
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
            reply: Some(written.reply),
        }
    }
}

impl Unanswered {
    /// Answers it, however long that takes. `gateway` and `lookup` are those that could not answer it at
    /// once.
    pub async fn answer<R>(
        self,
        gateway: &Gateway,
        lookup: &Lookup<'_>,
        write: impl Fn(&Result<Answer, Refusal>) -> Written<R>,
    ) -> AwaitingRecord<R> {
        let Self {
            mut begun,
            step,
            span,
        } = self;
        let found_out = gateway.find_out(step, &mut begun, lookup);
        // A panic costs its own request an answer of 500, on record like every other.
        let outcome = AssertUnwindSafe(found_out.instrument(span))
            .catch_unwind()
            .await
            .unwrap_or(Err(Refusal::Panicked));
        begun.end(gateway, &outcome, write)
    }
}

impl<R: Unpin> Future for AwaitingRecord<R> {
    type Output = Result<(R, Option<Present>), Unrecorded>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let withheld = self.get_mut();
        let recorded = match &mut withheld.ticket {
            Ok(Some(ticket)) => ready!(Pin::new(ticket).poll(context)),
            Ok(None) => Ok(()),
            Err(problem) => Err(*problem),
        };
        let in_flight = &mut withheld.in_flight;
        let outcome = match recorded {
            Ok(()) => withheld.outcome,
            Err(_) => Outcome::Failed,
        };
        let Some(reply) = withheld.reply.take() else {
            return Poll::Pending;
        };
        in_flight.ended(outcome, withheld.cache, withheld.duration);
        if let Some(traced) = withheld.traced.take() {
            traced.ended(recorded.is_ok());
        }
        recorded?;
        let present = in_flight.present.take();
        let Savings {
            would_have_cost,
            saved,
        } = withheld.savings;
        if would_have_cost > 0
            && let Some(present) = &present
        {
            present.metrics().saved(would_have_cost, saved);
        }
        Poll::Ready(Ok((reply, present)))
    }
}

/// One lookup under way. Dropped before its end, it was abandoned, and is counted as that.
pub(super) struct InFlightGuard {
    /// `None` once it went with the reply.
    present: Option<Present>,
    /// Its caller is not known, or not yet; who counts that.
    unverified: Option<LookupMetrics>,
    ended: bool,
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
        }
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
        let Some(present) = &self.present else { return };
        let metrics = present.metrics();
        metrics.lookup(outcome.word(), cache.word(), duration);
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

/// What the record says of how a question ended.
fn closing<'w, R>(
    outcome: &'w Result<Answer, Refusal>,
    written: &'w Written<R>,
    now: Moment,
) -> Closing<'w> {
    let mut closing = Closing {
        outcome: became(outcome),
        status: written.status,
        error_code: written.error_code.as_deref(),
        certificates: written.certificates,
        ..Closing::abandoned(now)
    };
    match outcome {
        Ok(answer) => {
            let found = &answer.found;
            closing.cache = cache_use(found.source);
            if let Source::Stale(why) = found.source {
                closing.reason = Some(why.word());
            }
            closing.fill_id = Some(found.entry.fill_id().uuid());
            closing.age = Some(found.age(now));
            closing.list = Some(*found.entry.tag(answer.now.wall).as_bytes());
            closing.upstream_calls = found.upstream_calls;
        }
        Err(Refusal::Fetch {
            error,
            fill_id,
            source,
            upstream_calls,
        }) => {
            closing.reason = error.reason_unsent();
            closing.cache = cache_use(*source);
            // Without a call there is no record of a fetch that it could name.
            closing.fill_id = error.was_sent().then(|| fill_id.uuid());
            closing.upstream_calls = *upstream_calls;
        }
        Err(Refusal::Unauthenticated(why)) => {
            closing.reason = Some(why.reason());
            closing.claim = why.claim();
        }
        Err(Refusal::Denied(why)) => closing.reason = Some(why.reason()),
        Err(Refusal::Overloaded { .. }) => closing.reason = Some("shed"),
        Err(Refusal::RateLimited(_)) => closing.reason = Some(Staleness::Allowance.word()),
        Err(
            Refusal::NoKeys
            | Refusal::NoToken
            | Refusal::Panicked
            | Refusal::TimedOut
            | Refusal::TooManyRefusals(_),
        ) => {}
    }
    closing
}

fn became(outcome: &Result<Answer, Refusal>) -> Outcome {
    outcome
        .as_ref()
        .err()
        .map_or(Outcome::Answered, Refusal::outcome)
}

fn cache_use(source: Source) -> CacheUse {
    match source {
        Source::Collapsed => CacheUse::Collapsed,
        Source::Hit | Source::RefreshedAhead => CacheUse::Hit,
        Source::Forced | Source::Miss | Source::Renewed => CacheUse::Miss,
        Source::Failed | Source::Negative => CacheUse::Negative,
        Source::Stale(_) => CacheUse::Stale,
    }
}
