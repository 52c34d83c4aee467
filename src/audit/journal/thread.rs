//! The writer thread: it follows orders, and may wait for the disk as long as it has to. The sync thread
//! brings its work to the disk.

use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::audit::Unrecorded;
use crate::audit::bodies::Bodies;
use crate::audit::chain::Tip;
use crate::audit::config::Sync;
use crate::audit::heads;
use crate::audit::health::Trouble;
use crate::audit::queue::Batch;
use crate::audit::record::Body;
use crate::audit::record::Kind;
use crate::audit::record::name;
use crate::audit::sink::Parcel;
use crate::audit::writer::Finished;
use crate::audit::writer::Writer;
use crate::clock::Moment;
use crate::telemetry::Tally;

use super::Journal;
use super::Order;
use super::lock;

/// The file that is written to, and the last record in it.
struct Present {
    file: Arc<File>,
    path: PathBuf,
    tip: Tip,
}

impl Journal {
    /// The writer thread: follows orders until it is told to stop.
    pub(in crate::audit) fn write_until_stopped(&self) {
        loop {
            let orders = {
                let idle = lock(&self.orders);
                let mut orders = self
                    .ordered
                    .wait_while(idle, |orders| orders.is_empty())
                    .unwrap_or_else(PoisonError::into_inner);
                orders.take()
            };
            if orders.hold(Order::Stop) {
                lock(&self.queue).closed = true;
            }
            self.with_writer(|writer| {
                if orders.hold(Order::Examine) {
                    self.examine(writer);
                }
                if orders.hold(Order::Reopen) {
                    self.reopen(writer);
                }
            });
            self.sign_finished();
            while self.with_writer(|writer| self.write_on(writer)) == Some(true) {
                if self.sign_finished() {
                    self.metrics.rotations.inc();
                }
            }
            if orders.hold(Order::Sign) || orders.hold(Order::Stop) {
                self.sign_head();
            }
            if orders.hold(Order::Stop) {
                self.finish();
                self.ended.cancel();
                return;
            }
        }
    }

    /// Brings to the disk what was written so far; on the sync thread.
    pub(in crate::audit) fn sync(&self) {
        if let Some(Present { file, tip, .. }) = self.present()
            && !self.health.is_durable(tip.seq)
        {
            self.sync_file(&file, tip);
        }
    }

