//! What is counted of identity.

use prometheus_client::registry::Registry;

/// Handles to the metrics of identity.
#[derive(Clone, Debug, Default)]
pub struct IdentityMetrics {}

impl IdentityMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(_registry: &mut Registry) -> Self {
        Self::default()
    }
}
