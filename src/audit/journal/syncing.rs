//! The sync thread: it brings to the disk what was written, sees to files that were finished, and signs
//! heads. However long the disk takes, it never has the writer meanwhile.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::audit::chain::Tip;
use crate::audit::config::Sync;
use crate::audit::directory::sync_names;
use crate::audit::heads;
use crate::audit::sink::Parcel;
use crate::audit::writer::Finished;

use super::{Journal, Order, lock};

/// The file that is written to, and the last record in it.
pub(super) struct Present {
    file: Arc<File>,
    path: PathBuf,
    tip: Tip,
}

impl Journal {
    /// The sync thread: follows orders until it is told to stop.
    pub(in crate::audit) fn sync_until_stopped(&self) {
        loop {
            let orders = self.sync_orders.take();
            let stops = orders.hold(Order::Stop);
            // The background task may have called a sync late just after it was over.
            self.health.sync_ended();
            if orders.hold(Order::Sync) && self.sync == Sync::Interval {
                self.sync();
            } else {
                self.tend();
            }
            if stops || orders.hold(Order::Sign) {
                self.sign_head();
            }
            if stops {
                self.finish();
                self.ended.cancel();
                return;
            }
        }
    }

    /// Brings to the disk what was written so far. What it gives back is there, with all before it.
    pub(super) fn sync(&self) -> Option<Present> {
        let present = self.tend()?;
        if self.health.is_durable(present.tip.seq) {
            return Some(present);
        }
        match self.await_disk(|| present.file.sync_data()) {
            Ok(()) => {
                self.health.durable(present.tip.seq);
                Some(present)
            }
            Err(error) => {
                self.give_up(&present, &error);
                None
            }
        }
    }

    /// Sees to the files that were finished, and to the names of new ones. Gives back the file that
    /// followed them.
    fn tend(&self) -> Option<Present> {
        let (aside, present, directory) = self.with_writer(|writer| {
            let present = writer.file().map(|open| Present {
                file: Arc::clone(&open.file),
                path: open.path.clone(),
                tip: writer.tip(),
            });
            (writer.take_aside(), present, writer.directory().to_owned())
        })?;
        // Before a record in a new file counts as being on the disk, the file has its name there.
        let synced = if aside.names {
            self.await_disk(|| sync_names(&directory))
        } else {
            Ok(())
        };
        let named = match synced {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the name of an audit file may not be on the disk");
                if let Some(present) = &present
                    && self.sync == Sync::Interval
                {
                    self.give_up(present, &error);
                }
                false
            }
        };
        for finished in aside.finished {
            self.complete(finished, named);
        }
        present.filter(|_| named)
    }

    /// Brings a file that was finished to the disk, and signs its end if its name is there, too.
    fn complete(&self, mut finished: Finished, named: bool) {
        match self.await_disk(|| finished.settle()) {
            Ok(true) if named => self.sign(finished.path(), finished.tip),
            Ok(_) => (),
            Err(error) => {
                tracing::error!(%error, "the end of an audit file may not be on the disk");
            }
        }
    }

    /// Does what may wait for the disk. Meanwhile tasks leave writing to the writer thread; where records
    /// are promised to be on the disk soon, a second of it is trouble.
    fn await_disk<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let began = self.clock.now().elapsed;
        if self.sync == Sync::Interval {
            self.health.sync_began(began);
        }
        self.syncing.store(true, Ordering::Release);
        #[cfg(test)]
        self.disk.pass();
        let done = work();
        self.syncing.store(false, Ordering::Release);
        self.health.sync_ended();
        if done.is_ok() {
            let took = self.clock.now().elapsed.saturating_sub(began);
            self.metrics.sync_seconds.observe(took.as_secs_f64());
        } else {
            self.metrics.sync_failures.inc();
        }
        done
    }

    /// Has the records that come next written to another file, unless they are already.
    fn give_up(&self, present: &Present, error: &io::Error) {
        self.with_writer(|writer| {
            if writer
                .file()
                .is_some_and(|open| Arc::ptr_eq(&open.file, &present.file))
            {
                writer.poison(error);
            }
        });
        self.order(Order::Write);
    }

    /// Signs the end of the chain, which is on the disk by then unless nobody wants it there.
    fn sign_head(&self) {
        if self.head_key.is_none() {
            return;
        }
        let present = if self.sync == Sync::Never {
            self.tend()
        } else {
            self.sync()
        };
        if let Some(Present { path, tip, .. }) = present {
            self.sign(&path, tip);
        }
    }

    /// Signs a record, unless it or a later one was signed already.
    fn sign(&self, path: &Path, tip: Tip) {
        let Some(key) = &self.head_key else { return };
        if tip.seq <= self.signed.load(Ordering::Relaxed) {
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

    fn finish(&self) {
        if let Some(sink) = &self.sink {
            sink.close();
        }
        // The directory stays ours until this is over.
        let writer = lock(&self.writer).take();
        if let Some(mut writer) = writer
            && let Err(error) = writer.finish()
        {
            tracing::error!(%error, "the last audit records may not be on the disk");
        }
    }
}
