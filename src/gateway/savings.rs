//! What a lookup would have cost its caller who asks Atlas himself, and how much of that was saved.

use super::Answer;
use super::Refusal;
use crate::upstream::LONGEST_PAGE;
use crate::upstream::Verdict;

/// Calls to Atlas's API, of one lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Savings {
    /// What Atlas would have charged the caller.
    pub(super) would_have_cost: u32,
    /// That without what the lookup has cost Atlas here; never below 0.
    pub(super) saved: u32,
}

impl Savings {
    /// Of a lookup that ended like this. `one_page` says whether the caller asked for a page, which is one
    /// call however long the list is.
    pub(super) fn of(outcome: &Result<Answer, Refusal>, one_page: bool) -> Self {
        let (would_have_cost, spent) = match outcome {
            Ok(Answer { found, .. }) => {
                let pages = if one_page {
                    1
                } else {
                    found.entry.list().len().div_ceil(LONGEST_PAGE).max(1)
                };
                let pages = u32::try_from(pages).unwrap_or(u32::MAX);
                (pages, found.upstream_calls)
            }
            Err(refusal) => (u32::from(is_missing(refusal)), refusal.upstream_calls()),
        };
        Self {
            would_have_cost,
            saved: would_have_cost.saturating_sub(spent),
        }
    }
}

/// Whether the answer is Atlas's own: that there is no such user or project.
fn is_missing(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Fetch { error, .. } => error.verdict() == Verdict::Missing,
        Refusal::Denied(_)
        | Refusal::NoKeys
        | Refusal::NoToken
        | Refusal::Overloaded { .. }
        | Refusal::Panicked
        | Refusal::RateLimited(_)
        | Refusal::TimedOut
        | Refusal::TooManyRefusals(_)
        | Refusal::Unauthenticated(_) => false,
    }
}
