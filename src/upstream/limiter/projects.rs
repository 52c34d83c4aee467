//! All projects under one lock, and the circuit breaker of the host. Pure.
//!
//! Bounded: a project that is idle is evicted, which loses nothing.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ahash::RandomState;

use super::circuit_breaker::CircuitBreaker;
use super::project::Project;
use super::token_bucket::{Rates, TokenBucket};
use crate::atlas::ProjectId;

/// `W` is what waits for slots.
pub(super) struct LimiterState<W> {
    pub(super) rates: Rates,
    pub(super) host: CircuitBreaker,
    pub(super) projects: HashMap<ProjectId, Project<W>, RandomState>,
    /// Until then a project that is not known may be one that was evicted in use.
    pub(super) doubtful_until: Duration,
    pub(super) fetches: u64,
    pub(super) in_flight: usize,
    /// The projects in which calls wait, in the order of their turns.
    pub(super) waiting: VecDeque<ProjectId>,
}

impl<W> LimiterState<W> {
    pub(super) fn new(rates: Rates) -> Self {
        Self {
            rates,
            host: CircuitBreaker::default(),
            projects: HashMap::default(),
            doubtful_until: Duration::ZERO,
            fetches: 0,
            in_flight: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn project(
        &mut self,
        id: ProjectId,
        slots: usize,
        now: Duration,
    ) -> &mut Project<W> {
        if self.projects.len() >= MOST_PROJECTS && !self.projects.contains_key(&id) {
            self.evict(now);
        }
        let (rates, is_doubtful) = (self.rates, now < self.doubtful_until);
        self.projects.entry(id).or_insert_with(|| {
            let bucket = if is_doubtful {
                TokenBucket::evicted(rates, now)
            } else {
                TokenBucket::new(rates, now)
            };
            Project::new(bucket, slots)
        })
    }

    fn evict(&mut self, now: Duration) {
        self.projects.retain(|_, project| !project.is_idle(now));
        if self.projects.len() < MOST_PROJECTS {
            return;
        }
        // Evicting half of them keeps the memory; that they may have spent what they had is remembered for
        // all together.
        let mut keep = false;
        self.projects.retain(|_, project| {
            keep = !keep;
            keep || project.is_in_use()
        });
        self.doubtful_until = now + self.rates.time_to_full();
    }

    /// The probe that the host's circuit breaker admits now and then must not be used up where the
    /// project's admits none.
    pub(super) fn pass_breakers(
        &mut self,
        project: &ProjectId,
        now: Duration,
    ) -> Result<(), Duration> {
        let Some(project) = self.projects.get_mut(project) else {
            return self.host.admit(now);
        };
        project.breaker.wait(now).map_or(Ok(()), Err)?;
        self.host.admit(now)?;
        project.breaker.admit(now)
    }

    /// How long no call would pass the circuit breakers, if that is so.
    pub(super) fn breakers_wait(&self, project: &ProjectId, now: Duration) -> Option<Duration> {
        let project = self.projects.get(project);
        let of_project = project.and_then(|project| project.breaker.wait(now));
        of_project.or_else(|| self.host.wait(now))
    }

    /// From now on this replica has the whole of our share of each project's bucket, or its part of it.
    pub(super) fn divide(&mut self, replicas: u32) {
        self.rates = self.rates.of_one_in(replicas);
        for project in self.projects.values_mut() {
            project.bucket.divide(replicas);
        }
    }

    /// Gives slots to calls that wait, one project after the other, as long as there are any. `grant` says
    /// which fetch has got its slot; `None` if it has stopped waiting.
    pub(super) fn hand_out_slots(
        &mut self,
        most: usize,
        now: Duration,
        mut grant: impl FnMut(W) -> Option<u64>,
    ) {
        let mut passed_over = 0;
        while self.in_flight < most && passed_over < self.waiting.len() {
            let Some(id) = self.waiting.pop_front() else {
                return;
            };
            let Some(project) = self.projects.get_mut(&id) else {
                continue;
            };
            passed_over += 1;
            while project.slots.has_free()
                && let Some(waiter) = project.slots.next(now)
            {
                if let Some(fetch) = grant(waiter) {
                    project.slots.begin(fetch);
                    self.in_flight += 1;
                    passed_over = 0;
                    break;
                }
            }
            if project.slots.waiting() > 0 {
                self.waiting.push_back(id);
            }
        }
    }
}

pub(super) const MOST_PROJECTS: usize = 10_000;
