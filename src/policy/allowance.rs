//! Rate limits of callers: a token bucket per caller and rule, and fair shares of a project's budget.
//!
//! A rule may fix how many lookups, and how many of them past the cache, each caller may
//! make in a minute. And while a project's bucket at Atlas runs low, no caller takes more than a fair
//! share: the bucket's refill, divided by the callers of the last minute.
//!
//! A caller is its issuer and its subject. Memory is bounded, and only callers of the last minute take
//! any; should even they be too many, the last to come share one account. What is kept of a caller
//! is a keyed hash; two that collide, which is less likely than a memory fault, share an account.

mod fair_share;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fair_share::FairShares;

use shared::Untold;

use super::permit::{Permit, RateLimit};
use crate::fleet::{AccountName, Fleet};
use crate::identity::Caller;
use crate::system::Moment;

/// What callers have taken lately.
#[derive(Default)]
pub struct Allowance {
    seed: RandomState,
    /// Of a replica that shares with others.
    fleet: Option<Fleet>,
    lookups: Mutex<TokenBuckets>,
    misses: Mutex<TokenBuckets>,
    shares: Mutex<FairShares>,
}

/// A project's bucket at Atlas, as it is known here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BucketView {
    /// How many calls are left.
    pub(crate) remaining: u32,
    /// How many it holds.
    pub(crate) capacity: u32,
    /// How many come back each minute.
    pub(crate) refill_per_minute: u32,
}

/// What is left of what a caller may ask in a minute, where its rules set limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowancesLeft {
    pub(crate) lookups: Option<AllowanceLeft>,
    pub(crate) misses: Option<AllowanceLeft>,
}

/// What is left of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AllowanceLeft {
    /// The limit.
    pub(crate) per_minute: u32,
    pub(crate) left: u32,
    /// After how long all of it is there again.
    pub(crate) whole_in: Duration,
}

/// The caller has taken what it may for now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller's allowance is spent")]
pub struct Spent {
    /// Which limit it has reached.
    pub(crate) limit: Limit,
    /// When it is worth asking again.
    pub(crate) retry_after: Duration,
}

/// What limits a caller, and to how much a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Its part of what comes back to the project's bucket, while that is low.
    FairShare {
        /// How many calls to Atlas that is now.
        calls: u32,
    },
    /// The rule's `lookups_per_minute`.
    Lookups {
        /// How many lookups.
        most: u32,
        /// The rule's name.
        rule: Arc<str>,
    },
    /// The rule's `misses_per_minute`.
    Misses {
        /// How many lookups that memory cannot answer.
        most: u32,
        /// The rule's name.
        rule: Arc<str>,
    },
}

impl Allowance {
    /// Of a replica of `fleet`, if there is one.
    pub(crate) fn in_fleet(fleet: Option<Fleet>) -> Self {
        Self {
            fleet,
            ..Self::default()
        }
    }

    /// Takes one of the rule's `lookups_per_minute`, if it sets a limit.
    pub(crate) fn admit_lookup(
        &self,
        caller: &Caller,
        permit: &Permit<'_>,
        now: Moment,
    ) -> Result<(), Spent> {
        self.admit_question(caller, permit.lookups_per_minute(), now)
    }

    /// The same for what is no lookup of one list and counts as one.
    pub(crate) fn admit_question(
        &self,
        caller: &Caller,
        limit: Option<&RateLimit<'_>>,
        now: Moment,
    ) -> Result<(), Spent> {
        let Some(limit) = limit else {
            return Ok(());
        };
        let taken = self.take(&self.lookups, caller, limit, now);
        taken.map_err(|retry_after| Spent {
            limit: Limit::Lookups {
                most: limit.per_minute,
                rule: Arc::clone(&limit.rule),
            },
            retry_after,
        })
    }

    /// Whether the caller may cost Atlas a call: by its fair share while the project's bucket is below two
    /// fifths, and by the rule's `misses_per_minute`. Counts one call if so.
    pub(crate) fn admit_miss(
        &self,
        caller: &Caller,
        permit: &Permit<'_>,
        bucket: BucketView,
        now: Moment,
    ) -> Result<(), Spent> {
        let project = permit.query().project;
        let who = self.seed.hash_one((&*caller.issuer, &*caller.subject));
        // The share first: a caller that it turns away has not used up its fixed limit.
        lock(&self.shares).may_take(project, who, bucket, now.elapsed)?;
        if let Some(limit) = permit.misses_per_minute() {
            let taken = self.take(&self.misses, caller, limit, now);
            taken.map_err(|retry_after| Spent {
                limit: Limit::Misses {
                    most: limit.per_minute,
                    rule: Arc::clone(&limit.rule),
                },
                retry_after,
            })?;
        }
        lock(&self.shares).add(project, who, 1, now.elapsed);
        Ok(())
    }

    fn take(
        &self,
        buckets: &Mutex<TokenBuckets>,
        caller: &Caller,
        limit: &RateLimit<'_>,
        now: Moment,
    ) -> Result<(), Duration> {
        let who = [&*caller.issuer, &*caller.subject, &**limit.rule];
        let named = || {
            let fleet = self.fleet.as_ref()?;
            Some(fleet.account_name(&who))
        };
        let account = self.seed.hash_one(who);
        lock(buckets).take(account, limit.per_minute, named, now.elapsed)
    }

