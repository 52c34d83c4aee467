//! Metrics of the access rules and of the deny list.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Register;

/// Handles to the gauges of the policy. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PolicyMetrics {
    unused: Gauge,
    listed: Gauge,
}

impl PolicyMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self {
            unused: registry.gauge(
                "access_rules_unused",
                "Access rules that have decided nothing since the start, or since they were changed",
            ),
            listed: registry.gauge(
                "access_deny_list_entries",
                "Entries of the deny list that is in place",
            ),
        }
    }

    pub(crate) fn show(&self, unused: usize, listed: usize) {
        let gauge = |number: usize| i64::try_from(number).expect("fewer than memory has bytes");
        self.unused.set(gauge(unused));
        self.listed.set(gauge(listed));
    }
}
