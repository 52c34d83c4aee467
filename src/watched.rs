//! A file that may change under us: a path goes in, its content comes out, and later the word that it is
//! another one.
//!
//! Polled, not notified: a mounted secret is swapped by renaming symlinks, which file notifications
//! miss; and reading a small file every few seconds costs nothing.

use std::fs::File;
use std::io;
use std::io::Read;
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

    use futures_util::FutureExt;

    use super::*;
    use crate::atlas::Timestamp;
    use crate::clock::Hands;

    /// Whether the file is said to have changed after one more look.
    fn look(watched: &mut WatchedFile, clock: &Clock, hands: &Hands) -> bool {
        let mut changed = Box::pin(watched.changed(clock));
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
}
