//! What is shown of the process's memory beside what the kernel says of it.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the metrics of memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryMetrics {
    stage: Gauge,
    ceiling: Gauge,
    in_use: Gauge,
}

impl MemoryMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "memory_stage",
            "What is given up for want of memory: 0 nothing, 1 renewing ahead and a part of the cache, 2 \
             kept connections, 3 misses, 4 new connections",
            metrics.stage.clone(),
        );
        registry.register(
            "memory_ceiling_bytes",
            "What the process may take; 0 if nothing bounds it",
            metrics.ceiling.clone(),
        );
        registry.register(
            "memory_in_use_bytes",
            "What the process takes without what the cache has let go of and the allocator has kept; 0 if \
             nothing bounds it",
            metrics.in_use.clone(),
        );
        metrics
    }

    /// Shows the stage.
    pub fn stage(&self, number: u8) {
        self.stage.set(number.into());
    }

    /// Shows what is in use.
    pub fn in_use(&self, bytes: u64) {
        self.in_use.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Shows the ceiling.
    pub fn ceiling(&self, bytes: u64) {
        self.ceiling.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
