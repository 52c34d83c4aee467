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
//! - when a file has to be made, mended or given up, or room to be reserved for it; always with
//!   `sync = "always"`.
//!
//! What no record waits for is done on the sync thread, which never has the writer while it waits for the
//! disk: `fdatasync` each second, files that were finished, names of new files, signed heads.
//!
//! Nobody waits longer than a second for a record, however long the disk takes: the background task settles what
//! is older, and its answers become 503. Such a record may still reach the file afterwards. It then
//! speaks of an answer that was held back; the reverse, an answer without its record, does not happen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::system::{Clock, Moment};
use crate::telemetry::metrics::audit::AuditMetrics;
use crate::telemetry::{Repeated, Tally};

use orders::Desk;

pub(super) use orders::Order;
pub use ticket::Ticket;

use super::Unrecorded;
use super::config::Sync;
use super::heads::HeadKey;
use super::health::{Health, Trouble, WhoseWord};
use super::outcomes::Outcomes;
use super::queue::{Batch, Joined, Queue};
use super::sink::{Parcel, Sink};
use super::writer::Writer;

mod orders;
mod syncing;
mod thread;
mod ticket;
#[cfg(test)]
mod tests;

/// The queue, the file behind it, and the orders to the thread that writes when tasks may not.
#[derive(Debug)]
pub(super) struct Journal {
    clock: Clock,
    metrics: AuditMetrics,
    identity: Box<[u8]>,
    sync: Sync,
    queue: Mutex<Queue>,
    /// `None` once the journal is closed.
    writer: Mutex<Option<Writer>>,
    /// Somebody found the writer in use and left its batch to whoever has it.
    left_over: AtomicBool,
    writer_orders: Desk,
    sync_orders: Desk,
    health: Health,
    sink: Option<Arc<Sink>>,
    head_key: Option<HeadKey>,
    /// The last record that a head was signed for.
    signed: AtomicU64,
    outcomes: Arc<Outcomes>,
    syncing: AtomicBool,
    slow: AtomicBool,
    ended: CancellationToken,
    repeats: Repeats,
    #[cfg(test)]
    disk: tests::Gate,
}

/// What is said once, however many records it befalls and however often it comes and goes.
#[derive(Debug, Default)]
struct Repeats {
    failed: Repeated,
    late: Repeated,
    refused: Repeated,
}

/// What a journal is made of beside its file.
#[derive(Debug)]
pub(super) struct Parts {
    /// The members that every record has of its writer and its chain.
    pub(super) identity: Box<[u8]>,
    pub(super) sync: Sync,
    pub(super) sink: Option<Arc<Sink>>,
    pub(super) whose_word: WhoseWord,
    pub(super) head_key: Option<HeadKey>,
    pub(super) clock: Clock,
    pub(super) metrics: AuditMetrics,
    pub(super) outcomes: Arc<Outcomes>,
}

/// What one attempt to write came to.
enum Turn {
    Nothing,
    Unable,
    Written {
        batch: Batch,
        /// For the second sink, if there is one.
        lines: Vec<u8>,
        began: Moment,
    },
}

impl Journal {
    pub(super) fn new(writer: Writer, parts: Parts) -> Arc<Self> {
        let Parts {
            identity,
            sync,
            sink,
            whose_word,
            head_key,
            clock,
            metrics,
            outcomes,
        } = parts;
        Arc::new(Self {
            clock,
            metrics,
            identity,
            sync,
            queue: Mutex::default(),
            writer: Mutex::new(Some(writer)),
            left_over: AtomicBool::new(false),
            writer_orders: Desk::default(),
            sync_orders: Desk::default(),
            health: Health::new(whose_word),
            sink,
            head_key,
            signed: AtomicU64::new(0),
            outcomes,
            syncing: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            ended: CancellationToken::new(),
            repeats: Repeats::default(),
            #[cfg(test)]
            disk: tests::Gate::default(),
        })
    }

    /// Queues a body for whoever awaits the ticket.
    pub(super) fn submit(self: &Arc<Self>, body: &[u8], now: Moment) -> Result<Ticket, Unrecorded> {
        let Joined { commit, first } = self.push(body, now)?;
        let leads = first && self.sync != Sync::Always;
        if first && !leads {
            self.order(Order::Write);
        }
        Ok(Ticket::new(commit, leads.then(|| Arc::clone(self))))
    }

    /// Queues a body that nobody waits for; the thread writes it.
    pub(super) fn leave(&self, body: &[u8], now: Moment) {
        if let Ok(joined) = self.push(body, now)
            && joined.first
        {
            self.order(Order::Write);
        }
    }

    pub(super) fn order(&self, order: Order) {
        match order {
            Order::Sign | Order::Sync | Order::Tend => self.sync_orders.put(order),
            Order::Examine | Order::Reopen | Order::Stop | Order::Write => {
                self.writer_orders.put(order);
            }
        }
    }

