//! What changes the store: the outcome of a fetch, a purge, another replica's news, and time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::entry::micros;
use super::freshness::pause_after;
use super::in_flight::{FetchOutcome, InFlightFetch};
use super::key::Stays;
use super::store::Absence;
use super::{CacheEntry, Freshness, Inner, Purge};
use crate::atlas::CertQuery;
use crate::system::Moment;
use crate::upstream::Verdict;

impl Inner {
    /// Stores what a fetch brought, or forgets what the fetch has disproved.
    pub(super) fn remember(
        &self,
        query: &CertQuery,
        outcome: &FetchOutcome,
        fetch: &InFlightFetch,
        now: Moment,
    ) {
        let config = self.config.load();
        match outcome {
            FetchOutcome::Arrived(entry) => {
                self.arrived_at
                    .fetch_max(micros(now.elapsed), Ordering::Relaxed);
                self.store.put(query, entry);
            }
            FetchOutcome::Failed {
                error,
                fill_id,
                ago,
                old,
            } => {
                let may_serve = matches!(error.verdict(), Verdict::HeldBack(_) | Verdict::Outage);
                if let (true, Some(old), None) = (may_serve, old, self.store.get(query)) {
                    self.store.put(query, old);
                }
                let known_at = now.before(*ago);
                let absence = |failures, span| Absence {
                    error: Arc::clone(error),
                    fill_id: *fill_id,
                    failures,
                    forced: fetch.is_forced().then_some(fetch.began),
                    known_at,
                    ttl: span,
                };
                match error.verdict() {
                    Verdict::Missing if config.negative_ttl.is_zero() => {
                        self.store.forget(query);
                    }
                    Verdict::Missing => {
                        let absence = absence(0, config.negative_ttl);
                        self.store.put_absence(query, absence);
                    }
                    Verdict::HeldBack(why) => {
                        if let Some(entry) = self.store.get(query) {
                            entry.note_failure(now, Some(why));
                        }
                    }
                    verdict @ (Verdict::Denial | Verdict::Outage) => {
                        if verdict == Verdict::Outage
                            && let Some(entry) = self.living(query, now)
                        {
                            entry.note_failure(now, None);
                        } else if error.stats.calls > 0 {
                            let failures = self.failures(query).saturating_add(1);
                            let absence = absence(failures, pause_after(failures));
                            self.store.put_absence(query, absence);
                        } else if verdict == Verdict::Denial {
                            self.store.forget(query);
                        }
                    }
                }
            }
        }
    }

    /// A list that may still be served.
    fn living(&self, query: &CertQuery, now: Moment) -> Option<Arc<CacheEntry>> {
        let stale_if_error = self.config.load().stale_if_error;
        let entry = self.store.get(query)?;
        (entry.freshness(now, stale_if_error) != Freshness::Dead).then_some(entry)
    }

    /// How often in a row a list that is not stored could not be had.
    fn failures(&self, query: &CertQuery) -> u8 {
        self.store
            .absence(query)
            .map_or(0, |absence| absence.failures)
    }

    /// Whether the last fetch of a list has failed, so that the next one tries each call once.
    pub(super) fn has_failed(&self, query: &CertQuery) -> bool {
        self.failures(query) > 0
            || self
                .store
                .get(query)
                .is_some_and(|entry| entry.has_failed())
    }

    pub(super) fn purge(&self, what: &Purge, soft: bool, stays: &Stays<'_>) -> u64 {
        // First the fetches under way, then the store: one that ends in between is invalidated already.
        self.in_flight.invalidate(what, soft, stays);
        match what {
            Purge::All => self.store.purge(None, soft, stays),
            Purge::Project(project) => self.store.purge(Some(*project), soft, stays),
            Purge::Key(query) if soft => self.store.mark_stale(query).into(),
            Purge::Key(query) => self.store.forget(query).into(),
        }
    }

    pub(super) fn mark_changed(&self, query: &CertQuery, fill_id: Uuid) {
        let is_older = |entry: Arc<CacheEntry>| entry.fill_id().uuid() != fill_id;
        if self.store.get(query).is_some_and(is_older) {
            self.store.mark_stale(query);
        } else if self.store.absence(query).is_some() {
            self.store.forget(query);
        }
    }

    pub(super) fn sweep(&self, now: Moment) {
        let stale_if_error = self.config.load().stale_if_error;
        self.store.sweep(
            |entry| entry.freshness(now, stale_if_error) == Freshness::Dead,
            // Remembered for a while longer, a failure makes the next pause longer.
            |absence| {
                let kept = match absence.failures {
                    0 => absence.ttl,
                    _ => 3 * absence.ttl,
                };
                now.since(absence.known_at) >= kept
            },
        );
    }
}
