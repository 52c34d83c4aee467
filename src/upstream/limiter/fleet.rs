//! The fleet's side of the limits: calls are taken from one bucket that all replicas share, and what Atlas answers is
//! told to it. While its engine cannot be asked, each replica goes on with its part of our share.
//!
//! This replica's own bucket and cooldown follow those of the fleet. So they know what all have spent when the
//! replica is alone, and they bring it back to an engine that has lost its memory.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::project::EndedCall;
use super::{FetchLimits, ProjectLimiter};
use crate::fleet::{Alone, Fleet};
use crate::upstream::error::FetchErrorKind;

impl FetchLimits {
    /// Takes so many calls from the fleet's bucket, or none. False if this replica is alone and has to go by its own.
    pub(super) async fn take_from_fleet(
        &self,
        fleet: &Fleet,
        calls: u64,
        first: bool,
    ) -> Result<bool, FetchErrorKind> {
        let asked_at = self.limiter.now();
        let wait = self.limiter.state().breakers_wait(&self.project, asked_at);
        // No call would be made of what was taken.
        if let Some(retry_after) = wait {
            return Err(FetchErrorKind::BreakerOpen { retry_after });
        }
        let request =
            self.with_project(|project| project.request(calls, self.urgency, first, asked_at));
        let Ok(answer) = fleet.take_calls(&self.project, &request).await else {
            self.limiter.divide(fleet.replicas());
            return Ok(false);
        };
        self.limiter.divide(1);
        self.with_project(|project| {
            let taken = project.follow(&answer, calls, asked_at);
            self.note_taken(project, (calls, first), taken.is_ok());
            taken.map_err(|wait| project.held_back(wait))
        })?;
        Ok(true)
    }

    /// Tells the fleet how a call ended that took `took`. Nothing waits for it.
    pub(super) fn tell_fleet(&self, fleet: &Fleet, ended: EndedCall, took: Duration) {
        let window = (self.limiter.0.longest_call + took).min(LONGEST_WINDOW);
        let Some(observed) = self.with_project(|project| project.observed(ended, window)) else {
            return;
        };
        let (fleet, project) = (fleet.clone(), self.project);
        tokio::spawn(async move {
            // The next request brings what this replica knows of it.
            let _: Result<(), Alone> = fleet.observe(&project, &observed).await;
        });
    }
}

impl ProjectLimiter {
    /// The fleet that this replica shares with now.
    pub(super) fn fleet(&self) -> Option<&Fleet> {
        let fleet = self.0.fleet.as_ref();
        fleet.filter(|fleet| fleet.is_connected())
    }

    /// From now on this replica is one of so many that do not know of each other.
    fn divide(&self, replicas: u32) {
        let mut state = self.state();
        if !state.rates.are_of_one_in(replicas) {
            state.divide(replicas);
        }
    }
}

/// The engine remembers for longer which calls were taken.
const LONGEST_WINDOW: Duration = Duration::from_mins(2);
