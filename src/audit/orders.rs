//! Orders to the journal's threads: each thread takes all that was ordered since it looked last.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Orders to a thread that it has not followed yet, each at most once.
#[derive(Debug)]
pub(super) struct Orders<T> {
    given: Mutex<BTreeSet<T>>,
    changed: Condvar,
}

/// What the writer thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WriterOrder {
    /// See whether the file is still what it was.
    Examine,
    /// Begin a new file.
    Reopen,
    /// Write what is queued, have the sync thread stop, and end.
    Stop,
    /// Write what is queued.
    Write,
}

/// What the sync thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SyncOrder {
    /// See to finished files, and to the names of new ones.
    Finish,
    /// Sign the end of the chain.
    Sign,
    /// Bring everything to the disk, and end.
    Stop,
    /// Bring to the disk what was written.
    Sync,
}

impl<T: Ord> Orders<T> {
    pub(super) fn give(&self, order: T) {
        self.lock().insert(order);
        self.changed.notify_one();
    }

    /// Waits until there are orders.
    pub(super) fn take(&self) -> BTreeSet<T> {
        let given = self.changed.wait_while(self.lock(), |it| it.is_empty());
        mem::take(&mut given.unwrap_or_else(PoisonError::into_inner))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<T>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Orders<T> {
    fn default() -> Self {
        Self {
            given: Mutex::default(),
            changed: Condvar::new(),
        }
    }
}
