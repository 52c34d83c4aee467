//! Orders to the journal's threads: each thread takes all that was ordered since it looked last.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Orders to a thread that it has not followed yet.
#[derive(Debug, Default)]
pub(super) struct Orders<T> {
    given: Mutex<T>,
    changed: Condvar,
}

/// What the writer thread is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WriterOrders {
    /// Write what is queued.
    pub(super) write: bool,
    /// See whether the file is still what it was.
    pub(super) examine: bool,
    /// Begin a new file.
    pub(super) reopen: bool,
    /// Write what is queued, have the sync thread stop, and end.
    pub(super) stop: bool,
}

/// What the sync thread is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SyncOrders {
    /// Bring to the disk what was written.
    pub(super) sync: bool,
    /// See to finished files, and to the names of new ones.
    pub(super) finish: bool,
    /// Sign the end of the chain.
    pub(super) sign: bool,
    /// Bring everything to the disk, and end.
    pub(super) stop: bool,
}

impl<T: Default + PartialEq> Orders<T> {
    pub(super) fn give(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    /// Waits until there are orders.
    pub(super) fn take(&self) -> T {
        let given = self.lock();
        let given = self.changed.wait_while(given, |it| *it == T::default());
        mem::take(&mut given.unwrap_or_else(PoisonError::into_inner))
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
