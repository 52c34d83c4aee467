//! What is wrong with an issuer's keys, for whoever asks how this replica does.

use std::fmt;
use std::sync::Arc;

use crate::atlas::Timestamp;

/// An issuer and what is wrong with its keys.
#[derive(Clone, Debug)]
pub struct TroubledIssuer {
    /// Its name.
    pub issuer: Arc<str>,
    /// What is wrong.
    pub trouble: Trouble,
}

/// What is wrong with an issuer's keys. Nobody is refused for it, except without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There are none: not yet, or not for a day.
    NoKeys,
    /// The last attempt to bring them up to date has failed.
    NotRenewed {
        /// When they were last delivered.
        since: Timestamp,
    },
    /// They were delivered by the place that was configured before; the present one has delivered none.
    OldPlace {
        /// When they were last delivered.
        since: Timestamp,
    },
}

impl fmt::Display for TroubledIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuer = &self.issuer;
        match self.trouble {
            Trouble::NoKeys => write!(f, "no keys of the issuer {issuer}"),
            Trouble::NotRenewed { since } => write!(
                f,
                "the keys of the issuer {issuer} could not be brought up to date since {since}; the log \
                 says why"
            ),
            Trouble::OldPlace { since } => write!(
                f,
                "the keys of the issuer {issuer} are those that the place configured before delivered \
                 at {since}; the present one has delivered none, and the log says why"
            ),
        }
    }
}
