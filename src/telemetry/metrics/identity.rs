//! Metrics of tokens and of issuers' keys.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

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

type ByResult = Family<[(&'static str, &'static str); 1], Counter>;

impl IdentityMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let (checks, fetches) = (ByResult::default(), ByResult::default());
        let of = |family: &ByResult, result| family.get_or_create_owned(&[("result", result)]);
        let metrics = Self {
            cached: of(&checks, "remembered"),
            verified: of(&checks, "verified"),
            refused: of(&checks, "refused"),
            fetched: of(&fetches, "fetched"),
            not_fetched: of(&fetches, "failed"),
            ignored: Counter::default(),
        };
        registry.register(
            "token_checks",
            "Tokens of callers: remembered, verified anew, or refused",
            checks,
        );
        registry.register(
            "jwks_fetches",
            "Attempts to fetch an issuer's published keys",
            fetches,
        );
        registry.register(
            "jwks_keys_ignored",
            "Published keys that cannot be used, counted each time a set changes",
            metrics.ignored.clone(),
        );
        metrics
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
