//! A fetch of a fleet: the list of another replica, or a fetch under a lease, whose list the others adopt.
//!
//! Where the fleet's engine cannot be asked, the list is fetched as if there were no fleet.

use std::time::Duration;

use super::shared_list::{self, SharedOutcome};
use crate::cache::{Brought, Cache, FetchRequest};
use crate::fleet::{Fleet, Lease, ListAnswer, SharedEntry, Wanted};
use crate::system::{Clock, Moment};
use crate::telemetry::metrics::fleet::{FleetRejection, ListSource};
use crate::upstream::{FetchError, Fetched, Urgency, Verdict};

#[derive(Clone)]
pub(super) struct FleetFetch {
    pub(super) fleet: Fleet,
    pub(super) cache: Cache,
    pub(super) clock: Clock,
}

/// What a fetch of this replica has brought, and whether the others have an older list.
pub(super) struct OwnFetch {
    pub(super) result: Result<Fetched, FetchError>,
    /// Whether Atlas has another list than the last one that this replica knows of.
    pub(super) has_changed: bool,
}

impl FleetFetch {
    /// The list for `request`: another replica's, or that of `fetch`, which asks Atlas.
    pub(super) async fn bring(
        &self,
        request: &FetchRequest,
        fetch: impl Future<Output = OwnFetch>,
    ) -> Brought {
        let metrics = self.fleet.metrics();
        let wanted = self.wanted(request);
        let (lease, old) = match self.fleet.open_list(&request.query, wanted).await {
            ListAnswer::Found { entry, has_waited } => match self.adopt(request, &entry) {
                Some(adopted) if self.is_young_enough(request, &adopted) => {
                    metrics.list(if has_waited {
                        ListSource::Waited
                    } else {
                        ListSource::Adopted
                    });
                    return adopted.into();
                }
                // Nothing in it can be believed, or not its age; what is fetched now is this replica's alone.
                Some(_) | None => (None, None),
            },
            ListAnswer::Failed(failure) => {
                let entry = SharedEntry {
                    text: failure,
                    age: Duration::ZERO,
                };
                match self.adopt(request, &entry) {
                    Some(adopted) => {
                        metrics.list(ListSource::Waited);
                        return adopted.into();
                    }
                    None => (None, None),
                }
            }
            ListAnswer::Lease { lease, old } => (Some(lease), old),
            ListAnswer::Alone => (None, None),
        };
        let Some(lease) = lease else {
            metrics.list(ListSource::Alone);
            return fetch.await.result.into();
        };
        metrics.list(ListSource::Led);
        let old = old.and_then(|entry| self.adopt(request, &entry)?.result.ok());
        let OwnFetch {
            result,
            has_changed,
        } = lease.keep(fetch).await;
        let is_stored = self.share(request, lease, &result).await;
        if is_stored && (has_changed || request.forced) {
            self.fleet
                .tell_changed(&request.query, request.fill_id.uuid())
                .await;
        }
        Brought {
            result,
            failed_ago: Duration::ZERO,
            old,
        }
    }

    fn wanted(&self, request: &FetchRequest) -> Wanted {
        match request.urgency {
            _ if request.forced => Wanted::Forced(self.cache.min_refresh_interval()),
            // The list that is to be renewed will not do.
            Urgency::RefreshAhead => Wanted::Fresh(self.cache.left_when_due()),
            Urgency::Inventory | Urgency::Miss | Urgency::Revalidate | Urgency::Warm => {
                Wanted::Fresh(Duration::ZERO)
            }
        }
    }

    /// Whether a list is as fresh by our clock as it is by the engine's. One that is not would be asked for again
    /// at once.
    fn is_young_enough(&self, request: &FetchRequest, outcome: &SharedOutcome) -> bool {
        let Ok(Fetched {
            shared: Some(shared),
            ..
        }) = &outcome.result
        else {
            return true;
        };
        let longest = self.cache.longest_age(shared.fill_id, request.urgency);
        request.forced || outcome.age < longest
    }

    /// What another replica has left, if it can be believed.
    fn adopt(&self, request: &FetchRequest, entry: &SharedEntry) -> Option<SharedOutcome> {
        let now = self.clock.now();
        let outcome = shared_list::read(&entry.text, &request.query, entry.age, now);
        if outcome.is_none() {
            self.fleet.metrics().rejected(FleetRejection::Content);
        }
        outcome
    }

    /// Shares what a fetch under a lease has brought. Says whether the others have a list of it.
    async fn share(
        &self,
        request: &FetchRequest,
        lease: Lease,
        result: &Result<Fetched, FetchError>,
    ) -> bool {
        let now = self.clock.now();
        let fill_id = request.fill_id;
        let text = shared_list::write(result, fill_id.uuid(), self.fleet.replica(), now);
        let kept = self.kept(request, result, now);
        match (text, kept) {
            (Some(text), Some((fresh, keep))) => lease.store(text, fresh, keep).await,
            (text, _) => {
                lease.fail(text).await;
                false
            }
        }
    }

    /// For how long an outcome is fresh, and is kept, at every replica; `None` for a failure, which only those get
    /// who wait for it.
    fn kept(
        &self,
        request: &FetchRequest,
        result: &Result<Fetched, FetchError>,
        now: Moment,
    ) -> Option<(Duration, Duration)> {
        match result {
            Ok(fetched) => {
                let (fresh, stale) = self.cache.lifetime(request.fill_id);
                let fresh = fresh.saturating_sub(now.since(fetched.answered_at));
                Some((fresh, fresh.saturating_add(stale.min(LONGEST_STALE))))
            }
            Err(error) if error.verdict() == Verdict::Missing => {
                let ttl = self.cache.negative_ttl();
                Some((ttl, ttl))
            }
            Err(_) => None,
        }
    }
}

impl From<SharedOutcome> for Brought {
    fn from(SharedOutcome { result, age }: SharedOutcome) -> Self {
        Self {
            result,
            failed_ago: age,
            old: None,
        }
    }
}

/// How long a list is kept at most for the time when Atlas cannot answer.
const LONGEST_STALE: Duration = Duration::from_hours(24);
