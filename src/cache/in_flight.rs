//! One fetch per key: callers that miss the same list share a task, its leader and followers alike.
//!
//! A task belongs to no caller, so that one that leaves takes nothing from the others. It fetches once, and again
//! only where the first fetch cannot serve those who still wait:
//!
//! - a purge came while it was under way, so it may have read what was to be forgotten (G7);
//! - a caller forced a refresh after it had begun;
//! - it was a refresh ahead of time, and was refused for its low urgency, while somebody came to wait for it.
//!
//! Each fetch of a task has a number, its generation; a waiter names the first one that will do.

mod task;
mod waiter;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use tokio::sync::watch;
use tracing::Instrument;

use self::task::{FetchGuard, FetchTask, NextFetch, run};
pub(super) use self::waiter::{FetchOutcome, Waiter};
use self::waiter::{Progress, Waiters};

use super::entry::Circumstances;
use super::key::Stays;
use super::{
    Ask, CacheMode, Entry, FetchRequest, Found, Inner, NotAdmitted, NotFound, Purge, Role,
};
use crate::atlas::CertQuery;
use crate::telemetry::metrics::cache::CacheMetrics;
use crate::upstream::{FetchError, FetchErrorKind, Fetched, Urgency};

/// The fetches under way, by what they fetch.
#[derive(Debug)]
pub(super) struct InFlight {
    table: Mutex<HashMap<CertQuery, InFlightFetch, RandomState>>,
    waiting: Arc<AtomicUsize>,
    metrics: CacheMetrics,
}

#[derive(Debug)]
pub(super) struct InFlightFetch {
    /// The number of the fetch under way, and when it began.
    generation: u32,
    began: Duration,
    /// How urgent it is, and how urgent it is to those who wait.
    urgency: Urgency,
    needed: Urgency,
    /// The last fetch that somebody waits for, and the last one that somebody has forced.
    required_generation: u32,
    forced_at: u32,
    /// The fetch that was under way at the last purge, and at the last soft purge.
    invalidated_at: u32,
    stale_at: u32,
    waiters: Arc<Waiters>,
    progress: watch::Receiver<Progress>,
}

/// What came of joining a fetch.
pub(super) enum Joined {
    /// The answer had come meanwhile.
    Answered(Box<Result<Found, NotFound>>),
    /// As many wait as there is room for.
    Full,
    /// The caller that would cause the fetch may not.
    NotAdmitted(NotAdmitted),
    /// Waits; to be dropped costs the others nothing.
    Waiter(Waiter),
}

impl InFlight {
    pub(super) fn new(metrics: CacheMetrics) -> Self {
        Self {
            table: Mutex::default(),
            waiting: Arc::default(),
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

    fn lock(&self) -> MutexGuard<'_, HashMap<CertQuery, InFlightFetch, RandomState>> {
        // Nothing in here panics half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiter(&self, fetch: &InFlightFetch, required_generation: u32, leads: bool) -> Waiter {
        fetch.waiters.of(leads).fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.metrics.waiters.inc();
        Waiter {
            progress: fetch.progress.clone(),
            required_generation,
            leads,
            began: fetch.began,
            urgency: fetch.urgency,
            of_fetch: Arc::clone(&fetch.waiters),
            of_all: Arc::clone(&self.waiting),
            gauge: self.metrics.waiters.clone(),
        }
    }

    /// Whether there is no room for another who waits.
    fn is_full(&self, fetch: Option<&InFlightFetch>) -> bool {
        let full = self.waiting.load(Ordering::Relaxed) >= MOST_WAITERS
            || fetch.is_some_and(|fetch| fetch.waiters.count() >= MOST_WAITERS_PER_KEY);
        if full {
            self.metrics.waiters_refused.inc();
        }
        full
    }
}

impl Inner {
    /// Joins the fetch of `query`; begins one if there is none, and if the caller may cause one.
    pub(super) fn join<A, F, Fut>(
        self: &Arc<Self>,
        (query, ask): (&CertQuery, Ask<'_>),
        urgency: Urgency,
        admit: A,
        fetch_list: F,
    ) -> Joined
    where
        A: FnOnce(Role) -> Result<(), NotAdmitted>,
        F: Fn(FetchRequest) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        let mut table = self.in_flight.lock();
        if let Some(fetch) = table.get_mut(query) {
            if self.in_flight.is_full(Some(fetch)) {
                return Joined::Full;
            }
            let interval = self.config.load().min_refresh_interval;
            // A fetch that another caller has just forced will do.
            let just_begun = ask.now.elapsed.saturating_sub(fetch.began) < interval;
            let forces = ask.mode == CacheMode::ForceRefresh && !(fetch.is_forced() && just_begun);
            let role = if forces && fetch.would_add_a_fetch() {
                Role::Leader
            } else {
                Role::Follower
            };
            if let Err(why) = admit(role) {
                return Joined::NotAdmitted(why);
            }
            let (required_generation, leads) = fetch.require(forces, urgency);
            if forces && leads {
                self.metrics.refreshes_forced.inc();
            }
            return Joined::Waiter(self.in_flight.waiter(fetch, required_generation, leads));
        }
        // A fetch may have ended since the cache was asked.
        if let Some(answer) = self.cached_answer(query, ask) {
            return Joined::Answered(Box::new(answer));
        }
        if self.in_flight.is_full(None) {
            return Joined::Full;
        }
        // Only now it is known which caller leads.
        if let Err(why) = admit(Role::Leader) {
            return Joined::NotAdmitted(why);
        }
        let (mut fetch, progress) = InFlightFetch::new(ask.now.elapsed, urgency);
        let forced = ask.mode == CacheMode::ForceRefresh;
        if forced {
            self.metrics.refreshes_forced.inc();
            fetch.forced_at = fetch.generation;
        }
        let waiter = self.in_flight.waiter(&fetch, fetch.generation, true);
        table.insert(query.clone(), fetch);
        drop(table);
        let guard = FetchGuard::new(self, query);
        let next = NextFetch { urgency, forced };
        self.spawn(
            FetchTask::new(guard, ask.address, next, progress),
            fetch_list,
        );
        Joined::Waiter(waiter)
    }

