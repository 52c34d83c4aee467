//! The Prometheus metrics: every part registers its own here and holds the handles; a scrape renders them.
//!
//! Labels come from closed sets only, so the number of series does not depend on what callers send
//! (G38). Every series of a labelled counter is on the page from the start: Prometheus sees no increase
//! in a counter that begins at one.

pub mod audit;
pub mod cache;
pub mod connections;
pub mod identity;
pub mod lookups;
pub mod policy;
pub mod process;
pub(crate) mod readiness;
pub mod upstream;

use std::fmt::Write;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Metric, Registry};

use crate::system::may_wait;

/// Every metric of the process, by the part that counts it. Cheap to clone: the values are shared.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is named for the part that counts it")]
pub struct Metrics {
    pub(crate) audit: audit::AuditMetrics,
    pub(crate) cache: cache::CacheMetrics,
    pub(crate) connections: connections::ConnectionMetrics,
    pub(crate) identity: identity::IdentityMetrics,
    pub(crate) lookups: lookups::LookupMetrics,
    pub(crate) policy: policy::PolicyMetrics,
    pub(crate) readiness: readiness::ReadinessMetrics,
    pub(crate) reloads: process::ReloadMetrics,
    pub(crate) memory: process::MemoryMetrics,
    pub tls: connections::CertificateMetrics,
    pub upstream: upstream::UpstreamMetrics,
}

/// The registry behind the scrape.
#[derive(Debug)]
pub struct Scrape(Registry);

/// Registers a metric and returns its handle.
pub(crate) trait Register {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M;

    /// A counter with one label, in the order of that label's `values`.
    fn add_counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N];
}

impl Register for Registry {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.register(name, help, metric.clone());
        metric
    }

    fn add_counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N] {
        let family = self.add(name, help, Family::<[(&str, &str); 1], Counter>::default());
        values.map(|value| family.get_or_create_owned(&[(label, value)]))
    }
}

impl Metrics {
    /// Registers everything.
    pub fn register() -> (Self, Scrape) {
        let mut registry = Registry::with_prefix("atlas_cert_gateway");
        let metrics = Self {
            audit: audit::AuditMetrics::register(&mut registry),
            cache: cache::CacheMetrics::register(&mut registry),
            connections: connections::ConnectionMetrics::register(&mut registry),
            identity: identity::IdentityMetrics::register(&mut registry),
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
                // As Prometheus writes it.
                _ => match line.strip_suffix(" inf") {
                    Some(series) => writeln!(page, "{series} +Inf"),
                    None => writeln!(page, "{line}"),
                },
            };
            written.expect("a string takes all that is written");
        }
        page
    }

    /// The same, and what the kernel tells of the process.
    pub(crate) async fn page(&self) -> String {
        self.render() + &may_wait(process::page).await
    }
}

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
