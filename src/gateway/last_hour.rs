//! What was asked for, and what was made of it at Atlas, in each of the last sixty minutes; for the status page.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Calls to Atlas for certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallCounts {
    /// What answered lookups would have cost their callers.
    pub(crate) would_have_cost: u64,
    /// What was made.
    pub(crate) made: u64,
}

/// The last sixty minutes.
#[derive(Debug, Default)]
pub(crate) struct LastHour(Mutex<Minutes>);

#[derive(Debug, Default)]
struct Minutes {
    /// All up to the end of the last of them.
    total: CallCounts,
    each: VecDeque<CallCounts>,
}

impl LastHour {
    /// A minute is over, at the end of which there were so many in all.
    pub(crate) fn note(&self, total: CallCounts) {
        let mut minutes = self.minutes();
        let minute = total.since(minutes.total);
        minutes.total = total;
        minutes.each.push_back(minute);
        if minutes.each.len() > MINUTES {
            minutes.each.pop_front();
        }
    }

    /// Each minute that is over, the oldest first, and the present one, of `total` up to now.
    pub(crate) fn each(&self, total: CallCounts) -> Vec<CallCounts> {
        let minutes = self.minutes();
        let present = total.since(minutes.total);
        minutes.each.iter().copied().chain([present]).collect()
    }

    fn minutes(&self) -> MutexGuard<'_, Minutes> {
        // Nothing that holds it can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallCounts {
    fn since(self, earlier: Self) -> Self {
        Self {
            would_have_cost: self.would_have_cost.saturating_sub(earlier.would_have_cost),
            made: self.made.saturating_sub(earlier.made),
        }
    }
}

const MINUTES: usize = 60;