    /// What is left of the caller's limits.
    pub(crate) fn left(&self, caller: &Caller, permit: &Permit<'_>, now: Moment) -> AllowancesLeft {
        let misses = permit.misses_per_minute();
        AllowancesLeft {
            misses: misses.map(|limit| self.left_of(&self.misses, caller, limit, now)),
            ..self.left_for_questions(caller, permit.lookups_per_minute(), now)
        }
    }

    /// What is left for questions that never cost Atlas a call.
    pub(crate) fn left_for_questions(
        &self,
        caller: &Caller,
        lookups: Option<&RateLimit<'_>>,
        now: Moment,
    ) -> AllowancesLeft {
        AllowancesLeft {
            lookups: lookups.map(|limit| self.left_of(&self.lookups, caller, limit, now)),
            misses: None,
        }
    }

    fn left_of(
        &self,
        buckets: &Mutex<TokenBuckets>,
        caller: &Caller,
        limit: &RateLimit<'_>,
        now: Moment,
    ) -> AllowanceLeft {
        let who = [&*caller.issuer, &*caller.subject, &**limit.rule];
        lock(buckets).left(self.seed.hash_one(who), limit.per_minute, now.elapsed)
    }

    /// Counts the calls of an admitted miss beyond its first, once they are known.
    pub(crate) fn charge(
        &self,
        caller: &Caller,
        permit: &Permit<'_>,
        further_calls: u32,
        now: Moment,
    ) {
        if further_calls > 0 {
            let project = permit.query().project;
            let who = self.seed.hash_one((&*caller.issuer, &*caller.subject));
            lock(&self.shares).add(project, who, further_calls, now.elapsed);
        }
    }
}

/// Token buckets by caller and rule.
#[derive(Debug, Default)]
struct TokenBuckets {
    accounts: HashMap<u64, Account>,
    swept: u64,
}

/// One of them, kept as the one instant when it is full again (the generic cell rate algorithm of ITU-T I.371).
#[derive(Clone, Debug, Default)]
struct Account {
    full_at: Duration,
    /// What the other replicas do not know of, and of which account; `None` without others.
    untold: Option<Untold>,
}

impl TokenBuckets {
    /// Takes one of a bucket of `limit` that fills in a minute, or says after how long there is one. `named` is
    /// what a new account is called by all replicas.
    fn take(
        &mut self,
        account: u64,
        limit: u32,
        named: impl FnOnce() -> Option<AccountName>,
        now: Duration,
    ) -> Result<(), Duration> {
        let account = self.account_or_shared(account, now);
        let account = self.accounts.entry(account).or_insert_with(|| Account {
            full_at: now,
            untold: named()
                .filter(|_| account != SHARED_ACCOUNT)
                .map(Untold::of),
        });
        let full_at = account.full_at.max(now);
        let after = full_at.saturating_add(MINUTE / limit.max(1));
        let wait = after.saturating_sub(now + MINUTE);
        if !wait.is_zero() {
            return Err(wait);
        }
        account.full_at = after;
        if let Some(untold) = &mut account.untold {
            untold.add(limit, now);
        }
        Ok(())
    }

    fn left(&self, account: u64, limit: u32, now: Duration) -> AllowanceLeft {
        let account = self.accounts.get(&account).or_else(|| {
            // One that came when the table was full.
            let is_full = self.accounts.len() >= MOST_ACCOUNTS;
            is_full
                .then(|| self.accounts.get(&SHARED_ACCOUNT))
                .flatten()
        });
        let full_at = account.map_or(now, |account| account.full_at);
        let whole_in = full_at.saturating_sub(now);
        let interval = (MINUTE / limit.max(1)).as_nanos().max(1);
        let left = MINUTE.saturating_sub(whole_in).as_nanos() / interval;
        AllowanceLeft {
            per_minute: limit,
            left: u32::try_from(left).unwrap_or(limit).min(limit),
            whole_in,
        }
    }

    fn account_or_shared(&mut self, account: u64, now: Duration) -> u64 {
        if self.accounts.len() >= MOST_ACCOUNTS && is_new_slot(&mut self.swept, now) {
            // An account that is full says no more than one that is not there.
            self.accounts.retain(|_, account| account.full_at > now);
        }
        if self.accounts.len() < MOST_ACCOUNTS || self.accounts.contains_key(&account) {
            account
        } else {
            SHARED_ACCOUNT
        }
    }
}

impl BucketView {
    fn is_low(&self) -> bool {
        // Below 40 %, in whole numbers.
        u64::from(self.remaining) * 5 < u64::from(self.capacity) * 2
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds it can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of the slot that `now` lies in, counted from the clock's beginning.
fn slot(now: Duration) -> u64 {
    now.as_secs() / SLOT.as_secs()
}

/// Whether `now` lies in another slot than `last`, which it then becomes.
fn is_new_slot(last: &mut u64, now: Duration) -> bool {
    std::mem::replace(last, slot(now)) != slot(now)
}

const MINUTE: Duration = Duration::from_mins(1);
const SLOT: Duration = Duration::from_secs(10);

/// Accounts in one table, each of two dozen bytes.
const MOST_ACCOUNTS: usize = 65_536;

/// The account of those that come when the table is full.
const SHARED_ACCOUNT: u64 = 0;
