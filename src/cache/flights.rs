//! One walk per key: askers take a seat, the first of them starts a flight, and all get what it brings.
//!
//! A flight is a task of its own; it makes one walk, and another only where the first one cannot serve
//! those who still wait:
//!
//! - a purge came while it was on its way, so it may have read what was to be forgotten (G7);
//! - a caller insisted on a refresh after it had begun;
//! - it was made ahead of time, and was refused for being unimportant, while somebody came to wait for it.
//!
//! Each walk has a number within its flight; a seat names the first walk that will do.

mod seat;
mod trip;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use tokio::sync::watch;
use tracing::Instrument;

pub(super) use self::seat::{Landing, Seat};
use self::seat::{Progress, Seats};
use self::trip::{Departure, Tower, Trip, fly};

use super::entry::Circumstances;
use super::key::Stays;
use super::{Ask, Entry, Errand, Found, Inner, NotFound, Purge, Wish};
use crate::atlas::Question;
use crate::policy::allowance::Spent;
use crate::telemetry::metrics::cache::CacheMetrics;
use crate::upstream::{FetchError, FetchFailure, Fetched, Urgency};

/// The flights under way.
#[derive(Debug)]
pub(super) struct Flights {
    table: Mutex<HashMap<Question, Flight, RandomState>>,
    waiting: Arc<AtomicUsize>,
    metrics: CacheMetrics,
}

#[derive(Debug)]
pub(super) struct Flight {
    /// The number of the walk under way, and when it began.
    walk: u32,
    began: Duration,
    /// How much it matters to Atlas, and to those who wait.
    urgency: Urgency,
    needed: Urgency,
    /// The walk that somebody waits for, and the last one that somebody insists on.
    wanted: u32,
    insisted: u32,
    /// The last walk that a purge has overtaken, and the last one that a soft purge has.
    voided: u32,
    softened: u32,
    seats: Arc<Seats>,
    progress: watch::Receiver<Progress>,
}

/// What came of boarding.
pub(super) enum Boarded {
    /// The answer had come while boarding.
    Answered(Box<Result<Found, NotFound>>),
    /// As many wait as there is room for.
    Full,
    /// Whoever would cause the walk may not.
    NotAdmitted(Spent),
    /// A place to wait; leaving it costs the others nothing.
    Seat(Seat),
}

impl Flights {
    pub(super) fn new(metrics: CacheMetrics) -> Self {
        Self {
            table: Mutex::default(),
            waiting: Arc::default(),
            metrics,
        }
    }

    /// Notes that what the walks under way bring has been purged.
    pub(super) fn overtake(&self, what: &Purge, soft: bool, stays: &Stays<'_>) {
        for (question, flight) in &mut *self.lock() {
            let concerned = match what {
                Purge::All => true,
                Purge::Key(key) => question == key,
                Purge::Project(project) => question.project == *project,
            };
            let concerned =
                concerned && !stays(question.project.as_str(), question.username.as_str());
            if concerned && soft {
                flight.softened = flight.walk;
            } else if concerned {
                flight.voided = flight.walk;
            }
        }
    }

