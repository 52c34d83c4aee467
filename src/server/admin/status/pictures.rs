//! What is drawn on the page: a line for what was made and one for what was spared, and bars.

use std::time::Duration;

use crate::gateway::CallCounts;
use crate::upstream::ProjectBudget;

/// The calls of each of the last sixty minutes.
pub(super) struct CallsPicture {
    pub(super) made: String,
    pub(super) spared: String,
    /// The same in words.
    pub(super) text: String,
}

pub(super) struct ShownBudget {
    pub(super) name: String,
    pub(super) remaining: u64,
    pub(super) percent: u64,
    pub(super) width: u64,
    pub(super) ours: u64,
    pub(super) others: u64,
    pub(super) tone: &'static str,
    pub(super) lasts: String,
}

/// A bar of the picture.
pub(super) struct Week {
    pub(super) x: usize,
    pub(super) y: u64,
    pub(super) height: u64,
}

impl CallsPicture {
    pub(super) fn of(minutes: &[CallCounts]) -> Self {
        // A line has two ends, also in the first minute.
        let minutes = match minutes {
            [one] => &[*one, *one],
            minutes => minutes,
        };
        let made: Vec<u64> = minutes.iter().map(|it| it.made).collect();
        let spared = minutes
            .iter()
            .map(|it| it.would_have_cost.saturating_sub(it.made));
        let spared: Vec<u64> = spared.collect();
        let most = |of: &[u64]| of.iter().copied().max().unwrap_or(0);
        let least = |of: &[u64]| of.iter().copied().min().unwrap_or(0);
        let highest = most(&made).max(most(&spared));
        Self {
            text: format!(
                "Calls to Atlas per minute in the last hour: made {} to {}, spared {} to {}",
                least(&made),
                most(&made),
                least(&spared),
                most(&spared)
            ),
            made: line(&made, highest),
            spared: line(&spared, highest),
        }
    }
}

impl ShownBudget {
    pub(super) fn of(budget: &ProjectBudget, name: String) -> Self {
        let bucket = &budget.bucket;
        let (percent, width) = (
            part(bucket.remaining, bucket.capacity, 100),
            part(bucket.remaining, bucket.capacity, 120),
        );
        let reserve_in = Duration::try_from_secs_f64(bucket.reserve_in).ok();
        let (tone, lasts) = match reserve_in.map(|time| time.as_secs()) {
            None => ("good", "for good".to_owned()),
            Some(0) => ("bad", "at the reserve".to_owned()),
            Some(seconds) => (
                "warn",
                format!("{} min to the reserve", seconds.div_ceil(60)),
            ),
        };
        Self {
            name,
            remaining: bucket.remaining,
            percent,
            width,
            ours: bucket.ours_per_minute,
            others: bucket.others_per_minute,
            tone,
            lasts,
        }
    }
}

/// `value` of `whole`, as a part of `all`.
fn part(value: u64, whole: u64, all: u64) -> u64 {
    value
        .min(whole)
        .saturating_mul(all)
        .checked_div(whole)
        .unwrap_or(0)
}

/// The numbers of the minutes, from left to right.
fn line(minutes: &[u64], most: u64) -> String {
    let last = u64::try_from(minutes.len().saturating_sub(1)).unwrap_or(1);
    let points = (0..).zip(minutes).map(|(at, calls)| {
        let (x, y) = (
            part(at, last.max(1), 300),
            58 - part(*calls, most.max(1), 56),
        );
        format!("{x},{y}")
    });
    points.collect::<Vec<_>>().join(" ")
}

pub(super) fn bars(weeks: &[u64]) -> Vec<Week> {
    let most = weeks.iter().copied().max().unwrap_or(0).max(1);
    let bars = weeks.iter().enumerate().map(|(week, users)| {
        let height = part(*users, most, 56);
        Week {
            x: week * 23,
            y: 60 - height,
            height,
        }
    });
    bars.collect()
}
