//! A walk for the cache: asks Atlas, and writes down what came of it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::Instrument;
use tracing::debug;
use tracing::debug_span;
use tracing::warn;

use super::Gateway;
use crate::audit::FetchRecord;
use crate::audit::Outcome;
use crate::audit::RequestId;
use crate::cache::Errand;
use crate::clock::Moment;
use crate::telemetry::Chain;
use crate::telemetry::WalkLabels;
use crate::telemetry::say;
use crate::upstream::FetchError;
use crate::upstream::Fetched;
use crate::upstream::Urgency;
use crate::upstream::Verdict;

impl Gateway {
    /// What makes a walk: asks Atlas, and writes down what came of it.
    ///
    /// `request_id` is that of the lookup that needs it.
    pub(super) fn walk(
        &self,
        request_id: RequestId,
    ) -> impl Fn(Errand) -> BoxFuture<'static, Result<Fetched, FetchError>> + Send + 'static {
        let (upstream, audit, clock) = (
            self.upstream.clone(),
            self.audit.clone(),
            self.clock.clone(),
        );
        move |errand| {
            let (upstream, audit, clock) = (upstream.clone(), audit.clone(), clock.clone());
            let labels = WalkLabels {
                request_id: request_id.uuid(),
                fill_id: errand.fill_id.uuid(),
                urgency: word(errand.urgency),
            };
            // Only for traces.
            let span = debug_span!("walk", fill_id = %errand.fill_id, urgency = ?errand.urgency);
            let walk = async move {
                let fetched = upstream
                    .list_certificates(&errand.question, errand.urgency)
                    .await;
                if let Err(error) = &fetched {
                    match error.verdict() {
                        Verdict::Outage => {
                            say(|| warn!("Atlas could not be asked: {}", Chain(error)));
                        }
                        // Not louder: it is counted, and no failure of Atlas.
                        Verdict::HeldBack(_) => {
                            say(|| debug!("Atlas was not asked: {}", Chain(error)));
                        }
                        Verdict::Denial | Verdict::Missing => {}
                    }
                }
                audit.record_fetch(&fetch_record(&errand, &fetched, clock.now()));
                fetched
            };
            // A walk is some kilobytes: boxed before it is wrapped, it is moved once.
            labels.around(walk.boxed()).instrument(span).boxed()
        }
    }
}

fn word(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::RefreshAhead => "RefreshAhead",
        Urgency::Revalidate => "Revalidate",
        Urgency::Miss => "Miss",
    }
}

fn fetch_record<'a>(
    errand: &'a Errand,
    fetched: &'a Result<Fetched, FetchError>,
    now: Moment,
) -> FetchRecord<'a> {
    let (walk, outcome, certificates, error_code) = match fetched {
        Ok(fetched) => {
            let certificates = u64::try_from(fetched.list.len()).ok();
            (&fetched.walk, Outcome::Answered, certificates, None)
        }
        Err(error) => (&error.walk, Outcome::Failed, None, error.atlas_code()),
    };
    FetchRecord {
        fill_id: errand.fill_id.uuid(),
        question: &errand.question,
        outcome,
        credential: &walk.credential,
        status: walk.status.map(|status| status.as_u16()),
        error_code,
        pages: walk.pages,
        upstream_calls: walk.calls,
        certificates,
        duration: walk.duration,
        now,
    }
}
