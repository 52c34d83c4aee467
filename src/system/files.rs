//! Watched files, and files that are read whole and with bounds.
//!
//! Polled, not notified: a mounted secret is swapped by renaming symlinks, which file notifications
//! miss; and reading a small file every few seconds costs nothing.
//!
//! Only regular files are read. A pipe or a device in the place of one keeps its reader waiting for ever,
//! or never ends.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, OFlags, access};

use super::blocking::may_wait;
use super::clock::Clock;

/// A small file that is wanted again when it has changed.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    limit: u64,
    /// It was a pipe when it was first read: that can be read once, and does not change.
    is_pipe: bool,
    content: Settled<Option<Vec<u8>>>,
}

/// Files of which it only matters that one of them is another: secrets, which are not kept for that.
#[derive(Debug, Default)]
pub(crate) struct WatchedFiles {
    paths: Vec<PathBuf>,
    states: Settled<Vec<Option<FileState>>>,
}

/// Debounces what is looked at again and again: a file that is being written is half a file, and half a list
/// of rules may well be read without a mistake.
#[derive(Debug, Default)]
pub(crate) struct Settled<T> {
    taken: T,
    last_seen: T,
}

impl<T: Clone + PartialEq> Settled<T> {
    pub(crate) fn new(taken: T) -> Self {
        Self {
            last_seen: taken.clone(),
            taken,
        }
    }

    /// Whether `present` is not what was taken, and has been the same for two looks in a row.
    pub(crate) fn is_changed(&mut self, present: T) -> bool {
        let is_settled = present == self.last_seen;
        self.last_seen = present;
        is_settled && self.last_seen != self.taken
    }

    async fn changed(&mut self, clock: &Clock, look: impl Fn() -> T + Clone + Send + 'static)
    where
        T: Send + 'static,
    {
        loop {
            clock.sleep(BETWEEN_LOOKS).await;
            if self.is_changed(may_wait(look.clone()).await) {
                return;
            }
        }
    }
}

/// What tells a file from what it was before: device, inode, length, mode, and the time of the last change
/// of its content, its owner or its mode, any of which may be what was wrong with it.
type FileState = [u64; 6];

impl WatchedFile {
    /// Watches `path`, whose content may have up to `limit` bytes. Reads nothing yet.
    pub(crate) fn new(path: impl Into<PathBuf>, limit: u64) -> Self {
        Self {
            path: path.into(),
            limit,
            is_pipe: false,
            content: Settled::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The content now. From here on, [`WatchedFile::changed`] waits for another.
    ///
    /// For the start of a process, which may wait: it may be a pipe, as a shell makes for
    /// `<(…)`.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        let file = std::fs::metadata(&self.path);
        self.is_pipe = file.is_ok_and(|file| !file.is_file() && !file.is_dir());
        let content = if self.is_pipe {
            File::open(&self.path).and_then(|file| read_whole(file, self.limit))
        } else {
            read_limited(&self.path, self.limit)
        };
        self.take(content)
    }

    /// The same, without keeping a thread of the runtime waiting; of a pipe there is nothing more to read.
    pub(crate) async fn read_again(&mut self) -> io::Result<Vec<u8>> {
        let (path, limit) = (self.path.clone(), self.limit);
        let content = may_wait(move || read_limited(&path, limit)).await;
        self.take(content)
    }

    pub(crate) async fn changed(&mut self, clock: &Clock) {
        if self.is_pipe {
            std::future::pending::<()>().await;
        }
        let (path, limit) = (self.path.clone(), self.limit);
        let look = move || read_limited(&path, limit).ok();
        self.content.changed(clock, look).await;
    }

    fn take(&mut self, content: io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
        self.content = Settled::new(content.as_ref().ok().cloned());
        content
    }
}

impl WatchedFiles {
    pub(crate) async fn new(paths: Vec<PathBuf>) -> Self {
        may_wait(move || Self::now(paths)).await
    }

    pub(crate) fn now(paths: Vec<PathBuf>) -> Self {
        Self {
            states: Settled::new(file_states(&paths)),
            paths,
        }
    }

    pub(crate) async fn changed(&mut self, clock: &Clock) {
        let paths = self.paths.clone();
        self.states
            .changed(clock, move || file_states(&paths))
            .await;
    }
}

fn file_states(paths: &[PathBuf]) -> Vec<Option<FileState>> {
    paths.iter().map(|path| file_state(path)).collect()
}

fn file_state(path: &Path) -> Option<FileState> {
    let file = std::fs::metadata(path).ok()?;
    Some([
        file.dev(),
        file.ino(),
        file.len(),
        file.mode().into(),
        file.ctime().cast_unsigned(),
        file.ctime_nsec().cast_unsigned(),
    ])
}

/// Reads a whole regular file of at most `limit` bytes. Waits for the disk, but for no other process.
pub(crate) fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // To open a pipe would be to wait for its writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(
            "it is no regular file, but a directory, a pipe, a socket or a device",
        ));
    }
    read_whole(file, limit)
}

/// The same, of a file that others than its owner and its group may not write to: what it says is its owner's word.
pub(crate) fn read_owned(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    written_by_its_owner(path)?;
    read_limited(path, limit)
}

