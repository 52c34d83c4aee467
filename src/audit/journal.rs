//! Group commit: bodies go in from every task, sealed lines are in the file when their batch settles.
//!
//! # Who writes
//!
//! The first to put a body into an empty queue leads: it lets every other task that is ready run first
//! (they add theirs), then writes all of it with one `write(2)` and wakes everybody. Under load that is
//! one system call for dozens of answers, and no thread has to be woken; a thread that did all the
//! writing would cost two changes of context a batch.
//!
//! A task that writes may be kept waiting by the disk, and its worker thread with it. So a task writes
//! only when that is known to be quick. In all other cases it hands over to the writer thread, which
//! may wait as long as it has to:
//!
//! - while `fdatasync` runs: the kernel makes writers of that file wait for the journal of the file
//!   system (Redis puts off its writes for the same reason);
//! - after a write that was slow, until one was quick again;
//! - when a file has to be made, mended or given up; always with `sync = "always"`.
//!
//! Nobody waits longer than a second for a record, however long the disk takes: the keeper settles what
//! is older, and its answers become 503. Such a record may still reach the file afterwards. It then
//! speaks of an answer that was held back; the reverse, an answer without its record, does not happen.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::TryLockError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::clock::Moment;
use crate::telemetry::metrics::audit::AuditMetrics;

use super::Unrecorded;
use super::commit::Commit;
use super::health::Health;
use super::health::Trouble;
use super::record::Body;
use super::writer::Bodies;
use super::writer::Writer;

/// The queue, the file behind it, and the orders to the thread that writes when tasks may not.
#[derive(Debug)]
pub(super) struct Journal {
    clock: Clock,
    metrics: AuditMetrics,
    sync_each: bool,
    queue: Mutex<Queue>,
    /// `None` once the journal is closed.
    writer: Mutex<Option<Writer>>,
    /// Somebody found the writer in use and left its batch to whoever has it.
    left_over: AtomicBool,
    orders: Mutex<Orders>,
    ordered: Condvar,
    health: Health,
    /// Questions that were refused since the last record, because none could be written.
    unrecorded: AtomicU64,
    syncing: AtomicBool,
    slow: AtomicBool,
    ended: CancellationToken,
}

/// Somebody's part in a batch.
#[derive(Debug)]
pub(super) struct Ticket {
    journal: Arc<Journal>,
    commit: Arc<Commit>,
    leads: bool,
}

/// What the writer thread is to do.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Write what is queued.
    pub(super) write: bool,
    /// See whether the file is still what it was.
    pub(super) examine: bool,
    /// Begin a new file.
    pub(super) reopen: bool,
    /// Write what is queued, bring it to the disk and end.
    pub(super) stop: bool,
}

#[derive(Debug, Default)]
struct Queue {
    open: Bodies,
    commit: Option<Arc<Commit>>,
    /// Somebody has promised to write what is open.
    led: bool,
    closed: bool,
    /// Memory of a batch that was written, to be used again.
    spare: Bodies,
    /// Batches by age, for the keeper.
    unsettled: VecDeque<Arc<Commit>>,
    /// A batch that failed to be written by a task; the thread's turn comes first.
    returned: Option<Batch>,
}

#[derive(Debug)]
struct Batch {
    bodies: Bodies,
    commit: Arc<Commit>,
}

/// What one attempt to write came to.
enum Turn {
    Nothing,
    Unable,
    Written { batch: Batch, began: Moment },
}

