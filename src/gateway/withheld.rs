//! A reply and what came of its question go in; the reply comes out once it is on record.

use std::time::Duration;

use super::Answer;
use super::Gateway;
use super::Refusal;
use super::Written;
use crate::audit::CacheUse;
use crate::audit::Closing;
use crate::audit::Entry;
use crate::audit::Outcome;
use crate::audit::Unrecorded;
use crate::cache::Source;
use crate::clock::Moment;
use crate::telemetry::metrics::lookups::LookupMetrics;
use crate::telemetry::metrics::lookups::Present;

/// A reply that nobody has yet, because it is not on record.
///
/// It holds nothing of the request. So the request can be dropped before the wait for the record, and
/// hyper reads the next head into the same buffer instead of into a new one.
#[must_use = "what is not released was not answered"]
pub struct Withheld<'g, R> {
    pub(super) gateway: &'g Gateway,
    pub(super) written: Written<R>,
    pub(super) outcome: Result<Answer, Refusal>,
    pub(super) entry: Entry,
    pub(super) arrived: Moment,
    pub(super) under_way: UnderWay<'g>,
}

impl<R> Withheld<'_, R> {
    /// Hands the reply out once its record is in the audit trail, and only then.
    pub async fn release(mut self) -> Result<R, Unrecorded> {
        let gateway = self.gateway;
        if matches!(&self.outcome, Err(Refusal::Overloaded { .. })) {
            gateway.metrics.shed();
        }
        let now = self.arrived.at(gateway.clock.elapsed());
        let closing = closing(&self.outcome, &self.written, now);
        let word = closing.cache;
        self.entry.close(closing).await?;
        let duration = now.elapsed.saturating_sub(self.arrived.elapsed);
        let outcome = became(&self.outcome);
        self.under_way.ended(outcome, word, duration);
        if let Ok(answer) = &self.outcome
            && answer.found.upstream_calls == 0
        {
            gateway.metrics.saved(answer.found.entry.walk().calls);
        }
        Ok(self.written.reply)
    }
}

/// One lookup under way. Dropped before its end, it was abandoned, and is counted as that.
pub(super) struct UnderWay<'g> {
    metrics: &'g LookupMetrics,
    pub(super) present: Present,
    ended: bool,
}

impl<'g> UnderWay<'g> {
    pub(super) fn new(metrics: &'g LookupMetrics) -> Self {
        Self {
            metrics,
            present: metrics.request(),
            ended: false,
        }
    }

    fn ended(&mut self, outcome: Outcome, cache: CacheUse, duration: Duration) {
        self.ended = true;
        self.metrics.lookup(outcome.word(), cache.word(), duration);
    }
}

impl Drop for UnderWay<'_> {
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
            closing.fill_id = Some(found.entry.fill_id().uuid());
            closing.age = Some(found.age(now));
            closing.upstream_calls = found.upstream_calls;
        }
        Err(Refusal::Fetch {
            fill_id,
            source,
            upstream_calls,
            ..
        }) => {
            closing.cache = cache_use(*source);
            closing.fill_id = Some(fill_id.uuid());
            closing.upstream_calls = *upstream_calls;
        }
        Err(Refusal::Unauthenticated(why)) => closing.reason = Some(why.reason()),
        Err(Refusal::Denied(why)) => closing.reason = Some(why.reason()),
        Err(Refusal::Overloaded { .. }) => closing.reason = Some("shed"),
        Err(
            Refusal::NoKeys
            | Refusal::NoToken
            | Refusal::Panicked
            | Refusal::RateLimited(_)
            | Refusal::TimedOut,
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
        Source::Negative => CacheUse::Negative,
        Source::Stale(_) => CacheUse::Stale,
    }
}
