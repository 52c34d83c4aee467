//! Which users a project has, as Atlas has listed them: an answer about all of them is whole, and says how old it is.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::atlas::{ProjectId, Timestamp, Username};

/// The last inventory of each project that has one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventories {
    /// How often each is made; zero: none is.
    interval: Duration,
    projects: Arc<Mutex<ByProject>>,
}

/// `None` before the first of a project.
type ByProject = HashMap<ProjectId, Option<Inventory>>;

/// The users of a project.
#[derive(Clone, Debug)]
pub(crate) struct Inventory {
    pub(crate) listed_at: Timestamp,
    pub(crate) users: Arc<HashSet<Username>>,
}

/// What there is of a project.
#[derive(Clone, Debug)]
pub(crate) enum InventoryState {
    Made(Inventory),
    /// No inventory is made of it.
    None,
    /// The first one is not through.
    UnderWay,
}

impl Inventories {
    /// Of these projects, one each `interval`.
    pub(super) fn new(projects: impl Iterator<Item = ProjectId>, interval: Duration) -> Self {
        let projects = projects.map(|project| (project, None));
        let projects = if interval.is_zero() {
            HashMap::new()
        } else {
            projects.collect()
        };
        Self {
            interval,
            projects: Arc::new(Mutex::new(projects)),
        }
    }

    /// How often one is made.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    pub(crate) fn of(&self, project: &ProjectId) -> InventoryState {
        match self.projects().get(project) {
            Some(Some(inventory)) => InventoryState::Made(inventory.clone()),
            Some(None) => InventoryState::UnderWay,
            None => InventoryState::None,
        }
    }

    /// The projects of which one is to be made at `now`.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<ProjectId> {
        let is_due = |last: &Option<Inventory>| {
            last.as_ref()
                .is_none_or(|it| now.since(it.listed_at) >= self.interval)
        };
        let projects = self.projects();
        let due = projects.iter().filter(|(_, last)| is_due(last));
        due.map(|(project, _)| *project).collect()
    }

    /// One is through.
    pub(crate) fn made(&self, project: ProjectId, inventory: Inventory) {
        self.projects().insert(project, Some(inventory));
    }

    fn projects(&self) -> MutexGuard<'_, ByProject> {
        // Nothing that holds it can panic half-way.
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
