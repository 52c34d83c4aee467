//! Our clock as hyper's timer, so that a manual clock also moves the deadlines of HTTP/2's pings.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::system::Clock;

#[derive(Clone)]
pub(super) struct ClockTimer {
    clock: Clock,
    /// What hyper takes for the beginning of time.
    origin: Instant,
}

struct ClockSleep(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl ClockTimer {
    #[expect(
        clippy::disallowed_methods,
        reason = "hyper's instants have no other beginning"
    )]
    pub(super) fn new(clock: Clock) -> Self {
        let origin = Instant::now();
        let origin = origin.checked_sub(clock.now().elapsed).unwrap_or(origin);
        Self { clock, origin }
    }

    fn waiting(&self, due: Duration) -> Pin<Box<dyn Sleep>> {
        let clock = self.clock.clone();
        Box::pin(ClockSleep(Box::pin(
            async move { clock.sleep_until(due).await },
        )))
    }
}

impl Timer for ClockTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.waiting(self.clock.elapsed().saturating_add(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.waiting(deadline.saturating_duration_since(self.origin))
    }

    fn now(&self) -> Instant {
        self.origin + self.clock.elapsed()
    }
}

impl Future for ClockSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for ClockTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockTimer").finish_non_exhaustive()
    }
}

impl Sleep for ClockSleep {}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;
    use crate::atlas::Timestamp;

    #[tokio::test]
    async fn each_deadline_is_kept_however_many_went_before_it() {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(1_000));
        let timer = ClockTimer::new(clock);
        for _ in 0..3 {
            // A head that comes after ten seconds: its deadline is dropped unmet.
            let mut met = timer.sleep_until(timer.now() + Duration::from_mins(1));
            assert!(poll!(&mut met).is_pending());
            manual_clock.advance(Duration::from_secs(10));
        }
        let mut missed = timer.sleep_until(timer.now() + Duration::from_mins(1));
        assert!(poll!(&mut missed).is_pending());
        manual_clock.advance(Duration::from_secs(59));
        assert!(poll!(&mut missed).is_pending());
        manual_clock.advance(Duration::from_secs(1));
        assert!(poll!(&mut missed).is_ready());
    }

    #[tokio::test]
    async fn two_deadlines_at_once_are_both_kept() {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(1_000));
        let timer = ClockTimer::new(clock);
        let mut soon = timer.sleep(Duration::from_secs(5));
        let mut sooner = timer.sleep(Duration::from_secs(2));
        assert!(poll!(&mut soon).is_pending());
        assert!(poll!(&mut sooner).is_pending());
        manual_clock.advance(Duration::from_secs(2));
        assert!(poll!(&mut sooner).is_ready());
        assert!(poll!(&mut soon).is_pending());
        manual_clock.advance(Duration::from_secs(3));
        assert!(poll!(&mut soon).is_ready());
    }
}
