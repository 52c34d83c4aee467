//! What is counted per call to Atlas.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{Label, from_zero};

/// Handles to the metrics of upstream. A call to Atlas takes milliseconds, so that finding a handle by
/// its labels costs nothing.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the help text says what each metric counts")]
pub struct UpstreamMetrics {
    pub calls: Family<CallLabels, Counter>,
    pub calls_by_cause: Family<Label<CallCause>, Counter>,
    pub(crate) duration: DurationFamily,
    pub rate_limit_remaining: Family<CredentialLabels, Gauge>,
    pub reserve_in: Family<CredentialLabels, Gauge<f64, AtomicU64>>,
    pub others_calls: Family<CredentialLabels, Counter>,
    pub gate_closed: Family<CredentialLabels, Gauge>,
    pub demand_ratio: Family<CredentialLabels, Gauge<f64, AtomicU64>>,
    pub(crate) fetches_withheld: Family<Label<&'static str>, Counter>,
    pub(crate) breakers_open: Gauge,
    pub token_mints: Family<Label<MintResult>, Counter>,
    pub token_expires: Family<CredentialLabels, Gauge<f64, AtomicU64>>,
    pub(crate) retries: Counter,
    pub fetches_restarted: Counter,
    pub lists_miscounted: Counter,
    pub certificates_without_end: Counter,
    pub answers_refused: Counter,
}

pub(crate) type DurationFamily = Family<Label<Endpoint>, Histogram, fn() -> Histogram>;

/// How a call ended: a status of HTTP, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the metric has the same labels")]
pub struct CallLabels {
    pub endpoint: Endpoint,
    /// The status; 0 if there was no answer.
    pub status: u16,
}

words! {
    /// Where a call went.
    pub enum Endpoint {
        /// A page of certificates.
        Certificates = "certificates",
        /// The end of a token.
        Revoke = "revoke",
        /// A new token.
        Token = "token",
        /// A page of a project's users.
        Users = "users",
    }
}

words! {
    /// What a call for certificates was made for.
    #[derive(Default)]
    pub enum CallCause {
        /// A list was renewed before its time; no caller waited.
        Ahead = "ahead",
        /// A caller forced it.
        Forced = "forced",
        /// It was asked when the certificates of a project end.
        Inventory = "inventory",
        /// Nothing was known, or what was known was too old.
        #[default]
        Miss = "miss",
        /// A list of several pages was read again to prove that it is of one moment.
        Proof = "proof",
        /// A list was read again because it changed while it was read.
        Restart = "restart",
        /// A page was asked for again because an answer was missing, bad or a challenge.
        Retry = "retry",
        /// A list was brought into memory after a start; no caller waited.
        Warm = "warm",
    }
}

/// Whose call it was: a name out of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CredentialLabels {
    /// The credential's configured name.
    pub credential: String,
}

words! {
    /// What came of asking Atlas for a token.
    pub enum MintResult {
        /// Not asked, or refused: too many tokens.
        Limited = "limited",
        /// A new token.
        Minted = "minted",
        /// The credential was.
        Refused = "refused",
        /// No answer, or none that is a token.
        Unavailable = "unavailable",
    }
}

impl Endpoint {
    /// The path, with places in it for what differs.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::Certificates => "/groups/{groupId}/databaseUsers/{username}/certs",
            Self::Revoke => "/api/oauth/revoke",
            Self::Token => "/api/oauth/token",
            Self::Users => "/groups/{groupId}/databaseUsers",
        }
    }
}

