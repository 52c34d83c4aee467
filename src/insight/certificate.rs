//! What is known of one certificate.

use std::sync::Arc;

use crate::atlas::Timestamp;

/// A certificate, as far as it is compared and told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownCertificate {
    /// Atlas's have 63 bits.
    pub(super) id: i64,
    pub(super) not_after: Timestamp,
    /// One text for all certificates of a list that have it.
    pub(super) subject: Option<Arc<str>>,
}
