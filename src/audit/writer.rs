//! The file that the journal appends to: sealed lines are in it when a write returns.
//!
//! A file that refused a write or a sync is never written again, because what it holds is not known (after a
//! failed `fsync` the kernel may have dropped the pages and call them clean): it is cut back to what was
//! acknowledged, and the chain goes on in a new one (G18).
//!
//! All records that come next wait for the writer. So a file that is full is only put aside here, and the sync
//! thread sees to it. What may wait for the disk here is what the next records depend on: a new file, its name
//! with `sync = "always"`, and the end of one that failed, because half a line must not stand before them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io, mem};

use crate::atlas::Timestamp;

use super::chain;
use super::chain::Tip;
use super::directory::{Directory, at, sync_names};

#[cfg(test)]
mod tests;

#[derive(Debug)]
pub(super) struct Writer {
    directory: Directory,
    rotate_size: u64,
    sync_each: bool,
    tip: Tip,
    file: Option<OpenFile>,
    /// Files that failed and have yet to be cut back.
    uncut: Vec<OpenFile>,
    unsynced: Unsynced,
    /// How often a full file was followed by another, since this was asked last.
    pub(super) rotated: u64,
    lines: Vec<u8>,
}

/// What the sync thread has to see to.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    /// Files that were followed by others, in the order of the chain.
    pub(super) finished: Vec<Finished>,
    /// A new file's name may not be on the disk.
    pub(super) names: bool,
}

/// A file that is complete, and perhaps not yet on the disk.
#[derive(Debug)]
pub(super) struct Finished {
    open: OpenFile,
    /// Its last record.
    pub(super) tip: Tip,
}

#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) size: u64,
    /// The day on which it was begun, in days since 1970.
    pub(super) day: i64,
}

/// Why a file is no longer the one to write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileLoss {
    /// The name is gone: deleted, or renamed by a log rotation.
    Gone,
    /// The name belongs to another file now.
    Replaced,
    /// It is shorter than what was written to it.
    Shortened,
    /// Its permissions were changed so that others may write or we may not.
    Permissions,
}

impl Writer {
    pub(super) fn new(
        directory: Directory,
        rotate_size: u64,
        sync_each: bool,
        tip: Tip,
        file: Option<OpenFile>,
    ) -> Self {
        Self {
            directory,
            rotate_size,
            sync_each,
            tip,
            file,
            uncut: Vec::new(),
            unsynced: Unsynced::default(),
            rotated: 0,
            lines: Vec::new(),
        }
    }

    /// Writes `bodies`, one each line, into a new file if there is none, if the present one is full or of an
    /// earlier day, or if it fails. An error means that none of them is in the journal.
    pub(super) fn write(&mut self, bodies: &[u8], now: Timestamp) -> io::Result<()> {
        let file = self.file.as_ref();
        if file.is_some_and(|file| file.size >= self.rotate_size || day(now) > file.day) {
            // A file that is too long is better than none: where no new one can be begun it goes on.
            match self.rotate(now) {
                Ok(()) => self.rotated += 1,
                Err(error) => {
                    tracing::warn!(%error, "no new audit file could be begun; the present one goes on");
                }
            }
        }
        if self.file.is_some() {
            match self.append(bodies) {
                Ok(()) => return Ok(()),
                Err(error) => self.give_up(&error),
            }
        }
        self.begin(now)?;
        self.append(bodies).inspect_err(|_| self.discard())
    }

    fn append(&mut self, bodies: &[u8]) -> io::Result<()> {
        let tip = self.seal(bodies);
        let Some(open) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let written = (&*open.file).write_all(&self.lines);
        let synced = written.and_then(|()| {
            if self.sync_each {
                open.file.sync_data()
            } else {
                Ok(())
            }
        });
        synced.map_err(|error| at(&open.path, &error))?;
        open.size += u64::try_from(self.lines.len()).expect("memory has less than 2^64 bytes");
        self.tip = tip;
        Ok(())
    }

    /// Gives `bodies` their place in the chain without writing them: they are only in the second sink, and the
    /// journal shows a gap where they would be.
    pub(super) fn pass_over(&mut self, bodies: &[u8]) {
        self.tip = self.seal(bodies);
    }

    /// Makes lines of `bodies`, and says where the chain ends with them.
    fn seal(&mut self, bodies: &[u8]) -> Tip {
        self.lines.clear();
        let mut tip = self.tip;
        let ends = memchr::memchr_iter(b'\n', bodies).chain([bodies.len()]);
        let mut start = 0;
        for end in ends {
            let body = bodies.get(start..end).expect("line ends come in order");
            if !body.is_empty() {
                chain::seal(&mut self.lines, body, &mut tip);
            }
            start = end + 1;
        }
        tip
    }

    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Gives the present file up. It is cut back to what was acknowledged before the next is begun.
    pub(super) fn give_up(&mut self, error: &io::Error) {
        let Some(open) = self.file.take() else { return };
        tracing::error!(%error, file = %open.path.display(), "audit file failed; a new one is begun");
        self.uncut.push(open);
    }

