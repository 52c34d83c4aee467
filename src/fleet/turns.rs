//! Turns: how many fetches of a project this replica has under way or is asking a lease for. With more leases than
//! it can fetch at a time, a replica would hold up all others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::atlas::ProjectId;

/// The turns of all projects.
#[derive(Debug)]
pub(super) struct Turns {
    per_project: usize,
    projects: Mutex<TurnsByProject>,
}

type TurnsByProject = HashMap<ProjectId, Arc<Semaphore>>;

/// The right to ask for a lease, and to fetch under it.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new(per_project: usize) -> Self {
        Self {
            per_project,
            projects: Mutex::default(),
        }
    }

    /// Waits for a turn.
    pub(super) async fn take(&self, project: ProjectId) -> Turn {
        let permit = self.of(project).acquire_owned().await;
        Turn {
            _permit: permit.expect("the semaphore is never closed"),
        }
    }

    /// A turn that is free now.
    pub(super) fn try_take(&self, project: ProjectId) -> Option<Turn> {
        let permit = self.of(project).try_acquire_owned().ok()?;
        Some(Turn { _permit: permit })
    }

    fn of(&self, project: ProjectId) -> Arc<Semaphore> {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of which all turns are free are made anew when they are needed.
        projects.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let semaphore = projects
            .entry(project)
            .or_insert_with(|| Arc::new(Semaphore::new(self.per_project)));
        Arc::clone(semaphore)
    }
}
