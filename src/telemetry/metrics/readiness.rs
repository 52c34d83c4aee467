//! What is ill, by part: what keeps a replica from being ready, and what it serves without.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Register;

/// Handles to the gauges of readiness. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReadinessMetrics {
    not_ready: ByPart,
    degraded: ByPart,
}

type ByPart = Family<[(&'static str, &'static str); 1], Gauge>;

/// What can be ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Atlas, or the way to it.
    Atlas,
    /// The audit journal.
    Audit,
    /// Our credentials for Atlas.
    Credentials,
    /// The database of the central audit trail.
    Database,
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

impl Part {
    const ALL: [Self; 11] = [
        Self::Atlas,
        Self::Audit,
        Self::Credentials,
        Self::Database,
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
            Self::Database => "database",
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

impl ReadinessMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            not_ready: registry.add(
                "not_ready",
                "What keeps this replica from being ready, as its readiness tells",
                Family::default(),
            ),
            degraded: registry.add(
                "degraded",
                "What is ill although this replica serves, as its readiness tells",
                Family::default(),
            ),
        };
        metrics.show(&[], &[]);
        metrics
    }

    /// Shows which parts keep the replica from being ready, and which are ill besides.
    pub fn show(&self, not_ready: &[Part], degraded: &[Part]) {
        for (family, ill) in [(&self.not_ready, not_ready), (&self.degraded, degraded)] {
            for part in Part::ALL {
                let gauge = family.get_or_create_owned(&[("part", part.word())]);
                gauge.set(ill.contains(&part).into());
            }
        }
    }
}
