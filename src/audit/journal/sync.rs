//! The sync thread: it brings to the disk what was written, sees to finished files, and signs heads. However
//! long the disk takes, it never has the writer meanwhile.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::chain::Tip;
use crate::audit::config::Sync;
use crate::audit::directory::sync_names;
use crate::audit::heads;
use crate::audit::orders::{SyncOrder, WriterOrder};
use crate::audit::writer::Finished;

use super::{Journal, lock};

pub(in crate::audit) struct SyncThread {
    journal: Arc<Journal>,
    /// Up to which record everything is on the disk.
    pub(super) durable: u64,
    signed: u64,
}

pub(super) struct CurrentFile {
    file: Arc<File>,
    path: PathBuf,
    tip: Tip,
}

impl SyncThread {
    pub(in crate::audit) fn new(journal: &Arc<Journal>) -> Self {
        Self {
            journal: Arc::clone(journal),
            durable: 0,
            signed: 0,
        }
    }

    pub(in crate::audit) fn run(mut self) {
        loop {
            let orders = self.journal.sync_orders.take();
            // The background task may have called a sync late just after it was over.
            self.journal.health.sync_ended();
            if orders.contains(&SyncOrder::Sync) && self.journal.sync == Sync::Interval {
                self.sync();
            } else {
                self.finish_files();
            }
            if orders.contains(&SyncOrder::Stop) || orders.contains(&SyncOrder::Sign) {
                self.sign_head();
            }
            if orders.contains(&SyncOrder::Stop) {
                return self.end();
            }
        }
    }

    /// Brings to the disk what was written so far. What it gives back is there, with all before it.
    pub(super) fn sync(&mut self) -> Option<CurrentFile> {
        let current = self.finish_files()?;
        if self.durable >= current.tip.seq {
            return Some(current);
        }
        match self.await_disk(|| current.file.sync_data()) {
            Ok(()) => {
                self.durable = current.tip.seq;
                self.journal.extent.set_durable(self.durable);
                Some(current)
            }
            Err(error) => {
                self.give_up(&current, &error);
                None
            }
        }
    }

    /// Sees to the files that were finished, and to the names of new ones. Gives back the file that followed
    /// them.
    fn finish_files(&mut self) -> Option<CurrentFile> {
        let (unsynced, current, directory) = self.journal.with_writer(|writer| {
            let current = writer.file().map(|open| CurrentFile {
                file: Arc::clone(&open.file),
                path: open.path.clone(),
                tip: writer.tip(),
            });
            (
                writer.take_unsynced(),
                current,
                writer.directory().to_owned(),
            )
        })?;
        // Before a record in a new file counts as being on the disk, the file has its name there.
        let synced = if unsynced.names {
            self.await_disk(|| sync_names(&directory))
        } else {
            Ok(())
        };
        if let Err(error) = &synced {
            tracing::error!(%error, "the name of an audit file may not be on the disk");
            if let Some(current) = &current
                && self.journal.sync == Sync::Interval
            {
                self.give_up(current, error);
            }
        }
        let is_named = synced.is_ok();
        for finished in unsynced.finished {
            self.complete(&finished, is_named);
        }
        current.filter(|_| is_named)
    }

    /// Brings a finished file to the disk, and signs its end if its name is there, too.
    fn complete(&mut self, finished: &Finished, is_named: bool) {
        match self.await_disk(|| finished.sync()) {
            Ok(true) if is_named => self.sign(finished.path(), finished.tip),
            Ok(_) => (),
            Err(error) => {
                tracing::error!(%error, "the end of an audit file may not be on the disk");
            }
        }
    }

    /// Does what may wait for the disk. Where records are promised to be on the disk soon, the background task
    /// watches how long that takes.
    fn await_disk<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Journal {
            clock,
            health,
            metrics,
            ..
        } = &*self.journal;
        let began = clock.elapsed();
        if self.journal.sync == Sync::Interval {
            health.sync_began(began);
        }
        #[cfg(test)]
        self.journal.disk.pass();
        let done = work();
        health.sync_ended();
        if done.is_ok() {
            let took = clock.elapsed().saturating_sub(began);
            metrics.sync_seconds.observe(took.as_secs_f64());
        } else {
            metrics.sync_failures.inc();
        }
        done
    }

    /// Has the records that come next written to another file, unless they are already.
    fn give_up(&self, current: &CurrentFile, error: &io::Error) {
        self.journal.with_writer(|writer| {
            let is_current = |file: &Arc<File>| Arc::ptr_eq(file, &current.file);
            if writer.file().is_some_and(|open| is_current(&open.file)) {
                writer.give_up(error);
            }
        });
        self.journal.writer_orders.give(WriterOrder::Write);
    }

    /// Signs the end of the chain, which is on the disk by then unless the configuration wants no sync.
    fn sign_head(&mut self) {
        if self.journal.head_key.is_none() {
            return;
        }
        let current = if self.journal.sync == Sync::Never {
            self.finish_files()
        } else {
            self.sync()
        };
        if let Some(CurrentFile { path, tip, .. }) = current {
            self.sign(&path, tip);
        }
    }

    fn sign(&mut self, path: &Path, tip: Tip) {
        let Some(key) = &self.journal.head_key else {
            return;
        };
        if tip.seq <= self.signed {
            return;
        }
        let line = key.sign(tip, self.journal.clock.now().wall);
        if let Err(error) = heads::append(path, &line) {
            tracing::error!(%error, "the head of the audit chain could not be written");
            return;
        }
        self.signed = tip.seq;
        let hash = String::from_utf8_lossy(&tip.hash);
        tracing::info!(seq = tip.seq, %hash, "signed the head of the audit chain");
        self.journal.offer(&line, 0, None);
    }

    fn end(&self) {
        if let Some(sink) = &self.journal.sink {
            sink.close();
        }
        // The directory stays locked until this is over.
        let writer = lock(&self.journal.writer).take();
        if let Some(mut writer) = writer {
            match writer.finish() {
                Ok(()) => self.journal.extent.set_durable(writer.tip().seq),
                Err(error) => {
                    tracing::error!(%error, "the last audit records may not be on the disk");
                }
            }
        }
        self.journal.ended.cancel();
    }
}
