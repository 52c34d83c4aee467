//! Looking after a journal, and closing it.
//!
//! The background task is the only one who waits for the time: it settles what is too old, orders a sync and an
//! examination every second, and another attempt ten times a second while nothing can be written. It
//! never touches the disk, so a disk that hangs cannot stop it.

use std::sync::{Weak, mpsc};
use std::time::Duration;

use crate::system::Clock;

use super::Inner;
use super::health::Trouble;
use super::journal::{Journal, Order};

/// Has the journal's threads finish, and the second sink, and waits for them, but not for ever: a disk that
/// hangs must not keep the process from ending.
pub(super) async fn close(inner: &Inner) {
    let folding = inner.folding.close();
    if inner.clock.timeout(LONGEST_END, folding).await.is_err() {
        tracing::error!("folded refusals could not be put on record in time");
    }
    inner.journal.order(Order::Stop);
    let ended = inner.journal.ended();
    if inner.clock.timeout(LONGEST_END, ended).await.is_err() {
        tracing::error!("the audit trail could not be closed in time");
    }
    if let Some(sink) = inner.journal.sink()
        && inner
            .clock
            .timeout(LAST_SENDING, sink.ended())
            .await
            .is_err()
    {
        tracing::error!("the second audit sink did not take the last records");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for maintenance in &self.background {
            maintenance.abort();
        }
        self.journal.order(Order::Stop);
    }
}

pub(super) struct Maintenance {
    pub(super) journal: Weak<Journal>,
    pub(super) clock: Clock,
    pub(super) sync_interval: Duration,
    /// Wakes the thread that looks at the disk.
    pub(super) measure: mpsc::SyncSender<()>,
}

impl Maintenance {
    pub(super) async fn keep(self) {
        let start = self.clock.now().elapsed;
        let mut next_sync = start + self.sync_interval;
        let mut next_examination = start + EXAMINATION;
        let mut next_head = start + HEAD;
        loop {
            self.clock.sleep(ROUND).await;
            let Some(journal) = self.journal.upgrade() else {
                return;
            };
            let now = self.clock.now().elapsed;
            journal.expire(now);
            let health = journal.health();
            if health.sync_hangs(now, LONGEST_SYNC)
                && health.set(
                    Trouble::Unsynced,
                    "the disk takes longer than a second to sync",
                )
            {
                tracing::error!("the disk does not take the audit trail; no question is answered");
            }
            if now >= next_sync {
                next_sync = now + self.sync_interval;
                journal.order(Order::Sync);
            }
            if now >= next_examination {
                next_examination = now + EXAMINATION;
                journal.order(Order::Examine);
                let _ = self.measure.try_send(());
                if let Some(sink) = journal.sink() {
                    sink.retry();
                }
            }
            if now >= next_head {
                next_head = now + HEAD;
                journal.order(Order::Sign);
            }
            if health.is(Trouble::Failed) || health.is(Trouble::Slow) {
                journal.order(Order::Write);
            }
        }
    }
}

const ROUND: Duration = Duration::from_millis(100);
const HEAD: Duration = Duration::from_mins(1);
const EXAMINATION: Duration = Duration::from_secs(1);
const LONGEST_SYNC: Duration = Duration::from_secs(1);
const LONGEST_END: Duration = Duration::from_secs(5);
/// How long the second sink may take for what waits for it at the end.
const LAST_SENDING: Duration = Duration::from_secs(1);
