//! A lock that cannot be held across an await: it is held while a closure runs.

use std::sync::{Mutex, PoisonError};

/// A value that many connections share and each touches only for a moment.
#[derive(Debug, Default)]
pub(crate) struct Held<T>(Mutex<T>);

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Runs `work` with the value. A closure cannot await, so no caller ever waits for I/O here.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        // A closure of a test may panic in here. The values stay usable, and the test reports its
        // own panic, so the poison is not passed on to every other connection.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
