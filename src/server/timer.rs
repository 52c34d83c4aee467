//! Our clock as hyper's timer, so that a test that moves the hands also moves hyper's deadlines.
//!
//! hyper asks for a deadline with every request's head and drops it when the head is there. A timer that
//! is registered with the runtime and taken out again each time costs more than reading the request does,
//! so a connection keeps one alarm. A deadline that has moved on lets the alarm ring early, and sets it
//! anew only then: once in so many minutes instead of once for each request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use hyper::rt::Sleep;
use hyper::rt::Timer;

use crate::clock::Clock;

/// hyper's deadlines on one connection, by our clock.
#[derive(Clone)]
pub struct ClockTimer {
    clock: Clock,
    /// What hyper takes for the beginning of time.
    origin: Instant,
    /// The alarm, while no deadline is waited for.
    kept: Arc<Mutex<Option<Alarm>>>,
}

/// Rings at a moment.
struct Alarm {
    /// By [`Moment::elapsed`](crate::clock::Moment::elapsed).
    rings: Duration,
    ringing: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

struct Waiting {
    timer: ClockTimer,
    due: Duration,
    /// `None` until it is waited for: a head that is there at once needs no alarm.
    alarm: Option<Alarm>,
}

impl ClockTimer {
    /// A timer by `clock`.
    #[expect(
        clippy::disallowed_methods,
        reason = "hyper's instants have no other beginning"
    )]
    pub fn new(clock: Clock) -> Self {
        let origin = Instant::now();
        let origin = origin.checked_sub(clock.now().elapsed).unwrap_or(origin);
        Self {
            clock,
            origin,
            kept: Arc::default(),
        }
    }

    fn waiting(&self, due: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Waiting {
            timer: self.clone(),
            due,
            alarm: None,
        })
    }

    /// An alarm that rings at `due`, or before.
    fn alarm(&self, due: Duration) -> Alarm {
        let kept = self.kept().take();
        kept.filter(|alarm| alarm.rings <= due).unwrap_or_else(|| {
            let clock = self.clock.clone();
            Alarm {
                rings: due,
                ringing: Box::pin(async move { clock.sleep_until(due).await }),
            }
        })
    }

    fn kept(&self) -> MutexGuard<'_, Option<Alarm>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Future for Waiting {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let (timer, due) = (&this.timer, this.due);
        loop {
            let alarm = this.alarm.get_or_insert_with(|| timer.alarm(due));
            if alarm.ringing.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let rang = alarm.rings;
            this.alarm = None;
            if rang >= due {
                return Poll::Ready(());
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            *self.timer.kept() = Some(alarm);
        }
    }
}

impl fmt::Debug for ClockTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockTimer").finish_non_exhaustive()
    }
}

impl Sleep for Waiting {}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;
    use crate::atlas::Timestamp;

    #[tokio::test]
    async fn each_deadline_is_kept_however_many_went_before_it() {
        let (clock, hands) = Clock::manual(Timestamp::from_seconds(1_000));
        let timer = ClockTimer::new(clock);
        for _ in 0..3 {
            // A head that comes after ten seconds: its deadline is dropped unmet.
            let mut met = timer.sleep_until(timer.now() + Duration::from_mins(1));
            assert!(poll!(&mut met).is_pending());
            hands.advance(Duration::from_secs(10));
        }
        let mut missed = timer.sleep_until(timer.now() + Duration::from_mins(1));
        assert!(poll!(&mut missed).is_pending());
        hands.advance(Duration::from_secs(59));
        assert!(poll!(&mut missed).is_pending());
        hands.advance(Duration::from_secs(1));
        assert!(poll!(&mut missed).is_ready());
    }

    #[tokio::test]
    async fn a_deadline_before_the_alarm_is_kept_too_and_so_are_two_at_once() {
        let (clock, hands) = Clock::manual(Timestamp::from_seconds(1_000));
        let timer = ClockTimer::new(clock);
        let mut late = timer.sleep(Duration::from_mins(10));
        assert!(poll!(&mut late).is_pending());
        drop(late);
        let mut soon = timer.sleep(Duration::from_secs(5));
        let mut sooner = timer.sleep(Duration::from_secs(2));
        assert!(poll!(&mut soon).is_pending());
        assert!(poll!(&mut sooner).is_pending());
        hands.advance(Duration::from_secs(2));
        assert!(poll!(&mut sooner).is_ready());
        assert!(poll!(&mut soon).is_pending());
        hands.advance(Duration::from_secs(3));
        assert!(poll!(&mut soon).is_ready());
    }
}
