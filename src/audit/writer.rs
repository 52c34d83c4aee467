//! The file at the end of the journal: bodies go in, sealed lines are in the file when it returns.
//!
//! A file that refused a write or a sync is never written again, because nobody can say what it holds
//! (after a failed `fsync` the kernel may have dropped the pages and call them clean): it is cut back to
//! what was acknowledged, and the chain goes on in a new one (G18).

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::atlas::Timestamp;

use super::ahead::Ahead;
use super::bodies::Bodies;
use super::chain;
use super::chain::Tip;
use super::directory::Directory;
use super::directory::at;
use super::directory::private;
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
    /// Files that could not be cut back when they failed, and to what length they should be.
    uncut: Vec<(PathBuf, u64)>,
    /// A file that was followed by another, until somebody asks.
    finished: Option<Finished>,
    out: Lines,
}

/// A file that is complete and on the disk.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) path: PathBuf,
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
            finished: None,
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
            if let Err(error) = self.rotate(now) {
                tracing::warn!(%error, "no new audit file could be begun; the present one goes on");
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

    /// Gives the present file up: cuts it back to what was acknowledged, and forgets it.
    pub(super) fn poison(&mut self, error: &io::Error) {
        let Some(open) = self.file.take() else { return };
        tracing::error!(%error, file = %open.path.display(), "audit file failed; a new one is begun");
        if cut_back(&open.file, open.size).is_err() {
            self.uncut.push((open.path, open.size));
        }
    }

    /// Begins a new file and leaves the present one as it is.
    pub(super) fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let mut left = self.file.take();
        if let Some(left) = &mut left {
            left.give_back();
        }
        match self.begin(now) {
            Ok(()) => {
                if let Some(left) = left {
                    Self::remove_if_empty(&left);
                    // What `sync` promises holds for the end of a file, too.
                    match left.file.sync_data() {
                        Ok(()) if left.size == 0 => (),
                        Ok(()) => {
                            self.finished = Some(Finished {
                                path: left.path,
                                tip: self.tip,
                            });
                        }
                        Err(error) => {
                            tracing::error!(%error, file = %left.path.display(), "the end of an audit file may not be on the disk");
                        }
                    }
                }
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
        let Some(open) = &mut self.file else {
            return Ok(());
        };
        open.give_back();
        open.file.sync_data()
    }

    /// The file that was finished since this was asked last.
    pub(super) fn take_finished(&mut self) -> Option<Finished> {
        self.finished.take()
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

    /// Tries again to cut back files that failed.
    pub(super) fn cut_again(&mut self) {
        self.uncut.retain(|(path, size)| {
            private()
                .write(true)
                .open(path)
                .and_then(|file| cut_back(&file, *size))
                .is_err()
        });
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
        let (file, path) = self.directory.create(self.tip.seq + 1, now)?;
        self.directory.sync()?;
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
        if cut_back(&open.file, open.size).is_err() {
            self.uncut.push((open.path.clone(), open.size));
        } else {
            Self::remove_if_empty(&open);
        }
    }

    fn remove_if_empty(open: &OpenFile) {
        let is_ours = fs::symlink_metadata(&open.path)
            .and_then(|named| Ok((named.ino(), open.file.metadata()?.ino())))
            .is_ok_and(|(named, ours)| named == ours);
        if open.size == 0 && is_ours {
            let _ = fs::remove_file(&open.path);
        }
    }

    fn is_full(&self, open: &OpenFile, now: Timestamp) -> bool {
        open.size >= self.rotate_size || day(now) > open.day
    }
}

impl OpenFile {
    fn give_back(&mut self) {
        self.ahead.give_back(&self.file, self.size);
    }
}

/// Takes from a file what is beyond `size`. One that somebody has shortened stays as it is: zeros in the
/// place of what is missing would look like damage of another kind.
fn cut_back(file: &File, size: u64) -> io::Result<()> {
    if file.metadata()?.len() < size {
        return Ok(());
    }
    file.set_len(size)
}

/// The UTC day, counted from 1970.
pub(super) fn day(now: Timestamp) -> i64 {
    now.seconds().div_euclid(86_400)
}
