//! What a connection reads and writes goes in; out of it comes whether it has waited too long for its
//! next request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::system::Clock;

/// Since when one HTTP/1 connection waits for its next request. Cheap to clone.
///
/// hyper could see to that, but makes and drops a timer with each request for it. Here a request costs
/// one reading of the clock, and only whoever watches the connection sets an alarm: once in so many
/// minutes.
#[derive(Clone, Debug)]
pub struct Idleness {
    clock: Clock,
    /// In microseconds of the clock; [`BUSY`] while a request is under way.
    since: Arc<AtomicU64>,
}

impl Idleness {
    /// Of a connection with a request under way.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            since: Arc::new(AtomicU64::new(BUSY)),
        }
    }

    /// A request has come.
    pub fn ends(&self) {
        self.since.store(BUSY, Ordering::Relaxed);
    }

    /// There is nothing more to do.
    pub fn begins(&self) {
        let now = u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(BUSY);
        self.since.store(now, Ordering::Relaxed);
    }

    /// Since when it lasts; `None` while a request is under way.
    pub fn since(&self) -> Option<Duration> {
        match self.since.load(Ordering::Relaxed) {
            BUSY => None,
            since => Some(Duration::from_micros(since)),
        }
    }

    /// Waits until it has lasted for `limit`.
    pub async fn lasts(&self, limit: Duration) {
        lasts(&self.clock, limit, || self.since()).await;
    }
}

/// Waits until something has been idle for `limit`. `since` says at any time since when it is; `None`
/// while it is busy.
pub async fn lasts(clock: &Clock, limit: Duration, since: impl Fn() -> Option<Duration>) {
    loop {
        let now = clock.elapsed();
        let due = since().unwrap_or(now).saturating_add(limit);
        if now >= due {
            return;
        }
        clock.sleep_until(due).await;
    }
}

const BUSY: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;
    use crate::atlas::Timestamp;

    #[tokio::test]
    async fn idleness_lasts_from_the_end_of_the_last_request_and_not_through_one() {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(1_000));
        let idleness = Idleness::new(clock);
        let limit = Duration::from_mins(1);
        let mut over = pin!(idleness.lasts(limit));
        assert!(poll!(&mut over).is_pending());
        // A request of three minutes.
        manual_clock.advance(limit * 3);
        assert!(poll!(&mut over).is_pending());
        idleness.begins();
        manual_clock.advance(Duration::from_secs(50));
        assert!(poll!(&mut over).is_pending());
        // And a quick one.
        idleness.ends();
        idleness.begins();
        manual_clock.advance(Duration::from_secs(59));
        assert!(poll!(&mut over).is_pending());
        manual_clock.advance(Duration::from_secs(1));
        assert!(poll!(&mut over).is_ready());
    }
}
