//! The journal's directory: its lock, and new files in it.
//!
//! A file is called `lookups-<UTC start>-<n>.jsonl`, where `n` is the number of its first record: so a
//! file whose beginning is missing is found even where the files before it were archived.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::atlas::Timestamp;

/// A directory that this process alone writes to, as long as the value lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

#[derive(Debug)]
pub(super) enum LockError {
    ByAnother,
    Failed(io::Error),
}

impl Directory {
    /// Makes the directory if it is not there, and takes its lock.
    pub(super) fn open(path: &Path) -> Result<Self, LockError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(LockError::Failed)?;
        let lock = private()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(".lock"))
            .map_err(LockError::Failed)?;
        lock.try_lock().map_err(|refused| match refused {
            TryLockError::WouldBlock => LockError::ByAnother,
            TryLockError::Error(error) => LockError::Failed(error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn create(&self, first: u64, start: Timestamp) -> io::Result<(File, PathBuf)> {
        let mut second = start.seconds();
        loop {
            let path = self.path.join(name(Timestamp::from_seconds(second), first));
            // A new file only: what is there already, link or file, is never written to.
            match private().create_new(true).append(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists
                        && second < start.seconds() + MOST_ATTEMPTS =>
                {
                    second += 1;
                }
                Err(error) => return Err(at(&path, &error)),
            }
        }
    }
}

impl Drop for Directory {
    /// The lock would end with the file, but a process that is being started has it, too, for a moment.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

pub(super) fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// How every file of the journal is opened: for us alone, never through a link, never inherited.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed());
    options
}

pub(super) fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What a file of the journal is called.
pub(super) fn name(start: Timestamp, first: u64) -> String {
    let start: String = start
        .to_string()
        .chars()
        .take_while(|character| *character != '.')
        .filter(|character| !matches!(character, '-' | ':'))
        .collect();
    format!("lookups-{start}Z-{first}.jsonl")
}

/// How many seconds ahead a name is looked for when the present one is taken.
const MOST_ATTEMPTS: i64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_and_a_name_that_is_taken_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path()).unwrap();
        assert!(matches!(
            Directory::open(place.path()),
            Err(LockError::ByAnother)
        ));
        let start = Timestamp::from_seconds(0);
        let target = place.path().join("target");
        std::os::unix::fs::symlink(&target, place.path().join(name(start, 1))).unwrap();
        let (_, path) = directory.create(1, start).unwrap();
        assert_eq!(path, place.path().join("lookups-19700101T000001Z-1.jsonl"));
        assert!(!target.exists());
    }
}
