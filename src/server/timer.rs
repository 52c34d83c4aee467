//! Our clock as hyper's timer, so that a test that moves the hands also moves hyper's deadlines.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use hyper::rt::Sleep;
use hyper::rt::Timer;

use crate::clock::Clock;

/// hyper's deadlines, by our clock.
#[derive(Clone, Debug)]
pub struct ClockTimer {
    clock: Clock,
    /// What hyper takes for the beginning of time.
    origin: Instant,
}

struct Waiting(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl ClockTimer {
    /// A timer by `clock`.
    #[expect(
        clippy::disallowed_methods,
        reason = "hyper's instants have no other beginning"
    )]
    pub fn new(clock: Clock) -> Self {
        let origin = Instant::now();
        let origin = origin.checked_sub(clock.now().elapsed).unwrap_or(origin);
        Self { clock, origin }
    }
}

impl Timer for ClockTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        let clock = self.clock.clone();
        let due = clock.now().elapsed.saturating_add(duration);
        Box::pin(Waiting(Box::pin(
            async move { clock.sleep_until(due).await },
        )))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let clock = self.clock.clone();
        let due = deadline.saturating_duration_since(self.origin);
        Box::pin(Waiting(Box::pin(
            async move { clock.sleep_until(due).await },
        )))
    }

    fn now(&self) -> Instant {
        self.origin + self.clock.now().elapsed
    }
}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl Sleep for Waiting {}
