//! In-flight fetches, one per key (request coalescing, "singleflight").
//!
//! The first caller that misses a list is the leader: it spawns the fetch, and followers wait for the same one.
//! The task belongs to no caller, so that one that leaves takes nothing from the others. It fetches once, and
//! again only where that fetch cannot serve those who still wait:
//!
//! - a purge came while it was under way, so it may have read what was to be forgotten (G7);
//! - a caller forced a refresh after it had begun;
//! - it was a refresh ahead, held back for its low urgency, and a caller has come to wait for it.
//!
//! Each fetch of a task has a number, its generation; a waiter names the first one that will do.

mod task;
mod waiter;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use tokio::sync::watch;
use tracing::Instrument;

use self::task::{FetchTask, NextFetch};
use self::waiter::Waiters;
use super::entry::EntryMark;
use super::key::Stays;
use super::{Ask, CacheEntry, CacheMode, FillId, Found, Inner, NotAdmitted, NotFound, Purge, Role};
use crate::atlas::CertQuery;
use crate::telemetry::metrics::cache::CacheMetrics;
use crate::upstream::{FetchError, Urgency, Verdict};

pub(super) use self::task::FetchList;
pub(super) use self::waiter::Waiter;

/// The fetches under way, by what they fetch.
#[derive(Debug)]
pub(super) struct InFlight {
    table: Mutex<InFlightTable>,
    metrics: CacheMetrics,
}

type InFlightTable = HashMap<CertQuery, InFlightFetch, RandomState>;

#[derive(Debug)]
pub(super) struct InFlightFetch {
    /// The number of the fetch under way, and when it began.
    generation: u32,
    pub(super) began: Duration,
    /// How urgent it is, and how urgent it is to those who wait.
    urgency: Urgency,
    needed: Urgency,
    /// The last generation that a caller waits for, and the last one that a caller has forced.
    required_generation: u32,
    forced_at: u32,
    /// The generation under way at the last purge, and at the last soft purge.
    invalidated_at: u32,
    stale_at: u32,
    waiters: Arc<Waiters>,
    progress: watch::Receiver<FetchProgress>,
}

/// What a task has brought so far.
#[derive(Clone, Debug, Default)]
struct FetchProgress {
    generation: u32,
    outcome: Option<FetchOutcome>,
    /// Whether another fetch is made for the followers.
    repeated: bool,
}

#[derive(Clone, Debug)]
pub(super) enum FetchOutcome {
    Arrived(Arc<CacheEntry>),
    Failed {
        error: Arc<FetchError>,
        fill_id: FillId,
        /// How long ago, if another replica's fetch has.
        ago: Duration,
        /// A list of before, which another replica has left.
        old: Option<Arc<CacheEntry>>,
    },
}

pub(super) enum JoinOutcome {
    /// The answer had come meanwhile.
    Answered(Box<Result<Found, NotFound>>),
    Full,
    /// The caller that would cause the fetch may not.
    NotAdmitted(NotAdmitted),
    Waiter(Waiter),
}

impl InFlight {
    pub(super) fn new(metrics: CacheMetrics) -> Self {
        Self {
            table: Mutex::default(),
            metrics,
        }
    }

    /// Notes that what the fetches under way bring has been purged.
    pub(super) fn invalidate(&self, what: &Purge, soft: bool, stays: &Stays<'_>) {
        for (query, fetch) in &mut *self.lock() {
            let concerned = match what {
                Purge::All => true,
                Purge::Key(key) => query == key,
                Purge::Project(project) => query.project == *project,
            };
            let concerned = concerned && !stays(query.project.as_str(), query.username.as_str());
            if concerned && soft {
                fetch.stale_at = fetch.generation;
            } else if concerned {
                fetch.invalidated_at = fetch.generation;
            }
        }
    }

    /// The fetch under way for a key: its generation, when it began, and how many wait for it.
    pub(super) fn under_way(&self, query: &CertQuery) -> Option<(u32, Duration, usize)> {
        let table = self.lock();
        let fetch = table.get(query)?;
        Some((fetch.generation, fetch.began, fetch.waiters.count()))
    }

