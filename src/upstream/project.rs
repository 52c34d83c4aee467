//! What is known of each project: its budget, its breaker and its retries.
//!
//! Bounded: a project that nobody has asked about for a while is forgotten, which loses nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;

use super::breaker::Breaker;
use super::budget::{Budget, Rates};
use super::demand::Demand;
use super::retry::RetryBudget;
use crate::atlas::ProjectId;

/// All projects that were asked about.
#[derive(Debug)]
pub(crate) struct Projects {
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    rates: Rates,
    projects: HashMap<ProjectId, Arc<Project>, RandomState>,
    /// Until then a project that is not known may be one that was forgotten in use.
    doubtful_until: Duration,
}

/// One project.
#[derive(Debug)]
pub(crate) struct Project {
    rules: Mutex<Rules>,
}

/// The rules of a project, with what they remember.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) budget: Budget,
    pub(crate) breaker: Breaker,
    pub(crate) retries: RetryBudget,
    pub(crate) demand: Demand,
}

impl Projects {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            known: Mutex::new(Known {
                rates,
                projects: HashMap::default(),
                doubtful_until: Duration::ZERO,
            }),
        }
    }

    /// Reckons with other numbers from now on. What was spent stays spent.
    pub(crate) fn replace_rates(&self, rates: Rates, now: Duration) {
        let mut known = self.known();
        known.rates = rates;
        for project in known.projects.values() {
            project.rules().budget.replace_rates(rates, now);
        }
    }

    /// This project, from now on known.
    pub(crate) fn get(&self, id: &ProjectId, now: Duration) -> Arc<Project> {
        let mut known = self.known();
        if let Some(project) = known.projects.get(id) {
            return Arc::clone(project);
        }
        if known.projects.len() >= MOST_PROJECTS {
            known.forget(now);
        }
        let budget = if now < known.doubtful_until {
            Budget::forgotten(known.rates, now)
        } else {
            Budget::new(known.rates, now)
        };
        let project = Arc::new(Project {
            rules: Mutex::new(Rules {
                budget,
                breaker: Breaker::default(),
                retries: RetryBudget::new(),
                demand: Demand::default(),
            }),
        });
        known.projects.insert(*id, Arc::clone(&project));
        project
    }

    /// This project, if it is known.
    pub(crate) fn known_project(&self, id: &ProjectId) -> Option<Arc<Project>> {
        self.known().projects.get(id).map(Arc::clone)
    }

    /// What an unknown project has.
    pub(crate) fn untouched(&self, now: Duration) -> Budget {
        Budget::new(self.known().rates, now)
    }

    /// Looks at every project.
    pub(crate) fn for_each(&self, mut look: impl FnMut(&ProjectId, &mut Rules)) {
        let known = self.known();
        for (id, project) in &known.projects {
            look(id, &mut project.rules());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, now: Duration) {
        self.projects
            .retain(|_, project| !project.is_untouched(now));
        if self.projects.len() < MOST_PROJECTS {
            return;
        }
        // All are in use. Forgetting half of them keeps the memory; that they may have spent what they
        // had is remembered for all together.
        let mut keep = false;
        self.projects.retain(|_, project| {
            keep = !keep;
            keep || Arc::strong_count(project) > 1
        });
        self.doubtful_until = now + self.rates.time_to_full();
    }
}

impl Project {
    pub(crate) fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_untouched(self: &Arc<Self>, now: Duration) -> bool {
        let rules = self.rules();
        rules.budget.is_untouched(now) && !rules.breaker.is_open() && Arc::strong_count(self) == 1
    }
}

const MOST_PROJECTS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::super::answer::Urgency;
    use super::super::config::Limits;
    use super::*;

    fn project(number: usize) -> ProjectId {
        format!("{number:024x}").parse().unwrap()
    }

    fn remaining(projects: &Projects, number: usize) -> u64 {
        let now = Duration::ZERO;
        let project = projects.get(&project(number), now);
        project.rules().budget.view(now).remaining
    }

    #[test]
    fn ten_thousand_projects_are_known_at_most_and_none_starts_full_once_one_in_use_was_forgotten()
    {
        let projects = Projects::new(Rates::new(&Limits::default()));
        let now = Duration::ZERO;
        for number in 0..MOST_PROJECTS {
            assert_eq!(remaining(&projects, number), 1_000);
        }
        assert_eq!(remaining(&projects, MOST_PROJECTS), 1_000);
        assert_eq!(projects.known().projects.len(), 1);
        for number in 0..2 * MOST_PROJECTS {
            let one = projects.get(&project(number), now);
            one.rules()
                .budget
                .take(1, Urgency::Miss, true, now)
                .unwrap();
        }
        assert!(projects.known().projects.len() <= MOST_PROJECTS);
        assert_eq!(remaining(&projects, 3 * MOST_PROJECTS), 200);
        let later = Rates::new(&Limits::default()).time_to_full();
        let fresh = projects.get(&project(4 * MOST_PROJECTS), later);
        assert_eq!(fresh.rules().budget.view(later).remaining, 1_000);
    }
}
