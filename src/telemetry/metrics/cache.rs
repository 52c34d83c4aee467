//! What is counted of cache.

use prometheus_client::registry::Registry;

/// Handles to the metrics of cache.
#[derive(Clone, Debug, Default)]
pub struct CacheMetrics {}

impl CacheMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(_registry: &mut Registry) -> Self {
        Self::default()
    }
}
