//! A secret that may be rotated: the last good one of a file that is read again when it changes, or a fixed text.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::system::{Secret, SecretFileError, may_wait};

pub(crate) struct WatchedSecret {
    current: ArcSwap<Secret>,
    file: Option<PathBuf>,
    /// Whether the file was last found unreadable, so that it is said once and not every time.
    broken: AtomicBool,
    /// A look is under way, or hangs: one thread is enough to find that out.
    looking: AtomicBool,
}

impl WatchedSecret {
    pub(crate) fn fixed(secret: Secret) -> Self {
        Self::new(secret, None)
    }

    pub(crate) fn read(file: PathBuf) -> Result<Self, SecretFileError> {
        Ok(Self::new(Secret::read(&file)?, Some(file)))
    }

    fn new(secret: Secret, file: Option<PathBuf>) -> Self {
        Self {
            current: ArcSwap::from_pointee(secret),
            file,
            broken: AtomicBool::new(false),
            looking: AtomicBool::new(false),
        }
    }

    pub(crate) fn current(&self) -> Arc<Secret> {
        self.current.load_full()
    }

    /// Reads the file again on another thread, and calls `changed` if there is another secret in it. To be called inside a tokio runtime.
    pub(crate) fn look(self: &Arc<Self>, changed: impl FnOnce() + Send + 'static) {
        let Some(file) = self.file.clone() else {
            return;
        };
        if self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let secret = Arc::clone(self);
        tokio::spawn(async move {
            let path = file.clone();
            let read = may_wait(move || Secret::read(&path)).await;
            if secret.take(read, &file) {
                changed();
            }
            secret.looking.store(false, Ordering::Release);
        });
    }

    fn take(&self, read: Result<Secret, SecretFileError>, file: &Path) -> bool {
        match read {
            Ok(secret) => {
                self.broken.store(false, Ordering::Relaxed);
                if secret.expose() == self.current.load().expose() {
                    return false;
                }
                info!(file = %file.display(), "took up a changed secret");
                self.current.store(Arc::new(secret));
                true
            }
            Err(error) => {
                if !self.broken.swap(true, Ordering::Relaxed) {
                    warn!(file = %file.display(), %error, "keeping the last good secret");
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_changed_file_is_taken_up_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let secret = WatchedSecret::read(path.clone()).unwrap();
        let look = || secret.take(Secret::read(&path), &path);
        assert!(!look());
        fs::write(&path, "two\n").unwrap();
        assert!(look());
        fs::write(&path, "").unwrap();
        assert!(!look());
        fs::remove_file(&path).unwrap();
        assert!(!look());
        assert_eq!(secret.current().expose(), "two");
    }
}
