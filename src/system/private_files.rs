//! Files that outlive the process and that only it writes: their directory's lock, and reading and replacing them.
//!
//! Others may have put anything there, and a disk may have lost anything. So no link is followed and no pipe
//! waited for; a file that others could write, or that is larger than ours are, is set aside under another
//! name, for people, and the gateway starts without it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::OFlags;
use rustix::process::geteuid;

/// A directory that is this process's own.
#[derive(Debug)]
pub(crate) struct PrivateDirectory {
    lock: File,
}

/// Why a directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryFault {
    #[error("another process uses it")]
    InUse,
    #[error("it cannot be used")]
    Unusable(#[source] io::Error),
}

pub(crate) struct PrivateFile {
    pub(crate) bytes: Vec<u8>,
    /// Whether that is only its end, because it is larger than it can be.
    pub(crate) is_cut: bool,
}

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("it is another user's")]
    Foreign,
    #[error("it is no file but a link, a directory or something else")]
    NoFile,
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("others may write to it (mode {0:o})")]
    Writable(u32),
}

impl PrivateDirectory {
    /// Makes the directory if it is not there, and locks it until the end of the process.
    pub(crate) fn take(directory: &Path) -> Result<Self, DirectoryFault> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(DirectoryFault::Unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(FLAGS)
            .open(directory.join(LOCK))
            .map_err(DirectoryFault::Unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { lock }),
            Err(TryLockError::WouldBlock) => Err(DirectoryFault::InUse),
            Err(TryLockError::Error(source)) => Err(DirectoryFault::Unusable(source)),
        }
    }
}

impl Drop for PrivateDirectory {
    /// The lock would end with the file, but a process that is being started has it, too, for a moment.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

/// Opens a file of ours, if there is one.
pub(crate) fn open(path: &Path) -> Result<Option<File>, Unfit> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return Err(Unfit::NoFile),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(FLAGS).open(path)?;
    // Once more, of what was opened: it may be another one by now.
    let found = file.metadata()?;
    let mode = found.mode() & 0o777;
    if !found.is_file() {
        return Err(Unfit::NoFile);
    } else if found.uid() != geteuid().as_raw() {
        return Err(Unfit::Foreign);
    } else if mode & 0o022 != 0 {
        return Err(Unfit::Writable(mode));
    }
    Ok(Some(file))
}

/// Reads a file of at most `limit` bytes, if there is one; of a larger one, its last [`END`].
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<PrivateFile>, Unfit> {
    let Some(mut file) = open(path)? else {
        return Ok(None);
    };
    let is_cut = file.metadata()?.len() > limit;
    if is_cut {
        file.seek(SeekFrom::End(-END))?;
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(PrivateFile { bytes, is_cut }))
}

pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = with_ending(path, ".damaged");
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// A new file beside `path` that only its owner can read, to be renamed to it once it is whole. The directory
/// was made when it was taken: one that was removed since then is not made again, without its lock.
pub(crate) fn beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let beside = with_ending(path, ".new");
    // An old file would keep its mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    Ok((options.open(&beside)?, beside))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Never through a link, and without waiting for the other end of a pipe.
const FLAGS: i32 = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .bits()
    .cast_signed();
/// Not `.lock`, which the audit trail has: both may lie in one directory.
const LOCK: &str = ".state-lock";
/// Of a file that is too large this much is read, which is more than ours ever are.
const END: i64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_second_owner_is_refused_until_the_first_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let first = PrivateDirectory::take(place.path()).unwrap();
        let second = PrivateDirectory::take(place.path());
        assert!(matches!(second, Err(DirectoryFault::InUse)));
        drop(first);
        PrivateDirectory::take(place.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_gone_is_not_made_again() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("state");
        let taken = PrivateDirectory::take(&directory).unwrap();
        let (_, new) = beside(&directory.join("file")).unwrap();
        assert!(new.exists());
        fs::remove_dir_all(&directory).unwrap();
        assert!(beside(&directory.join("file")).is_err() && !directory.exists());
        drop(taken);
    }

    #[test]
    fn only_a_small_file_of_ours_that_others_cannot_write_is_believed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        assert!(matches!(read(&path, 10), Ok(None)));
        fs::write(&path, "0123456789").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(read(&path, 10), Ok(Some(content)) if content.bytes == b"0123456789"));
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let unfit = read(&path, 10);
            assert!(matches!(unfit, Err(Unfit::Writable(found)) if found == mode));
        }
        let link = place.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(read(&link, 10), Err(Unfit::NoFile)));
        let dangling = place.path().join("dangling");
        symlink("nowhere", &dangling).unwrap();
        assert!(matches!(read(&dangling, 10), Err(Unfit::NoFile)));
        assert!(matches!(read(place.path(), 10), Err(Unfit::NoFile)));
        // No reader waits for a writer of it.
        let pipe = place.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(read(&pipe, 10), Err(Unfit::NoFile)));
    }

    #[test]
    fn of_a_file_that_is_too_large_the_end_is_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let mut content = vec![b'x'; 100_000];
        content.extend(b"end");
        fs::write(&path, &content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let Ok(Some(PrivateFile {
            bytes: end,
            is_cut: true,
        })) = read(&path, 70_000)
        else {
            panic!("it is too large");
        };
        assert!(end.len() == 64 << 10 && end.ends_with(b"end"));
    }

    #[test]
    fn what_is_set_aside_is_whatever_it_is_and_what_it_points_to_stays() {
        let place = tempfile::tempdir().unwrap();
        let (target, path) = (place.path().join("target"), place.path().join("file"));
        fs::write(&target, "kept").unwrap();
        for _ in 0..2 {
            symlink(&target, &path).unwrap();
            let aside = set_aside(&path).unwrap();
            assert!(aside.ends_with("file.damaged") && fs::symlink_metadata(&path).is_err());
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    }
}
