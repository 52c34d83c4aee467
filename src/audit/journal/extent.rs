//! How far the journal's files go.

use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of its last records.
#[derive(Debug, Default)]
pub(in crate::audit) struct Extent {
    written: AtomicU64,
    durable: AtomicU64,
}

impl Extent {
    pub(super) fn from(written: u64) -> Self {
        Self {
            written: AtomicU64::new(written),
            durable: AtomicU64::new(0),
        }
    }

    /// The last that is in a file.
    pub(in crate::audit) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// The last of which it is known that it is on the disk.
    pub(in crate::audit) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn set_written(&self, seq: u64) {
        self.written.store(seq, Ordering::Release);
    }

    pub(super) fn set_durable(&self, seq: u64) {
        self.durable.store(seq, Ordering::Release);
    }
}
