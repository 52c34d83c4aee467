//! What is ill, by part: what keeps a replica from being ready, and what it serves without.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the gauges of readiness. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReadinessMetrics {
    not_ready: Family<PartLabel, Gauge>,
    degraded: Family<PartLabel, Gauge>,
}

/// What can be ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Atlas, or the way to it.
    Atlas,
    /// The audit journal.
    Audit,
    /// Our credentials for Atlas.
    Credentials,
    /// The deny list.
    DenyList,
    /// The process is stopping.
    Draining,
    /// The issuers' keys.
    Keys,
    /// The memory of the process.
    Memory,
    /// Lookups that have panicked.
    Panics,
    /// The second audit sink.
    SecondSink,
    /// The certificates that callers are shown, or with which they are let in.
    Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: Part,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Atlas,
        Self::Audit,
        Self::Credentials,
        Self::DenyList,
        Self::Draining,
        Self::Keys,
        Self::Memory,
        Self::Panics,
        Self::SecondSink,
        Self::Tls,
    ];

    /// Its name in the answer of `/readyz` and in the metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Atlas => "atlas",
            Self::Audit => "audit",
            Self::Credentials => "credentials",
            Self::DenyList => "deny_list",
            Self::Draining => "draining",
            Self::Keys => "keys",
            Self::Memory => "memory",
            Self::Panics => "panics",
            Self::SecondSink => "second_sink",
            Self::Tls => "tls",
        }
    }
}

impl EncodeLabelValue for Part {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.word().encode(encoder)
    }
}

impl ReadinessMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            not_ready: Family::default(),
            degraded: Family::default(),
        };
        metrics.show(&[], &[]);
        registry.register(
            "not_ready",
            "What keeps this replica from being ready, as its readiness tells",
            metrics.not_ready.clone(),
        );
        registry.register(
            "degraded",
            "What is ill although this replica serves, as its readiness tells",
            metrics.degraded.clone(),
        );
        metrics
    }

    /// Shows which parts keep the replica from being ready, and which are ill besides.
    pub fn show(&self, not_ready: &[Part], degraded: &[Part]) {
        for part in Part::ALL {
            let label = PartLabel { part };
            let shown = |family: &Family<PartLabel, Gauge>, parts: &[Part]| {
                family
                    .get_or_create(&label)
                    .set(i64::from(parts.contains(&part)));
            };
            shown(&self.not_ready, not_ready);
            shown(&self.degraded, degraded);
        }
    }
}
