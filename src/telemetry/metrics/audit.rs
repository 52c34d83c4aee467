//! What is counted of audit.

use prometheus_client::registry::Registry;

/// Handles to the metrics of audit.
#[derive(Clone, Debug, Default)]
pub struct AuditMetrics {}

impl AuditMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(_registry: &mut Registry) -> Self {
        Self::default()
    }
}
