//! The Prometheus metrics: every part registers its own here and holds the handles; a scrape renders them.
//!
//! Labels come from closed sets only, so the number of series does not depend on what callers send
//! (G38). Every series of a labelled counter is on the page from the start: Prometheus sees no increase
//! in a counter that begins at one.

/// An enum of words, as the metrics and the audit trail have them.
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$attribute:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name {
            $($(#[$attribute])* $variant,)+
        }

        impl $name {
            /// All of them.
            $vis const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// Its word in metrics and records.
            $vis const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl prometheus_client::encoding::EncodeLabelValue for $name {
            fn encode(
                &self,
                encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
            ) -> std::fmt::Result {
                std::fmt::Write::write_str(encoder, self.word())
            }
        }
    };
}
pub(crate) use words;

pub mod audit;
pub mod cache;
pub mod connections;
pub mod fleet;
pub mod identity;
pub(crate) mod insight;
pub mod lookups;
pub mod policy;
pub mod process;
pub(crate) mod readiness;
mod rules;
pub mod upstream;

use std::fmt::{Debug, Write};
use std::hash::Hash;
use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelValue;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use crate::system::may_wait;

/// Every metric of the process, by the part that counts it. Cheap to clone: the values are shared.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is named for the part that counts it")]
pub struct Metrics {
    pub(crate) audit: audit::AuditMetrics,
    pub(crate) cache: cache::CacheMetrics,
    pub(crate) connections: connections::ConnectionMetrics,
    pub fleet: fleet::FleetMetrics,
    pub(crate) identity: identity::IdentityMetrics,
    pub(crate) insight: insight::InsightMetrics,
    pub(crate) lookups: lookups::LookupMetrics,
    pub(crate) policy: policy::PolicyMetrics,
    pub(crate) readiness: readiness::ReadinessMetrics,
    pub(crate) reloads: process::ReloadMetrics,
    pub(crate) memory: process::MemoryMetrics,
    pub tls: connections::CertificateMetrics,
    pub upstream: upstream::UpstreamMetrics,
}

pub(crate) type Label<T> = [(&'static str, T); 1];

/// The registry behind the scrape.
#[derive(Debug)]
pub struct Scrape(Registry);

pub(crate) trait LabelWord:
    Copy + Debug + Eq + Hash + Send + Sync + EncodeLabelValue + 'static
{
}

impl<T: Copy + Debug + Eq + Hash + Send + Sync + EncodeLabelValue + 'static> LabelWord for T {}

pub(crate) trait Register {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M;

    fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge<i64, AtomicI64> {
        self.add(name, help, Gauge::default())
    }

    /// A counter with one label, in the order of that label's `values`.
    fn add_counters<T: LabelWord, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [T; N],
    ) -> [Counter; N] {
        let family = self.add(name, help, from_zero(label, values));
        values.map(|value| family.get_or_create_owned(&[(label, value)]))
    }
}

impl Register for Registry {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.register(name, help, metric.clone());
        metric
    }
}

/// A counter with one label, of which every value is on the first page: Prometheus sees no increase in a counter
/// that begins at one.
fn from_zero<T: LabelWord, const N: usize>(
    label: &'static str,
    values: [T; N],
) -> Family<Label<T>, Counter> {
    let family = Family::<Label<T>, Counter>::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    family
}

impl Metrics {
    /// Registers everything.
    pub fn register() -> (Self, Scrape) {
        let mut registry = Registry::with_prefix("atlas_cert_gateway");
        let metrics = Self {
            audit: audit::AuditMetrics::register(&mut registry),
            cache: cache::CacheMetrics::register(&mut registry),
            connections: connections::ConnectionMetrics::register(&mut registry),
            fleet: fleet::FleetMetrics::register(&mut registry),
            identity: identity::IdentityMetrics::register(&mut registry),
            insight: insight::InsightMetrics::register(&mut registry),
            lookups: lookups::LookupMetrics::register(&mut registry),
            policy: policy::PolicyMetrics::register(&mut registry),
            readiness: readiness::ReadinessMetrics::register(&mut registry),
            reloads: process::ReloadMetrics::register(&mut registry),
            memory: process::MemoryMetrics::register(&mut registry),
            tls: connections::CertificateMetrics::register(&mut registry),
            upstream: upstream::UpstreamMetrics::register(&mut registry),
        };
        registry.register(
            "log_lines_dropped",
            "Lines of the log that were dropped, because standard error did not take them in time or at all",
            process::log_lines_dropped(),
        );
        (metrics, Scrape(registry))
    }
}

impl Scrape {
    /// The page in Prometheus's text format, version 0.0.4.
    ///
    /// The encoder writes `OpenMetrics`, where a counter's family lacks the `_total` of its samples. In
    /// the older format, which every Prometheus reads, the two have the same name.
    pub fn render(&self) -> String {
        let mut open_metrics = String::new();
        encode(&mut open_metrics, &self.0).expect("a string takes all that is written");
        let mut page = String::with_capacity(open_metrics.len());
        let mut lines = open_metrics.lines().peekable();
        while let Some(line) = lines.next() {
            let written = match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["#", "EOF" | "UNIT", ..] => Ok(()),
                ["#", "HELP", family, help @ ..] => {
                    let is_counter = lines.peek().is_some_and(|next| next.ends_with(" counter"));
                    let suffix = if is_counter { "_total" } else { "" };
                    writeln!(page, "# HELP {family}{suffix} {}", help.join(" "))
                }
                ["#", "TYPE", family, "counter"] => writeln!(page, "# TYPE {family}_total counter"),
                _ => match line.strip_suffix(" inf") {
                    Some(series) => writeln!(page, "{series} +Inf"),
                    None => writeln!(page, "{line}"),
                },
            };
            written.expect("a string takes all that is written");
        }
        page
    }

    pub(crate) async fn page(&self) -> String {
        self.render() + &may_wait(process::page).await
    }
}

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
