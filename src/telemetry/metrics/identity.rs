//! Metrics of tokens and of issuers' keys.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::Register;

/// Handles to the metrics of identity.
#[derive(Clone, Debug, Default)]
pub struct IdentityMetrics {
    cached: Counter,
    verified: Counter,
    refused: Counter,
    fetched: Counter,
    not_fetched: Counter,
    ignored: Counter,
}

impl IdentityMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let [cached, verified, refused] = registry.add_counters(
            "token_checks",
            "Tokens of callers: remembered, verified anew, or refused",
            "result",
            ["remembered", "verified", "refused"],
        );
        let [fetched, not_fetched] = registry.add_counters(
            "jwks_fetches",
            "Attempts to fetch an issuer's published keys",
            "result",
            ["fetched", "failed"],
        );
        Self {
            cached,
            verified,
            refused,
            fetched,
            not_fetched,
            ignored: registry.counter(
                "jwks_keys_ignored",
                "Published keys that cannot be used, counted each time a set changes",
            ),
        }
    }

    pub(crate) fn cached(&self) {
        self.cached.inc();
    }

    pub(crate) fn checked(&self, good: bool) {
        if good { &self.verified } else { &self.refused }.inc();
    }

    pub(crate) fn fetched(&self, good: bool) {
        if good {
            &self.fetched
        } else {
            &self.not_fetched
        }
        .inc();
    }

    pub(crate) fn ignored(&self) {
        self.ignored.inc();
    }
}
