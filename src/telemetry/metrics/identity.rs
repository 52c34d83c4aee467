//! What is counted of identity.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Handles to the metrics of identity.
#[derive(Clone, Debug, Default)]
pub struct IdentityMetrics {
    remembered: Counter,
    verified: Counter,
    refused: Counter,
    fetched: Counter,
    not_fetched: Counter,
    ignored: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    result: Check,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the labels' values")]
enum Check {
    refused,
    remembered,
    verified,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    result: Fetch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the labels' values")]
enum Fetch {
    failed,
    fetched,
}

impl IdentityMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let checks = Family::<CheckLabels, Counter>::default();
        let fetches = Family::<FetchLabels, Counter>::default();
        let check = |result| checks.get_or_create_owned(&CheckLabels { result });
        let fetch = |result| fetches.get_or_create_owned(&FetchLabels { result });
        let metrics = Self {
            remembered: check(Check::remembered),
            verified: check(Check::verified),
            refused: check(Check::refused),
            fetched: fetch(Fetch::fetched),
            not_fetched: fetch(Fetch::failed),
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

    /// A token that was verified before.
    pub fn remembered(&self) {
        self.remembered.inc();
    }

    /// A token that was looked at: good or not.
    pub fn checked(&self, good: bool) {
        if good { &self.verified } else { &self.refused }.inc();
    }

    /// An attempt to fetch keys.
    pub fn fetched(&self, good: bool) {
        if good {
            &self.fetched
        } else {
            &self.not_fetched
        }
        .inc();
    }

    /// A published key that is left out.
    pub fn ignored(&self) {
        self.ignored.inc();
    }
}
