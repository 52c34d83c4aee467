//! What is counted of connections that are not served to their end.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Handles to the metrics of connections.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    refused: Family<Reason, Counter>,
    reloads: Family<ReloadResult, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadResult {
    result: &'static str,
}

impl ConnectionMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            refused: Family::default(),
            reloads: Family::default(),
        };
        for reason in REASONS {
            metrics.refused.get_or_create(&Reason { reason }).inc_by(0);
        }
        for result in ["loaded", "refused"] {
            let reloads = &metrics.reloads;
            reloads.get_or_create(&ReloadResult { result }).inc_by(0);
        }
        registry.register(
            "connections_refused",
            "Connections that were ended by the gateway before a request could be read, by why",
            metrics.refused.clone(),
        );
        registry.register(
            "tls_reloads",
            "Times that changed certificate files were read, by result",
            metrics.reloads.clone(),
        );
        metrics
    }

    /// Counts a connection that is refused. `reason` is one of [`REASONS`].
    pub fn refused(&self, reason: &'static str) {
        debug_assert!(REASONS.contains(&reason), "{reason} is not announced");
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a reading of changed certificate files.
    pub fn tls_reload(&self, is_good: bool) {
        let result = if is_good { "loaded" } else { "refused" };
        self.reloads.get_or_create(&ReloadResult { result }).inc();
    }
}

/// Why a connection is refused, in the door's own words. All are on the page from the beginning:
/// Prometheus sees no increase in a counter that begins at one.
pub const REASONS: [&str; 18] = [
    "body_length",
    "connections",
    "connections_per_source",
    "control_character",
    "descriptors",
    "first_byte",
    "header_line",
    "memory",
    "proxy_protocol",
    "request_line",
    "target",
    "target_too_long",
    "timeout",
    "tls_handshake",
    "too_large",
    "too_many",
    "transfer_encoding",
    "write_stall",
];
