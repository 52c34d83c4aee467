//! The limits of calls to Atlas, for each project its own: token bucket, cooldown, circuit breaker, concurrency
//! slots and the budget of retries; and the circuit breaker of the host, for all.
//!
//! A fetch [reserves](FetchLimits::reserve) the tokens of its calls, all or none. Each call then
//! [acquires](Reservation::acquire) a slot, as urgent as it is, and [finishes](CallPermit::finish) with its
//! outcome, which the limits learn from. Whatever is not used is given back when it is dropped.
//!
//! Projects take turns, so that one with many callers, or with slow answers, delays its own calls and not
//! those of others (G23). A refusal says which limit it was: our own is no failure of Atlas, and a cooldown
//! after a 503 is no spent bucket.

mod circuit_breaker;
mod cooldown;
mod demand;
mod fleet;
mod permit;
mod project;
mod projects;
mod retry_budget;
mod sliding_window;
mod slots;
#[cfg(test)]
mod tests;
mod token_bucket;
mod usage;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::error;

use super::config::AtlasLimits;
use super::error::{FetchErrorKind, HeldBack, Urgency};
use super::jitter::Jitter;
use crate::atlas::ProjectId;
use crate::fleet::Fleet;
use crate::system::Clock;
use crate::telemetry::{RateLimitedLog, Tally};
use cooldown::Cooldown;
use permit::CallPermit;
use project::Project;
use projects::LimiterState;
use token_bucket::{TokenBucket, Wait};

pub(crate) use circuit_breaker::CallOutcome;
pub(crate) use cooldown::CooldownCause;
pub(crate) use cooldown::CooldownRequest;
pub(crate) use token_bucket::{Quota, Rates};

/// The limits of all projects. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ProjectLimiter(Arc<Shared>);

/// The limits as one fetch meets them.
#[derive(Clone)]
pub(crate) struct FetchLimits {
    limiter: ProjectLimiter,
    project: ProjectId,
    urgency: Urgency,
    /// Which fetch; each has its own number.
    fetch: u64,
}

/// A token of the bucket, for one call.
pub(crate) struct Reservation {
    limits: FetchLimits,
    is_of_fleet: bool,
    is_sent: bool,
}

/// What is known of a project's bucket, for people and for dividing it fairly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetView {
    /// Calls that we may still make at once.
    pub(crate) remaining: u64,
    /// Calls that we may make at once when none were made for a while.
    pub(crate) capacity: u64,
    pub(crate) refill_per_minute: u64,
    /// How long Atlas has asked us to wait; `None` while it does not.
    pub gate: Option<Duration>,
    /// What it said then.
    pub(crate) gate_cause: Option<CooldownCause>,
}

struct Shared {
    clock: Clock,
    jitter: Jitter,
    concurrency: usize,
    concurrency_per_project: usize,
    queue: usize,
    queue_wait: Duration,
    /// A call ends within this time after its token was taken.
    longest_call: Duration,
    fleet: Option<Fleet>,
    state: Mutex<LimiterState<Waiter>>,
    /// What is logged once for all projects, however many it befalls.
    host_failing: RateLimitedLog,
    projects_failing: RateLimitedLog,
    cooldowns: RateLimitedLog,
}

/// A concurrency slot. Dropping it passes it on.
struct Slot {
    limits: FetchLimits,
    is_granted: bool,
    went_well: Option<bool>,
}

/// A call that waits for a slot.
pub(crate) struct Waiter {
    limits: FetchLimits,
    sender: oneshot::Sender<Slot>,
}

impl ProjectLimiter {
    pub(crate) fn new(
        limits: &AtlasLimits,
        clock: Clock,
        jitter: Jitter,
        fleet: Option<Fleet>,
    ) -> Self {
        // Until the fleet has been asked for the first time this replica is alone.
        let replicas = fleet.as_ref().map_or(1, Fleet::replicas);
        let rates = Rates::new(limits).of_one_in(replicas);
        Self(Arc::new(Shared {
            clock,
            jitter,
            concurrency: limits.concurrency,
            concurrency_per_project: limits.concurrency_per_project,
            queue: limits.queue,
            queue_wait: limits.queue_wait,
            longest_call: limits.fetch,
            fleet,
            state: Mutex::new(LimiterState::new(rates)),
            host_failing: RateLimitedLog::default(),
            projects_failing: RateLimitedLog::default(),
            cooldowns: RateLimitedLog::default(),
        }))
    }

