//! The cache: one merged, complete, validated list per project and username, and one in-flight fetch per key.
//!
//! Pages, indentation and compression are made from the same [`CacheEntry`], so nothing that a caller sends but
//! project and username can reach the key.
//!
//! - **Freshness is ours** ([`freshness`]). A list is fresh for `ttl` give or take a tenth; one in use is
//!   refreshed ahead of its end (refresh-ahead). Later, Atlas is asked; while it cannot answer, the stale list
//!   is served for `stale_if_error` and not longer (stale-if-error), and such an answer renews nothing. A 401,
//!   403 or 404 is an answer, no outage, and ends the entry.
//! - **A certificate leaves at its `notAfter`** ([`rendered`]), whatever the list's age, without a call.
//! - **Misses of a key are coalesced** (`in_flight`): they share one fetch, which no caller owns.
//! - **Bounded in bytes** (`store`), with a segment of its own for absences (negative caching).
//! - **A purge wins** over a fetch that had already begun (G7).
//! - **A restart goes on** with the lists of the process before (`restored`).
//!
//! How Atlas is asked is the caller's closure; who may ask is said by a [`Permit`], without which nothing is
//! looked up (G9); conditions of HTTP are the server's.

mod cache_status;
mod compressed_forms;
mod config;
mod encoding;
mod entry;
pub(crate) mod explain;
mod fetch_history;
mod fill_id;
pub mod freshness;
mod in_flight;
mod key;
mod lookup;
pub(crate) mod rendered;
mod restored;
mod splice;
mod store;
mod store_updates;
mod tag;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use cache_status::{CacheStatus, CacheStatusHeader, Staleness};
pub use config::Config;
pub use encoding::{Encoding, Text};
pub use entry::CacheEntry;
pub(crate) use entry::WORTH_COMPRESSING;
pub(crate) use explain::Explanation;
pub use fill_id::FillId;
pub(crate) use rendered::Unexpired;
pub use rendered::{Address, Usual};
pub(crate) use restored::RestoredList;
pub(crate) use store::KeyedEntry;
pub use tag::Tag;

use self::freshness::{Freshness, Lifetime};
use self::in_flight::InFlight;
use self::store::Store;
use crate::atlas::{CertQuery, ProjectId};
use crate::memory::Reclaim;
use crate::policy::Permit;
use crate::policy::allowance::Spent;
use crate::system::{Clock, Ids, Moment};
use crate::telemetry::metrics::cache::CacheMetrics;
use crate::upstream::{FetchError, Fetched, Urgency};

/// The cache of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ArcSwap<Config>,
    store: Store,
    in_flight: InFlight,
    ids: Ids,
    clock: Clock,
    metrics: CacheMetrics,
    tasks: TaskTracker,
    /// Whether memory is short.
    saves: AtomicBool,
    /// When the last list arrived, in microseconds of [`Moment::elapsed`]; 0 before the first.
    arrived_at: AtomicU64,
}

/// What a caller brings besides the permit.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// How the caller addressed this gateway.
    pub address: Address<'a>,
    /// Whether an answer from memory will do.
    pub mode: CacheMode,
    /// The time.
    pub now: Moment,
}

/// Whether an answer from memory will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// It will.
    Cached,
    /// Atlas is to be asked, where the permit allows it. A fetch that another caller has forced less than `min_refresh_interval` ago, will do; so at most one per interval is begun.
    ForceRefresh,
}

/// One fetch to be made.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    pub(crate) query: CertQuery,
    /// The id under which the fetch goes on record, and by which every answer that comes of it says so.
    pub(crate) fill_id: FillId,
    pub(crate) urgency: Urgency,
    pub(crate) forced: bool,
    /// Whether the last fetch has failed, so that this one tries each call once.
    pub(crate) after_failure: bool,
}

/// What a fetch has brought.
#[derive(Debug)]
pub struct Brought {
    pub(crate) result: Result<Fetched, FetchError>,
    /// How long ago it has failed, if another replica's fetch has.
    pub(crate) failed_ago: Duration,
    /// An older list, which may be served if Atlas has failed and this replica has none.
    pub(crate) old: Option<Fetched>,
}

impl From<Result<Fetched, FetchError>> for Brought {
    fn from(result: Result<Fetched, FetchError>) -> Self {
        Self {
            result,
            failed_ago: Duration::ZERO,
            old: None,
        }
    }
}

