//! What many lookups have to say alike is said for all of them.

use super::outage::Outage;
use crate::telemetry::Repeated;

/// One for each thing that whoever asks, or an outage, can repeat.
#[derive(Debug, Default)]
pub struct Repeats {
    /// Atlas has no answer for fetches.
    pub(super) outage: Outage,
    /// An issuer has no keys.
    pub(super) no_keys: Repeated,
    /// Lookups end in a panic.
    pub(super) panicked: Repeated,
    /// Lookups take too long.
    pub(super) timed_out: Repeated,
}
