//! What every part needs of the system: the time, files that may change, threads that may wait, secrets, and
//! the roots of TLS.

mod blocking;
mod clock;
mod files;
mod hex;
mod ids;
mod printable;
pub(crate) mod private_files;
mod random;
mod roots;
mod secret;
mod shared_moment;

pub(crate) use blocking::{BlockingFile, in_background, may_wait};
pub(crate) use clock::BootMoment;
#[cfg(test)]
pub(crate) use clock::SLICE;
pub use clock::{Clock, Elapsed, ManualClock, Moment};
pub(crate) use files::{
    Settled, WatchedFile, WatchedFiles, impossible_directory, read_limited, read_owned, text_of,
    unwritable_directory,
};
pub(crate) use hex::hex;
pub use ids::Ids;
pub(crate) use printable::printable;
pub(crate) use random::random_bytes;
pub use roots::NoTls;
pub(crate) use roots::Trust;
pub use secret::{Secret, SecretFileError};
pub(crate) use shared_moment::SharedMoment;

/// The revision that this was built from, as the build was told by `ATLAS_CERT_GATEWAY_REVISION`: a commit and its day.
pub const REVISION: &str = match option_env!("ATLAS_CERT_GATEWAY_REVISION") {
    Some(revision) if !revision.is_empty() => revision,
    _ => "unknown",
};
