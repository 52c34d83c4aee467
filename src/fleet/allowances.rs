//! What callers have spent of their allowances at each replica.
//!
//! No caller waits for it: once a second each replica says what its callers have spent since, and hears after how long
//! their allowances are whole by what all say.

use std::time::Duration;

use redis::Value;

use super::lease::millis;
use super::reply::number;
use super::{Alone, Fleet};
use crate::telemetry::metrics::fleet::FleetFunction;

/// Of a caller's account by one rule: a hash that takes the fleet's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountName([u8; 16]);

/// What was spent of an account at this replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spending {
    pub(crate) name: AccountName,
    /// How many the account has in a minute.
    pub(crate) per_minute: u32,
    /// How many were spent since the last time, and how long ago the first of them was.
    pub(crate) spent: u32,
    pub(crate) first_ago: Duration,
    /// After how long the account is whole again, by what this replica knows.
    pub(crate) missing: Duration,
}

impl Fleet {
    /// The name that all replicas have for an account of these parts.
    pub(crate) fn account_name(&self, parts: &[&str]) -> AccountName {
        let text = serde_json::to_vec(parts).expect("texts are plain data");
        AccountName(self.0.names.hash(&text))
    }

    /// Says what was spent; after how long each account is whole again, in the same order.
    pub(crate) async fn spend(&self, spendings: &[Spending]) -> Result<Vec<Duration>, Alone> {
        let longest = LONGEST_DEBT * (self.replicas() + 1);
        let mut arguments = vec![millis(longest)];
        let mut keys = Vec::with_capacity(spendings.len());
        for spending in spendings {
            keys.push(self.0.names.of_allowance(&spending.name.0));
            arguments.extend([
                spending.per_minute.max(1).to_string(),
                spending.spent.to_string(),
                millis(spending.first_ago),
                millis(spending.missing),
            ]);
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let arguments: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
        let reply = self.call(FleetFunction::Spend, &keys, &arguments).await?;
        let Value::Array(missing) = reply else {
            return Err(Alone);
        };
        let missing = missing
            .into_iter()
            .map(|it| number(it).map(Duration::from_millis));
        let missing: Option<Vec<Duration>> = missing.collect();
        missing
            .filter(|missing| missing.len() == spendings.len())
            .ok_or(Alone)
    }
}

/// An account is at most so far in debt for each replica that may have admitted a whole minute at once.
const LONGEST_DEBT: Duration = Duration::from_mins(1);
