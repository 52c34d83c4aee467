//! Fair shares of a project's bucket, by the calls that each caller cost in the last minute.

use std::collections::HashMap;
use std::time::Duration;

use super::{BucketView, Limit, SHARED_ACCOUNT, SLOT, Spent, is_new_slot, slot};
use crate::atlas::ProjectId;

/// What each caller took of each project's bucket in the last minute.
#[derive(Debug, Default)]
pub(super) struct FairShares {
    projects: HashMap<ProjectId, Callers>,
    swept: u64,
}

#[derive(Debug, Default)]
struct Callers {
    recent: HashMap<u64, Recent>,
    swept: u64,
}

/// Calls of the last minute, in slots of ten seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    slots: [u32; SLOTS],
    last: u64,
}

impl FairShares {
    pub(super) fn may_take(
        &mut self,
        project: ProjectId,
        who: u64,
        bucket: BucketView,
        now: Duration,
    ) -> Result<(), Spent> {
        if !bucket.is_low() {
            return Ok(());
        }
        let Some(callers) = self.projects.get_mut(&project) else {
            return Ok(());
        };
        callers.sweep(now);
        let who = callers.account_or_shared(who);
        let own = callers.recent.get(&who).copied();
        let others = callers.recent.len() - usize::from(own.is_some());
        let everybody =
            1 + u32::try_from(others).expect("at most MOST_CALLERS and the shared account");
        let share = (bucket.refill_per_minute / everybody).max(1);
        own.unwrap_or_default()
            .wait_for_less_than(share, now)
            .map_or(Ok(()), |retry_after| {
                Err(Spent {
                    limit: Limit::FairShare { calls: share },
                    retry_after,
                })
            })
    }

    pub(super) fn add(&mut self, project: ProjectId, who: u64, calls: u32, now: Duration) {
        if self.projects.len() >= MOST_PROJECTS && !self.projects.contains_key(&project) {
            if is_new_slot(&mut self.swept, now) {
                self.projects.retain(|_, callers| {
                    callers.sweep(now);
                    !callers.recent.is_empty()
                });
            }
            if self.projects.len() >= MOST_PROJECTS {
                return;
            }
        }
        let callers = self.projects.entry(project).or_default();
        callers.sweep(now);
        let who = callers.account_or_shared(who);
        callers.recent.entry(who).or_default().add(calls, now);
    }

    #[cfg(test)]
    pub(super) fn callers(&self) -> usize {
        self.projects
            .values()
            .map(|callers| callers.recent.len())
            .sum()
    }
}

impl Callers {
    /// Forgets callers that took nothing in the last minute. That changes with the slot, so once in each is
    /// enough.
    fn sweep(&mut self, now: Duration) {
        if is_new_slot(&mut self.swept, now) {
            self.recent.retain(|_, recent| recent.total(now) > 0);
        }
    }

    fn account_or_shared(&self, who: u64) -> u64 {
        if self.recent.len() < MOST_CALLERS || self.recent.contains_key(&who) {
            who
        } else {
            SHARED_ACCOUNT
        }
    }
}

impl Recent {
    fn add(&mut self, calls: u32, now: Duration) {
        self.pass(now);
        if let Some(slot) = self.slots.first_mut() {
            *slot = slot.saturating_add(calls);
        }
    }

    fn total(mut self, now: Duration) -> u32 {
        self.pass(now);
        self.slots
            .iter()
            .fold(0, |sum, slot| sum.saturating_add(*slot))
    }

    /// How long until fewer than `share` calls are of the last minute; `None` if that is now.
    fn wait_for_less_than(mut self, share: u32, now: Duration) -> Option<Duration> {
        self.pass(now);
        let mut total = self.total(now);
        if total < share {
            return None;
        }
        let end = SLOT.as_secs().saturating_mul(slot(now).saturating_add(1));
        let mut wait = Duration::from_secs(end).saturating_sub(now);
        for slot in self.slots.iter().rev() {
            total = total.saturating_sub(*slot);
            if total < share {
                break;
            }
            wait = wait.saturating_add(SLOT);
        }
        Some(wait)
    }

    fn pass(&mut self, now: Duration) {
        let current = slot(now);
        let passed = usize::try_from(current.saturating_sub(self.last));
        let passed = passed.map_or(SLOTS, |passed| passed.min(SLOTS));
        self.slots.rotate_right(passed);
        self.slots
            .iter_mut()
            .take(passed)
            .for_each(|slot| *slot = 0);
        self.last = self.last.max(current);
    }
}

const SLOTS: usize = 6;
const MOST_PROJECTS: usize = 1_024;
const MOST_CALLERS: usize = 1_024;
