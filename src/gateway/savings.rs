//! What a lookup would have cost its caller who asks Atlas himself, and how much of that was saved.

use crate::audit::usage::would_have_cost;
use crate::audit::{Closing, Outcome};

/// Calls to Atlas's API, of one lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Savings {
    /// What Atlas would have charged the caller.
    pub(super) would_have_cost: u32,
    /// That without what the lookup has cost Atlas here; never below 0.
    pub(super) saved: u32,
}

impl Savings {
    /// Of a lookup that ended like this. It is reckoned from what is on record, so that `audit usage` comes
    /// to the same.
    pub(super) fn of(closing: &Closing<'_>) -> Self {
        let would_have_cost = match closing.outcome {
            Outcome::Answered => would_have_cost(closing.certificates),
            Outcome::Abandoned
            | Outcome::Denied
            | Outcome::Failed
            | Outcome::Rejected
            | Outcome::Unauthenticated => 0,
        };
        let would_have_cost = u32::try_from(would_have_cost).unwrap_or(u32::MAX);
        Self {
            would_have_cost,
            saved: would_have_cost.saturating_sub(closing.upstream_calls),
        }
    }
}
