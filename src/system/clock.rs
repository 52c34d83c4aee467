//! The clock: the only place that reads the time. Tests move a [`ManualClock`] and wait for nothing.
//!
//! A moment holds both times. Timers, pauses and budgets are judged by `elapsed`, which only ever moves
//! forward and goes on while the machine is suspended (`CLOCK_BOOTTIME`); `wall` is for what the world
//! dates: `exp`, `nbf`, `notAfter` and records (G34).
//!
//! How old something is, [`Moment::since`] says, and nothing else does. No clock of the kernel runs while
//! a virtual machine is paused; afterwards only the calendar is set right. So a calendar that has run
//! ahead counts towards an age, but ends no pause early: the world may not have waited as long as we
//! believe (G24).
//!
//! The kernel's timers stand still in suspend. A long wait is therefore made of short ones, and a waiting task
//! notices within [`SLICE`] that its time is over.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use uuid::Uuid;

use crate::atlas::Timestamp;

/// One reading of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time since [`BEGINNING`] before the clock was made, suspended or not; never goes back.
    pub elapsed: Duration,
    /// What the calendar says; may jump when the host's clock is set.
    pub wall: Timestamp,
}

/// For how long the machine has run, suspended or not, and which of its runs that is: what an earlier process has
/// left is dated by it, exactly and whatever becomes of the calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BootMoment {
    /// The kernel's id of this run; `None` if it does not say.
    pub(crate) boot: Option<Uuid>,
    /// Since its beginning.
    pub(crate) elapsed: Duration,
}

/// Where the time comes from. Cheap to clone.
#[derive(Clone)]
pub struct Clock(TimeSource);

/// Moves a manual [`Clock`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<watch::Sender<Dial>>);

/// The time allowed for something has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time allowed has passed")]
pub struct Elapsed;

