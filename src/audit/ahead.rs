//! Room on the disk for what a file will hold next: reserved before it is needed, given back when the
//! file is finished.
//!
//! On ext4, a write that finds its blocks reserved takes a fifth to a third less of the kernel's time,
//! and bringing it to the disk not more. The length of the file stays as it is, so that no reader sees
//! any of this; only `du` does. Elsewhere nothing is reserved: XFS does so by itself and gains nothing,
//! and btrfs no longer compresses a file with reserved blocks.
//!
//! A process that is killed leaves the room with the file; it is taken from it when the file is mended.

use std::fs::File;
use std::{io, mem};

use rustix::fs::{FallocateFlags, fallocate, fstatfs, fstatvfs};

/// The room that one file has beyond its end.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Where it ends; before the end of the file if there is none.
    until: u64,
    /// This file gets no more.
    refused: bool,
    /// Somebody has been told that it runs short.
    told: bool,
}

impl Ahead {
    /// None yet; and never any where it does not pay.
    pub(super) fn new(pays: bool) -> Self {
        Self {
            refused: !pays,
            ..Self::default()
        }
    }

    /// Whether a file of `size` bytes that may grow to `limit` should be given room, which is told once.
    pub(super) fn tells(&mut self, size: u64, limit: u64) -> bool {
        self.runs_short(size, limit) && !mem::replace(&mut self.told, true)
    }

    fn runs_short(&self, size: u64, limit: u64) -> bool {
        !self.refused && self.until.max(size) < limit.min(size + RUNS_SHORT)
    }

    /// Reserves room, if it runs short. May wait for the disk.
    pub(super) fn reserve(&mut self, file: &File, size: u64, limit: u64) {
        if !self.runs_short(size, limit) {
            return;
        }
        self.told = false;
        let from = self.until.max(size);
        let until = limit.min(size + ROOM);
        match take(file, from, until - from) {
            Ok(()) => self.until = until,
            Err(error) => {
                tracing::debug!(%error, "no room is reserved for this audit file");
                self.refused = true;
                // A disk that was too full may have given a part.
                self.until = until;
                self.give_back(file, size);
            }
        }
    }

    /// Gives back what was not needed.
    pub(super) fn give_back(&mut self, file: &File, size: u64) {
        if self.until > size {
            free_beyond(file, size);
        }
        self.until = 0;
    }
}

/// Whether room is worth reserving on the file system that `file` is on.
pub(super) fn pays_on(file: &File) -> bool {
    fstatfs(file).is_ok_and(|disk| disk.f_type == EXT4)
}

/// Frees the blocks beyond the end of a file of `size` bytes, unless somebody has changed its length.
pub(super) fn free_beyond(file: &File, size: u64) {
    if file.metadata().is_ok_and(|it| it.len() == size)
        && let Err(error) = file.set_len(size)
    {
        tracing::debug!(%error, "room that was reserved for an audit file is not given back");
    }
}

fn take(file: &File, from: u64, length: u64) -> io::Result<()> {
    let disk = fstatvfs(file)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < LEAST_FREE {
        return Err(io::ErrorKind::StorageFull.into());
    }
    fallocate(file, FallocateFlags::KEEP_SIZE, from, length)?;
    Ok(())
}

/// As `statfs(2)` calls ext4, and ext2 and ext3, which refuse.
const EXT4: rustix::fs::FsWord = 0xef53;
/// Some ten thousand records. More gains nothing more.
const ROOM: u64 = 8 << 20;
/// With so much left there is time to reserve more before it is needed: a thousand records are those of
/// ten milliseconds, if nothing but hits is asked for.
const RUNS_SHORT: u64 = 1 << 20;
/// A disk with less is left to those who need it now.
const LEAST_FREE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// How much of the disk a file has.
    fn held(file: &File) -> u64 {
        file.metadata().unwrap().blocks() * 512
    }

    #[test]
    fn a_file_has_room_ahead_while_it_grows_and_none_when_it_is_finished() {
        let mut file = tempfile::tempfile().unwrap();
        let limit = 3 * ROOM - ROOM / 2;
        let lines = vec![b'x'; 1 << 20];
        let mut ahead = Ahead::default();
        let mut size = 0;
        while size < limit {
            ahead.reserve(&file, size, limit);
            assert!(!ahead.refused);
            let room = held(&file) - size;
            assert!(room >= RUNS_SHORT.min(limit - size), "{room} at {size}");
            assert!(held(&file) < limit + SLACK);
            assert_eq!(file.metadata().unwrap().len(), size);
            file.write_all(&lines).unwrap();
            size += 1 << 20;
        }
        // Nothing for a file that is about to be followed by another.
        assert!(!ahead.runs_short(size, limit));
        ahead.reserve(&file, size, 2 * limit);
        assert!(held(&file) > size + RUNS_SHORT);
        ahead.give_back(&file, size);
        assert!(held(&file) < size + SLACK);
        assert_eq!(file.metadata().unwrap().len(), size);
    }

    #[test]
    fn a_disk_that_refuses_is_asked_once_a_file() {
        let file = File::options().write(true).open("/dev/null").unwrap();
        let mut ahead = Ahead::default();
        ahead.reserve(&file, 0, ROOM);
        assert!(ahead.refused);
        assert!(!ahead.runs_short(0, ROOM));
    }

    #[test]
    fn a_disk_with_little_left_is_not_asked() {
        // A file system without any room.
        let file = File::open("/proc/self/status").unwrap();
        let error = take(&file, 0, ROOM).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn that_a_file_runs_short_is_told_once_until_there_is_more() {
        let file = tempfile::tempfile().unwrap();
        let mut ahead = Ahead::default();
        assert!(ahead.tells(0, 2 * ROOM));
        assert!(!ahead.tells(0, 2 * ROOM));
        ahead.reserve(&file, 0, 2 * ROOM);
        assert!(!ahead.tells(0, 2 * ROOM));
        assert!(ahead.tells(ROOM, 2 * ROOM));
    }

    #[test]
    fn a_file_that_somebody_shortened_is_not_made_long_again() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'x'; 1_000]).unwrap();
        let mut ahead = Ahead::default();
        ahead.reserve(&file, 1_000, ROOM);
        file.set_len(0).unwrap();
        ahead.give_back(&file, 1_000);
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    /// What the file system rounds up.
    const SLACK: u64 = 256 << 10;
}