pub(crate) fn text_of(content: Vec<u8>) -> io::Result<String> {
    String::from_utf8(content).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// Refuses a file that others than its owner and its group may write to: what it says is not its owner's word.
fn written_by_its_owner(path: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(path)?.mode() & 0o777;
    if mode & 0o002 == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "everybody may write to it (mode {mode:o}); run `chmod o-w` on it"
        )))
    }
}

/// Why `directory` can never be a directory for any user: something else is in its place, or on the way to it.
pub(crate) fn impossible_directory(directory: &Path) -> Option<String> {
    let (place, found) = nearest(directory)?;
    (!found.is_dir()).then(|| format!("{} is no directory; name another place", place.display()))
}

/// Why this user cannot write to `directory`, or cannot make it. Another user may be able to.
pub(crate) fn unwritable_directory(directory: &Path) -> Option<String> {
    let (place, _) = nearest(directory)?;
    let error = access(place, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(format!(
        "this user cannot write to {} ({}); the user that runs the gateway has to",
        place.display(),
        io::Error::from(error)
    ))
}

/// The nearest place on the way to `path` where there is something.
fn nearest(path: &Path) -> Option<(&Path, Metadata)> {
    path.ancestors()
        .map(|place| {
            if place.as_os_str().is_empty() {
                Path::new(".")
            } else {
                place
            }
        })
        .find_map(|place| Some((place, std::fs::metadata(place).ok()?)))
}

fn read_whole(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|length| length > limit) {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {limit} bytes"),
        ));
    }
    Ok(content)
}

const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tokio::task::yield_now;

    use super::*;
    use crate::atlas::Timestamp;

    /// Whether the file is said to have changed after one more look.
    fn look(watched: &mut WatchedFile) -> bool {
        let present = read_limited(&watched.path, watched.limit).ok();
        watched.content.is_changed(present)
    }

    #[test]
    fn each_change_is_told_once_it_has_settled_and_again_only_after_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut watched = WatchedFile::new(&path, 8);
        assert!(watched.read().is_err());
        for (content, expected) in [
            ("half", Ok(b"half".to_vec())),
            ("whole", Ok(b"whole".to_vec())),
            ("much too long", Err(io::ErrorKind::FileTooLarge)),
            ("whole", Ok(b"whole".to_vec())),
            ("", Ok(Vec::new())),
        ] {
            fs::write(&path, content).unwrap();
            assert!(!look(&mut watched), "{content}");
            assert!(look(&mut watched), "{content}");
            assert_eq!(watched.read().map_err(|error| error.kind()), expected);
            for _ in 0..3 {
                assert!(!look(&mut watched), "{content}");
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(!look(&mut watched));
        assert!(look(&mut watched));
    }

    #[test]
    fn a_file_that_is_still_being_written_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "0").unwrap();
        let mut watched = WatchedFile::new(&path, 8);
        watched.read().unwrap();
        for content in ["1", "12", "123"] {
            fs::write(&path, content).unwrap();
            assert!(!look(&mut watched), "{content}");
        }
        assert!(look(&mut watched));
    }

    #[tokio::test]
    async fn of_several_files_one_that_comes_goes_or_has_another_mode_is_told() {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(0));
        let directory = tempfile::tempdir().unwrap();
        let paths = ["one", "two"].map(|name| directory.path().join(name));
        fs::write(&paths[0], "1").unwrap();
        for what in ["comes", "is another", "is closed to others", "goes"] {
            let mut watched = WatchedFiles::new(paths.to_vec()).await;
            assert_eq!(file_states(&paths), watched.states.taken);
            let done = match what {
                "comes" => fs::write(&paths[1], "2"),
                "is another" => fs::write(&paths[1], "22"),
                "goes" => fs::remove_file(&paths[1]),
                _ => fs::set_permissions(&paths[0], fs::Permissions::from_mode(0o600)),
            };
            done.unwrap();
            let passing = async {
                loop {
                    manual_clock.advance(BETWEEN_LOOKS);
                    yield_now().await;
                }
            };
            tokio::select! {
                () = watched.changed(&clock) => {}
                () = passing => {}
            }
        }
    }

    #[test]
    fn a_pipe_is_read_once_at_the_start_and_what_takes_a_files_place_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let refused = read_limited(&path, 8).unwrap_err();
        assert!(refused.to_string().contains("no regular file"), "{refused}");
        for place in ["/dev/zero", "/"] {
            assert!(read_limited(Path::new(place), 8).is_err(), "{place}");
        }
        let mut watched = WatchedFile::new(&path, 8);
        let writing = std::thread::spawn({
            let path = path.clone();
            move || fs::write(path, "content").unwrap()
        });
        assert_eq!(watched.read().unwrap(), b"content");
        writing.join().unwrap();
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_or_on_the_way_to_it_makes_it_impossible() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(impossible_directory(&file).is_some());
        assert!(impossible_directory(&file.join("below/it")).is_some());
        assert_eq!(impossible_directory(&place.path().join("new/one")), None);
        assert_eq!(impossible_directory(Path::new("relative")), None);
        assert_eq!(unwritable_directory(&place.path().join("new/one")), None);
        assert!(!place.path().join("new").exists());
    }
}
