//! The writer thread: it follows orders, and may wait for the disk as long as it has to.

use std::io;
use std::sync::atomic::Ordering;

use crate::audit::Unrecorded;
use crate::audit::bodies::Bodies;
use crate::audit::health::{Trouble, WhoseWord};
use crate::audit::queue::Batch;
use crate::audit::record::{Body, Kind, name};
use crate::audit::sink::Parcel;
use crate::audit::writer::Writer;
use crate::system::Moment;
use crate::telemetry::Tally;

use super::{Journal, Order, lock};

impl Journal {
    /// The writer thread: follows orders until it is told to stop.
    pub(in crate::audit) fn write_until_stopped(&self) {
        loop {
            let orders = self.writer_orders.take();
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
            while self.with_writer(|writer| self.write_on(writer)) == Some(true) {}
            if orders.hold(Order::Stop) {
                self.sync_orders.put(Order::Stop);
                return;
            }
        }
    }

    /// Writes one batch, and then has room for the next. Says whether there was one.
    fn write_on(&self, writer: &mut Writer) -> bool {
        let rotated = writer.rotated();
        let wrote = self.commit_next(writer);
        self.metrics.rotations.inc_by(writer.rotated() - rotated);
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
        let missing = self.outcomes.take_missing();
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
                writer.cut_back();
                if self.health.clear(Trouble::Failed)
                    && self.repeats.failed.is_over(now.elapsed).is_some()
                {
                    tracing::warn!(unrecorded = missing, "the audit trail is written again");
                }
                if was_slow {
                    self.note_in_time(now.elapsed);
                }
                if let Some(sink) = &self.sink {
                    let parcel = Parcel {
                        lines: writer.lines().to_vec(),
                        records: 1,
                        commit: None,
                    };
                    sink.offer(parcel, &self.health);
                }
                Ok(())
            }
            Err(error) => {
                self.outcomes.miss(missing);
                Err(error)
            }
        }
    }

    /// The journal does not have `batch`. The second sink may still take it, if its word is enough.
    fn failed(&self, batch: Batch, writer: &mut Writer) {
        let stands_in = self.outcomes.pass_over(&batch.commit)
            && self.health.whose_word() == WhoseWord::Either
            && self.health.is_writable();
        match &self.sink {
            Some(sink) if stands_in => {
                writer.pass_over(&batch.bodies);
                sink.offer(
                    Parcel {
                        lines: writer.lines().to_vec(),
                        records: u64::try_from(batch.bodies.len()).unwrap_or_default(),
                        commit: Some(batch.commit),
                    },
                    &self.health,
                );
            }
            Some(_) | None => {
                self.outcomes
                    .settle(&batch.commit, Err(Unrecorded::Unwritable));
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

    /// The writer, waited for; `None` once the journal is closed.
    pub(super) fn with_writer<T>(&self, act: impl FnOnce(&mut Writer) -> T) -> Option<T> {
        let done = lock(&self.writer).as_mut().map(|writer| {
            let done = act(writer);
            if writer.has_aside() {
                self.order(Order::Tend);
            }
            done
        });
        if self.left_over.swap(false, Ordering::AcqRel) {
            self.order(Order::Write);
        }
        done
    }
}
