//! How much one caller may take: a [`Permit`] and the time go in, leave or a time to wait comes out.
//!
//! Two measures. A rule may fix how many lookups, and how many of them past the cache, each caller may
//! make in a minute. And while a project's bucket at Atlas runs low, nobody takes more than a fair
//! share: the bucket's refill, divided by the callers of the last minute, so that one of them cannot
//! spend it for all.
//!
//! A caller is its issuer and its subject. Memory is bounded, and only callers of the last minute take
//! any; should even they be too many, those who come last share one account. What is kept of a caller
//! is a keyed hash, no name: two that collide, which is less likely than a fault of the memory, share.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use super::Permit;
use crate::atlas::ProjectId;
use crate::clock::Moment;
use crate::identity::Caller;

/// What callers have taken lately.
#[derive(Debug, Default)]
pub struct Allowance {
    seed: RandomState,
    lookups: Mutex<Meters>,
    misses: Mutex<Meters>,
    shares: Mutex<Shares>,
}

/// A project's bucket at Atlas, as it is known here.
#[derive(Clone, Copy, Debug)]
pub struct BucketView {
    /// How many calls are left.
    pub remaining: u32,
    /// How many it holds.
    pub capacity: u32,
    /// How many come back each minute.
    pub refill_per_minute: u32,
}

/// The caller has taken what it may for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller's allowance is spent")]
pub struct Spent {
    /// When it is worth asking again.
    pub retry_after: Duration,
}

/// Fixed limits, by caller and rule: when each account is full again.
#[derive(Debug, Default)]
struct Meters(HashMap<u64, Duration>);

/// What each caller took of each project's bucket in the last minute.
#[derive(Debug, Default)]
struct Shares(HashMap<ProjectId, HashMap<u64, Recent>>);

/// Calls of the last minute, in slots of ten seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    slots: [u32; SLOTS],
    /// The slot of the last call, counted from the clock's beginning.
    last: u64,
}

impl Allowance {
    /// Whether the rule's `lookups_per_minute` leaves the caller one more.
    ///
    /// Costs nothing where the rule sets no limit.
    pub fn admit_lookup(
        &self,
        caller: &Caller,
        permit: &Permit,
        now: Moment,
    ) -> Result<(), Spent> {
        let Some(limit) = permit.lookups_per_minute() else {
            return Ok(());
        };
        let account = self.account(caller, permit);
        lock(&self.lookups).take(account, limit, now.elapsed)
    }

    /// Whether the caller may cost Atlas a call: the rule's `misses_per_minute`, and its fair share
    /// while the project's bucket is below two fifths. Counts one call if so.
    pub fn admit_miss(
        &self,
        caller: &Caller,
        permit: &Permit,
        bucket: BucketView,
        now: Moment,
    ) -> Result<(), Spent> {
        let project = permit.question().project;
        let who = self.seed.hash_one((&*caller.issuer, &*caller.subject));
        // The share first: a caller that it turns away has not used up its fixed limit.
        lock(&self.shares).may_take(project, who, bucket, now.elapsed)?;
        if let Some(limit) = permit.misses_per_minute() {
            let account = self.account(caller, permit);
            lock(&self.misses).take(account, limit, now.elapsed)?;
        }
        lock(&self.shares).add(project, who, 1, now.elapsed);
        Ok(())
    }

    /// Counts the calls of an admitted miss beyond its first, once they are known.
    pub fn charge(&self, caller: &Caller, permit: &Permit, further_calls: u32, now: Moment) {
        if further_calls > 0 {
            let project = permit.question().project;
            let who = self.seed.hash_one((&*caller.issuer, &*caller.subject));
            lock(&self.shares).add(project, who, further_calls, now.elapsed);
        }
    }

    fn account(&self, caller: &Caller, permit: &Permit) -> u64 {
        self.seed
            .hash_one((&*caller.issuer, &*caller.subject, &**permit.rule()))
    }
}

impl BucketView {
    fn is_low(&self) -> bool {
        // Below 40 %, in whole numbers.
        u64::from(self.remaining) * 5 < u64::from(self.capacity) * 2
    }
}

