//! The outage of Atlas, for the log: said once for all projects, and over once each project that failed lately
//! has had an answer. Pure; times are [`Moment::elapsed`](crate::system::Moment::elapsed).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::atlas::ProjectId;
use crate::telemetry::{RateLimitedLog, Tally};

/// Whether Atlas answers.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failures: RateLimitedLog,
    /// When which project failed last.
    failing: Mutex<HashMap<ProjectId, Duration>>,
}

impl Outage {
    /// A fetch had no answer. What to say, if it is time for a line.
    pub(super) fn failed(&self, project: ProjectId, now: Duration) -> Option<Tally> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.len() < MOST_PROJECTS || failing.contains_key(&project) {
            failing.insert(project, now);
        }
        drop(failing);
        self.failures.happened(now)
    }

    /// A fetch had an answer, good or bad. What to say, if that ends what was said.
    pub(super) fn answered(&self, project: &ProjectId, now: Duration) -> Option<Tally> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.is_empty() {
            return None;
        }
        failing.remove(project);
        // A project that no caller asks about any more will have no answer.
        failing.retain(|_, last| now.saturating_sub(*last) < LATELY);
        let is_over = failing.is_empty();
        drop(failing);
        is_over.then(|| self.failures.is_over(now)).flatten()
    }
}

const LATELY: Duration = Duration::from_mins(1);
/// Callers choose projects, as far as rules allow.
const MOST_PROJECTS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_project_that_answers_does_not_end_the_outage_of_another() {
        let project = |digit: &str| digit.repeat(24).parse::<ProjectId>().unwrap();
        let (a, b) = (project("a"), project("b"));
        let at = Duration::from_secs;
        let outage = Outage::default();
        assert_eq!(outage.answered(&a, at(0)), None);
        assert!(outage.failed(a, at(1)).is_some());
        assert!(outage.failed(b, at(2)).is_none());
        assert!(outage.answered(&b, at(3)).is_none());
        let over = outage.answered(&a, at(4)).unwrap();
        assert_eq!((over.times, over.span), (2, at(3)));
        assert!(outage.failed(a, at(100)).is_some());
        assert!(outage.answered(&b, at(159)).is_none());
        assert!(
            outage.answered(&b, at(160)).is_some(),
            "a is not asked about"
        );
    }
}
