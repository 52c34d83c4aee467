//! Lists that outlive the process: those that a snapshot takes, and those that come back from one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;

use super::entry::{Circumstances, EntryMark};
use super::in_flight::FetchOutcome;
use super::key::CacheKey;
use super::store::{KeyedEntry, weight};
use super::{Address, Ask, Brought, Cache, CacheEntry, CacheMode, FetchRequest, FillId, Freshness};
use crate::atlas::CertQuery;
use crate::system::Moment;
use crate::upstream::{Fetched, Verdict};

/// A list of an earlier process.
#[derive(Debug)]
pub(crate) struct RestoredList {
    /// With the time at which Atlas answered, by the clock of this process.
    pub(crate) fetched: Fetched,
    /// The fetch that brought it.
    pub(crate) fill_id: FillId,
    /// Whether its fresh life has ended whatever its age.
    pub(crate) is_stale: bool,
}

/// It is too old to be served, or too large to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotRestorable;

impl Cache {
    /// The lists that may still be served, of at most so many bytes; first those that have been asked for again.
    pub(crate) fn lists(&self, most: u64, now: Moment) -> Vec<KeyedEntry> {
        let stale_if_error = self.0.config.load().stale_if_error;
        let mut lists = self.0.store.lists();
        lists.retain(|(_, entry)| entry.freshness(now, stale_if_error) < Freshness::Dead);
        lists.sort_by_key(|(_, entry)| !entry.has(EntryMark::InUse));
        let mut left = most;
        let weight = |query: &CertQuery, entry: &CacheEntry| {
            u64::from(weight(&CacheKey::of(query), entry.weight()))
        };
        lists.retain(
            |(query, entry)| match left.checked_sub(weight(query, entry)) {
                Some(rest) => {
                    left = rest;
                    true
                }
                None => false,
            },
        );
        lists
    }

    /// Takes a list of an earlier process in, unless this one has fetched it already.
    pub(crate) fn restore(
        &self,
        query: &CertQuery,
        list: RestoredList,
        now: Moment,
    ) -> Result<(), NotRestorable> {
        let config = self.0.config.load();
        let of = Circumstances {
            query,
            // A caller who addresses the gateway otherwise gets another form, as ever.
            address: NO_CALLER,
            fill_id: list.fill_id,
            began: list.fetched.answered_at.elapsed,
            ahead: false,
        };
        let entry = CacheEntry::new(&config, of, list.fetched).map_err(|_| NotRestorable)?;
        entry.mark(EntryMark::Restored);
        if list.is_stale {
            entry.mark(EntryMark::SoftlyPurged);
        }
        if entry.freshness(now, config.stale_if_error) == Freshness::Dead {
            return Err(NotRestorable);
        }
        if !self.0.store.knows(query) {
            self.0.store.put(query, &Arc::new(entry));
            self.0.metrics.restored.inc();
        }
        Ok(())
    }

    /// Fetches a list at the lowest urgency, if it is not fresh, and waits for its end. Says whether a rule of ours
    /// has held the fetch back, or Atlas could not answer: then others of its project will fare no better.
    pub(crate) async fn warm<F, Fut>(&self, query: &CertQuery, fetch: F) -> bool
    where
        F: Fn(FetchRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Brought> + 'static> + Send + 'static,
    {
        let ask = Ask {
            address: NO_CALLER,
            mode: CacheMode::Cached,
            now: self.0.clock.now(),
        };
        let entry = self.0.store.get(query);
        let is_fresh =
            |entry: Arc<CacheEntry>| entry.freshness(ask.now, Duration::ZERO) == Freshness::Fresh;
        if self.0.saves.load(Ordering::Relaxed) || entry.is_some_and(is_fresh) {
            return false;
        }
        let fetch = Box::new(move |request| fetch(request).map(Into::into).boxed());
        let Some(mut waiter) = self.0.warm(query, ask, fetch) else {
            return false;
        };
        let outcome = waiter.outcome().await;
        let verdict = outcome.as_ref().and_then(FetchOutcome::verdict);
        matches!(verdict, Some(Verdict::HeldBack(_) | Verdict::Outage))
    }
}

impl CacheEntry {
    /// Whether a soft purge, or a calendar that ran ahead, has ended its fresh life.
    pub(crate) fn is_softly_purged(&self) -> bool {
        self.has(EntryMark::SoftlyPurged)
    }
}

/// How the gateway is addressed where no caller has.
const NO_CALLER: Address<'_> = Address {
    scheme: "http",
    host: "localhost",
    root: "/api/atlas/v2",
};
