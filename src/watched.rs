//! Files that may change under us: a path goes in, its content comes out, and later the word that it is
//! another one; or several paths go in, and only the word comes out.
//!
//! Polled, not notified: a mounted secret is swapped by renaming symlinks, which file notifications
//! miss; and reading a small file every few seconds costs nothing.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Clock;

/// A small file that is wanted again when it has changed.
#[derive(Debug)]
pub struct WatchedFile {
    path: PathBuf,
    limit: u64,
    /// What was last read; nothing if it could not be.
    taken: Option<Vec<u8>>,
    /// What was last seen.
    glimpsed: Option<Vec<u8>>,
}

/// Files of which it only matters that one of them is another: secrets, which are not kept for that.
#[derive(Debug, Default)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    /// How they were at the beginning.
    taken: Vec<Option<Mark>>,
    /// How they were last seen.
    glimpsed: Vec<Option<Mark>>,
}

/// What tells a file from what it was before: device, inode, length, mode, and the time of the last change
/// of its content, its owner or its mode, any of which may be what was wrong with it.
type Mark = [u64; 6];

impl WatchedFile {
    /// Watches `path`, whose content may have up to `limit` bytes. Reads nothing yet.
    pub fn new(path: impl Into<PathBuf>, limit: u64) -> Self {
        Self {
            path: path.into(),
            limit,
            taken: None,
            glimpsed: None,
        }
    }

    /// Which file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content now. From here on, [`WatchedFile::changed`] waits for another.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let content = read_limited(&self.path, self.limit);
        self.taken = content.as_ref().ok().cloned();
        self.glimpsed.clone_from(&self.taken);
        content
    }

    /// Waits until the file is another one than was last read, or is gone, and has been the same for two
    /// looks in a row.
    ///
    /// One that is being written is half a file, and half a list of rules may well be read without a
    /// mistake.
    pub async fn changed(&mut self, clock: &Clock) {
        loop {
            clock.sleep(BETWEEN_LOOKS).await;
            let present = read_limited(&self.path, self.limit).ok();
            let settled = present == self.glimpsed;
            self.glimpsed = present;
            if settled && self.glimpsed != self.taken {
                return;
            }
        }
    }
}

impl WatchedFiles {
    /// Watches `paths` from now on.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let taken = marks(&paths);
        Self {
            glimpsed: taken.clone(),
            taken,
            paths,
        }
    }

    /// Waits until one of them is another one, or there, or gone, and all have been the same for two
    /// looks in a row; for ever, where there are none.
    pub async fn changed(&mut self, clock: &Clock) {
        loop {
            clock.sleep(BETWEEN_LOOKS).await;
            let present = marks(&self.paths);
            let settled = present == self.glimpsed;
            self.glimpsed = present;
            if settled && self.glimpsed != self.taken {
                return;
            }
        }
    }
}

fn marks(paths: &[PathBuf]) -> Vec<Option<Mark>> {
    let mark = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        Some([
            file.dev(),
            file.ino(),
            file.len(),
            file.mode().into(),
            file.ctime().cast_unsigned(),
            file.ctime_nsec().cast_unsigned(),
        ])
    };
    paths.iter().map(mark).collect()
}

/// Reads a whole file of at most `limit` bytes.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(limit.saturating_add(1))
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

    use futures_util::FutureExt;

    use super::*;
    use crate::atlas::Timestamp;
    use crate::clock::Hands;

    /// Whether the file is said to have changed after one more look.
    fn look(watched: &mut WatchedFile, clock: &Clock, hands: &Hands) -> bool {
        is_told(watched.changed(clock), hands)
    }

    fn is_told(changed: impl Future<Output = ()>, hands: &Hands) -> bool {
        let mut changed = Box::pin(changed);
        assert!(changed.as_mut().now_or_never().is_none());
        hands.advance(BETWEEN_LOOKS);
        changed.now_or_never().is_some()
    }

    #[test]
    fn each_change_is_told_once_it_has_settled_and_again_only_after_another() {
        let (clock, hands) = Clock::manual(Timestamp::from_seconds(0));
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
            assert!(!look(&mut watched, &clock, &hands), "{content}");
            assert!(look(&mut watched, &clock, &hands), "{content}");
            assert_eq!(watched.read().map_err(|error| error.kind()), expected);
            for _ in 0..3 {
                assert!(!look(&mut watched, &clock, &hands), "{content}");
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(!look(&mut watched, &clock, &hands));
        assert!(look(&mut watched, &clock, &hands));
    }

    #[test]
    fn a_file_that_is_still_being_written_is_left_alone() {
        let (clock, hands) = Clock::manual(Timestamp::from_seconds(0));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "0").unwrap();
        let mut watched = WatchedFile::new(&path, 8);
        watched.read().unwrap();
        for content in ["1", "12", "123"] {
            fs::write(&path, content).unwrap();
            assert!(!look(&mut watched, &clock, &hands), "{content}");
        }
        assert!(look(&mut watched, &clock, &hands));
    }
    #[test]
    fn of_several_files_one_that_comes_goes_or_has_another_mode_is_told_once_it_has_settled() {
        let (clock, hands) = Clock::manual(Timestamp::from_seconds(0));
        let directory = tempfile::tempdir().unwrap();
        let paths = ["one", "two"].map(|name| directory.path().join(name));
        fs::write(&paths[0], "1").unwrap();
        for what in ["comes", "is another", "is closed to others", "goes"] {
            let mut watched = WatchedFiles::new(paths.to_vec());
            for _ in 0..2 {
                assert!(!is_told(watched.changed(&clock), &hands), "{what}");
            }
            let done = match what {
                "comes" => fs::write(&paths[1], "2"),
                "is another" => fs::write(&paths[1], "22"),
                "goes" => fs::remove_file(&paths[1]),
                _ => fs::set_permissions(&paths[0], fs::Permissions::from_mode(0o600)),
            };
            done.unwrap();
            assert!(!is_told(watched.changed(&clock), &hands), "{what}");
            assert!(is_told(watched.changed(&clock), &hands), "{what}");
        }
        let mut none = WatchedFiles::default();
        assert!(!is_told(none.changed(&clock), &hands));
    }
}