    /// Begins a new file and puts the present one aside for the sync thread.
    pub(super) fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let left = self.file.take();
        match self.begin(now) {
            Ok(()) => {
                let tip = self.tip;
                let finished = left.map(|open| Finished { open, tip });
                self.unsynced.finished.extend(finished);
                Ok(())
            }
            Err(error) => {
                self.file = left;
                Err(error)
            }
        }
    }

    /// Brings the present file to the disk, as the last thing that is done with it.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.cut_back();
        let file = self.file.as_ref();
        file.map_or(Ok(()), |open| open.file.sync_data())
    }

    /// What is to be brought to the disk, since this was asked last.
    pub(super) fn take_unsynced(&mut self) -> Unsynced {
        mem::take(&mut self.unsynced)
    }

    pub(super) fn sync_names(&mut self) -> io::Result<()> {
        if mem::take(&mut self.unsynced.names) {
            sync_names(self.directory.path())?;
        }
        Ok(())
    }

    pub(super) fn has_unsynced(&self) -> bool {
        self.unsynced.names || !self.unsynced.finished.is_empty()
    }

    /// What has become of the present file, as its name shows it.
    pub(super) fn examine(&self) -> Option<FileLoss> {
        let open = self.file.as_ref()?;
        let Ok(ours) = open.file.metadata() else {
            return Some(FileLoss::Gone);
        };
        let Ok(named) = fs::symlink_metadata(&open.path) else {
            return Some(FileLoss::Gone);
        };
        if (named.dev(), named.ino()) != (ours.dev(), ours.ino()) {
            Some(FileLoss::Replaced)
        } else if ours.len() < open.size {
            Some(FileLoss::Shortened)
        } else if ours.mode() & 0o622 != 0o600 {
            Some(FileLoss::Permissions)
        } else {
            None
        }
    }

    pub(super) fn cut_back(&mut self) {
        self.uncut.retain(|open| open.cut_back().is_err());
    }

    pub(super) fn tip(&self) -> Tip {
        self.tip
    }

    pub(super) fn file(&self) -> Option<&OpenFile> {
        self.file.as_ref()
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn begin(&mut self, now: Timestamp) -> io::Result<()> {
        self.cut_back();
        let (file, path) = self.directory.create(self.tip.seq + 1, now)?;
        if self.sync_each {
            // So that a disk which fails does not fill with empty files.
            sync_names(self.directory.path()).inspect_err(|_| remove_if_empty(&file, &path, 0))?;
        } else {
            self.unsynced.names = true;
        }
        self.file = Some(OpenFile {
            file: Arc::new(file),
            path,
            size: 0,
            day: day(now),
        });
        Ok(())
    }

    /// Gives the present file up; removes it if nothing was ever acknowledged in it, so that a full
    /// disk does not fill with empty files.
    fn discard(&mut self) {
        let Some(open) = self.file.take() else { return };
        if open.cut_back().is_ok() {
            open.remove_if_empty();
        } else {
            self.uncut.push(open);
        }
    }
}

impl Finished {
    /// Brings the file to the disk, or removes it if there is nothing in it. Says whether there is. May wait for
    /// the disk.
    pub(super) fn sync(&self) -> io::Result<bool> {
        let Self { open, .. } = self;
        open.remove_if_empty();
        if open.size == 0 {
            return Ok(false);
        }
        let synced = open.file.sync_data();
        synced
            .map(|()| true)
            .map_err(|error| at(&open.path, &error))
    }

    pub(super) fn path(&self) -> &Path {
        &self.open.path
    }
}

impl OpenFile {
    /// Takes from the file what is beyond its size. One that was shortened from outside stays as it is: zeros
    /// in the place of what is missing would look like damage of another kind.
    fn cut_back(&self) -> io::Result<()> {
        if self.file.metadata()?.len() < self.size {
            return Ok(());
        }
        self.file.set_len(self.size)
    }

    fn remove_if_empty(&self) {
        remove_if_empty(&self.file, &self.path, self.size);
    }
}

fn remove_if_empty(file: &File, path: &Path, size: u64) {
    let is_ours = fs::symlink_metadata(path)
        .and_then(|named| Ok((named.ino(), file.metadata()?.ino())))
        .is_ok_and(|(named, ours)| named == ours);
    if size == 0 && is_ours {
        let _ = fs::remove_file(path);
    }
}

pub(super) fn day(now: Timestamp) -> i64 {
    now.seconds().div_euclid(86_400)
}
