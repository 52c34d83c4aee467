//! What others would have made of the same day.

use std::collections::HashMap;
use std::time::Duration;

use crate::day::{Day, What};

/// Calls to Atlas.
pub(crate) struct Others {
    pub(crate) uncached: usize,
    pub(crate) plain: usize,
    pub(crate) least: usize,
}

impl Others {
    pub(crate) fn of(day: &Day, ttl: Duration) -> Self {
        let (mut uncached, mut plain, mut least) = (0, 0, 0);
        let mut of_plain: HashMap<usize, Duration> = HashMap::new();
        let mut of_least: HashMap<usize, Duration> = HashMap::new();
        let mut is_ill = false;
        for event in &day.events {
            let (pods, forced) = match event.what {
                What::Fall => {
                    is_ill = true;
                    continue;
                }
                What::Recover => {
                    is_ill = false;
                    continue;
                }
                What::Issue | What::Revoke => continue,
                What::Lookup { pods, forced } => (pods, forced),
            };
            uncached += pods;
            let is_fresh = |kept: &HashMap<usize, Duration>| {
                let fetched = kept.get(&event.user);
                !forced && fetched.is_some_and(|fetched| event.at.saturating_sub(*fetched) < ttl)
            };
            if !is_fresh(&of_plain) {
                plain += pods;
                if !is_ill {
                    of_plain.insert(event.user, event.at);
                }
            }
            if !is_ill && !is_fresh(&of_least) {
                least += 1;
                of_least.insert(event.user, event.at);
            }
        }
        Self {
            uncached,
            plain,
            least,
        }
    }
}
