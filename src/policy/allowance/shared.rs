//! Allowances of callers whose lookups go to several replicas.
//!
//! A lookup takes from this replica's account alone. Once a second the fleet is told what was taken, and the account
//! follows what all replicas have taken: it is full again as late as they say. So a caller that moves from one
//! replica to another may have its burst again for a second, and pays for it afterwards; over minutes it has what one
//! replica would give it. While the fleet cannot be asked, each replica goes by its own account.

#[cfg(test)]
mod tests;

use std::sync::Mutex;
use std::time::Duration;

use super::{Allowance, MINUTE, TokenBuckets, lock};
use crate::fleet::{AccountName, Alone, Fleet, Spending};
use crate::system::Clock;

/// What was taken of an account since the fleet was told.
#[derive(Clone, Debug)]
pub(super) struct Untold {
    name: AccountName,
    per_minute: u32,
    spent: u32,
    first: Duration,
}

/// What the fleet is told of an account.
struct Told {
    account: u64,
    spending: Spending,
}

impl Untold {
    pub(super) fn of(name: AccountName) -> Self {
        Self {
            name,
            per_minute: 0,
            spent: 0,
            first: Duration::ZERO,
        }
    }

    /// One more was taken.
    pub(super) fn add(&mut self, per_minute: u32, now: Duration) {
        if self.spent == 0 {
            self.first = now;
        }
        self.per_minute = per_minute;
        self.spent += 1;
    }
}

impl Allowance {
    /// Tells the fleet each second what callers have taken here, and follows what they have taken elsewhere.
    pub(crate) async fn share(&self, clock: &Clock) {
        let Some(fleet) = &self.fleet else { return };
        loop {
            clock.sleep(BETWEEN_ROUNDS).await;
            if fleet.is_connected() {
                // Alone, it is told the next time.
                let _ = self.tell(fleet, clock.elapsed()).await;
            }
        }
    }

    async fn tell(&self, fleet: &Fleet, now: Duration) -> Result<(), Alone> {
        for buckets in [&self.lookups, &self.misses] {
            let told = lock(buckets).tell(now);
            let mut rest = &told[..];
            while !rest.is_empty() {
                let (some, later) = rest.split_at(rest.len().min(MOST_AT_ONCE));
                let spendings: Vec<Spending> = some.iter().map(|told| told.spending).collect();
                let Ok(missing) = fleet.spend(&spendings).await else {
                    lock(buckets).take_back(rest, now);
                    return Err(Alone);
                };
                follow(buckets, some.iter().zip(missing), now);
                rest = later;
            }
        }
        Ok(())
    }
}

fn follow<'t>(
    buckets: &Mutex<TokenBuckets>,
    told: impl Iterator<Item = (&'t Told, Duration)>,
    now: Duration,
) {
    let mut buckets = lock(buckets);
    for (told, missing) in told {
        if let Some(account) = buckets.accounts.get_mut(&told.account) {
            account.full_at = account.full_at.max(now + missing);
        }
    }
}

impl TokenBuckets {
    /// What is untold of each account, which is told now; and what is missing of those of which nothing more was
    /// taken, so that all replicas know it, and an engine that has forgotten it.
    fn tell(&mut self, now: Duration) -> Vec<Told> {
        let accounts = self.accounts.iter_mut();
        let told = accounts.filter_map(|(account, state)| {
            let missing = state.full_at.saturating_sub(now);
            let untold = state.untold.as_mut()?;
            if untold.spent == 0 && missing.is_zero() {
                return None;
            }
            // Of what was taken while the fleet could not be told, a minute's worth may still be owed.
            let spent = untold.spent.min(untold.per_minute);
            untold.spent = 0;
            Some(Told {
                account: *account,
                spending: Spending {
                    name: untold.name,
                    per_minute: untold.per_minute,
                    spent,
                    first_ago: now.saturating_sub(untold.first).min(MINUTE),
                    missing,
                },
            })
        });
        told.collect()
    }

    /// It was not told after all.
    fn take_back(&mut self, told: &[Told], now: Duration) {
        for Told { account, spending } in told {
            let state = self.accounts.get_mut(account);
            if let Some(untold) = state.and_then(|state| state.untold.as_mut()) {
                untold.spent += spending.spent;
                untold.first = now.saturating_sub(spending.first_ago);
            }
        }
    }
}

const BETWEEN_ROUNDS: Duration = Duration::from_secs(1);
/// Accounts of which the fleet is told in one call.
const MOST_AT_ONCE: usize = 250;