/// A list was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The list.
    pub entry: Arc<CacheEntry>,
    pub(crate) status: CacheStatus,
    /// Calls to Atlas that this answer cost; nothing for followers of another caller's fetch.
    pub(crate) upstream_calls: u32,
    /// When it is given: a certificate that has expired by then is not part of the answer.
    pub(crate) as_of: Moment,
}

/// What a caller is to the fetch that it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The fetch is made because of it: it costs Atlas a call.
    Leader,
    /// It waits for a fetch that is made anyway.
    Follower,
}

/// Why a caller may not join a fetch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// Too much is under way: only hits are answered (load shedding).
    #[error("too many lookups are under way")]
    Overloaded,
    /// It has spent its allowance.
    #[error("the caller may not cost Atlas a call")]
    Spent(#[source] Spent),
}

/// No list was found.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotFound {
    /// Atlas refused or could not be asked, and nothing that is remembered may be served.
    #[error("there is no list")]
    Fetch {
        /// Why.
        #[source]
        error: Arc<FetchError>,
        /// Which fetch brought this.
        fill_id: FillId,
        /// Whose fetch it was.
        status: CacheStatus,
        /// Calls to Atlas that this answer cost.
        upstream_calls: u32,
    },
    /// The caller may not join a fetch now.
    #[error("the caller may not join a fetch")]
    NotAdmitted(#[source] NotAdmitted),
    /// The limit of waiters is reached.
    #[error("too many callers are waiting")]
    TooManyWaiters {
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// The fetch's task ended without a result: a bug, or the process is ending.
    #[error("the fetch ended without a result")]
    FetchDied,
}

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purge {
    /// Everything.
    All,
    /// One list.
    Key(CertQuery),
    /// The lists of one project.
    Project(ProjectId),
}

impl Cache {
    /// An empty cache. Fetches run as `tasks`, so that an orderly end can wait for them.
    pub fn new(config: Config, clock: Clock, metrics: CacheMetrics, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            store: Store::new(config.max_size.0),
            in_flight: InFlight::new(metrics.clone()),
            ids: Ids::default(),
            config: ArcSwap::from_pointee(config),
            clock,
            metrics,
            tasks,
            saves: AtomicBool::new(false),
            arrived_at: AtomicU64::new(0),
        }))
    }

    /// A fresh list, if there is one: no future, no allocation, nothing to wait for. `None` says nothing:
    /// [`Cache::get_or_fetch`] may answer all the same, with a stale list, say.
    pub fn get_cached(&self, permit: &Permit<'_>, ask: Ask<'_>) -> Option<Found> {
        self.0.get_fresh(permit.query(), ask.granted(permit))
    }

    /// The answer from memory, or that of a fetch which `fetch` makes.
    ///
    /// `admit` says whether this caller may wait for a fetch in that [`Role`]; it is asked at most once, and
    /// not at all where the cache has the answer. A caller that is not admitted gets the stale list, if there
    /// is one.
    ///
    /// `fetch` runs in a task of its own, at most once per key at a time, whichever caller leaves. It is called
    /// again where the first fetch cannot serve those who wait: see `in_flight`.
    pub async fn get_or_fetch<F, Fut>(
        &self,
        permit: &Permit<'_>,
        ask: Ask<'_>,
        admit: impl FnOnce(Role) -> Result<(), NotAdmitted>,
        fetch: F,
    ) -> Result<Found, NotFound>
    where
        F: Fn(FetchRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Brought> + 'static> + Send + 'static,
    {
        let ask = ask.granted(permit);
        let fetch = Box::new(move |request| fetch(request).map(Into::into).boxed());
        self.0.get_or_fetch(permit.query(), ask, admit, fetch).await
    }

    /// Whether memory is short: then no list is renewed ahead of time.
    pub(crate) fn save(&self, saves: bool) {
        self.0.saves.store(saves, Ordering::Relaxed);
    }

    /// Forgets, or if `soft` ends the fresh life, so that Atlas is asked anew but what is known may be
    /// served while it cannot answer. Says how many keys that concerned.
    ///
    /// Once this returns no caller is answered from what was known before, and no fetch that had begun
    /// before brings it back (G7). It costs what it purges, which may be a million lists: call it where a
    /// thread may be busy for that long.
    #[cfg(test)]
    pub(crate) fn purge(&self, what: &Purge, soft: bool) -> u64 {
        self.purge_except(what, soft, |_, _| false)
    }

    /// The same, but what belongs to a project and a user of whom `stays` says so is left as it is.
    pub(crate) fn purge_except(
        &self,
        what: &Purge,
        soft: bool,
        stays: impl Fn(&str, &str) -> bool,
    ) -> u64 {
        let concerned = self.0.purge(what, soft, &stays);
        self.0.metrics.purged.inc_by(concerned);
        concerned
    }

    /// Ends the fresh life of a list, unless this fetch has brought it.
    pub(crate) fn mark_changed(&self, query: &CertQuery, fill_id: Uuid) {
        self.0.mark_changed(query, fill_id);
    }

    /// For how long what a fetch brings is fresh, counted from Atlas's answer, and for how long it is kept after
    /// that.
    pub(crate) fn lifetime(&self, fill_id: FillId) -> (Duration, Duration) {
        let config = self.0.config.load();
        (fill_id.lifetime(&config).fresh(), config.stale_if_error)
    }

    /// Until which age a list of another replica's fetch will do for one of this urgency.
    pub(crate) fn longest_age(&self, fill_id: Uuid, urgency: Urgency) -> Duration {
        let lifetime = FillId::from(fill_id).lifetime(&self.0.config.load());
        match urgency {
            Urgency::RefreshAhead => lifetime.due(),
            Urgency::Inventory | Urgency::Miss | Urgency::Revalidate | Urgency::Warm => {
                lifetime.fresh()
            }
        }
    }

    pub(crate) fn negative_ttl(&self) -> Duration {
        self.0.config.load().negative_ttl
    }

    /// How long a list is still fresh at least, when it is refreshed ahead of its end.
    pub(crate) fn left_when_due(&self) -> Duration {
        Lifetime::most_left_when_due(&self.0.config.load())
    }

    /// How often at most a list is fetched because callers force it.
    pub(crate) fn min_refresh_interval(&self) -> Duration {
        self.0.config.load().min_refresh_interval
    }

    /// Everything that is known of a key.
    pub(crate) fn explain(&self, query: &CertQuery, now: Moment) -> Explanation {
        self.0.explain(query, now)
    }

    /// Forgets what may not be served any more. Size alone would displace it only when the memory is
    /// full; called now and then, this keeps the metrics honest and the process small.
    pub(crate) fn sweep(&self, now: Moment) {
        self.0.sweep(now);
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &CacheMetrics {
        &self.0.metrics
    }

    /// Brings the gauges of entries and bytes up to date; for a scrape.
    pub fn measure(&self) {
        let size = self.0.store.size();
        let gauge = |value: u64| i64::try_from(value).expect("a cache is smaller than 8 EiB");
        let metrics = &self.0.metrics;
        metrics.entries.set(gauge(size.lists + size.absences));
        metrics.bytes.set(gauge(size.bytes));
    }

    /// How many lists and absences there are, and how many bytes they take. It may have to wait for a purge.
    pub(crate) fn size(&self) -> (u64, u64) {
        let size = self.0.store.size();
        (size.lists + size.absences, size.bytes)
    }

    /// Takes new settings, which hold for what is fetched from now on; `stale_if_error` and
    /// `min_refresh_interval` hold at once. Another `max_size` needs a restart.
    pub(crate) fn replace_config(&self, config: Config) {
        self.0.config.store(Arc::new(config));
    }
}

impl Reclaim for Cache {
    fn held(&self) -> u64 {
        self.0.store.size().bytes
    }

    fn reclaim(&self, bytes: u64) {
        self.0.store.shrink(bytes);
    }
}

impl Ask<'_> {
    /// A refresh is forced only where a rule grants it.
    fn granted(mut self, permit: &Permit<'_>) -> Self {
        if !permit.may_force_refresh() {
            self.mode = CacheMode::Cached;
        }
        self
    }
}

impl Found {
    /// How long ago Atlas answered with the oldest page.
    pub fn age(&self) -> Duration {
        self.entry.age(self.as_of)
    }

    /// The parameters of `Cache-Status`.
    pub fn header(&self) -> CacheStatusHeader {
        let ttl = self.entry.ttl(self.as_of);
        let header = self.status.header(Some(ttl), self.entry.is_stored());
        header.of_restored(self.entry.is_restored())
    }
}

impl NotAdmitted {
    fn staleness(&self) -> Staleness {
        match self {
            Self::Overloaded => Staleness::Overload,
            Self::Spent(_) => Staleness::Allowance,
        }
    }
}
