//! What many lookups have to say alike is said for all of them.

use super::outage::Outage;
use crate::telemetry::RateLimitedLog;

/// One for each thing that whoever asks, or an outage, can repeat.
#[derive(Debug, Default)]
pub struct Repeats {
    /// Atlas has no answer for fetches.
    pub(super) outage: Outage,
    /// An issuer has no keys.
    pub(super) no_keys: RateLimitedLog,
    /// Lookups end in a panic.
    pub(super) panicked: RateLimitedLog,
    /// Lookups take too long.
    pub(super) timed_out: RateLimitedLog,
}
