//! What time it is in the simulated world: the system's time, or the one a test has set.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::held::Held;

/// How the simulator asks for the time. A test hands in a closure that reads its own clock.
pub type Now = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The time of this machine.
pub fn system_clock() -> Now {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the simulator reads it"
    )]
    Arc::new(SystemTime::now)
}

/// A clock that stands still until it is moved. Clones show the same time.
#[derive(Clone)]
pub struct ManualClock(Arc<Held<SystemTime>>);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn at(start: SystemTime) -> Self {
        Self(Arc::new(Held::new(start)))
    }

    /// What the clock shows.
    pub fn now(&self) -> SystemTime {
        self.0.with(|now| *now)
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.with(|now| *now += by);
    }

    /// Moves the clock anywhere, also back.
    pub fn set(&self, to: SystemTime) {
        self.0.with(|now| *now = to);
    }

    /// This clock in the form that [`Settings::now`](crate::Settings::now) takes.
    pub fn reader(&self) -> Now {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}
