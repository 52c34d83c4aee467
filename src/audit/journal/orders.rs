//! Orders to the writer thread and to the sync thread go in; those that it has not followed come out,
//! each once.

use std::mem;
use std::sync::{Condvar, Mutex, PoisonError};

use super::lock;

/// What a thread of the journal can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum Order {
    /// The writer thread: see whether the file is still what it was.
    Examine,
    /// The writer thread: begin a new file.
    Reopen,
    /// The sync thread: sign the end of the chain.
    Sign,
    /// Both, one after the other: write what is queued, bring it to the disk and end.
    Stop,
    /// The sync thread: bring to the disk what was written.
    Sync,
    /// The sync thread: see to the files that were finished, and to the names of new ones.
    Tend,
    /// The writer thread: write what is queued, and see to the room for what comes next.
    Write,
}

/// Where one thread finds its orders.
#[derive(Debug, Default)]
pub(super) struct Desk {
    orders: Mutex<Orders>,
    ordered: Condvar,
}

impl Desk {
    pub(super) fn put(&self, order: Order) {
        lock(&self.orders).add(order);
        self.ordered.notify_one();
    }

    /// Waits until there are orders.
    pub(super) fn take(&self) -> Orders {
        let idle = lock(&self.orders);
        self.ordered
            .wait_while(idle, |orders| orders.is_empty())
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Orders that have not been followed; each at most once.
#[derive(Debug, Default)]
pub(super) struct Orders(u8);

impl Orders {
    fn add(&mut self, order: Order) {
        self.0 |= order.bit();
    }

    pub(super) fn hold(&self, order: Order) -> bool {
        self.0 & order.bit() != 0
    }

    fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn take(&mut self) -> Self {
        mem::take(self)
    }
}

impl Order {
    fn bit(self) -> u8 {
        match self {
            Self::Examine => 1,
            Self::Reopen => 2,
            Self::Sign => 4,
            Self::Stop => 8,
            Self::Sync => 16,
            Self::Tend => 32,
            Self::Write => 64,
        }
    }
}
