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

mod meters;
mod shares;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meters::Meters;
use shares::Shares;

use super::{Permit, RateLimit};
use crate::identity::Caller;
use crate::system::Moment;

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller's allowance is spent")]
pub struct Spent {
    /// Which limit it has reached.
    pub limit: Limit,
    /// When it is worth asking again.
    pub retry_after: Duration,
}

/// What limits a caller, and to how much a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
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
    /// Whether the rule's `lookups_per_minute` leaves the caller one more.
    ///
    /// Costs nothing where the rule sets no limit.
    pub fn admit_lookup(
        &self,
        caller: &Caller,
        permit: &Permit<'_>,
        now: Moment,
    ) -> Result<(), Spent> {
        let Some(limit) = permit.lookups_per_minute() else {
            return Ok(());
        };
        let (account, most) = (self.account(caller, limit), limit.per_minute);
        let taken = lock(&self.lookups).take(account, most, now.elapsed);
        taken.map_err(|retry_after| Spent {
            limit: Limit::Lookups {
                most,
                rule: Arc::clone(&limit.rule),
            },
            retry_after,
        })
    }

    /// Whether the caller may cost Atlas a call: the rule's `misses_per_minute`, and its fair share
    /// while the project's bucket is below two fifths. Counts one call if so.
    pub fn admit_miss(
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
            let (account, most) = (self.account(caller, limit), limit.per_minute);
            let taken = lock(&self.misses).take(account, most, now.elapsed);
            taken.map_err(|retry_after| Spent {
                limit: Limit::Misses {
                    most,
                    rule: Arc::clone(&limit.rule),
                },
                retry_after,
            })?;
        }
        lock(&self.shares).add(project, who, 1, now.elapsed);
        Ok(())
    }

    /// Counts the calls of an admitted miss beyond its first, once they are known.
    pub fn charge(&self, caller: &Caller, permit: &Permit<'_>, further_calls: u32, now: Moment) {
        if further_calls > 0 {
            let project = permit.query().project;
            let who = self.seed.hash_one((&*caller.issuer, &*caller.subject));
            lock(&self.shares).add(project, who, further_calls, now.elapsed);
        }
    }

    fn account(&self, caller: &Caller, limit: &RateLimit<'_>) -> u64 {
        self.seed
            .hash_one((&*caller.issuer, &*caller.subject, &**limit.rule))
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

const SLOT: Duration = Duration::from_secs(10);

/// The account of those for whom there is no room.
const SHARED_ACCOUNT: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atlas::{CertQuery, Timestamp};
    use crate::policy::{Config, Policy, RuleConfig};

    const FULL: BucketView = BucketView {
        remaining: 1_200,
        capacity: 1_200,
        refill_per_minute: 500,
    };
    const LOW: BucketView = BucketView {
        remaining: 479,
        ..FULL
    };

    fn at(seconds: u64) -> Moment {
        Moment {
            elapsed: Duration::from_secs(seconds),
            wall: Timestamp::default(),
        }
    }

    fn caller(subject: &str) -> Caller {
        Caller {
            subject: Box::from(subject),
            issuer: Arc::from("https://idp.test"),
            client_id: None,
            token_id: None,
            key_id: None,
            scopes: Box::default(),
            expires_at: Timestamp::default(),
        }
    }

    fn permit(lookups: Option<u32>, misses: Option<u32>) -> Permit<'static> {
        let everybody = || vec!["*".to_owned()];
        let rule = RuleConfig {
            name: "rule".to_owned(),
            subjects: everybody(),
            projects: everybody(),
            usernames: everybody(),
            lookups_per_minute: lookups,
            misses_per_minute: misses,
            ..RuleConfig::default()
        };
        let query = CertQuery {
            project: "32b6e34b3d91647abb20e7b8".parse().unwrap(),
            username: "u".parse().unwrap(),
        };
        Policy::build(&Config {
            rules: vec![rule],
            ..Config::default()
        })
        .unwrap()
        .authorize(&caller("a"), &query)
        .unwrap()
        .into_owned()
    }

    #[test]
    fn a_rule_s_limit_holds_for_each_caller_and_says_when_to_come_again() {
        let allowance = Allowance::default();
        let permit = permit(Some(6), Some(3));
        for (name, most) in [("a", 6), ("b", 6)] {
            for _ in 0..most {
                allowance
                    .admit_lookup(&caller(name), &permit, at(0))
                    .unwrap();
            }
            let spent = allowance
                .admit_lookup(&caller(name), &permit, at(0))
                .unwrap_err();
            assert_eq!(spent.retry_after, Duration::from_secs(10));
        }
        allowance
            .admit_lookup(&caller("a"), &permit, at(10))
            .unwrap();
        assert!(
            allowance
                .admit_lookup(&caller("a"), &permit, at(10))
                .is_err()
        );
        for _ in 0..3 {
            allowance
                .admit_miss(&caller("a"), &permit, FULL, at(0))
                .unwrap();
        }
        let spent = allowance
            .admit_miss(&caller("a"), &permit, FULL, at(0))
            .unwrap_err();
        assert_eq!(spent.retry_after, Duration::from_secs(20));
    }

    #[test]
    fn a_limit_is_never_exceeded_over_any_minute_but_the_first() {
        let allowance = Allowance::default();
        let permit = permit(Some(60), None);
        let admitted = |from: u64| {
            (from * 10..(from + 60) * 10)
                .filter(|tenths| {
                    let now = Moment {
                        elapsed: Duration::from_millis(tenths * 100),
                        ..at(0)
                    };
                    allowance.admit_lookup(&caller("a"), &permit, now).is_ok()
                })
                .count()
        };
        assert_eq!(admitted(0), 119, "a full bucket and its refill");
        assert_eq!(admitted(60), 60);
        assert_eq!(admitted(120), 60);
    }

    #[test]
    fn without_limits_nobody_is_held_back_while_there_is_plenty() {
        let allowance = Allowance::default();
        let permit = permit(None, None);
        for _ in 0..10_000 {
            allowance
                .admit_lookup(&caller("a"), &permit, at(0))
                .unwrap();
            allowance
                .admit_miss(&caller("a"), &permit, FULL, at(0))
                .unwrap();
        }
    }

    #[test]
    fn while_the_bucket_is_low_one_caller_cannot_spend_it_for_all() {
        let allowance = Allowance::default();
        let permit = permit(None, None);
        // One caller alone takes the whole refill and no more.
        let greedy = (0..1_000)
            .filter(|_| {
                allowance
                    .admit_miss(&caller("greedy"), &permit, LOW, at(0))
                    .is_ok()
            })
            .count();
        assert_eq!(greedy, 500);
        // Four others come: a fifth each.
        for name in ["b", "c", "d", "e"] {
            allowance
                .admit_miss(&caller(name), &permit, LOW, at(5))
                .unwrap();
        }
        let more = (0..1_000)
            .filter(|_| {
                allowance
                    .admit_miss(&caller("b"), &permit, LOW, at(5))
                    .is_ok()
            })
            .count();
        assert_eq!(more, 99);
        let spent = allowance
            .admit_miss(&caller("greedy"), &permit, LOW, at(5))
            .unwrap_err();
        assert_eq!(spent.retry_after, Duration::from_secs(55));
        // A minute later the five hundred are forgotten.
        allowance
            .admit_miss(&caller("greedy"), &permit, LOW, at(60))
            .unwrap();
    }

    #[test]
    fn a_walk_of_many_pages_counts_as_many_calls() {
        let allowance = Allowance::default();
        let permit = permit(None, None);
        allowance
            .admit_miss(&caller("a"), &permit, LOW, at(0))
            .unwrap();
        allowance.charge(&caller("a"), &permit, 499, at(0));
        assert!(
            allowance
                .admit_miss(&caller("a"), &permit, LOW, at(0))
                .is_err()
        );
        // Another project is another bucket, and so is another caller's share.
        allowance
            .admit_miss(&caller("b"), &permit, LOW, at(0))
            .unwrap();
    }

    #[test]
    fn everybody_gets_at_least_one_call_a_minute() {
        let allowance = Allowance::default();
        let permit = permit(None, None);
        for number in 0..1_000 {
            let one = caller(&format!("caller-{number}"));
            allowance.admit_miss(&one, &permit, LOW, at(0)).unwrap();
            let again = allowance.admit_miss(&one, &permit, LOW, at(0));
            assert_eq!(again.is_err(), number >= 250, "{number}");
        }
    }

    #[test]
    fn memory_is_bounded_however_many_callers_come() {
        let allowance = Allowance::default();
        let permit = permit(Some(1), Some(1));
        for number in 0..100_000 {
            let one = caller(&number.to_string());
            let _ = allowance.admit_lookup(&one, &permit, at(0));
            let _ = allowance.admit_miss(&one, &permit, FULL, at(0));
        }
        assert!(lock(&allowance.lookups).accounts() <= 65_537);
        assert!(lock(&allowance.shares).callers() <= 1_025);
        // Once their minute is over, newcomers have accounts of their own again.
        for number in 0..10 {
            let one = caller(&format!("new-{number}"));
            allowance.admit_lookup(&one, &permit, at(120)).unwrap();
        }
    }
}
