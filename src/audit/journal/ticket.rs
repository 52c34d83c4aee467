//! Somebody's part in a batch: it leads the batch if it was first, and waits for it in any case.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::yield_now;

use crate::audit::Unrecorded;
use crate::audit::commit::Commit;

use super::{Journal, Order};

/// Somebody's part in a batch. It comes true when the record is in the journal; or when it is known
/// that it is not, or too late.
///
/// Dropped before that, the record is written all the same.
#[derive(Debug)]
#[must_use = "a record is in the trail once its ticket says so"]
pub struct Ticket {
    commit: Arc<Commit>,
    /// Where its waker is among those that the commit wakes.
    place: Option<usize>,
    /// Nobody else has promised to write the batch. In a box, because few lead.
    lead: Option<Box<Lead>>,
}

/// The promise to write a batch.
struct Lead {
    journal: Arc<Journal>,
    /// Everybody who is ready to run adds a record before this is over.
    others: Pin<Box<dyn Future<Output = ()> + Send>>,
    kept: bool,
}

impl Ticket {
    pub(super) fn new(commit: Arc<Commit>, leads: Option<Arc<Journal>>) -> Self {
        let lead = leads.map(|journal| {
            Box::new(Lead {
                journal,
                others: Box::pin(yield_now()),
                kept: false,
            })
        });
        Self {
            commit,
            place: None,
            lead,
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), Unrecorded>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = self.get_mut();
        if let Some(lead) = &mut ticket.lead {
            ready!(lead.others.as_mut().poll(context));
            lead.write();
            ticket.lead = None;
        }
        ticket.commit.poll(context, &mut ticket.place)
    }
}

impl Lead {
    fn write(&mut self) {
        self.kept = true;
        if !self.journal.write_here() {
            self.journal.order(Order::Write);
        }
    }
}

impl Drop for Lead {
    /// A leader whose caller hangs up still has others behind it.
    fn drop(&mut self) {
        if !self.kept {
            self.journal.order(Order::Write);
        }
    }
}

impl fmt::Debug for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead")
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}
