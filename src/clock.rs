//! The only place that reads the time: a [`Clock`] goes in everywhere, a [`Moment`] comes out.
//!
//! A moment holds both times. Lifetimes and timers are judged by `elapsed`, which only ever moves
//! forward; `wall` is for what the world dates: `exp`, `nbf`, `notAfter` and records (G34).
//!
//! A manual clock stands still until its [`Hands`] move it, and whoever sleeps on it wakes when it
//! passes their moment. So tests move through hours without waiting for one.

mod ids;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::atlas::Timestamp;

pub use ids::Ids;

/// One reading of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time since the clock was made; never goes back.
    pub elapsed: Duration,
    /// What the calendar says; may jump when the host's clock is set.
    pub wall: Timestamp,
}

/// Where the time comes from. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Source);

/// Moves a manual [`Clock`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hands(Arc<watch::Sender<Moment>>);

/// The time allowed for something has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time allowed has passed")]
pub struct Elapsed;

#[derive(Clone)]
enum Source {
    System { origin: Instant },
    Manual { now: watch::Receiver<Moment> },
}

impl Moment {
    /// The moment at which `elapsed` is reached, by the calendar of this one. For what takes no longer
    /// than an answer it spares the second reading of the calendar.
    #[must_use]
    pub fn at(self, elapsed: Duration) -> Self {
        Self {
            elapsed,
            wall: self.wall.plus(elapsed.saturating_sub(self.elapsed)),
        }
    }
}

impl Clock {
    /// The host's clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the time"
    )]
    pub fn system() -> Self {
        Self(Source::System {
            origin: Instant::now(),
        })
    }

    /// A clock that stands at `wall` until its hands are moved.
    pub fn manual(wall: Timestamp) -> (Self, Hands) {
        let (sender, now) = watch::channel(Moment {
            elapsed: Duration::ZERO,
            wall,
        });
        (Self(Source::Manual { now }), Hands(Arc::new(sender)))
    }

    /// Both times, now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the time"
    )]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System { origin } => Moment {
                elapsed: origin.elapsed(),
                wall: SystemTime::now().into(),
            },
            Source::Manual { now } => *now.borrow(),
        }
    }

    /// [`Moment::elapsed`] alone, for deadlines: half of what reading both times costs.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System { origin } => origin.elapsed(),
            Source::Manual { now } => now.borrow().elapsed,
        }
    }

    /// Waits until `span` has passed on this clock, counted from this call.
    pub fn sleep(&self, span: Duration) -> impl Future<Output = ()> + '_ {
        self.sleep_until(self.elapsed().saturating_add(span))
    }

    /// Waits until [`Moment::elapsed`] has reached `due`.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that waits for the time"
    )]
    pub async fn sleep_until(&self, due: Duration) {
        match &self.0 {
            Source::System { origin } => {
                tokio::time::sleep(due.saturating_sub(origin.elapsed())).await;
            }
            Source::Manual { now } => {
                let mut now = now.clone();
                if now.wait_for(|moment| moment.elapsed >= due).await.is_err() {
                    // The hands are gone: this clock stands still for ever.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Runs `work`, but no longer than `span` on this clock.
    pub async fn timeout<T>(
        &self,
        span: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.pause(span) => Err(Elapsed),
        }
    }

    /// Waits until `span` has passed, counted from when it is first waited for: what needs no waiting
    /// reads no clock, and what does reads it once instead of three times.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that waits for the time"
    )]
    async fn pause(&self, span: Duration) {
        match &self.0 {
            Source::System { .. } => tokio::time::sleep(span).await,
            Source::Manual { .. } => self.sleep(span).await,
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System { .. } => "Clock::system",
            Source::Manual { .. } => "Clock::manual",
        })
    }
}

impl Hands {
    /// Lets `span` pass, on both times.
    pub fn advance(&self, span: Duration) {
        self.0.send_modify(|now| {
            now.elapsed = now.elapsed.saturating_add(span);
            now.wall = now.wall.plus(span);
        });
    }

    /// Sets the calendar, as an operator or NTP would; no time passes.
    pub fn set_wall(&self, wall: Timestamp) {
        self.0.send_modify(|now| now.wall = wall);
    }

    /// What the clock shows.
    pub fn now(&self) -> Moment {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_hands_pass_its_moment_and_not_before() {
        let (clock, hands) = Clock::manual(Timestamp::from_seconds(1_000));
        let mut sleeper = std::pin::pin!(clock.sleep(Duration::from_mins(1)));
        hands.advance(Duration::from_secs(59));
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        hands.advance(Duration::from_secs(1));
        sleeper.await;
        assert_eq!(clock.now().wall, Timestamp::from_seconds(1_060));
    }

    #[tokio::test]
    async fn setting_the_calendar_lets_no_time_pass() {
        let (clock, hands) = Clock::manual(Timestamp::from_seconds(1_000));
        hands.set_wall(Timestamp::from_seconds(5));
        let now = clock.now();
        assert_eq!(
            (now.elapsed, now.wall),
            (Duration::ZERO, Timestamp::from_seconds(5))
        );
    }
}
