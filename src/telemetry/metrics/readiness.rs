//! What is ill, by part: what keeps a replica from being ready, and what it serves without.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Label, Register};

#[derive(Clone, Debug)]
pub(crate) struct ReadinessMetrics {
    not_ready: ByPart,
    degraded: ByPart,
}

type ByPart = Family<Label<ReadinessPart>, Gauge>;

words! {
    pub(crate) enum ReadinessPart {
        Atlas = "atlas",
        Audit = "audit",
        Credentials = "credentials",
        Database = "database",
        DenyList = "deny_list",
        Draining = "draining",
        Fleet = "fleet",
        Keys = "keys",
        Memory = "memory",
        Panics = "panics",
        SecondSink = "second_sink",
        Snapshot = "snapshot",
        /// The certificates that callers are shown, or with which they are let in.
        Tls = "tls",
    }
}

impl ReadinessMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
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

    pub(crate) fn show(&self, not_ready: &[ReadinessPart], degraded: &[ReadinessPart]) {
        for (family, ill) in [(&self.not_ready, not_ready), (&self.degraded, degraded)] {
            for part in ReadinessPart::ALL {
                let gauge = family.get_or_create_owned(&[("part", part)]);
                gauge.set(ill.contains(&part).into());
            }
        }
    }
}
