//! One lookup in the cache: a fresh list is a hit, an old one may be served while Atlas cannot answer
//! (stale-if-error, stale-while-revalidate), and for any other the caller joins a fetch.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::entry::EntryMark;
use super::freshness::pause_after;
use super::in_flight::{FetchList, FetchOutcome, JoinOutcome, Waiter};
use super::store::Absence;
use super::{
    Ask, CacheEntry, CacheMode, CacheStatus, Found, Freshness, Inner, NotAdmitted, NotFound, Role,
    Staleness,
};
use crate::atlas::CertQuery;
use crate::system::Moment;
use crate::upstream::{Urgency, Verdict};

/// What the cache has for a query.
enum CacheAnswer {
    Final(Result<Found, NotFound>),
    /// The answer, and it is time to refresh it ahead of its end.
    Due(Found),
    /// Nothing that will do. A stale list may be there.
    Miss {
        stale: Option<Arc<CacheEntry>>,
    },
}

impl Inner {
    /// A fresh list that needs no fetch; the whole of what [`super::Cache::get_cached`] does.
    pub(super) fn get_fresh(&self, query: &CertQuery, ask: Ask<'_>) -> Option<Found> {
        if ask.mode == CacheMode::ForceRefresh {
            return None;
        }
        let entry = self.store.get(query)?;
        let is_hit = match entry.freshness(ask.now, Duration::MAX) {
            Freshness::Fresh => true,
            Freshness::Due => !entry.is_due_for_refresh(ask.now),
            Freshness::Stale | Freshness::Dead => false,
        };
        is_hit.then(|| hit(entry, ask.now))
    }

    pub(super) async fn get_or_fetch(
        self: &Arc<Self>,
        query: &CertQuery,
        ask: Ask<'_>,
        admit: impl FnOnce(Role) -> Result<(), NotAdmitted>,
        fetch: FetchList,
    ) -> Result<Found, NotFound> {
        let stale = match self.cached(query, ask) {
            CacheAnswer::Final(answer) => return answer,
            CacheAnswer::Due(found) => {
                if !self.saves.load(Ordering::Relaxed) && found.entry.mark(EntryMark::Refreshing) {
                    self.refresh_ahead(query, ask, fetch);
                }
                return Ok(found);
            }
            CacheAnswer::Miss { stale } => stale,
        };
        let urgency = if stale.is_some() {
            Urgency::Revalidate
        } else {
            Urgency::Miss
        };
        let waiter = match self.join((query, ask), urgency, admit, fetch) {
            JoinOutcome::Answered(answer) => return *answer,
            JoinOutcome::Full => {
                let old = self.stale(query, Staleness::Slow);
                return old.ok_or(NotFound::TooManyWaiters {
                    retry_after: FULL_RETRY_AFTER,
                });
            }
            JoinOutcome::NotAdmitted(why) => {
                let old = self.stale(query, why.staleness());
                return old.ok_or(NotFound::NotAdmitted(why));
            }
            JoinOutcome::Waiter(waiter) => waiter,
        };
        // A caller that forces a refresh waits for it. Any other can fall back on the stale list, so an Atlas
        // that hangs delays it only a little.
        let patience = match (&stale, ask.mode) {
            (Some(stale), CacheMode::Cached) => Some(patience(stale)),
            (None, CacheMode::Cached) | (_, CacheMode::ForceRefresh) => None,
        };
        drop(stale);
        self.wait(query, waiter, ask.mode, patience).await
    }

    /// The answer that the cache has now, if it has one; asked again under the lock of the in-flight fetches,
    /// because a fetch may have ended since.
    pub(super) fn cached_answer(
        &self,
        query: &CertQuery,
        ask: Ask<'_>,
    ) -> Option<Result<Found, NotFound>> {
        match self.cached(query, ask) {
            CacheAnswer::Final(answer) => Some(answer),
            CacheAnswer::Due(_) | CacheAnswer::Miss { .. } => None,
        }
    }

