//! What is counted of configurations that were read again.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the metrics of reloads.
#[derive(Clone, Debug)]
pub struct ReloadMetrics {
    reloads: Family<ReloadResult, Counter>,
    last_taken: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadResult {
    result: &'static str,
}

impl ReloadMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reloads: Family::default(),
            last_taken: Gauge::default(),
        };
        // Both are on the page before the first reload, so that its increase can be seen.
        for result in ["refused", "taken"] {
            metrics
                .reloads
                .get_or_create(&ReloadResult { result })
                .inc_by(0);
        }
        // The one that the process was started with was taken.
        metrics.last_taken.set(1);
        registry.register(
            "config_reloads",
            "Times that the configuration was read again, by result",
            metrics.reloads.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the configuration that was read last is in place",
            metrics.last_taken.clone(),
        );
        metrics
    }

    /// Counts a configuration that was taken or refused.
    pub fn reloaded(&self, taken: bool) {
        let result = if taken { "taken" } else { "refused" };
        self.reloads.get_or_create(&ReloadResult { result }).inc();
        self.last_taken.set(i64::from(taken));
    }
}
