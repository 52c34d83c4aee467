//! Orders to the writer thread go in; those that it has not followed come out, each once.

use std::mem;

/// What the writer thread can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum Order {
    /// See whether the file is still what it was.
    Examine,
    /// Begin a new file.
    Reopen,
    /// Sign the end of the chain.
    Sign,
    /// Write what is queued, bring it to the disk and end.
    Stop,
    /// Write what is queued, and see to the room for what comes next.
    Write,
}

/// Orders that have not been followed; each at most once.
#[derive(Debug, Default)]
pub(super) struct Orders(u8);

impl Orders {
    pub(super) fn add(&mut self, order: Order) {
        self.0 |= order.bit();
    }

    pub(super) fn hold(&self, order: Order) -> bool {
        self.0 & order.bit() != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == 0
    }

    pub(super) fn take(&mut self) -> Self {
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
            Self::Write => 16,
        }
    }
}
