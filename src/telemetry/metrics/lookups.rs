//! What is counted of lookups.

use prometheus_client::registry::Registry;

/// Handles to the metrics of lookups.
#[derive(Clone, Debug, Default)]
pub struct LookupMetrics {}

impl LookupMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(_registry: &mut Registry) -> Self {
        Self::default()
    }
}
