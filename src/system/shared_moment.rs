//! A moment that many read while one sets it, without a lock.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Moment;
use crate::atlas::Timestamp;

/// When something happened last, to the millisecond.
///
/// Who reads while it is set may find one time of before and one of after; then what is looked at seems
/// at most as old as it was before.
#[derive(Debug)]
pub(crate) struct SharedMoment {
    elapsed: AtomicU64,
    wall: AtomicI64,
}

impl SharedMoment {
    pub(crate) fn new(moment: Moment) -> Self {
        Self {
            elapsed: AtomicU64::new(millis(moment.elapsed)),
            wall: AtomicI64::new(moment.wall.micros()),
        }
    }

    pub(crate) fn set(&self, moment: Moment) {
        self.elapsed
            .store(millis(moment.elapsed), Ordering::Relaxed);
        self.wall.store(moment.wall.micros(), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Moment {
        Moment {
            elapsed: Duration::from_millis(self.elapsed.load(Ordering::Relaxed)),
            wall: Timestamp::from_micros(self.wall.load(Ordering::Relaxed)),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).expect("no process runs for 500 million years")
}
