//! Purges of which nothing is in the engine but the event: of everything, and those by operators to whom a rule denies
//! some of what they purge. A replica that looks at a list brings the time of the last one that concerns it.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::event::{FleetEvent, Operator, What};
use crate::atlas::CertQuery;

/// Whether a rule denies a list to an operator.
pub(crate) type IsDenied = Box<dyn Fn(&Operator, &CertQuery) -> bool + Send + Sync>;

/// When lists were last purged, and softly purged, in milliseconds of the engine's clock.
#[derive(Default)]
pub(super) struct PurgeTimes {
    noted: Mutex<Noted>,
    is_denied: OnceLock<IsDenied>,
}

#[derive(Default)]
struct Noted {
    /// Of everything.
    all: [u64; 2],
    /// The oldest first; of those alike only the last one.
    partial: Vec<PartialPurge>,
}

struct PartialPurge {
    what: What,
    project: Option<String>,
    operator: Operator,
    at: u64,
}

impl PurgeTimes {
    pub(super) fn on_denied(&self, is_denied: IsDenied) {
        if self.is_denied.set(is_denied).is_err() {
            unreachable!("a gateway is wired once");
        }
    }

    /// Takes up a purge that was made at `at`.
    pub(super) fn note(&self, event: &FleetEvent, at: u64) {
        let mut noted = self.noted();
        let Some(operator) = event.operator.clone() else {
            if event.project.is_none() {
                raise(&mut noted.all, event.what, at);
            }
            return;
        };
        if matches!(event.what, What::Changed(_)) {
            return;
        }
        let purge = PartialPurge {
            what: event.what,
            project: event.project.clone(),
            operator,
            at,
        };
        noted.partial.retain(|earlier| !earlier.is_like(&purge));
        noted.partial.push(purge);
        if noted.partial.len() > MOST_PARTIAL {
            // Rather too many lists than one that was purged.
            let oldest = noted.partial.remove(0);
            raise(&mut noted.all, oldest.what, oldest.at);
        }
    }

    /// Nothing was purged later than now.
    pub(super) fn bound(&self, now: u64) {
        let mut noted = self.noted();
        noted.all = noted.all.map(|at| at.min(now));
        for purge in &mut noted.partial {
            purge.at = purge.at.min(now);
        }
    }

    /// When a list was last purged, and softly purged.
    pub(super) fn of(&self, query: &CertQuery) -> [u64; 2] {
        let noted = self.noted();
        let mut times = noted.all;
        for purge in &noted.partial {
            let is_of_project = |project: &String| *project == query.project.as_str();
            if purge.project.as_ref().is_none_or(is_of_project)
                && !self.is_denied(&purge.operator, query)
            {
                raise(&mut times, purge.what, purge.at);
            }
        }
        times
    }

    fn is_denied(&self, operator: &Operator, query: &CertQuery) -> bool {
        let is_denied = self.is_denied.get();
        is_denied.is_some_and(|is_denied| is_denied(operator, query))
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialPurge {
    fn is_like(&self, other: &Self) -> bool {
        (self.what, &self.project, &self.operator) == (other.what, &other.project, &other.operator)
    }
}

/// Takes up the time of a purge, if it is one.
fn raise([hard, soft]: &mut [u64; 2], what: What, at: u64) {
    match what {
        What::Changed(_) => {}
        What::Purged => *hard = at.max(*hard),
        What::SoftlyPurged => *soft = at.max(*soft),
    }
}

/// Operators that are denied something are few, and so are the projects that they purge.
const MOST_PARTIAL: usize = 256;
