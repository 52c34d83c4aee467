//! Bodies go in one by one, and come out as one batch for whoever writes.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::bodies::Bodies;
use super::commit::Commit;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    open: Bodies,
    commit: Option<Arc<Commit>>,
    /// Somebody has promised to write what is open.
    led: bool,
    /// Nothing more is taken.
    pub(super) closed: bool,
    /// Memory of a batch that was written, to be used again.
    spare: Bodies,
    /// Batches by age, for the background task.
    pub(super) unsettled: VecDeque<Arc<Commit>>,
    /// A batch that a task could not write; the thread's turn comes first.
    returned: Option<Batch>,
}

/// Bodies that are written together, and whoever waits for them.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bodies: Bodies,
    pub(super) commit: Arc<Commit>,
}

/// The batch that a body is in.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) commit: Arc<Commit>,
    /// Nobody has promised to write it yet; whoever is first has to see to it.
    pub(super) first: bool,
}

impl Queue {
    /// How many bytes wait.
    pub(super) fn size(&self) -> usize {
        self.open.size()
    }

    /// Adds a body.
    pub(super) fn push(&mut self, body: &[u8], now: Duration) -> Joined {
        self.open.push(body);
        let unsettled = &mut self.unsettled;
        let commit = self.commit.get_or_insert_with(|| {
            let commit = Arc::new(Commit::new(now));
            unsettled.push_back(Arc::clone(&commit));
            commit
        });
        commit.add();
        Joined {
            commit: Arc::clone(commit),
            first: !mem::replace(&mut self.led, true),
        }
    }

    /// The batch that comes next.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if let Some(batch) = self.returned.take() {
            return Some(batch);
        }
        self.led = false;
        let commit = self.commit.take()?;
        let bodies = mem::replace(&mut self.open, mem::take(&mut self.spare));
        while self
            .unsettled
            .front()
            .is_some_and(|oldest| oldest.outcome().is_some())
        {
            self.unsettled.pop_front();
        }
        Some(Batch { bodies, commit })
    }

    /// Gives back a batch that was not written.
    pub(super) fn give_back(&mut self, batch: Batch) {
        self.returned = Some(batch);
    }

    /// Keeps the memory of a batch that was written.
    pub(super) fn recycle(&mut self, mut bodies: Bodies) {
        bodies.clear();
        if bodies.capacity() <= LARGEST_SPARE {
            self.spare = bodies;
        }
    }
}

const LARGEST_SPARE: usize = 1 << 20;