#[derive(Clone)]
enum TimeSource {
    /// When it was made.
    System {
        made_at: Duration,
    },
    Manual {
        dial: watch::Receiver<Dial>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Dial {
    now: Moment,
    /// What timers go by: it stands still in suspend.
    timers: Duration,
    boot: Uuid,
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

    /// How old at this moment is what is of `earlier`. A calendar that has run ahead by more than
    /// [`TOLERANCE`] is believed; one that was set back is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let passed = self.elapsed.saturating_sub(earlier.elapsed);
        let dated = self.wall.since(earlier.wall);
        if dated > passed.saturating_add(TOLERANCE) {
            dated
        } else {
            passed
        }
    }

    /// The moment that was `span` ago, by both times.
    #[must_use]
    pub(crate) fn before(self, span: Duration) -> Self {
        Self {
            elapsed: self.elapsed.saturating_sub(span),
            wall: self.wall.minus(span),
        }
    }

    /// Whether the calendar has run ahead of the time by more than [`TOLERANCE`] since `earlier`.
    pub(crate) fn ran_ahead(self, earlier: Self) -> bool {
        self.since(earlier) > self.elapsed.saturating_sub(earlier.elapsed)
    }
}

/// What a clock shows when it is made: a list that another replica has fetched may be older than this process.
const BEGINNING: Duration = Duration::from_hours(30 * 24);

/// By how much the calendar may run ahead before it counts: it is set by seconds in the usual course.
const TOLERANCE: Duration = Duration::from_mins(1);

pub(crate) const SLICE: Duration = Duration::from_secs(5);

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Clock {
    /// The host's clock.
    pub fn system() -> Self {
        Self(TimeSource::System {
            made_at: boot_time(),
        })
    }

    /// A clock that stands at `wall` until its [`ManualClock`] is moved.
    pub fn manual(wall: Timestamp) -> (Self, ManualClock) {
        let (sender, dial) = watch::channel(Dial {
            now: Moment {
                elapsed: BEGINNING,
                wall,
            },
            timers: Duration::ZERO,
            boot: Uuid::from_u128(1),
        });
        (
            Self(TimeSource::Manual { dial }),
            ManualClock(Arc::new(sender)),
        )
    }

    /// Both times, now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the time"
    )]
    pub fn now(&self) -> Moment {
        match &self.0 {
            TimeSource::System { made_at } => Moment {
                elapsed: BEGINNING + boot_time().saturating_sub(*made_at),
                wall: SystemTime::now().into(),
            },
            TimeSource::Manual { dial } => dial.borrow().now,
        }
    }

    /// [`Moment::elapsed`] alone, for deadlines: half of what reading both times costs.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            TimeSource::System { made_at } => BEGINNING + boot_time().saturating_sub(*made_at),
            TimeSource::Manual { dial } => dial.borrow().now.elapsed,
        }
    }

    /// How long the machine has run. Reads a file.
    pub(crate) fn boot(&self) -> BootMoment {
        match &self.0 {
            TimeSource::System { .. } => {
                let id = std::fs::read_to_string(BOOT_ID).ok();
                BootMoment {
                    boot: id.and_then(|id| id.trim().parse().ok()),
                    elapsed: boot_time(),
                }
            }
            TimeSource::Manual { dial } => {
                let dial = dial.borrow();
                BootMoment {
                    boot: Some(dial.boot),
                    elapsed: dial.now.elapsed,
                }
            }
        }
    }

    /// Waits until `span` has passed on this clock, counted from this call.
    pub fn sleep(&self, span: Duration) -> impl Future<Output = ()> + '_ {
        self.sleep_until(self.elapsed().saturating_add(span))
    }

    pub(crate) async fn sleep_until(&self, due: Duration) {
        while let Some(left) = due
            .checked_sub(self.elapsed())
            .filter(|left| !left.is_zero())
        {
            self.slice(left).await;
        }
    }

    /// Waits until [`Moment::elapsed`] has reached `due`, or until the calendar runs ahead: for what is
    /// brought up to date from time to time.
    pub(crate) async fn sleep_until_or_ahead(&self, due: Duration) {
        let began = self.now();
        loop {
            let now = self.now();
            let left = due.saturating_sub(now.elapsed);
            if left.is_zero() || now.ran_ahead(began) {
                return;
            }
            self.slice(left).await;
        }
    }

    /// Waits for `left`, but not longer than for a slice, by a timer that stands still in suspend.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that waits for the time"
    )]
    async fn slice(&self, left: Duration) {
        let left = left.min(SLICE);
        match &self.0 {
            TimeSource::System { .. } => tokio::time::sleep(left).await,
            TimeSource::Manual { dial } => {
                let mut dial = dial.clone();
                let due = dial.borrow().timers.saturating_add(left);
                if dial.wait_for(|dial| dial.timers >= due).await.is_err() {
                    // The `ManualClock` was dropped: this one stands still for ever.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    pub(crate) async fn timeout<T>(
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

    /// Waits until `span` has passed, counted from its first poll, and reads the clock for a long wait only.
    async fn pause(&self, span: Duration) {
        match &self.0 {
            TimeSource::System { .. } if span <= SLICE => self.slice(span).await,
            TimeSource::System { .. } | TimeSource::Manual { .. } => self.sleep(span).await,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the time"
)]
fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).expect("the time since boot is not negative");
    let nanos = u32::try_from(time.tv_nsec).expect("nanoseconds are less than a second");
    Duration::new(seconds, nanos)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            TimeSource::System { .. } => "Clock::system",
            TimeSource::Manual { .. } => "Clock::manual",
        })
    }
}

impl ManualClock {
    /// Lets `span` pass, on both times.
    pub fn advance(&self, span: Duration) {
        self.0.send_modify(|dial| {
            dial.timers = dial.timers.saturating_add(span);
            dial.pass(span);
        });
    }

    /// Suspends the machine for `span`: both times have gone on when it wakes, and timers have not.
    pub fn suspend(&self, span: Duration) {
        self.0.send_modify(|dial| dial.pass(span));
    }

    /// Sets the calendar, as an operator or NTP would; no time passes. So it is after a virtual machine
    /// was paused.
    pub fn set_wall(&self, wall: Timestamp) {
        self.0.send_modify(|dial| dial.now.wall = wall);
    }

