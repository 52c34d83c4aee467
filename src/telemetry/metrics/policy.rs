//! Metrics of the access rules and of the deny list.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Register;
use super::rules::RuleMetrics;

/// Handles to the gauges of the policy. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PolicyMetrics {
    unused: Gauge,
    listed: Gauge,
    pub(crate) rules: RuleMetrics,
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
            rules: RuleMetrics::register(registry),
        }
    }

    /// Has these rules counted from zero.
    pub(crate) fn know<'r>(&self, rules: impl IntoIterator<Item = &'r Arc<str>>) {
        self.rules.know(rules);
    }

    pub(crate) fn show(&self, unused: usize, listed: usize) {
        let gauge = |number: usize| i64::try_from(number).expect("fewer than memory has bytes");
        self.unused.set(gauge(unused));
        self.listed.set(gauge(listed));
    }
}
