//! A reply and what came of its question go in; the reply comes out once it is on record.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::Instrument;
use tracing::Span;

use super::Answer;
use super::Gateway;
use super::Lookup;
use super::Refusal;
use super::Step;
use super::Written;
use crate::audit::CacheUse;
use crate::audit::Closing;
use crate::audit::Entry;
use crate::audit::Outcome;
use crate::audit::Ticket;
use crate::audit::Unrecorded;
use crate::cache::Source;
use crate::cache::Staleness;
use crate::clock::Moment;
use crate::telemetry::metrics::lookups::LookupMetrics;
use crate::telemetry::metrics::lookups::Present;

/// A question that is on record as soon as it is answered; dropped before, as abandoned.
pub(super) struct Begun<'l> {
    pub(super) arrived: Moment,
    pub(super) entry: Entry<'l>,
    pub(super) under_way: UnderWay,
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
/// It holds nothing of the request. So the request can be dropped before the wait for the record, and
/// hyper reads the next head into the same buffer instead of into a new one.
#[must_use = "what is not waited for was not answered"]
pub struct Withheld<R> {
    /// `None` once it was handed out.
    reply: Option<R>,
    ticket: Result<Ticket, Unrecorded>,
    under_way: UnderWay,
    outcome: Outcome,
    cache: CacheUse,
    duration: Duration,
    /// The calls to Atlas that a hit has spared.
    saved: u32,
}

impl Begun<'_> {
    /// The same, for when what it was read from is gone.
    pub(super) fn kept(self) -> Begun<'static> {
        Begun {
            arrived: self.arrived,
            entry: self.entry.kept(),
            under_way: self.under_way,
        }
    }

    /// Writes the reply and hands its record in.
    pub(super) fn end<R>(
        self,
        gateway: &Gateway,
        outcome: &Result<Answer, Refusal>,
        write: impl FnOnce(&Result<Answer, Refusal>) -> Written<R>,
    ) -> Withheld<R> {
        let Self {
            arrived,
            entry,
            under_way,
        } = self;
        if let Err(refusal) = outcome {
            refusal.log(entry.request_id());
            gateway.count(refusal);
        }
        let written = write(outcome);
        let now = arrived.at(gateway.clock.elapsed());
        let closing = closing(outcome, &written, now);
        let answer = outcome.as_ref().ok();
        let saver = answer.filter(|answer| answer.found.upstream_calls == 0);
        Withheld {
            ticket: entry.submit(&closing),
            under_way,
            outcome: closing.outcome,
            cache: closing.cache,
            duration: now.elapsed.saturating_sub(arrived.elapsed),
            saved: saver.map_or(0, |answer| answer.found.entry.walk().calls),
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
        write: impl FnOnce(&Result<Answer, Refusal>) -> Written<R>,
    ) -> Withheld<R> {
        let Self {
            mut begun,
            step,
            span,
        } = self;
        let arrived = begun.arrived;
        let found_out = gateway.find_out(step, &mut begun.entry, lookup, arrived);
        // A panic costs its own request an answer of 500, on record like every other.
        let outcome = AssertUnwindSafe(found_out.instrument(span))
            .catch_unwind()
            .await
            .unwrap_or(Err(Refusal::Panicked));
        begun.end(gateway, &outcome, write)
    }
}

impl<R: Unpin> Future for Withheld<R> {
    type Output = Result<R, Unrecorded>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let withheld = self.get_mut();
        let recorded = match &mut withheld.ticket {
            Ok(ticket) => ready!(Pin::new(ticket).poll(context)),
            Err(problem) => Err(*problem),
        };
        let under_way = &mut withheld.under_way;
        let outcome = match recorded {
            Ok(()) => withheld.outcome,
            Err(_) => Outcome::Failed,
        };
        let Some(reply) = withheld.reply.take() else {
            return Poll::Pending;
        };
        under_way.ended(outcome, withheld.cache, withheld.duration);
        recorded?;
        if withheld.saved > 0 {
            under_way.present.metrics().saved(withheld.saved);
        }
        Poll::Ready(Ok(reply))
    }
}

/// One lookup under way. Dropped before its end, it was abandoned, and is counted as that.
pub(super) struct UnderWay {
    pub(super) present: Present,
    ended: bool,
}

impl UnderWay {
    pub(super) fn new(metrics: &LookupMetrics) -> Self {
        Self {
            present: metrics.request(),
            ended: false,
        }
    }

    fn ended(&mut self, outcome: Outcome, cache: CacheUse, duration: Duration) {
        self.ended = true;
        let metrics = self.present.metrics();
        metrics.lookup(outcome.word(), cache.word(), duration);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.ended {
            self.ended(Outcome::Abandoned, CacheUse::None, Duration::ZERO);
        }
    }
}

/// What the record says of how a question ended.
fn closing<'w, R>(
    outcome: &Result<Answer, Refusal>,
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
            closing.upstream_calls = found.upstream_calls;
        }
        Err(Refusal::Fetch {
            error,
            fill_id,
            source,
            upstream_calls,
        }) => {
            closing.reason = error.not_asked();
            closing.cache = cache_use(*source);
            closing.fill_id = Some(fill_id.uuid());
            closing.upstream_calls = *upstream_calls;
        }
        Err(Refusal::Unauthenticated(why)) => closing.reason = Some(why.reason()),
        Err(Refusal::Denied(why)) => closing.reason = Some(why.reason()),
        Err(Refusal::Overloaded { .. }) => closing.reason = Some("shed"),
        Err(Refusal::RateLimited(_)) => closing.reason = Some(Staleness::Allowance.word()),
        Err(Refusal::NoKeys | Refusal::NoToken | Refusal::Panicked | Refusal::TimedOut) => {}
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
        Source::Negative => CacheUse::Negative,
        Source::Stale(_) => CacheUse::Stale,
    }
}
