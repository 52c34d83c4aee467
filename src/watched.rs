//! A file that may change under us: a path goes in, its content comes out once per change.
//!
//! Polled, not notified: a mounted secret is swapped by renaming symlinks, which file notifications
//! miss; and reading a small file every few seconds costs nothing.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

/// A small file whose content is wanted each time it changes.
#[derive(Debug)]
pub struct WatchedFile {
    path: PathBuf,
    limit: u64,
    seen: Option<Vec<u8>>,
}

impl WatchedFile {
    /// Watches `path`, whose content may have up to `limit` bytes. Reads nothing yet.
    pub fn new(path: impl Into<PathBuf>, limit: u64) -> Self {
        Self {
            path: path.into(),
            limit,
            seen: None,
        }
    }

    /// Which file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content, if it differs from what was last returned; `None` if it is the same.
    ///
    /// An error leaves what was seen alone: the next good content is compared with the last good one.
    /// It names the path.
    pub fn poll(&mut self) -> io::Result<Option<Vec<u8>>> {
        let content = read_limited(&self.path, self.limit).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
        })?;
        if self.seen.as_ref() == Some(&content) {
            return Ok(None);
        }
        self.seen = Some(content.clone());
        Ok(Some(content))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_change_is_returned_once_and_a_vanished_file_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let mut watched = WatchedFile::new(&path, 4);
        assert!(watched.poll().is_err());
        fs::write(&path, "one").unwrap();
        assert_eq!(watched.poll().unwrap(), Some(b"one".to_vec()));
        assert_eq!(watched.poll().unwrap(), None);
        fs::remove_file(&path).unwrap();
        assert!(watched.poll().is_err());
        fs::write(&path, "one").unwrap();
        assert_eq!(watched.poll().unwrap(), None);
        fs::write(&path, "three").unwrap();
        assert_eq!(
            watched.poll().unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }
}
