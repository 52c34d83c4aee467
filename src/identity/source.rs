//! Where the keys of an issuer come from, and why there are no new ones.

use std::path::{Path, PathBuf};

use super::fetch::{FetchError, LARGEST_KEY_SET, Publisher};
use super::jwk::BadKeySet;
use crate::system::read_owned;
use crate::system::{Secret, SecretFileError};

/// Where keys come from.
pub(super) enum Source {
    /// A key set in a file.
    File(PathBuf),
    /// A secret that does not change.
    Fixed,
    /// Secrets in files, one in each.
    SecretFiles {
        /// Which files, the newest secret's first.
        paths: Vec<PathBuf>,
        /// The least length that the issuer's algorithms allow.
        shortest: usize,
    },
    /// A key set that is fetched.
    Published(Box<Publisher>),
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("could not fetch the keys")]
    Fetch(#[from] FetchError),
    #[error("the key set cannot be used")]
    Set(#[from] BadKeySet),
    #[error("the secret cannot be used")]
    Secret(#[from] SecretFileError),
    #[error(
        "the secret is too short: the algorithms need at least {0} bytes (RFC 7518, section 3.2)"
    )]
    ShortSecret(usize),
    #[error("cannot read the file")]
    Unreadable(#[source] std::io::Error),
}

/// Reads shared secrets, one in each file. Waits for the disk.
pub(super) fn read_secrets(paths: &[PathBuf]) -> Result<Vec<Secret>, SecretFileError> {
    paths.iter().map(|path| Secret::read(path)).collect()
}

/// Reads a key set. Waits for the disk.
pub(super) fn read_key_set(path: &Path) -> Result<Vec<u8>, KeyError> {
    // Whoever may write to it says who is believed.
    read_owned(path, LARGEST_KEY_SET).map_err(KeyError::Unreadable)
}