    fn cached(&self, query: &CertQuery, ask: Ask<'_>) -> CacheAnswer {
        let now = ask.now;
        if !self.store.knows(query) {
            return CacheAnswer::Miss { stale: None };
        }
        let Some(entry) = self.store.get(query) else {
            return self.cached_absence(query, ask);
        };
        let forces = ask.mode == CacheMode::ForceRefresh && {
            let interval = self.config.load().min_refresh_interval;
            // Only a forced fetch will do: any other may be from before the change that this caller wants
            // to see.
            let just_forced = entry.has(EntryMark::Forced)
                && now.elapsed.saturating_sub(entry.began()) < interval;
            !just_forced && !entry.failed_within(now, interval)
        };
        if forces {
            return CacheAnswer::Miss { stale: Some(entry) };
        }
        match entry.freshness(now, self.config.load().stale_if_error) {
            Freshness::Due if entry.is_due_for_refresh(now) => CacheAnswer::Due(hit(entry, now)),
            Freshness::Fresh | Freshness::Due => CacheAnswer::Final(Ok(hit(entry, now))),
            Freshness::Stale if entry.waits_after_failure(now) => {
                let why = entry
                    .held_back()
                    .map_or(Staleness::Error, Staleness::HeldBack);
                CacheAnswer::Final(Ok(self.serve_stale(entry, why, now)))
            }
            Freshness::Stale => CacheAnswer::Miss { stale: Some(entry) },
            Freshness::Dead => CacheAnswer::Miss { stale: None },
        }
    }

    fn cached_absence(&self, query: &CertQuery, ask: Ask<'_>) -> CacheAnswer {
        let elapsed = ask.now.elapsed;
        let Some(absence) = self.store.absence(query) else {
            return CacheAnswer::Miss { stale: None };
        };
        let forces = ask.mode == CacheMode::ForceRefresh
            && absence.forced.is_none_or(|forced| {
                elapsed.saturating_sub(forced) >= self.config.load().min_refresh_interval
            });
        if forces || self.left(&absence, ask.now).is_zero() {
            return CacheAnswer::Miss { stale: None };
        }
        CacheAnswer::Final(Err(NotFound::Fetch {
            error: Arc::clone(&absence.error),
            fill_id: absence.fill_id,
            status: absence.status(),
            upstream_calls: 0,
        }))
    }

    /// For how long an absence is believed from `now` on. If Atlas could not be reached, and has brought a
    /// list since, no longer than after a first failure.
    pub(super) fn left(&self, absence: &Absence, now: Moment) -> Duration {
        let arrived = Duration::from_micros(self.arrived_at.load(Ordering::Relaxed));
        let is_over = absence.failures > 0
            && absence.error.is_of_atlas_as_a_whole()
            && arrived > absence.known_at.elapsed;
        let ttl = if is_over {
            absence.ttl.min(pause_after(1))
        } else {
            absence.ttl
        };
        ttl.saturating_sub(now.since(absence.known_at))
    }

    async fn wait(
        &self,
        query: &CertQuery,
        mut waiter: Waiter,
        mode: CacheMode,
        patience: Option<Duration>,
    ) -> Result<Found, NotFound> {
        let (leads, began, urgency) = (waiter.leads, waiter.began, waiter.urgency);
        let outcome = {
            let mut outcome = pin!(waiter.outcome());
            match patience {
                None => outcome.await,
                Some(patience) => {
                    // Counted from the beginning of the fetch: a caller that joins one which has been hanging
                    // for long does not wait at all.
                    let left = (began + patience).saturating_sub(self.clock.elapsed());
                    match self.clock.timeout(left, &mut outcome).await {
                        Ok(outcome) => outcome,
                        Err(_) => match self.stale(query, Staleness::Slow) {
                            Some(found) => return Ok(found),
                            // It was purged, or has died, in the meantime.
                            None => outcome.await,
                        },
                    }
                }
            }
        };
        let status = match (leads, mode, urgency) {
            _ if is_of_another_replica(outcome.as_ref()) => CacheStatus::Fleet,
            (false, _, _) => CacheStatus::Collapsed,
            (true, CacheMode::ForceRefresh, _) => CacheStatus::Forced,
            (true, CacheMode::Cached, Urgency::Miss) => CacheStatus::Miss,
            (
                true,
                CacheMode::Cached,
                Urgency::Revalidate | Urgency::RefreshAhead | Urgency::Inventory | Urgency::Warm,
            ) => CacheStatus::Renewed,
        };
        self.answer(query, outcome, status)
    }