impl Meters {
    /// A bucket of `limit` that fills in a minute, kept as the one instant when it is full (the
    /// generic cell rate algorithm of ITU-T I.371).
    fn take(&mut self, account: u64, limit: u32, now: Duration) -> Result<(), Spent> {
        let account = self.room_for(account, now);
        let each = MINUTE / limit.max(1);
        let full = self.0.get(&account).copied().unwrap_or(now).max(now);
        let after = full.saturating_add(each);
        if let Some(retry_after) = after.checked_sub(now + MINUTE).filter(|wait| !wait.is_zero()) {
            return Err(Spent { retry_after });
        }
        self.0.insert(account, after);
        Ok(())
    }

    fn room_for(&mut self, account: u64, now: Duration) -> u64 {
        if self.0.len() >= MOST_ACCOUNTS && !self.0.contains_key(&account) {
            // An account that is full again says no more than one that is not there.
            self.0.retain(|_, full| *full > now);
            if self.0.len() >= MOST_ACCOUNTS {
                return SHARED_ACCOUNT;
            }
        }
        account
    }
}

impl Shares {
    fn may_take(
        &mut self,
        project: ProjectId,
        who: u64,
        bucket: BucketView,
        now: Duration,
    ) -> Result<(), Spent> {
        if !bucket.is_low() {
            return Ok(());
        }
        let Some(callers) = self.0.get_mut(&project) else {
            return Ok(());
        };
        callers.retain(|_, recent| recent.total(now) > 0);
        let own = callers.get(&who).copied().unwrap_or_default();
        let others = callers.len() - usize::from(callers.contains_key(&who));
        let everybody = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
        let share = (bucket.refill_per_minute / everybody).max(1);
        own.wait_for_less_than(share, now)
            .map_or(Ok(()), |retry_after| Err(Spent { retry_after }))
    }

    fn add(&mut self, project: ProjectId, who: u64, calls: u32, now: Duration) {
        if self.0.len() >= MOST_PROJECTS && !self.0.contains_key(&project) {
            self.0.retain(|_, callers| {
                callers.retain(|_, recent| recent.total(now) > 0);
                !callers.is_empty()
            });
            if self.0.len() >= MOST_PROJECTS {
                return;
            }
        }
        let callers = self.0.entry(project).or_default();
        if callers.len() >= MOST_CALLERS && !callers.contains_key(&who) {
            callers.retain(|_, recent| recent.total(now) > 0);
        }
        let full = callers.len() >= MOST_CALLERS && !callers.contains_key(&who);
        let who = if full { SHARED_ACCOUNT } else { who };
        callers.entry(who).or_default().add(calls, now);
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
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(*slot))
    }

    /// How long until fewer than `share` calls are of the last minute; `None` if that is now.
    fn wait_for_less_than(mut self, share: u32, now: Duration) -> Option<Duration> {
        self.pass(now);
        let mut total = self.total(now);
        if total < share {
            return None;
        }
        let into_slot = Duration::from_millis(
            u64::try_from(now.as_millis()).unwrap_or(u64::MAX) % slot_millis(),
        );
        let mut wait = SLOT.saturating_sub(into_slot);
        for slot in self.slots.iter().rev() {
            total = total.saturating_sub(*slot);
            if total < share {
                break;
            }
            wait = wait.saturating_add(SLOT);
        }
        Some(wait)
    }

    /// Moves the slots on; the newest stands first.
    fn pass(&mut self, now: Duration) {
        let current = u64::try_from(now.as_millis()).unwrap_or(u64::MAX) / slot_millis();
        let passed = usize::try_from(current.saturating_sub(self.last)).unwrap_or(SLOTS);
        if passed >= SLOTS {
            self.slots = [0; SLOTS];
        } else {
            self.slots.rotate_right(passed);
            self.slots.iter_mut().take(passed).for_each(|slot| *slot = 0);
        }
        self.last = self.last.max(current);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds it can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn slot_millis() -> u64 {
    10_000
}

const MINUTE: Duration = Duration::from_mins(1);
const SLOT: Duration = Duration::from_millis(slot_millis());
const SLOTS: usize = 6;
const MOST_ACCOUNTS: usize = 65_536;
const MOST_PROJECTS: usize = 1_024;
const MOST_CALLERS: usize = 1_024;

/// The account of those for whom there is no room.
const SHARED_ACCOUNT: u64 = 0;