    /// Settles what has waited too long, and has the thread write what nobody else comes to write: a
    /// leader may belong to a task that is not run.
    pub(super) fn expire(&self, now: Duration) {
        let mut queue = lock(&self.queue);
        while let Some(oldest) = queue.unsettled.front() {
            if oldest.outcome().is_none() {
                let waited = now.saturating_sub(oldest.since());
                if waited >= LONGEST_LEAD {
                    self.order(Order::Write);
                }
                if waited < LONGEST_WAIT {
                    break;
                }
                // Asked before: to be told takes a moment, in which the disk may come back.
                let waits_for_sink = self.sink.is_some() && oldest.waits_for_sink();
                if self.outcomes.settle(oldest, Err(Unrecorded::TooLate)) {
                    self.metrics.batches_late.inc();
                    self.note_delay(waits_for_sink, now);
                }
            }
            queue.unsettled.pop_front();
        }
    }

    /// Waits until the threads have followed the order to stop.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + '_ {
        self.ended.cancelled()
    }

    pub(super) fn sink(&self) -> Option<&Arc<Sink>> {
        self.sink.as_ref()
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    fn push(&self, body: &[u8], now: Moment) -> Result<Joined, Unrecorded> {
        let mut queue = lock(&self.queue);
        if queue.closed || queue.size() > LARGEST_QUEUE || !self.health.is_writable() {
            drop(queue);
            self.outcomes.refuse();
            if let Some(Tally { times, .. }) = self.repeats.refused.happened(now.elapsed) {
                let reason = self.health.reason();
                let reason = reason.as_deref().unwrap_or("too much waits for the disk");
                tracing::error!(
                    times,
                    "not answered, because it cannot be put on record: {reason}"
                );
            }
            return Err(Unrecorded::Unwritable);
        }
        let joined = queue.push(body, now.elapsed);
        if joined.commit.outcome().is_some() {
            self.outcomes.joined_late();
        }
        Ok(joined)
    }

    /// Writes what is queued, here and now, if that is known to be quick. Says whether it is taken
    /// care of.
    fn write_here(&self) -> bool {
        if self.syncing.load(Ordering::Acquire)
            || self.slow.load(Ordering::Relaxed)
            || !self.health.journal_is_well()
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
                Turn::Written {
                    batch,
                    lines,
                    began,
                } => self.written(batch, lines, began),
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
        if !writer.is_ready(began.wall) || self.outcomes.has_missing() {
            return Turn::Unable;
        }
        let Some(batch) = lock(&self.queue).take() else {
            return Turn::Nothing;
        };
        match writer.append(&batch.bodies) {
            Ok(()) => {
                if writer.runs_short() {
                    self.order(Order::Write);
                }
                Turn::Written {
                    batch,
                    lines: self.lines_for_sink(writer),
                    began,
                }
            }
            Err(error) => {
                writer.poison(&error);
                lock(&self.queue).give_back(batch);
                Turn::Unable
            }
        }
    }

    fn written(&self, batch: Batch, lines: Vec<u8>, began: Moment) {
        batch.commit.journaled();
        let records = u64::try_from(batch.bodies.len()).unwrap_or_default();
        match &self.sink {
            Some(sink) => {
                let commit = match self.health.whose_word() {
                    WhoseWord::Both => Some(batch.commit),
                    WhoseWord::Either | WhoseWord::Journal => {
                        self.outcomes.settle(&batch.commit, Ok(()));
                        None
                    }
                };
                sink.offer(
                    Parcel {
                        lines,
                        records,
                        commit,
                    },
                    &self.health,
                );
            }
            None => {
                self.outcomes.settle(&batch.commit, Ok(()));
            }
        }
        lock(&self.queue).recycle(batch.bodies);
        let took = self.clock.now().elapsed.saturating_sub(began.elapsed);
        self.slow.store(took > QUICK, Ordering::Relaxed);
        self.note_in_time(began.elapsed);
        self.metrics.write_seconds.observe(took.as_secs_f64());
    }

    fn note_in_time(&self, now: Duration) {
        if self.health.clear(Trouble::Slow) && self.repeats.late.is_over(now).is_some() {
            tracing::warn!("the audit trail is written in time again");
        }
    }

    fn note_delay(&self, waits_for_sink: bool, now: Duration) {
        let (trouble, reason) = if waits_for_sink {
            (Trouble::Sink, "the second audit sink does not take records")
        } else {
            (
                Trouble::Slow,
                "the disk takes longer than a second to write",
            )
        };
        if self.health.set(trouble, reason)
            && let Some(Tally { times, .. }) = self.repeats.late.happened(now)
        {
            tracing::error!(
                reason,
                times,
                "audit records are late; their questions are not answered"
            );
        }
    }

    fn lines_for_sink(&self, writer: &Writer) -> Vec<u8> {
        match &self.sink {
            Some(_) => writer.lines().to_vec(),
            None => Vec::new(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a record may wait; the background task looks ten times a second, so that a whole second is never
/// exceeded (G16).
const LONGEST_WAIT: Duration = Duration::from_millis(900);
/// How long a leader may take to come to its turn.
const LONGEST_LEAD: Duration = Duration::from_millis(100);
/// A write that takes longer than this is left to the thread the next time.
const QUICK: Duration = Duration::from_millis(5);
/// About ten thousand records: what a second of waiting may pile up.
const LARGEST_QUEUE: usize = 8 << 20;
/// How many batches one task writes in a row before the thread takes over.
const MOST_TURNS: usize = 3;
