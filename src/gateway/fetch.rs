//! A fetch for the cache: asks Atlas, and writes down what came of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::instrument::Instrumented;
use tracing::{Instrument, debug, info, info_span, warn};

use super::Gateway;
use super::fleet_fetch::{FleetFetch, OwnFetch};
use super::outage::Outage;
use crate::audit::{FetchRecord, Outcome, RequestId};
use crate::cache::{Brought, FetchRequest};
use crate::fleet::Fleet;
use crate::insight::Changes;
use crate::system::Moment;
use crate::telemetry::metrics::insight::CertificateChange;
use crate::telemetry::{Chain, Tally};
use crate::upstream::{FetchError, FetchOptions, Fetched, Verdict};

type TracedFetch = Instrumented<BoxFuture<'static, Brought>>;

impl Gateway {
    /// What the cache fetches by; `request_id` is that of the lookup that needs it.
    pub(super) fn fetch(
        &self,
        request_id: RequestId,
    ) -> impl Fn(FetchRequest) -> TracedFetch + Send + Sync + 'static {
        let (upstream, audit, clock) = (
            self.upstream.clone(),
            self.audit.clone(),
            self.clock.clone(),
        );
        let (repeats, known_lists) = (Arc::clone(&self.repeats), self.known_lists.clone());
        let fleet = self.fleet.clone().filter(Fleet::shares_lists);
        let fleet = fleet.map(|fleet| FleetFetch {
            fleet,
            cache: self.cache.clone(),
            clock: self.clock.clone(),
        });
        move |request| {
            let (upstream, audit, clock) = (upstream.clone(), audit.clone(), clock.clone());
            let (repeats, known_lists) = (Arc::clone(&repeats), known_lists.clone());
            let fleet = fleet.clone();
            let (fill_id, urgency) = (request.fill_id, request.urgency);
            let (known, at) = (known_lists.clone(), clock.clone());
            let span = info_span!("fetch", %request_id, %fill_id, ?urgency);
            let own = move |request: FetchRequest| async move {
                let options = FetchOptions {
                    urgency,
                    forced: request.forced,
                    retries: !request.after_failure,
                };
                let fetched = upstream.fetch(&request.query, options).await;
                let now = clock.now();
                repeats.outage.log(&request, &fetched, now.elapsed);
                // Where nothing was sent there is nothing to tell; the lookup's record says why.
                let mut has_changed = false;
                if fetched.as_ref().err().is_none_or(FetchError::was_sent) {
                    let changes = known_lists.compare(&request, &fetched, now);
                    audit.record_fetch(&fetch_record(&request, &fetched, &changes, now));
                    has_changed = changes.is_any();
                    if has_changed {
                        let (metrics, serials) = (known_lists.metrics(), &changes.serials);
                        metrics.changed(CertificateChange::Appeared, serials.appeared.len());
                        metrics.changed(CertificateChange::Vanished, serials.vanished.len());
                    }
                }
                OwnFetch {
                    result: fetched,
                    has_changed,
                }
            };
            let fetch = async move {
                let Some(fleet) = fleet else {
                    return own(request).await.result.into();
                };
                let brought = fleet.bring(&request, own(request.clone()).boxed()).await;
                if let Ok(Fetched {
                    shared: Some(_), ..
                }) = &brought.result
                {
                    // Its changes are on record where it was fetched.
                    known.compare(&request, &brought.result, at.now());
                }
                brought
            };
            // A fetch is some kilobytes: boxed before it is wrapped, it is moved once.
            fetch.boxed().instrument(span)
        }
    }
}

impl Outage {
    /// Says what a fetch has to tell of Atlas: that it is out, for how long, and that it is back.
    fn log(&self, request: &FetchRequest, fetched: &Result<Fetched, FetchError>, now: Duration) {
        let project = request.query.project;
        match fetched {
            Err(error) if error.verdict() == Verdict::Outage => {
                if let Some(Tally { times, .. }) = self.failed(project, now) {
                    warn!(%project, times, "Atlas could not be asked: {}", Chain(error));
                }
            }
            Err(error) if matches!(error.verdict(), Verdict::HeldBack(_)) => {
                // Not louder: it is counted, and no failure of Atlas, nor an answer.
                debug!("Atlas was not asked: {}", Chain(error));
            }
            Ok(_) | Err(_) => {
                if let Some(Tally { times, span }) = self.answered(&project, now) {
                    let seconds = span.as_secs();
                    info!(
                        times,
                        seconds, "Atlas answers again, after {times} failures in {seconds} s"
                    );
                }
            }
        }
    }
}

fn fetch_record<'a>(
    request: &'a FetchRequest,
    fetched: &'a Result<Fetched, FetchError>,
    changes: &'a Changes,
    now: Moment,
) -> FetchRecord<'a> {
    let (stats, outcome, certificates, error_code) = match fetched {
        Ok(fetched) => {
            let certificates = u64::try_from(fetched.list.len()).ok();
            (&fetched.stats, Outcome::Answered, certificates, None)
        }
        Err(error) => (&error.stats, Outcome::Failed, None, error.atlas_code()),
    };
    FetchRecord {
        fill_id: request.fill_id.uuid(),
        query: &request.query,
        outcome,
        credential: &stats.credential,
        status: stats.status.map(|status| status.as_u16()),
        error_code,
        pages: stats.pages,
        upstream_calls: stats.calls,
        certificates,
        list: changes.list,
        before: changes.before,
        appeared: &changes.serials.appeared,
        vanished: &changes.serials.vanished,
        expired: &changes.serials.expired,
        duration: stats.duration,
        now,
    }
}
