//! Metrics of the access rules and of the deny list.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the gauges of the policy. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PolicyMetrics {
    unused: Gauge,
    listed: Gauge,
}

impl PolicyMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "access_rules_unused",
            "Access rules that have decided nothing since the start, or since they were changed",
            metrics.unused.clone(),
        );
        registry.register(
            "access_deny_list_entries",
            "Entries of the deny list that is in place",
            metrics.listed.clone(),
        );
        metrics
    }

    pub(crate) fn show(&self, unused: usize, listed: usize) {
        let gauge = |number: usize| i64::try_from(number).expect("fewer than memory has bytes");
        self.unused.set(gauge(unused));
        self.listed.set(gauge(listed));
    }
}
