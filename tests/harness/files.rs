//! A directory of a test's own, that is gone when the test is.

use std::fs;
use std::io::ErrorKind;
use std::ops::Deref;

use tempfile::TempDir;

/// A temporary directory. Dropped, it is removed although tasks of the gateway may still be writing files
/// into it: they make no directories, so that nothing comes back once it is gone.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Deref for Files {
    type Target = TempDir;

    fn deref(&self) -> &TempDir {
        &self.0
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // A file that is made between the last look and the removal makes the directory not empty.
        while fs::remove_dir_all(self.path())
            .is_err_and(|error| error.kind() == ErrorKind::DirectoryNotEmpty)
        {}
    }
}
