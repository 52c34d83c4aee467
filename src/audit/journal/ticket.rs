//! Somebody's part in a batch: it leads the batch if it was first, and waits for it in any case.

use std::mem;
use std::sync::Arc;

use crate::audit::Unrecorded;
use crate::audit::commit::Commit;

use super::Journal;
use super::Order;

/// Somebody's part in a batch: what holds it has a record under way.
#[derive(Debug)]
#[must_use = "a record is in the trail once its ticket says so"]
pub struct Ticket<'j> {
    pub(super) journal: &'j Journal,
    pub(super) commit: Arc<Commit>,
    /// Nobody else has promised to write the batch.
    pub(super) leads: bool,
}

impl Ticket<'_> {
    /// Waits until the record is in the journal; or until it is known that it is not, or too late.
    ///
    /// Dropped while it waits, the record is written all the same.
    pub async fn recorded(mut self) -> Result<(), Unrecorded> {
        if self.leads {
            // Everybody who is ready to run adds a record before we come back.
            tokio::task::yield_now().await;
            self.lead();
        }
        self.commit.wait().await
    }

    fn lead(&mut self) {
        if mem::take(&mut self.leads) && !self.journal.write_here() {
            self.journal.order(Order::Write);
        }
    }
}

impl Drop for Ticket<'_> {
    /// A leader whose caller hangs up still has others behind it.
    fn drop(&mut self) {
        if self.leads {
            self.journal.order(Order::Write);
        }
    }
}
