//! The journal: a write-ahead log of records, with group commit.
//!
//! A task appends its record to the open batch. The first of a batch leads it: it lets every other task that
//! is ready add its own, and wakes the writer thread. That takes the batch, seals its lines into the hash
//! chain and writes them with one `write(2)`; this settles the batch, and all who wait for it go on. What comes
//! meanwhile is the next batch. A second thread brings to the disk what was written ([`sync`]).
//!
//! Backpressure: a full queue, or a journal that is known to fail, refuses a record at once, and its request
//! is answered 503 (load shedding, fail closed). No record waits longer than a second, however long the disk
//! takes: the background task settles what is older. Such a record may still reach the file afterwards. It
//! then speaks of an answer that was held back; an answer without its record does not happen.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::system::{Clock, Moment};
use crate::telemetry::RateLimitedLog;
use crate::telemetry::metrics::audit::AuditMetrics;

use super::Unrecorded;
use super::commit::{Commit, RecordCounts, Ticket};
use super::config::Sync;
use super::heads::HeadKey;
use super::health::{Condition, Health, Quorum};
use super::orders::{Orders, SyncOrder, WriterOrder};
use super::record::{Kind, Record};
use super::sink::{AuditSink, Parcel};
use super::writer::Writer;

mod extent;
mod notes;
mod sync;
#[cfg(test)]
mod tests;

use extent::Extent;
pub(super) use sync::SyncThread;

/// The open batch, and the file behind it.
#[derive(Debug)]
pub(super) struct Journal {
    clock: Clock,
    metrics: AuditMetrics,
    /// The members `replica` and `chain` of every record.
    identity: Box<[u8]>,
    pub(super) sync: Sync,
    pub(super) extent: Extent,
    queue: Mutex<Queue>,
    /// `None` once the journal is closed.
    writer: Mutex<Option<Writer>>,
    pub(super) writer_orders: Arc<Orders<WriterOrder>>,
    pub(super) sync_orders: Orders<SyncOrder>,
    pub(super) health: Health,
    pub(super) sink: Option<Arc<AuditSink>>,
    pub(super) head_key: Option<HeadKey>,
    counts: Arc<RecordCounts>,
    ended: CancellationToken,
    failures: RateLimitedLog,
    delays: RateLimitedLog,
    refusals: RateLimitedLog,
    #[cfg(test)]
    disk: tests::Gate,
}

/// What a journal is made of beside its file.
#[derive(Debug)]
pub(super) struct JournalParts {
    pub(super) identity: Box<[u8]>,
    pub(super) sync: Sync,
    pub(super) quorum: Quorum,
    pub(super) sink: Option<Arc<AuditSink>>,
    pub(super) head_key: Option<HeadKey>,
    pub(super) clock: Clock,
    pub(super) metrics: AuditMetrics,
}

#[derive(Debug, Default)]
struct Queue {
    open: Option<Batch>,
    unsettled: VecDeque<Arc<Commit>>,
    closed: bool,
}

#[derive(Debug)]
struct Batch {
    /// A record each line, without its place in the chain.
    bodies: Vec<u8>,
    commit: Arc<Commit>,
}

impl Journal {
    pub(super) fn new(writer: Writer, parts: JournalParts) -> Arc<Self> {
        Arc::new(Self {
            clock: parts.clock,
            identity: parts.identity,
            sync: parts.sync,
            extent: Extent::from(writer.tip().seq),
            queue: Mutex::default(),
            writer: Mutex::new(Some(writer)),
            writer_orders: Arc::default(),
            sync_orders: Orders::default(),
            health: Health::new(parts.quorum),
            sink: parts.sink,
            head_key: parts.head_key,
            counts: RecordCounts::new(parts.metrics.clone()),
            metrics: parts.metrics,
            ended: CancellationToken::new(),
            failures: RateLimitedLog::default(),
            delays: RateLimitedLog::default(),
            refusals: RateLimitedLog::default(),
            #[cfg(test)]
            disk: tests::Gate::default(),
        })
    }