    pub(crate) fn replace_rates(&self, rates: Rates) {
        let now = self.now();
        let mut state = self.state();
        let rates = rates.in_place_of(state.rates);
        state.rates = rates;
        for project in state.projects.values_mut() {
            project.bucket.replace_rates(rates, now);
        }
    }

    pub(crate) fn for_fetch(&self, project: ProjectId, urgency: Urgency) -> FetchLimits {
        let mut state = self.state();
        state.fetches += 1;
        FetchLimits {
            limiter: self.clone(),
            project,
            urgency,
            fetch: state.fetches,
        }
    }

    pub(crate) fn view(&self, project: &ProjectId) -> BudgetView {
        let now = self.now();
        let state = self.state();
        let unknown = TokenBucket::new(state.rates, now);
        let project = state.projects.get(project);
        let bucket = project.map_or(&unknown, |project| &project.bucket);
        let cooldown = project.map_or_else(Cooldown::default, |project| project.cooldown);
        let (remaining, capacity) = bucket.left(now);
        BudgetView {
            remaining,
            capacity,
            refill_per_minute: bucket.own_refill(),
            gate: cooldown.left(now),
            gate_cause: cooldown.cause_now(now),
        }
    }

    pub(crate) fn for_each(&self, mut look: impl FnMut(&ProjectId, &mut Project<Waiter>)) {
        let mut state = self.state();
        for (id, project) in &mut state.projects {
            look(id, project);
        }
    }

    /// Whether connections to the host fail, and whether its circuit breaker is open.
    pub(crate) fn host(&self) -> (bool, bool) {
        let state = self.state();
        (state.host.is_failing(self.now()), state.host.is_open())
    }

    fn learn_of_host(&self, outcome: Option<CallOutcome>, now: Duration) {
        let outcome = match outcome {
            Some(CallOutcome::Answered | CallOutcome::Failed) => CallOutcome::Answered,
            Some(CallOutcome::Unanswered) => return,
            None => CallOutcome::Unanswered,
        };
        let opened = self.state().host.ended(outcome, now);
        if opened && let Some(Tally { times, .. }) = self.0.host_failing.happened(now) {
            error!(times, "Atlas cannot be reached; trying rarely");
        }
    }

