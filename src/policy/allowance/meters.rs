//! Fixed limits: an account, its limit and the time go in, leave or a time to wait comes out.

use std::collections::HashMap;
use std::time::Duration;

use super::{SHARED_ACCOUNT, is_new_slot};

/// Fixed limits, by caller and rule: when each account is full again.
#[derive(Debug, Default)]
pub(super) struct Meters {
    full: HashMap<u64, Duration>,
    swept: u64,
}

impl Meters {
    /// Takes one, or says after how long there is one. A bucket of `limit` that fills in a minute, kept as
    /// the one instant when it is full (the generic cell rate algorithm of ITU-T I.371).
    pub(super) fn take(&mut self, account: u64, limit: u32, now: Duration) -> Result<(), Duration> {
        let account = self.room_for(account, now);
        let each = MINUTE / limit.max(1);
        let full = self.full.get(&account).copied().unwrap_or(now).max(now);
        let after = full.saturating_add(each);
        if let Some(retry_after) = after
            .checked_sub(now + MINUTE)
            .filter(|wait| !wait.is_zero())
        {
            return Err(retry_after);
        }
        self.full.insert(account, after);
        Ok(())
    }

    fn room_for(&mut self, account: u64, now: Duration) -> u64 {
        if self.full.len() < MOST_ACCOUNTS || self.full.contains_key(&account) {
            return account;
        }
        if is_new_slot(&mut self.swept, now) {
            // An account that is full again says no more than one that is not there.
            self.full.retain(|_, full| *full > now);
        }
        if self.full.len() < MOST_ACCOUNTS {
            account
        } else {
            SHARED_ACCOUNT
        }
    }

    #[cfg(test)]
    pub(super) fn accounts(&self) -> usize {
        self.full.len()
    }
}

const MINUTE: Duration = Duration::from_mins(1);
const MOST_ACCOUNTS: usize = 65_536;