    /// Queues the record that `write` writes.
    pub(super) fn submit(
        &self,
        kind: Kind,
        now: Moment,
        write: impl FnOnce(&mut Record<'_>),
    ) -> Result<Ticket, Unrecorded> {
        Record::compose(kind, now.wall, &self.identity, write, |body| {
            self.push(body, now)
        })
    }

    fn push(&self, body: &[u8], now: Moment) -> Result<Ticket, Unrecorded> {
        let mut queue = lock(&self.queue);
        let size = queue.open.as_ref().map_or(0, |batch| batch.bodies.len());
        if queue.closed || size > LARGEST_QUEUE || !self.health.is_writable() {
            drop(queue);
            self.note_refusal(now);
            return Err(Unrecorded::Unwritable);
        }
        let Queue {
            open, unsettled, ..
        } = &mut *queue;
        let is_first = open.is_none();
        let batch = open.get_or_insert_with(|| {
            let commit = Commit::new(now.elapsed, &self.counts);
            unsettled.push_back(Arc::clone(&commit));
            Batch {
                bodies: Vec::with_capacity(USUAL_BATCH),
                commit,
            }
        });
        batch.bodies.extend_from_slice(body);
        batch.bodies.push(b'\n');
        let leads = is_first.then_some(&self.writer_orders);
        Ok(batch.commit.add(leads))
    }

    /// Settles what has waited too long, and has the thread write the open batch: its leader may belong to a
    /// task that is not run.
    pub(super) fn expire(&self, now: Duration) {
        let mut queue = lock(&self.queue);
        if queue.open.is_some() {
            self.writer_orders.give(WriterOrder::Write);
        }
        while let Some(oldest) = queue.unsettled.front() {
            if !oldest.is_settled() {
                if now.saturating_sub(oldest.since) < LONGEST_WAIT {
                    break;
                }
                // Asked before: to settle takes a moment, in which the disk may come back.
                let waits_for_sink = self.sink.is_some() && oldest.waits_for_sink();
                if oldest.settle(Err(Unrecorded::TooLate)) {
                    self.metrics.batches_late.inc();
                    self.note_delay(waits_for_sink, now);
                }
            }
            queue.unsettled.pop_front();
        }
    }

    pub(super) fn ended(&self) -> impl Future<Output = ()> + '_ {
        self.ended.cancelled()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// The writer thread: follows orders until it is told to stop.
    pub(super) fn run_writer(&self) {
        loop {
            let orders = self.writer_orders.take();
            if orders.contains(&WriterOrder::Stop) {
                lock(&self.queue).closed = true;
            }
            self.with_writer(|writer| {
                if orders.contains(&WriterOrder::Examine) {
                    self.examine(writer);
                }
                if orders.contains(&WriterOrder::Reopen) {
                    self.reopen(writer);
                }
            });
            while self.with_writer(|writer| self.commit_next(writer)) == Some(true) {}
            if orders.contains(&WriterOrder::Stop) {
                self.sync_orders.give(SyncOrder::Stop);
                return;
            }
        }
    }

    /// Writes the open batch, with every means there is. Says whether there was one.
    fn commit_next(&self, writer: &mut Writer) -> bool {
        let batch = self.take_batch();
        let began = self.clock.now();
        let written = self
            .recover(writer, began, batch.is_none())
            .and_then(|()| match &batch {
                Some(batch) => writer.write(&batch.bodies, began.wall),
                None => Ok(()),
            });
        self.metrics
            .rotations
            .inc_by(std::mem::take(&mut writer.rotated));
        if let Err(error) = &written {
            self.note_failure(error);
        }
        match &batch {
            Some(batch) if written.is_ok() => self.written(batch, writer, began),
            Some(batch) => self.failed(batch, writer),
            None => return false,
        }
        true
    }

    fn take_batch(&self) -> Option<Batch> {
        let mut queue = lock(&self.queue);
        while queue
            .unsettled
            .front()
            .is_some_and(|oldest| oldest.is_settled())
        {
            queue.unsettled.pop_front();
        }
        queue.open.take()
    }

    fn written(&self, batch: &Batch, writer: &Writer, began: Moment) {
        self.extent.set_written(writer.tip().seq);
        batch.commit.journaled();
        let waits_for_sink = self.sink.is_some() && self.health.quorum == Quorum::Both;
        if !waits_for_sink {
            batch.commit.settle(Ok(()));
        }
        self.offer(
            writer.lines(),
            batch.commit.records(),
            waits_for_sink.then_some(&batch.commit),
        );
        let took = self.clock.elapsed().saturating_sub(began.elapsed);
        self.note_in_time(began.elapsed);
        self.metrics.write_seconds.observe(took.as_secs_f64());
    }

    /// The journal does not have `batch`. The second sink may still take it, if the quorum allows that.
    fn failed(&self, batch: &Batch, writer: &mut Writer) {
        let stands_in = batch.commit.pass_over()
            && self.health.quorum == Quorum::Either
            && self.health.is_writable();
        if stands_in {
            writer.pass_over(&batch.bodies);
            let records = batch.commit.records();
            self.offer(writer.lines(), records, Some(&batch.commit));
        } else {
            batch.commit.settle(Err(Unrecorded::Unwritable));
        }
    }

    /// Sends lines to the second sink, if there is one; its acknowledgement settles `commit`.
    fn offer(&self, lines: &[u8], records: u64, commit: Option<&Arc<Commit>>) {
        if let Some(sink) = &self.sink {
            let parcel = Parcel {
                lines: lines.to_vec(),
                records,
                commit: commit.cloned(),
            };
            sink.offer(parcel, &self.health);
        }
    }

    /// After a failure: one record that says how many are missing, and proves that the disk takes it. After a
    /// delay too, where no batch is left whose writing would prove that it is over.
    fn recover(&self, writer: &mut Writer, now: Moment, no_batch: bool) -> io::Result<()> {
        let missing = self.counts.take_missing();
        let was_slow = no_batch && self.health.is(Condition::WriteSlow);
        if missing == 0 && !was_slow && !self.health.is(Condition::WriteFailed) {
            return Ok(());
        }
        let write = |record: &mut Record<'_>| {
            record.word("action", "recovered");
            record.put("unrecorded", missing);
        };
        Record::compose(Kind::Admin, now.wall, &self.identity, write, |body| {
            writer.write(body, now.wall)
        })
        .inspect_err(|_| self.counts.miss(missing))?;
        writer.cut_back();
        self.extent.set_written(writer.tip().seq);
        if self.health.clear(Condition::WriteFailed) && self.failures.is_over(now.elapsed).is_some()
        {
            tracing::warn!(unrecorded = missing, "the audit trail is written again");
        }
        if was_slow {
            self.note_in_time(now.elapsed);
        }
        self.offer(writer.lines(), 1, None);
        Ok(())
    }