impl UpstreamMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "upstream_calls",
            "Calls to Atlas; status 0 if there was no answer",
            metrics.calls.clone(),
        );
        registry.register(
            "upstream_calls_by_cause",
            "Calls to Atlas for certificates, by what they were made for",
            metrics.calls_by_cause.clone(),
        );
        registry.register(
            "upstream_duration_seconds",
            "Time until an answer of Atlas was there",
            metrics.duration.clone(),
        );
        registry.register(
            "upstream_others_calls",
            "Calls that others have spent of the buckets of this credential's projects, as far as Atlas's answers tell",
            metrics.others_calls.clone(),
        );
        registry.register(
            "upstream_fetches_withheld",
            "Fetches that were not made or not finished because a rule of ours held the call back, by which",
            metrics.fetches_withheld.clone(),
        );
        registry.register(
            "upstream_breakers_open",
            "Breakers that are open, of the host and of projects",
            metrics.breakers_open.clone(),
        );
        registry.register(
            "token_mints",
            "Tokens of service accounts asked for",
            metrics.token_mints.clone(),
        );
        metrics.register_gauges(registry);
        metrics.register_counters(registry);
        metrics
    }

    fn register_gauges(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            (
                "upstream_rate_limit_remaining",
                "The least RateLimit-Remaining that Atlas told this credential of any project asked within five minutes",
                &self.rate_limit_remaining,
            ),
            (
                "upstream_gate_closed",
                "Projects that Atlas has asked this credential to leave alone for now, with 429 or with 503",
                &self.gate_closed,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, gauge) in [
            (
                "upstream_bucket_reserve_in_seconds",
                "When the first bucket of this credential's projects is down at the reserve, at the pace of five minutes",
                &self.reserve_in,
            ),
            (
                "upstream_demand_ratio",
                "Calls to Atlas wanted in five minutes, by the project that wants most, to what our share allows",
                &self.demand_ratio,
            ),
            (
                "token_expires_in_seconds",
                "How long the current token of this credential still lives",
                &self.token_expires,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    fn register_counters(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "upstream_retries",
                "Calls to Atlas beyond the first try",
                &self.retries,
            ),
            (
                "upstream_lists_miscounted",
                "Lists whose totalCount, an estimate, was not what Atlas listed",
                &self.lists_miscounted,
            ),
            (
                "upstream_certificates_without_end",
                "Certificates read that bear no notAfter, and so never expire here",
                &self.certificates_without_end,
            ),
            (
                "upstream_fetches_restarted",
                "Lists read again because they changed while they were read",
                &self.fetches_restarted,
            ),
            (
                "upstream_answers_refused",
                "Answers of Atlas that no client should use: malformed, oversized, another project's",
                &self.answers_refused,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }

    pub(crate) fn forget(&self, labels: &CredentialLabels) {
        self.rate_limit_remaining.remove(labels);
        self.reserve_in.remove(labels);
        self.others_calls.remove(labels);
        self.demand_ratio.remove(labels);
        self.gate_closed.remove(labels);
        self.token_expires.remove(labels);
    }

    /// Calls for certificates, since the start.
    pub(crate) fn certificate_calls(&self) -> u64 {
        let calls = |cause| self.calls_by_cause.get_or_create(&[("cause", cause)]).get();
        CallCause::ALL.into_iter().map(calls).sum()
    }

    pub(crate) fn caused(&self, cause: CallCause) {
        self.calls_by_cause.get_or_create(&[("cause", cause)]).inc();
    }

    /// Counts one call.
    pub fn called(&self, endpoint: Endpoint, status: u16, seconds: f64) {
        // Statuses are a closed set only if a hostile server cannot invent them.
        let status = if KNOWN.contains(&status) {
            status
        } else {
            OTHER
        };
        self.calls
            .get_or_create(&CallLabels { endpoint, status })
            .inc();
        self.duration
            .get_or_create(&[("endpoint", endpoint)])
            .observe(seconds);
    }
}

impl Default for UpstreamMetrics {
    fn default() -> Self {
        let calls = Family::<CallLabels, Counter>::default();
        let duration = DurationFamily::new_with_constructor(buckets);
        for endpoint in Endpoint::ALL {
            for status in KNOWN.into_iter().chain([OTHER]) {
                drop(calls.get_or_create(&CallLabels { endpoint, status }));
            }
            drop(duration.get_or_create(&[("endpoint", endpoint)]));
        }
        Self {
            calls,
            calls_by_cause: from_zero("cause", CallCause::ALL),
            duration,
            rate_limit_remaining: Family::default(),
            reserve_in: Family::default(),
            others_calls: Family::default(),
            gate_closed: Family::default(),
            demand_ratio: Family::default(),
            fetches_withheld: from_zero("reason", WITHHELD_REASONS),
            breakers_open: Gauge::default(),
            token_mints: from_zero("result", MintResult::ALL),
            token_expires: Family::default(),
            retries: Counter::default(),
            fetches_restarted: Counter::default(),
            lists_miscounted: Counter::default(),
            certificates_without_end: Counter::default(),
            answers_refused: Counter::default(),
        }
    }
}

fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 12))
}

const KNOWN: [u16; 15] = [
    0, 200, 400, 401, 402, 403, 404, 406, 408, 410, 429, 500, 502, 503, 504,
];
const OTHER: u16 = 999;

/// Why a fetch is not made, as the audit record says it.
const WITHHELD_REASONS: [&str; 7] = [
    "breaker_open",
    "bucket_low",
    "busy",
    "cooldown_429",
    "cooldown_503",
    "mint_limit",
    "own_share",
];