    fn lock(&self) -> MutexGuard<'_, InFlightTable> {
        // Nothing in here panics half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self, waiters_of_key: usize) -> bool {
        let full =
            self.metrics.waiters.get() >= MOST_WAITERS || waiters_of_key >= MOST_WAITERS_PER_KEY;
        if full {
            self.metrics.waiters_refused.inc();
        }
        full
    }
}

impl Inner {
    /// Joins the fetch of `query`; begins one if there is none, and if the caller may cause one.
    pub(super) fn join(
        self: &Arc<Self>,
        (query, ask): (&CertQuery, Ask<'_>),
        urgency: Urgency,
        admit: impl FnOnce(Role) -> Result<(), NotAdmitted>,
        fetch_list: FetchList,
    ) -> JoinOutcome {
        let mut table = self.in_flight.lock();
        if let Some(fetch) = table.get_mut(query) {
            return self.follow(fetch, ask, urgency, admit);
        }
        // A fetch may have ended since the cache was asked.
        if let Some(answer) = self.cached_answer(query, ask) {
            return JoinOutcome::Answered(Box::new(answer));
        }
        if self.in_flight.is_full(0) {
            return JoinOutcome::Full;
        }
        // Only now it is known which caller leads.
        if let Err(why) = admit(Role::Leader) {
            return JoinOutcome::NotAdmitted(why);
        }
        let forced = ask.mode == CacheMode::ForceRefresh;
        if forced {
            self.metrics.refreshes_forced.inc();
        }
        let begun = InFlightFetch::new(ask.now.elapsed, urgency, forced);
        let waiter = Waiter::new(&begun.0, 1, true, &self.metrics.waiters);
        self.begin(table, (query, ask), begun, fetch_list);
        JoinOutcome::Waiter(waiter)
    }

    fn follow(
        &self,
        fetch: &mut InFlightFetch,
        ask: Ask<'_>,
        urgency: Urgency,
        admit: impl FnOnce(Role) -> Result<(), NotAdmitted>,
    ) -> JoinOutcome {
        if self.in_flight.is_full(fetch.waiters.count()) {
            return JoinOutcome::Full;
        }
        let interval = self.config.load().min_refresh_interval;
        // A fetch that another caller has just forced will do.
        let just_begun = ask.now.elapsed.saturating_sub(fetch.began) < interval;
        let forces = ask.mode == CacheMode::ForceRefresh && !(fetch.is_forced() && just_begun);
        let adds_a_fetch = forces && fetch.required_generation <= fetch.generation;
        let role = if adds_a_fetch {
            Role::Leader
        } else {
            Role::Follower
        };
        if let Err(why) = admit(role) {
            return JoinOutcome::NotAdmitted(why);
        }
        let (required_generation, leads) = fetch.require(forces, urgency);
        if leads {
            self.metrics.refreshes_forced.inc();
        }
        let gauge = &self.metrics.waiters;
        JoinOutcome::Waiter(Waiter::new(fetch, required_generation, leads, gauge))
    }

    /// Begins a fetch that no caller waits for (refresh-ahead), unless one is under way.
    pub(super) fn refresh_ahead(
        self: &Arc<Self>,
        query: &CertQuery,
        ask: Ask<'_>,
        fetch_list: FetchList,
    ) {
        let table = self.in_flight.lock();
        if table.contains_key(query) {
            return;
        }
        self.metrics.refreshes_ahead.inc();
        let begun = InFlightFetch::new(ask.now.elapsed, Urgency::RefreshAhead, false);
        self.begin(table, (query, ask), begun, fetch_list);
    }

    /// Begins a fetch that no caller waits for, to have its list in memory, unless one is under way. The waiter says
    /// when it has ended.
    pub(super) fn warm(
        self: &Arc<Self>,
        query: &CertQuery,
        ask: Ask<'_>,
        fetch_list: FetchList,
    ) -> Option<Waiter> {
        let table = self.in_flight.lock();
        if table.contains_key(query) {
            return None;
        }
        let begun = InFlightFetch::new(ask.now.elapsed, Urgency::Warm, false);
        let waiter = Waiter::new(&begun.0, 1, true, &self.metrics.waiters);
        self.begin(table, (query, ask), begun, fetch_list);
        Some(waiter)
    }

    fn begin(
        self: &Arc<Self>,
        mut table: MutexGuard<'_, InFlightTable>,
        (query, ask): (&CertQuery, Ask<'_>),
        (fetch, progress): (InFlightFetch, watch::Sender<FetchProgress>),
        fetch_list: FetchList,
    ) {
        let next = fetch.next();
        table.insert(query.clone(), fetch);
        // A task that is never run locks the table again.
        drop(table);
        let task = FetchTask::new(self, (query, ask), next, progress);
        self.tasks.spawn(task.run(fetch_list).in_current_span());
    }

    /// Stores the outcome of a fetch and tells those who wait. Returns the next fetch, if one is to be made.
    fn finish(
        &self,
        query: &CertQuery,
        outcome: FetchOutcome,
        progress: &watch::Sender<FetchProgress>,
    ) -> Option<NextFetch> {
        let now = self.clock.now();
        let mut table = self.in_flight.lock();
        let fetch = table.get_mut(query)?;
        let is_awaited = fetch.waiters.count() > 0;
        if fetch.invalidated_at >= fetch.generation && !outcome.is_outage() {
            // What Atlas said before the purge is told to no one.
            if is_awaited {
                return Some(fetch.fetch_again(now.elapsed));
            }
            table.remove(query);
            return None;
        }
        if let (FetchOutcome::Arrived(entry), true) = (&outcome, fetch.is_forced()) {
            entry.mark(EntryMark::Forced);
        }
        self.remember(query, &outcome, fetch, now);
        if fetch.stale_at >= fetch.generation {
            // As if it had ended before the purge.
            self.store.mark_stale(query);
        }
        let brought = FetchProgress {
            generation: fetch.generation,
            repeated: fetch.is_repeated(&outcome),
            outcome: Some(outcome),
        };
        let is_required = fetch.required_generation > fetch.generation && is_awaited;
        let next = if brought.repeated || is_required {
            Some(fetch.fetch_again(now.elapsed))
        } else {
            table.remove(query);
            None
        };
        // A caller that joins from here on finds the list stored, or a fetch of the next generation.
        drop(table);
        progress.send_replace(brought);
        next
    }
}

impl InFlightFetch {
    fn new(
        began: Duration,
        urgency: Urgency,
        forced: bool,
    ) -> (Self, watch::Sender<FetchProgress>) {
        let (sender, progress) = watch::channel(FetchProgress::default());
        let fetch = Self {
            generation: 1,
            began,
            urgency,
            needed: urgency,
            required_generation: 1,
            forced_at: u32::from(forced),
            invalidated_at: 0,
            stale_at: 0,
            waiters: Arc::default(),
            progress,
        };
        (fetch, sender)
    }

    pub(super) fn is_forced(&self) -> bool {
        self.forced_at == self.generation
    }

    /// The generation that serves another caller, and whether that caller causes it.
    fn require(&mut self, forces: bool, urgency: Urgency) -> (u32, bool) {
        let is_invalidated = self.invalidated_at >= self.generation;
        let required = self.generation + u32::from(forces || is_invalidated);
        let leads = forces && self.required_generation < required;
        self.required_generation = self.required_generation.max(required);
        if forces {
            self.forced_at = required;
        }
        self.needed = self.needed.max(urgency);
        (required, leads)
    }

    /// Whether followers, who did not cause the fetch, get another one in place of `outcome`.
    fn is_repeated(&self, outcome: &FetchOutcome) -> bool {
        matches!(outcome.verdict(), Some(Verdict::HeldBack(_)))
            && self.waiters.followers.load(Ordering::Relaxed) > 0
            && self.needed > self.urgency
    }

    fn fetch_again(&mut self, began: Duration) -> NextFetch {
        self.generation += 1;
        self.began = began;
        self.urgency = self.needed;
        self.next()
    }

    fn next(&self) -> NextFetch {
        NextFetch {
            urgency: self.urgency,
            forced: self.is_forced(),
        }
    }
}

impl FetchOutcome {
    pub(super) fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Arrived(_) => None,
            Self::Failed { error, .. } => Some(error.verdict()),
        }
    }

    /// Whether it says nothing of what Atlas has: Atlas could not answer, or was not asked.
    fn is_outage(&self) -> bool {
        matches!(self.verdict(), Some(Verdict::HeldBack(_) | Verdict::Outage))
    }
}

const MOST_WAITERS: i64 = 10_000;
const MOST_WAITERS_PER_KEY: usize = 5_000;