    /// Begins a fetch for which nobody waits, unless one is under way.
    pub(super) fn refresh_ahead<F, Fut>(
        self: &Arc<Self>,
        query: &CertQuery,
        ask: Ask<'_>,
        fetch_list: F,
    ) where
        F: Fn(FetchRequest) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        let mut table = self.in_flight.lock();
        if table.contains_key(query) {
            return;
        }
        self.metrics.refreshes_ahead.inc();
        let urgency = Urgency::RefreshAhead;
        let (fetch, progress) = InFlightFetch::new(ask.now.elapsed, urgency);
        table.insert(query.clone(), fetch);
        drop(table);
        let guard = FetchGuard::new(self, query);
        let forced = false;
        let next = NextFetch { urgency, forced };
        self.spawn(
            FetchTask::new(guard, ask.address, next, progress),
            fetch_list,
        );
    }

    fn spawn<F, Fut>(&self, task: FetchTask, fetch_list: F)
    where
        F: Fn(FetchRequest) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        self.tasks.spawn(run(task, fetch_list).in_current_span());
    }

    fn entry(
        &self,
        of: Circumstances<'_>,
        fetched: Result<Fetched, FetchError>,
    ) -> Result<Entry, FetchError> {
        Entry::new(&self.config.load(), of, fetched?).map_err(|stats| FetchError {
            reason: FetchErrorKind::InvalidResponse("larger than 4 GiB"),
            stats,
        })
    }

    /// Stores the outcome of a fetch and tells those who wait. Returns the next fetch, if one is to be made.
    fn finish(
        &self,
        query: &CertQuery,
        outcome: FetchOutcome,
        progress: &watch::Sender<Progress>,
    ) -> Option<NextFetch> {
        let now = self.clock.now();
        let mut table = self.in_flight.lock();
        let fetch = table.get_mut(query)?;
        if fetch.invalidated_at >= fetch.generation && !outcome.is_outage() {
            // What Atlas said before the purge is told to no one.
            if fetch.waiters.count() > 0 {
                return Some(fetch.fetch_again(now.elapsed));
            }
            table.remove(query);
            return None;
        }
        if let (FetchOutcome::Arrived(entry), true) = (&outcome, fetch.is_forced()) {
            entry.note_force();
        }
        self.remember(query, &outcome, fetch, now);
        if fetch.stale_at >= fetch.generation {
            // As if it had ended before the purge.
            self.store.mark_stale(query);
        }
        let brought = Progress {
            generation: fetch.generation,
            repeated: fetch.is_repeated(&outcome),
            outcome: Some(outcome),
        };
        let is_required = fetch.required_generation > fetch.generation && fetch.waiters.count() > 0;
        let next = if brought.repeated || is_required {
            Some(fetch.fetch_again(now.elapsed))
        } else {
            table.remove(query);
            None
        };
        // Who joins from here on finds the list stored, or a fetch of the next generation.
        drop(table);
        progress.send_replace(brought);
        next
    }
}

impl InFlightFetch {
    fn new(began: Duration, urgency: Urgency) -> (Self, watch::Sender<Progress>) {
        let (sender, progress) = watch::channel(Progress::default());
        let fetch = Self {
            generation: 1,
            began,
            urgency,
            needed: urgency,
            required_generation: 1,
            forced_at: 0,
            invalidated_at: 0,
            stale_at: 0,
            waiters: Arc::default(),
            progress,
        };
        (fetch, sender)
    }

    /// Whether the fetch under way was forced.
    pub(super) fn is_forced(&self) -> bool {
        self.forced_at == self.generation
    }

    /// When the fetch under way began.
    pub(super) fn began(&self) -> Duration {
        self.began
    }

    /// Whether a caller that forces a refresh would cause another fetch.
    fn would_add_a_fetch(&self) -> bool {
        self.required_generation < self.generation + 1
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
        if !outcome.is_held_back() || self.waiters.followers.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.needed > self.urgency
    }

    fn fetch_again(&mut self, began: Duration) -> NextFetch {
        self.generation += 1;
        self.began = began;
        self.urgency = self.needed;
        NextFetch {
            urgency: self.urgency,
            forced: self.is_forced(),
        }
    }
}

const MOST_WAITERS: usize = 10_000;
const MOST_WAITERS_PER_KEY: usize = 5_000;