    fn examine(&self, writer: &mut Writer) {
        let Some(loss) = writer.examine() else { return };
        tracing::error!(lost = ?loss, directory = %writer.directory().display(), "the audit file was taken away; a new one is begun");
        self.reopen(writer);
    }

    fn reopen(&self, writer: &mut Writer) {
        self.metrics.rotations.inc();
        if let Err(error) = writer.rotate(self.clock.now().wall) {
            tracing::error!(%error, "no new audit file could be begun");
            // A file without a name is none: what is written to it cannot be found again.
            if writer.examine().is_some() {
                writer.give_up(&error);
                self.note_failure(&error);
            }
        }
    }

    /// The writer, waited for; `None` once the journal is closed.
    fn with_writer<T>(&self, act: impl FnOnce(&mut Writer) -> T) -> Option<T> {
        lock(&self.writer).as_mut().map(|writer| {
            let done = act(writer);
            if writer.has_unsynced() {
                self.sync_orders.give(SyncOrder::Finish);
            }
            done
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a record may wait; the background task looks ten times a second, so that a whole second is never
/// exceeded (G16).
const LONGEST_WAIT: Duration = Duration::from_millis(900);
/// About ten thousand records: what a second of waiting may pile up.
const LARGEST_QUEUE: usize = 8 << 20;
const USUAL_BATCH: usize = 16 << 10;