    fn sync_file(&self, file: &Arc<File>, tip: Tip) {
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
                        .is_some_and(|open| Arc::ptr_eq(&open.file, file))
                    {
                        writer.poison(&error);
                    }
                });
                self.order(Order::Write);
            }
        }
    }

    /// Writes one batch, and then has room for the next. Says whether there was one.
    fn write_on(&self, writer: &mut Writer) -> bool {
        let wrote = self.commit_next(writer);
        writer.reserve();
        wrote
    }

    /// Writes one batch with every means there is. Says whether there was one.
    fn commit_next(&self, writer: &mut Writer) -> bool {
        let batch = lock(&self.queue).take();
        let began = self.clock.now();
        let outcome = self
            .recover(writer, began, batch.is_none())
            .and_then(|()| match &batch {
                Some(batch) => writer.write(&batch.bodies, began.wall),
                None => Ok(()),
            });
        match (batch, outcome) {
            (Some(batch), Ok(())) => {
                let lines = self.lines_for_sink(writer);
                self.written(batch, lines, began);
                true
            }
            (Some(batch), Err(error)) => {
                self.note_failure(&error);
                self.failed(batch, writer);
                true
            }
            (None, Ok(())) => false,
            (None, Err(error)) => {
                self.note_failure(&error);
                false
            }
        }
    }

    /// After a failure: one record that says how many are missing, and proves that there is room. After
    /// a delay too, where no batch is left whose writing would prove that it is over.
    fn recover(&self, writer: &mut Writer, now: Moment, no_batch: bool) -> io::Result<()> {
        let missing = self.unrecorded.swap(0, Ordering::Relaxed);
        let was_slow = no_batch && self.health.is(Trouble::Slow);
        if missing == 0 && !was_slow && !self.health.is(Trouble::Failed) {
            return Ok(());
        }
        let mut note = Bodies::default();
        Body::compose(
            now.wall,
            Kind::Admin,
            |body| {
                body.put(&self.identity);
                body.word(name!("action"), "recovered");
                body.number(name!("unrecorded"), missing);
            },
            |body| note.push(body),
        );
        match writer.write(&note, now.wall) {
            Ok(()) => {
                writer.cut_again();
                if self.health.clear(Trouble::Failed)
                    && self.repeats.failed.is_over(now.elapsed).is_some()
                {
                    tracing::warn!(unrecorded = missing, "the audit trail is written again");
                }
                if was_slow {
                    self.note_in_time(now.elapsed);
                }
                Ok(())
            }
            Err(error) => {
                self.unrecorded.fetch_add(missing, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// The journal does not have `batch`. The second sink may still take it, if its word is enough.
    fn failed(&self, batch: Batch, writer: &mut Writer) {
        let records = u64::try_from(batch.bodies.len()).unwrap_or_default();
        self.unrecorded.fetch_add(records, Ordering::Relaxed);
        self.metrics.records_failed.inc_by(records);
        match &self.sink {
            Some(sink) if self.health.is_writable() => {
                writer.pass_over(&batch.bodies);
                sink.offer(
                    Parcel {
                        lines: writer.lines().to_vec(),
                        records,
                        commit: Some(batch.commit),
                    },
                    &self.health,
                );
            }
            Some(_) | None => {
                batch.commit.settle(Err(Unrecorded::Unwritable));
            }
        }
    }

    fn note_failure(&self, error: &io::Error) {
        if self.health.set(Trouble::Failed, &error.to_string())
            && let Some(Tally { times, .. }) = self.repeats.failed.happened(self.clock.elapsed())
        {
            tracing::error!(%error, times, "the audit journal cannot be written");
        }
    }

    /// The present file, its path and its last record.
    fn present(&self) -> Option<Present> {
        self.with_writer(|writer| {
            let open = writer.file()?;
            Some(Present {
                file: Arc::clone(&open.file),
                path: open.path.clone(),
                tip: writer.tip(),
            })
        })
        .flatten()
    }

    /// Signs the end of a file that was finished; says whether there was one.
    fn sign_finished(&self) -> bool {
        let finished = self.with_writer(Writer::take_finished).flatten();
        if let Some(Finished { path, tip }) = &finished {
            self.sign(path, *tip);
        }
        finished.is_some()
    }

    /// Signs the end of the chain, which is on the disk by then unless nobody wants it there.
    fn sign_head(&self) {
        let Some(Present { file, path, tip }) = self.present() else {
            return;
        };
        if self.head_key.is_none() || self.is_signed(tip) {
            return;
        }
        if self.sync != Sync::Never && !self.health.is_durable(tip.seq) {
            self.sync_file(&file, tip);
            if !self.health.is_durable(tip.seq) {
                return;
            }
        }
        self.sign(&path, tip);
    }

    /// Signs a record, unless it or a later one was signed already.
    fn sign(&self, path: &Path, tip: Tip) {
        let Some(key) = &self.head_key else { return };
        if self.is_signed(tip) {
            return;
        }
        let line = key.sign(tip, self.clock.now().wall);
        if let Err(error) = heads::append(path, &line) {
            tracing::error!(%error, "the head of the audit chain could not be written");
            return;
        }
        self.signed.store(tip.seq, Ordering::Relaxed);
        let hash = String::from_utf8_lossy(&tip.hash);
        tracing::info!(seq = tip.seq, %hash, "signed the head of the audit chain");
        if let Some(sink) = &self.sink {
            sink.offer(
                Parcel {
                    lines: line,
                    records: 0,
                    commit: None,
                },
                &self.health,
            );
        }
    }

    fn is_signed(&self, tip: Tip) -> bool {
        tip.seq <= self.signed.load(Ordering::Relaxed)
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
                self.note_failure(&error);
            }
        }
    }

    fn finish(&self) {
        if let Some(sink) = &self.sink {
            sink.close();
        }
        let writer = lock(&self.writer).take();
        if let Some(mut writer) = writer
            && let Err(error) = writer.finish()
        {
            tracing::error!(%error, "the last audit records may not be on the disk");
        }
    }

    /// The writer, waited for; `None` once the journal is closed.
    fn with_writer<T>(&self, act: impl FnOnce(&mut Writer) -> T) -> Option<T> {
        let done = lock(&self.writer).as_mut().map(act);
        if self.left_over.swap(false, Ordering::AcqRel) {
            self.order(Order::Write);
        }
        done
    }
}