    /// The walk under way for a key: its number, when it began, and how many wait for it.
    pub(super) fn under_way(&self, question: &Question) -> Option<(u32, Duration, usize)> {
        let table = self.lock();
        let flight = table.get(question)?;
        Some((flight.walk, flight.began, flight.seats.taken()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Question, Flight, RandomState>> {
        // Nothing in here panics half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self, flight: &Flight, wants: u32, leads: bool) -> Seat {
        flight.seats.of(leads).fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.metrics.waiters.inc();
        Seat {
            progress: flight.progress.clone(),
            wants,
            leads,
            began: flight.began,
            urgency: flight.urgency,
            seats: Arc::clone(&flight.seats),
            waiting: Arc::clone(&self.waiting),
            waiters: self.metrics.waiters.clone(),
        }
    }

    /// Whether there is no room for another who waits.
    fn is_full(&self, flight: Option<&Flight>) -> bool {
        let full = self.waiting.load(Ordering::Relaxed) >= MOST_WAITERS
            || flight.is_some_and(|flight| flight.seats.taken() >= MOST_WAITERS_PER_KEY);
        if full {
            self.metrics.waiters_refused.inc();
        }
        full
    }
}

impl Inner {
    /// Takes a seat in the flight to `question`, which begins if there is none, and if whoever would
    /// cause it may.
    pub(super) fn board<A, F, Fut>(
        self: &Arc<Self>,
        (question, ask): (&Question, Ask<'_>),
        urgency: Urgency,
        admit: A,
        fetch: F,
    ) -> Boarded
    where
        A: FnOnce() -> Result<(), Spent>,
        F: Fn(Errand) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        let mut table = self.flights.lock();
        if let Some(flight) = table.get_mut(question) {
            if self.flights.is_full(Some(flight)) {
                return Boarded::Full;
            }
            let interval = self.config.load().min_refresh_interval;
            // A walk that is made for somebody else who insists will do.
            let just_begun = ask.now.elapsed.saturating_sub(flight.began) < interval;
            let insists = ask.wish == Wish::Refresh && !(flight.is_forced() && just_begun);
            if insists
                && flight.would_lead()
                && let Err(spent) = admit()
            {
                return Boarded::NotAdmitted(spent);
            }
            let (wants, leads) = flight.admit(insists, urgency);
            if insists && leads {
                self.metrics.refreshes_forced.inc();
            }
            return Boarded::Seat(self.flights.seat(flight, wants, leads));
        }
        // A flight may have landed since memory was asked.
        if self.store.knows(question)
            && let Some(answer) = self.recall(question, ask)
        {
            return Boarded::Answered(Box::new(answer));
        }
        if self.flights.is_full(None) {
            return Boarded::Full;
        }
        // Only now it is known who pays.
        if let Err(spent) = admit() {
            return Boarded::NotAdmitted(spent);
        }
        let (mut flight, progress) = Flight::new(ask.now.elapsed, urgency);
        let forced = ask.wish == Wish::Refresh;
        if forced {
            self.metrics.refreshes_forced.inc();
            flight.insisted = flight.walk;
        }
        let seat = self.flights.seat(&flight, flight.walk, true);
        table.insert(question.clone(), flight);
        drop(table);
        let tower = Tower::watch(self, question);
        let next = Departure { urgency, forced };
        self.depart(Trip::new(tower, ask.address, next, progress), fetch);
        Boarded::Seat(seat)
    }

    /// Starts a flight for which nobody waits, unless there is one.
    pub(super) fn fly_ahead<F, Fut>(self: &Arc<Self>, question: &Question, ask: Ask<'_>, fetch: F)
    where
        F: Fn(Errand) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        let mut table = self.flights.lock();
        if table.contains_key(question) {
            return;
        }
        self.metrics.refreshes_ahead.inc();
        let urgency = Urgency::RefreshAhead;
        let (flight, progress) = Flight::new(ask.now.elapsed, urgency);
        table.insert(question.clone(), flight);
        drop(table);
        let tower = Tower::watch(self, question);
        let forced = false;
        let next = Departure { urgency, forced };
        self.depart(Trip::new(tower, ask.address, next, progress), fetch);
    }

    fn depart<F, Fut>(&self, trip: Trip, fetch: F)
    where
        F: Fn(Errand) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        self.tasks.spawn(fly(trip, fetch).in_current_span());
    }

    fn entry(
        &self,
        of: Circumstances<'_>,
        fetched: Result<Fetched, FetchError>,
    ) -> Result<Entry, FetchError> {
        Entry::new(&self.config.load(), of, fetched?).map_err(|walk| FetchError {
            reason: FetchFailure::InvalidResponse("larger than 4 GiB"),
            walk,
        })
    }

    /// Remembers what a walk brought and tells those who wait; says whether another walk is to be made,
    /// and how much that one matters.
    fn land(
        &self,
        question: &Question,
        landing: Landing,
        progress: &watch::Sender<Progress>,
    ) -> Option<Departure> {
        let now = self.clock.now();
        let mut table = self.flights.lock();
        let flight = table.get_mut(question)?;
        if flight.voided >= flight.walk && !landing.is_outage() {
            // What Atlas said before the purge is told to nobody.
            if flight.seats.taken() > 0 {
                return Some(flight.walk_again(now.elapsed));
            }
            table.remove(question);
            return None;
        }
        if let (Landing::Arrived(entry), true) = (&landing, flight.is_forced()) {
            entry.note_force();
        }
        self.remember(question, &landing, flight, now);
        if flight.softened >= flight.walk {
            // As if it had landed before the purge.
            self.store.soften(question);
        }
        let brought = Progress {
            walk: flight.walk,
            repeated: flight.is_repeated(&landing),
            landing: Some(landing),
        };
        let insisted = flight.wanted > flight.walk && flight.seats.taken() > 0;
        let next = if brought.repeated || insisted {
            Some(flight.walk_again(now.elapsed))
        } else {
            table.remove(question);
            None
        };
        // Whoever boards from here on finds memory filled, or a flight whose walk has a new number.
        drop(table);
        progress.send_replace(brought);
        next
    }
}

impl Flight {
    fn new(began: Duration, urgency: Urgency) -> (Self, watch::Sender<Progress>) {
        let (sender, progress) = watch::channel(Progress::default());
        let flight = Self {
            walk: 1,
            began,
            urgency,
            needed: urgency,
            wanted: 1,
            insisted: 0,
            voided: 0,
            softened: 0,
            seats: Arc::default(),
            progress,
        };
        (flight, sender)
    }

    /// Whether the walk under way is made because somebody insists.
    pub(super) fn is_forced(&self) -> bool {
        self.insisted == self.walk
    }

    /// When the walk under way began.
    pub(super) fn began(&self) -> Duration {
        self.began
    }

    /// Whether a newcomer who insists would cause another walk.
    fn would_lead(&self) -> bool {
        self.wanted < self.walk + 1
    }

    /// Which walk serves a newcomer, and whether it is made because of him.
    fn admit(&mut self, insists: bool, urgency: Urgency) -> (u32, bool) {
        let overtaken = self.voided >= self.walk;
        let wants = self.walk + u32::from(insists || overtaken);
        let leads = insists && self.wanted < wants;
        self.wanted = self.wanted.max(wants);
        if insists {
            self.insisted = wants;
        }
        self.needed = self.needed.max(urgency);
        (wants, leads)
    }

    /// Whether those who waited for `landing` without having caused it get another walk.
    fn is_repeated(&self, landing: &Landing) -> bool {
        if !landing.is_held_back() || self.seats.followers.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.needed > self.urgency
    }

    fn walk_again(&mut self, began: Duration) -> Departure {
        self.walk += 1;
        self.began = began;
        self.urgency = self.needed;
        Departure {
            urgency: self.urgency,
            forced: self.is_forced(),
        }
    }
}

const MOST_WAITERS: usize = 10_000;
const MOST_WAITERS_PER_KEY: usize = 5_000;
