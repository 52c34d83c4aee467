//! The id of a fetch.

use std::fmt;

use uuid::Uuid;

use super::Config;
use super::freshness::Lifetime;
use crate::system::{Ids, Moment};

/// The id of a fetch; in the audit trail it leads from an answer to the fetch behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FillId(Uuid);

impl FillId {
    /// A new id, which sorts by time.
    pub(super) fn mint(ids: &Ids, now: Moment) -> Self {
        Self(ids.at(now.wall))
    }

    /// The id as the audit trail has it.
    pub(crate) fn uuid(self) -> Uuid {
        self.0
    }

    /// The lifetime of what the fetch brings; it is the same at every replica.
    pub(super) fn lifetime(self, config: &Config) -> Lifetime {
        Lifetime::pick(config, self.0.as_u64_pair().1)
    }
}

impl From<Uuid> for FillId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for FillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for FillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FillId({self})")
    }
}
