//! The file at the end of the journal: bodies go in, sealed lines are in the file when it returns.
//!
//! A file that refused a write or a sync is never written again, because nobody can say what it holds
//! (after a failed `fsync` the kernel may have dropped the pages and call them clean): it is cut back to
//! what was acknowledged, and the chain goes on in a new one (G18).
//!
//! Everybody whose record comes next waits for whoever has the writer. So a file that is full is only put
//! aside here; the sync thread makes it [`Finished`]. What still may wait for the disk is what the records
//! that come next depend on: a new file, its name with `sync = "always"`, and the end of one that failed,
//! because half a line must not stand before them. So does room ahead: the kernel makes those who write
//! to a file wait while it gets some, whoever asked for it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io, mem};

use crate::atlas::Timestamp;

use super::ahead::Ahead;
use super::bodies::Bodies;
use super::chain;
use super::chain::Tip;
use super::directory::{Directory, at, sync_names};
use super::record::Lines;

#[cfg(test)]
mod tests;

/// Writes the newest file of a journal.
#[derive(Debug)]
pub(super) struct Writer {
    directory: Directory,
    rotate_size: u64,
    sync_each: bool,
    tip: Tip,
    file: Option<OpenFile>,
    /// Files that failed and have yet to be cut back.
    uncut: Vec<OpenFile>,
    aside: Aside,
    /// How often a file was followed by another because it was full.
    rotated: u64,
    out: Lines,
}

/// What the sync thread has to see to.
#[derive(Debug, Default)]
pub(super) struct Aside {
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

/// A file that is being appended to.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) ahead: Ahead,
    /// The day on which it was begun, in days since 1970.
    pub(super) day: i64,
}

/// Why a file is no longer the one to write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
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
            aside: Aside::default(),
            rotated: 0,
            out: Lines::default(),
        }
    }

    /// Whether bodies can be written at `now` with a single `write(2)`: no file has to be made first.
    pub(super) fn is_ready(&self, now: Timestamp) -> bool {
        !self.sync_each
            && self
                .file
                .as_ref()
                .is_some_and(|file| !self.is_full(file, now))
    }

    /// Writes `bodies`, into a new file if there is none, if the present one is full or of an earlier
    /// day, or if it fails. An error means that none of them is in the journal.
    pub(super) fn write(&mut self, bodies: &Bodies, now: Timestamp) -> io::Result<()> {
        if self
            .file
            .as_ref()
            .is_some_and(|file| self.is_full(file, now))
        {
            // A file that is too long is better than none: without room for a new one the old one
            // goes on.
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
                Err(error) => self.poison(&error),
            }
        }
        self.begin(now)?;
        self.append(bodies).inspect_err(|_| self.discard())
    }

    /// Writes `bodies` to the present file with one call; to be called when [`Writer::is_ready`].
    pub(super) fn append(&mut self, bodies: &Bodies) -> io::Result<()> {
        let Some(open) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut tip = self.tip;
        self.out.clear();
        for body in bodies.iter() {
            chain::seal(&mut self.out, body, &mut tip);
        }
        (&*open.file)
            .write_all(self.out.as_bytes())
            .map_err(|error| at(&open.path, &error))?;
        if self.sync_each {
            open.file
                .sync_data()
                .map_err(|error| at(&open.path, &error))?;
        }
        open.size += u64::try_from(self.out.as_bytes().len()).unwrap_or_default();
        self.tip = tip;
        Ok(())
    }

    /// Gives `bodies` their place in the chain without writing them: they are only in the second sink,
    /// and the journal shows a gap where they would be.
    pub(super) fn pass_over(&mut self, bodies: &Bodies) {
        self.out.clear();
        for body in bodies.iter() {
            chain::seal(&mut self.out, body, &mut self.tip);
        }
    }

    /// Whether it is time for [`Writer::reserve`], which is told once.
    pub(super) fn runs_short(&mut self) -> bool {
        let open = self.file.as_mut();
        open.is_some_and(|open| open.ahead.tells(open.size, self.rotate_size))
    }

    /// Reserves room for what comes next, if it runs short. May wait for the disk.
    pub(super) fn reserve(&mut self) {
        if let Some(open) = &mut self.file {
            open.ahead.reserve(&open.file, open.size, self.rotate_size);
        }
    }

    /// The lines that were sealed last.
    pub(super) fn lines(&self) -> &[u8] {
        self.out.as_bytes()
    }

    /// Gives the present file up. It is cut back to what was acknowledged before the next is begun.
    pub(super) fn poison(&mut self, error: &io::Error) {
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
                self.aside.finished.extend(finished);
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
        let Some(open) = &mut self.file else {
            return Ok(());
        };
        open.ahead.give_back(&open.file, open.size);
        open.file.sync_data()
    }

    /// What was put aside since this was asked last.
    pub(super) fn take_aside(&mut self) -> Aside {
        mem::take(&mut self.aside)
    }

    /// Brings the names of new files to the disk, while nobody waits.
    pub(super) fn sync_names(&mut self) -> io::Result<()> {
        if mem::take(&mut self.aside.names) {
            sync_names(self.directory.path())?;
        }
        Ok(())
    }

    pub(super) fn has_aside(&self) -> bool {
        self.aside.names || !self.aside.finished.is_empty()
    }

    /// How often a file was followed by another because it was full.
    pub(super) fn rotated(&self) -> u64 {
        self.rotated
    }

    /// What has become of the present file, as its name shows it.
    pub(super) fn examine(&self) -> Option<Lost> {
        let open = self.file.as_ref()?;
        let Ok(ours) = open.file.metadata() else {
            return Some(Lost::Gone);
        };
        let Ok(named) = fs::symlink_metadata(&open.path) else {
            return Some(Lost::Gone);
        };
        if (named.dev(), named.ino()) != (ours.dev(), ours.ino()) {
            Some(Lost::Replaced)
        } else if ours.len() < open.size {
            Some(Lost::Shortened)
        } else if ours.mode() & 0o622 != 0o600 {
            Some(Lost::Permissions)
        } else {
            None
        }
    }

    /// Cuts back files that failed.
    pub(super) fn cut_back(&mut self) {
        self.uncut.retain(|open| open.cut_back().is_err());
    }

    /// Where the chain ends.
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
            self.aside.names = true;
        }
        self.file = Some(OpenFile {
            file: Arc::new(file),
            path,
            size: 0,
            ahead: Ahead::new(self.directory.reserving_pays),
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

    fn is_full(&self, open: &OpenFile, now: Timestamp) -> bool {
        open.size >= self.rotate_size || day(now) > open.day
    }
}

impl Finished {
    /// Gives back room that the file does not need and brings it to the disk, or removes it if there is
    /// nothing in it. Says whether there is. May wait for the disk.
    pub(super) fn settle(&mut self) -> io::Result<bool> {
        let Self { open, .. } = self;
        open.ahead.give_back(&open.file, open.size);
        open.remove_if_empty();
        if open.size == 0 {
            return Ok(false);
        }
        open.file
            .sync_data()
            .map_err(|error| at(&open.path, &error))?;
        Ok(true)
    }

    pub(super) fn path(&self) -> &Path {
        &self.open.path
    }
}

impl OpenFile {
    /// Takes from the file what is beyond its size. One that somebody has shortened stays as it is: zeros
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

/// The UTC day, counted from 1970.
pub(super) fn day(now: Timestamp) -> i64 {
    now.seconds().div_euclid(86_400)
}
