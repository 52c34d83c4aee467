//! The journal's directory: a path goes in; its lock, its files in the order of the chain, and new
//! files come out.
//!
//! A file is called `lookups-<UTC start>-<n>.jsonl`, where `n` is the number of its first record: so a
//! file whose beginning is missing is found even where the files before it were archived.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::OFlags;

use crate::atlas::Timestamp;

use super::ahead;

/// A directory that this process alone writes to, as long as the value lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
    /// Whether files in it are quicker to write with room reserved for them.
    pub(super) reserving_pays: bool,
}

/// Why a directory cannot be had.
#[derive(Debug)]
pub(super) enum Taken {
    ByAnother,
    Failed(io::Error),
}

/// One file of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The number of its first record, as its name says.
    pub(super) first: u64,
    /// When it was begun, as its name says; 1970 if it says something else.
    pub(super) start: Timestamp,
    pub(super) path: PathBuf,
    pub(super) packing: Packing,
}

/// How a file of a journal is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    /// As it was written.
    Plain,
    /// As it was written, but under a name that somebody else gave it.
    Renamed,
    Zstd,
}

impl Directory {
    /// Makes the directory if it is not there, and takes its lock.
    pub(super) fn open(path: &Path) -> Result<Self, Taken> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(Taken::Failed)?;
        let lock = private()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(".lock"))
            .map_err(Taken::Failed)?;
        lock.try_lock().map_err(|refused| match refused {
            TryLockError::WouldBlock => Taken::ByAnother,
            TryLockError::Error(error) => Taken::Failed(error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            reserving_pays: ahead::pays_on(&lock),
            lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A new, empty file for the record `first` and those after it.
    pub(super) fn create(&self, first: u64, start: Timestamp) -> io::Result<(File, PathBuf)> {
        let mut second = start.seconds();
        loop {
            let path = self.path.join(name(Timestamp::from_seconds(second), first));
            // A new file only: whatever somebody has put there, link or file, is never written to.
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

/// Brings the names in `directory` to the disk.
pub(super) fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The files of the journal in `directory`, in the order of the chain.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| at(directory, &error))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((first, start, packing)) = name.to_str().and_then(read_name) else {
            continue;
        };
        if entry.file_type()?.is_file() {
            segments.push(Segment {
                first,
                start,
                path: entry.path(),
                packing,
            });
        }
    }
    segments.sort_by(|a, b| (a.first, &a.path).cmp(&(b.first, &b.path)));
    Ok(segments)
}

/// How every file of the journal is opened: for us alone, never through a link, never inherited.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed());
    options
}

/// An error that names the file it happened to.
pub(super) fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn name(start: Timestamp, first: u64) -> String {
    let start: String = start
        .to_string()
        .chars()
        .take_while(|character| *character != '.')
        .filter(|character| !matches!(character, '-' | ':'))
        .collect();
    format!("lookups-{start}Z-{first}.jsonl")
}

/// The first record's number, the start and the packing; `None` for what is no file of a journal.
fn read_name(name: &str) -> Option<(u64, Timestamp, Packing)> {
    let (stem, suffix) = name.strip_prefix("lookups-")?.split_once(".jsonl")?;
    let (start, first) = stem.rsplit_once('-')?;
    let packing = match suffix.rsplit_once('.') {
        None if suffix.is_empty() => Packing::Plain,
        Some((_, "torn")) => return None,
        Some((_, "gz")) => Packing::Gzip,
        Some((_, "zst" | "zstd")) => Packing::Zstd,
        None | Some(_) => Packing::Renamed,
    };
    Some((first.parse().ok()?, read_start(start), packing))
}

/// `20260810T020635Z`.
fn read_start(text: &str) -> Timestamp {
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let long = format!(
        "{}-{}-{}T{}:{}:{}",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 16)
    );
    Timestamp::parse(&long).unwrap_or_default()
}

/// How many seconds ahead a name is looked for when the present one is taken.
const MOST_ATTEMPTS: i64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_made_and_as_others_leave_them() {
        let start = Timestamp::from_seconds(1_786_327_595);
        let made = name(start, 41);
        assert_eq!(made, "lookups-20260810T020635Z-41.jsonl");
        for (suffix, expected) in [
            ("", Some((41, start, Packing::Plain))),
            (".1", Some((41, start, Packing::Renamed))),
            ("-20261121.gz", Some((41, start, Packing::Gzip))),
            (".zst", Some((41, start, Packing::Zstd))),
            (".torn", None),
            (".1.torn", None),
        ] {
            assert_eq!(read_name(&format!("{made}{suffix}")), expected, "{suffix}");
        }
        assert_eq!(read_name("heads.jsonl"), None);
        assert_eq!(read_name("lookups-x.jsonl"), None);
    }

    #[test]
    fn a_second_owner_is_refused_and_a_name_that_is_taken_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path()).unwrap();
        assert!(matches!(
            Directory::open(place.path()),
            Err(Taken::ByAnother)
        ));
        let start = Timestamp::from_seconds(0);
        let target = place.path().join("target");
        std::os::unix::fs::symlink(&target, place.path().join(name(start, 1))).unwrap();
        let (_, path) = directory.create(1, start).unwrap();
        assert_eq!(path, place.path().join("lookups-19700101T000001Z-1.jsonl"));
        assert!(!target.exists());
    }
}