impl Journal {
    pub(super) fn new(
        writer: Writer,
        sync_each: bool,
        clock: Clock,
        metrics: AuditMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            clock,
            metrics,
            sync_each,
            queue: Mutex::default(),
            writer: Mutex::new(Some(writer)),
            left_over: AtomicBool::new(false),
            orders: Mutex::default(),
            ordered: Condvar::new(),
            health: Health::default(),
            unrecorded: AtomicU64::new(0),
            syncing: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            ended: CancellationToken::new(),
        })
    }

    /// Queues a body for whoever awaits the ticket.
    pub(super) fn submit(self: &Arc<Self>, body: &[u8], now: Moment) -> Result<Ticket, Unrecorded> {
        let (commit, first) = self.push(body, now)?;
        let leads = first && !self.sync_each;
        if first && !leads {
            self.order(|orders| orders.write = true);
        }
        Ok(Ticket {
            journal: Arc::clone(self),
            commit,
            leads,
        })
    }

    /// Queues a body that nobody waits for; the thread writes it.
    pub(super) fn leave(&self, body: &[u8], now: Moment) {
        if let Ok((_, first)) = self.push(body, now)
            && first
        {
            self.order(|orders| orders.write = true);
        }
    }

    pub(super) fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut lock(&self.orders));
        self.ordered.notify_one();
    }

    /// Settles what has waited too long.
    pub(super) fn expire(&self, now: Duration) {
        let mut queue = lock(&self.queue);
        while let Some(oldest) = queue.unsettled.front() {
            if oldest.outcome().is_none() {
                if now.saturating_sub(oldest.since()) < LONGEST_WAIT {
                    break;
                }
                if oldest.settle(Err(Unrecorded::TooLate)) {
                    self.metrics.records_late.inc();
                    self.health.set(
                        Trouble::Slow,
                        "the disk takes longer than a second to write",
                    );
                }
            }
            queue.unsettled.pop_front();
        }
    }

    /// Waits until the writer thread has followed the order to stop.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + '_ {
        self.ended.cancelled()
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// The writer thread: follows orders until it is told to stop.
    pub(super) fn write_until_stopped(&self) {
        loop {
            let orders = {
                let idle = lock(&self.orders);
                let mut orders = self
                    .ordered
                    .wait_while(idle, |orders| !orders.any())
                    .unwrap_or_else(PoisonError::into_inner);
                mem::take(&mut *orders)
            };
            if orders.stop {
                lock(&self.queue).closed = true;
            }
            self.with_writer(|writer| {
                if orders.examine {
                    self.examine(writer);
                }
                if orders.reopen {
                    self.reopen(writer);
                }
            });
            while self.with_writer(|writer| self.commit_next(writer)) == Some(true) {}
            if orders.stop {
                self.finish();
                self.ended.cancel();
                return;
            }
        }
    }

    /// Brings to the disk what was written so far; on the sync thread.
    pub(super) fn sync(&self) {
        let present = self.with_writer(|writer| {
            let open = writer.file()?;
            Some((Arc::clone(&open.file), writer.tip()))
        });
        let Some(Some((file, tip))) = present else {
            return;
        };
        if self.health.is_durable(tip.seq) {
            return;
        }
        let began = self.clock.now().elapsed;
        self.health.sync_began(began);
        self.syncing.store(true, Ordering::Release);
        let outcome = file.sync_data();
        self.syncing.store(false, Ordering::Release);
        self.health.sync_ended();
        match outcome {
            Ok(()) => {
                self.health.durable(tip.seq);
                let took = self.clock.now().elapsed.saturating_sub(began);
                self.metrics.sync_seconds.observe(took.as_secs_f64());
            }
            Err(error) => {
                self.metrics.sync_failures.inc();
                self.with_writer(|writer| {
                    if writer
                        .file()
                        .is_some_and(|open| Arc::ptr_eq(&open.file, &file))
                    {
                        writer.poison(&error);
                    }
                });
                self.order(|orders| orders.write = true);
            }
        }
    }

    fn push(&self, body: &[u8], now: Moment) -> Result<(Arc<Commit>, bool), Unrecorded> {
        let mut queue = lock(&self.queue);
        if queue.closed || queue.open.size() > LARGEST_QUEUE || !self.health.is_writable() {
            drop(queue);
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
            self.metrics.records_refused.inc();
            return Err(Unrecorded::Unwritable);
        }
        queue.open.push(body);
        let commit = queue.commit_at(now.elapsed);
        let first = !mem::replace(&mut queue.led, true);
        Ok((commit, first))
    }

    /// Writes what is queued, here and now, if that is known to be quick. Says whether it is taken
    /// care of.
    fn write_here(&self) -> bool {
        if self.syncing.load(Ordering::Acquire)
            || self.slow.load(Ordering::Relaxed)
            || !self.health.is_writable()
        {
            return false;
        }
        for _ in 0..MOST_TURNS {
            let turn = match self.writer.try_lock() {
                Ok(mut writer) => self.take_turn(writer.as_mut()),
                Err(TryLockError::Poisoned(poisoned)) => {
                    self.take_turn(poisoned.into_inner().as_mut())
                }
                Err(TryLockError::WouldBlock) => {
                    // Whoever has it looks at this after giving it back. If it was given back in
                    // between, it may be free now.
                    if self.left_over.swap(true, Ordering::AcqRel) {
                        return true;
                    }
                    continue;
                }
            };
            match turn {
                Turn::Nothing => (),
                Turn::Unable => return false,
                Turn::Written { batch, began } => self.written(batch, began),
            }
            if !self.left_over.swap(false, Ordering::AcqRel) {
                return true;
            }
        }
        false
    }

    fn take_turn(&self, writer: Option<&mut Writer>) -> Turn {
        let Some(writer) = writer else {
            return Turn::Unable;
        };
        let began = self.clock.now();
        if !writer.is_ready(began.wall) || self.unrecorded.load(Ordering::Relaxed) > 0 {
            return Turn::Unable;
        }
        let Some(batch) = lock(&self.queue).take() else {
            return Turn::Nothing;
        };
        match writer.append(&batch.bodies) {
            Ok(()) => Turn::Written { batch, began },
            Err(error) => {
                writer.poison(&error);
                lock(&self.queue).returned = Some(batch);
                Turn::Unable
            }
        }
    }

    /// Writes one batch with every means there is. Says whether there was one.
    fn commit_next(&self, writer: &mut Writer) -> bool {
        let batch = {
            let mut queue = lock(&self.queue);
            queue.returned.take().or_else(|| queue.take())
        };
        let began = self.clock.now();
        if let Err(error) = self.recover(writer, began) {
            self.failed(batch, &error);
            return false;
        }
        let Some(batch) = batch else { return false };
        match writer.write(&batch.bodies, began.wall) {
            Ok(()) => self.written(batch, began),
            Err(error) => self.failed(Some(batch), &error),
        }
        true
    }

    /// After a failure: one record that says how many are missing, and proves that there is room.
    fn recover(&self, writer: &mut Writer, now: Moment) -> io::Result<()> {
        let missing = self.unrecorded.swap(0, Ordering::Relaxed);
        if missing == 0 && !self.health.is(Trouble::Failed) {
            return Ok(());
        }
        let mut note = Bodies::default();
        Body::compose(
            now.wall,
            "admin",
            |body| {
                body.word("action", "recovered");
                body.number("unrecorded", missing);
            },
            |body| note.push(body),
        );
        match writer.write(&note, now.wall) {
            Ok(()) => {
                writer.cut_again();
                if self.health.clear(Trouble::Failed) {
                    tracing::warn!(unrecorded = missing, "the audit trail is written again");
                }
                Ok(())
            }
            Err(error) => {
                self.unrecorded.fetch_add(missing, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    fn written(&self, batch: Batch, began: Moment) {
        batch.commit.settle(Ok(()));
        let records = u64::try_from(batch.bodies.len()).unwrap_or_default();
        lock(&self.queue).recycle(batch.bodies);
        let took = self.clock.now().elapsed.saturating_sub(began.elapsed);
        self.slow.store(took > QUICK, Ordering::Relaxed);
        if self.health.clear(Trouble::Slow) {
            tracing::warn!("the audit trail is written in time again");
        }
        self.metrics.records_written.inc_by(records);
        self.metrics.write_seconds.observe(took.as_secs_f64());
    }

    fn failed(&self, batch: Option<Batch>, error: &io::Error) {
        if self.health.set(Trouble::Failed, &error.to_string()) {
            tracing::error!(%error, "the audit trail cannot be written; no question is answered");
        }
        if let Some(batch) = batch {
            let records = u64::try_from(batch.bodies.len()).unwrap_or_default();
            self.unrecorded.fetch_add(records, Ordering::Relaxed);
            self.metrics.records_failed.inc_by(records);
            batch.commit.settle(Err(Unrecorded::Unwritable));
        }
    }

    fn examine(&self, writer: &mut Writer) {
        let Some(lost) = writer.examine() else { return };
        tracing::error!(?lost, directory = %writer.directory().display(), "the audit file was taken away; a new one is begun");
        self.reopen(writer);
    }

    fn reopen(&self, writer: &mut Writer) {
        self.metrics.rotations.inc();
        if let Err(error) = writer.rotate(self.clock.now().wall) {
            tracing::error!(%error, "no new audit file could be begun");
            // A file without a name is none: what is written to it cannot be found again.
            if writer.examine().is_some() {
                writer.poison(&error);
                self.failed(None, &error);
            }
        }
    }

    fn finish(&self) {
        let writer = lock(&self.writer).take();
        if let Some(open) = writer.as_ref().and_then(Writer::file)
            && let Err(error) = open.file.sync_data()
        {
            tracing::error!(%error, "the last audit records may not be on the disk");
        }
    }

    /// The writer, waited for; `None` once the journal is closed.
    fn with_writer<T>(&self, act: impl FnOnce(&mut Writer) -> T) -> Option<T> {
        let done = lock(&self.writer).as_mut().map(act);
        if self.left_over.swap(false, Ordering::AcqRel) {
            self.order(|orders| orders.write = true);
        }
        done
    }
}

impl Ticket {
    /// Waits until the record is in the journal; or until it is known that it is not, or too late.
    pub(super) async fn recorded(mut self) -> Result<(), Unrecorded> {
        if self.leads {
            // Everybody who is ready to run adds a record before we come back.
            tokio::task::yield_now().await;
            self.lead();
        }
        self.commit.wait().await
    }

    fn lead(&mut self) {
        if mem::take(&mut self.leads) && !self.journal.write_here() {
            self.journal.order(|orders| orders.write = true);
        }
    }
}

impl Drop for Ticket {
    /// A leader whose caller hangs up still has others behind it.
    fn drop(&mut self) {
        if self.leads {
            self.journal.order(|orders| orders.write = true);
        }
    }
}

impl Orders {
    fn any(&self) -> bool {
        self.write || self.examine || self.reopen || self.stop
    }
}

impl Queue {
    fn commit_at(&mut self, now: Duration) -> Arc<Commit> {
        let unsettled = &mut self.unsettled;
        Arc::clone(self.commit.get_or_insert_with(|| {
            let commit = Arc::new(Commit::new(now));
            unsettled.push_back(Arc::clone(&commit));
            commit
        }))
    }

    fn take(&mut self) -> Option<Batch> {
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

    fn recycle(&mut self, mut bodies: Bodies) {
        bodies.clear();
        if bodies.capacity() <= LARGEST_SPARE {
            self.spare = bodies;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a record may wait; the keeper looks ten times a second, so that a whole second is never
/// exceeded (G16).
const LONGEST_WAIT: Duration = Duration::from_millis(900);
/// A write that takes longer than this is left to the thread the next time.
const QUICK: Duration = Duration::from_millis(5);
/// About ten thousand records: what a second of waiting may pile up.
const LARGEST_QUEUE: usize = 8 << 20;
const LARGEST_SPARE: usize = 1 << 20;
/// How many batches one task writes in a row before the thread takes over.
const MOST_TURNS: usize = 3;