    /// What the outcome means to a caller that waited for it.
    fn answer(
        &self,
        query: &CertQuery,
        outcome: Option<FetchOutcome>,
        status: CacheStatus,
    ) -> Result<Found, NotFound> {
        let cost = |calls: u32| {
            if status == CacheStatus::Collapsed {
                0
            } else {
                calls
            }
        };
        match outcome {
            None => Err(NotFound::FetchDied),
            Some(FetchOutcome::Arrived(entry)) => Ok(Found {
                upstream_calls: cost(entry.cost().calls),
                entry,
                status,
                as_of: self.clock.now(),
            }),
            Some(FetchOutcome::Failed { error, fill_id, .. }) => {
                let calls = cost(error.stats.calls);
                // Looked for again, not remembered from before the wait: it may have been purged.
                let staleness = match error.verdict() {
                    Verdict::HeldBack(why) => Some(Staleness::HeldBack(why)),
                    Verdict::Outage => Some(Staleness::Error),
                    Verdict::Denial | Verdict::Missing => None,
                };
                let old = staleness.and_then(|why| self.stale(query, why));
                if let Some(mut found) = old {
                    found.upstream_calls = calls;
                    return Ok(found);
                }
                Err(NotFound::Fetch {
                    error,
                    fill_id,
                    status,
                    upstream_calls: calls,
                })
            }
        }
    }

    /// What may be served while Atlas cannot answer, or is not asked. That we do not
    /// ask makes no list old: one within its time is a hit like any other.
    fn stale(&self, query: &CertQuery, staleness: Staleness) -> Option<Found> {
        let entry = self.store.get(query)?;
        let stale_if_error = self.config.load().stale_if_error;
        let now = self.clock.now();
        match entry.freshness(now, stale_if_error) {
            // A caller that forced the refresh is told that Atlas failed to say anything newer.
            Freshness::Fresh | Freshness::Due if staleness != Staleness::Error => {
                Some(hit(entry, now))
            }
            Freshness::Fresh | Freshness::Due | Freshness::Stale => {
                Some(self.serve_stale(entry, staleness, now))
            }
            Freshness::Dead => None,
        }
    }

    fn serve_stale(&self, entry: Arc<CacheEntry>, staleness: Staleness, now: Moment) -> Found {
        self.metrics.stale_answer(staleness.word());
        Found {
            entry,
            status: CacheStatus::Stale(staleness),
            upstream_calls: 0,
            as_of: now,
        }
    }
}

fn is_of_another_replica(outcome: Option<&FetchOutcome>) -> bool {
    matches!(outcome, Some(FetchOutcome::Arrived(entry)) if entry.cost().replica.is_some())
}

fn hit(entry: Arc<CacheEntry>, now: Moment) -> Found {
    entry.mark(EntryMark::InUse);
    let status = if entry.has(EntryMark::Ahead) {
        CacheStatus::RefreshedAhead
    } else {
        CacheStatus::Hit
    };
    Found {
        entry,
        status,
        upstream_calls: 0,
        as_of: now,
    }
}

/// How long a caller that could have a stale list waits for Atlas: at first as long as Atlas's first byte may
/// take, and once Atlas has failed, hardly at all.
fn patience(old: &CacheEntry) -> Duration {
    if old.has_failed() {
        Duration::from_millis(100)
    } else {
        Duration::from_secs(3)
    }
}

/// When a caller beyond the limit of waiters may ask again.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(1);