    /// Boots the machine anew, for the next process: only the calendar goes on.
    pub fn reboot(&self) {
        self.0.send_modify(|dial| {
            dial.boot = Uuid::from_u128(dial.boot.as_u128() + 1);
        });
    }

    /// What the clock shows.
    pub fn now(&self) -> Moment {
        self.0.borrow().now
    }

    /// How much time has passed since it was made.
    pub fn passed(&self) -> Duration {
        self.now().elapsed.saturating_sub(BEGINNING)
    }
}

impl Dial {
    fn pass(&mut self, span: Duration) {
        self.now.elapsed = self.now.elapsed.saturating_add(span);
        self.now.wall = self.now.wall.plus(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_hands_pass_its_moment_and_not_before() {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(1_000));
        let mut sleeper = std::pin::pin!(clock.sleep(Duration::from_mins(1)));
        manual_clock.advance(Duration::from_secs(59));
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        manual_clock.advance(Duration::from_secs(1));
        sleeper.await;
        assert_eq!(clock.now().wall, Timestamp::from_seconds(1_060));
    }

    #[tokio::test]
    async fn setting_the_calendar_lets_no_time_pass() {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(1_000));
        manual_clock.set_wall(Timestamp::from_seconds(5));
        let now = clock.now();
        assert_eq!(
            (now.elapsed, now.wall),
            (BEGINNING, Timestamp::from_seconds(5))
        );
    }

    #[tokio::test]
    async fn a_sleeper_notices_within_seconds_that_its_time_passed_in_suspend() {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(1_000));
        let mut sleeper = std::pin::pin!(clock.sleep(Duration::from_mins(5)));
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        manual_clock.suspend(Duration::from_hours(2));
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        manual_clock.advance(SLICE);
        assert!(futures_util::poll!(&mut sleeper).is_ready());
    }

    #[tokio::test]
    async fn only_who_asks_for_it_is_woken_by_a_calendar_that_runs_ahead() {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(1_000));
        let due = clock.elapsed() + Duration::from_mins(5);
        let mut pause = std::pin::pin!(clock.sleep_until(due));
        let mut renewal = std::pin::pin!(clock.sleep_until_or_ahead(due));
        for (wall, woken) in [(1_060, false), (10, false), (8_200, true)] {
            assert!(futures_util::poll!(&mut pause).is_pending());
            assert!(futures_util::poll!(&mut renewal).is_pending());
            manual_clock.set_wall(Timestamp::from_seconds(wall));
            manual_clock.advance(SLICE);
            assert!(futures_util::poll!(&mut pause).is_pending());
            if woken {
                assert!(futures_util::poll!(&mut renewal).is_ready());
            }
        }
    }

    #[test]
    fn an_age_is_what_the_later_of_both_times_says_beyond_a_minute() {
        let at = |elapsed, wall| Moment {
            elapsed: Duration::from_secs(elapsed),
            wall: Timestamp::from_seconds(wall),
        };
        let began = at(10, 1_000);
        for (now, age) in [
            (at(10, 1_000), 0),
            (at(20, 1_010), 10),
            (at(20, 1_070), 10),
            (at(20, 1_071), 71),
            (at(10, 8_200), 7_200),
            (at(7_210, 1_000), 7_200),
            (at(20, 3), 10),
        ] {
            assert_eq!(now.since(began), Duration::from_secs(age), "{now:?}");
            assert_eq!(
                now.ran_ahead(began),
                age == 71 || now.wall.seconds() == 8_200
            );
        }
    }

    #[test]
    fn two_clocks_of_one_machine_are_of_the_same_boot() {
        let (one, other) = (Clock::system().boot(), Clock::system().boot());
        assert!(one.boot.is_some() && one.boot == other.boot);
        assert!(one.elapsed <= other.elapsed);
    }

    #[test]
    fn the_system_clock_counts_from_its_making_and_goes_on() {
        let clock = Clock::system();
        let (one, other) = (clock.now(), clock.now());
        let passed = one.elapsed.saturating_sub(BEGINNING);
        assert!(passed < Duration::from_mins(1) && one.elapsed <= other.elapsed);
    }
}