    fn now(&self) -> Duration {
        self.0.clock.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, LimiterState<Waiter>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FetchLimits {
    /// Takes the tokens of so many calls, or of none. `first` is false for calls that go on with a fetch
    /// that was admitted before.
    pub(crate) async fn reserve(
        &self,
        calls: u64,
        first: bool,
    ) -> Result<Vec<Reservation>, FetchErrorKind> {
        let is_of_fleet = match &self.limiter.0.fleet {
            Some(fleet) => Box::pin(self.take_from_fleet(fleet, calls, first)).await?,
            None => false,
        };
        if !is_of_fleet {
            self.take(calls, first)?;
        }
        let reservation = |_| Reservation {
            limits: self.clone(),
            is_of_fleet,
            is_sent: false,
        };
        Ok((0..calls).map(reservation).collect())
    }

    fn take(&self, calls: u64, first: bool) -> Result<(), FetchErrorKind> {
        let now = self.limiter.now();
        self.with_project(|project| {
            let taken = project.take(calls, self.urgency, first, now);
            self.note_taken(project, (calls, first), taken.is_ok());
            taken.map_err(|wait| project.held_back(wait))
        })
    }

    fn note_taken(
        &self,
        project: &mut Project<Waiter>,
        (calls, first): (u64, bool),
        is_taken: bool,
    ) {
        // A renewal that gives way comes back as a caller's miss.
        if is_taken || self.urgency > Urgency::RefreshAhead {
            project.demand.wanted(calls, self.limiter.now());
        }
        if first && is_taken {
            project.retries.earn();
        }
    }

    /// Takes the cost of a retry out of the project's budget of retries, if it is there.
    pub(crate) fn spend_retry(&self, cost: u32) -> bool {
        self.with_project(|project| project.retries.spend(cost))
    }

    /// Counts a call that was made and answered in any case: the challenge of a Digest exchange.
    pub(crate) fn count_challenge(&self) {
        let now = self.limiter.now();
        let is_shared = self.limiter.fleet().is_some();
        self.with_project(|project| {
            project.bucket.take(1, now);
            project.bucket.sent();
            project.bucket.ended();
            project.untaken += u64::from(is_shared);
        });
    }

    fn with_project<R>(&self, work: impl FnOnce(&mut Project<Waiter>) -> R) -> R {
        let limiter = &self.limiter;
        let slots = limiter.0.concurrency_per_project;
        work(limiter.state().project(self.project, slots, limiter.now()))
    }

    /// Passes the circuit breakers and waits for a slot.
    async fn slot(&self, further: bool) -> Result<Slot, FetchErrorKind> {
        let shared = &self.limiter.0;
        let now = self.limiter.now();
        let (sender, mut slot) = oneshot::channel();
        {
            let mut state = self.limiter.state();
            state
                .pass_breakers(&self.project, now)
                .map_err(|retry_after| FetchErrorKind::BreakerOpen { retry_after })?;
            let is_free = state.in_flight < shared.concurrency;
            let project = state.project(self.project, shared.concurrency_per_project, now);
            let waiting = project.slots.waiting();
            let has_free = project.slots.has_free()
                || (further && project.slots.has_free_for_further(self.fetch));
            if is_free && waiting == 0 && has_free {
                project.slots.begin(self.fetch);
                state.in_flight += 1;
                return Ok(self.granted());
            }
            if waiting >= shared.queue {
                return Err(project.held_back(BUSY));
            }
            let limits = self.clone();
            let waiter = Waiter { limits, sender };
            project.slots.queue(self.urgency, now, waiter);
            if waiting == 0 {
                state.waiting.push_back(self.project);
            }
        }
        // If it comes when the time is over, it is dropped with its channel, and so passed on.
        if let Ok(Ok(slot)) = shared.clock.timeout(shared.queue_wait, &mut slot).await {
            return Ok(slot);
        }
        drop(slot);
        Err(self.with_project(|project| project.held_back(BUSY)))
    }

    fn granted(&self) -> Slot {
        Slot {
            limits: self.clone(),
            is_granted: true,
            went_well: None,
        }
    }
}

impl Reservation {
    pub(crate) async fn acquire(mut self, further: bool) -> Result<CallPermit, FetchErrorKind> {
        let limits = &self.limits;
        let slot = limits.slot(further).await?;
        let now = limits.limiter.now();
        let sent = limits.with_project(|project| {
            let sent = project.send(limits.urgency, now);
            sent.map_err(|wait| project.held_back(wait))
        });
        let ended_before = sent?;
        self.is_sent = true;
        Ok(CallPermit {
            reservation: self,
            slot,
            ended_before,
            sent_at: now,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.limits.with_project(|project| {
            if self.is_sent {
                project.bucket.ended();
            } else {
                project.bucket.give_back();
                if self.is_of_fleet {
                    project.return_call(self.limits.limiter.now());
                }
            }
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.is_granted {
            return;
        }
        let limiter = &self.limits.limiter;
        let mut state = limiter.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(project) = state.projects.get_mut(&self.limits.project) {
            project.slots.end(self.limits.fetch, self.went_well);
        }
        state.hand_out_slots(limiter.0.concurrency, limiter.now(), |waiter| {
            let Waiter { limits, sender } = waiter;
            let Err(mut slot) = sender.send(limits.granted()) else {
                return Some(limits.fetch);
            };
            slot.is_granted = false;
            None
        });
    }
}

const BUSY: Wait = Wait {
    why: HeldBack::Busy,
    retry_after: Duration::from_secs(1),
};
