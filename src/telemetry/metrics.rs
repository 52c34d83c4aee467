//! The metrics: every part registers its own here and holds the handles; a scrape gets text.
//!
//! Labels come from closed sets only, so the number of series does not depend on what callers send
//! (G38).

pub mod audit;
pub mod cache;
pub mod connections;
pub mod identity;
pub mod log;
pub mod lookups;
pub mod memory;
pub mod policy;
mod process;
pub mod readiness;
pub mod reloads;
pub mod tls;
pub mod upstream;

use std::borrow::Cow;
use std::fmt::Write;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::system::may_wait;

/// Every metric of the process, by the part that counts it. Cheap to clone: the values are shared.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What the audit trail counts.
    pub audit: audit::AuditMetrics,
    /// What the cache counts.
    pub cache: cache::CacheMetrics,
    /// What is counted of connections.
    pub connections: connections::ConnectionMetrics,
    /// What identity counts.
    pub identity: identity::IdentityMetrics,
    /// What is counted per lookup and per connection.
    pub lookups: lookups::LookupMetrics,
    /// What is shown of the access rules.
    pub policy: policy::PolicyMetrics,
    /// What is shown of readiness.
    pub readiness: readiness::ReadinessMetrics,
    /// What is counted of reloads.
    pub reloads: reloads::ReloadMetrics,
    /// What is shown of memory.
    pub memory: memory::MemoryMetrics,
    /// What is shown of our certificate.
    pub tls: tls::TlsMetrics,
    /// What is counted per call to Atlas.
    pub upstream: upstream::UpstreamMetrics,
}

/// The registry behind the scrape.
#[derive(Debug)]
pub struct Scrape(Registry);

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
            reloads: reloads::ReloadMetrics::register(&mut registry),
            memory: memory::MemoryMetrics::register(&mut registry),
            tls: tls::TlsMetrics::register(&mut registry),
            upstream: upstream::UpstreamMetrics::register(&mut registry),
        };
        log::register(&mut registry);
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
        // Writing to a string cannot fail.
        let _ = encode(&mut open_metrics, &self.0);
        let mut page = String::with_capacity(open_metrics.len());
        let mut lines = open_metrics.lines().peekable();
        while let Some(line) = lines.next() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["#", "EOF" | "UNIT", ..] => {}
                ["#", "HELP", family, help @ ..] => {
                    let is_counter = lines.peek().is_some_and(|next| next.ends_with(" counter"));
                    let suffix = if is_counter { "_total" } else { "" };
                    let _ = writeln!(page, "# HELP {family}{suffix} {}", help.join(" "));
                }
                ["#", "TYPE", family, "counter"] => {
                    let _ = writeln!(page, "# TYPE {family}_total counter");
                }
                _ => {
                    // As Prometheus writes it.
                    let line = line.strip_suffix(" inf").map_or_else(
                        || Cow::Borrowed(line),
                        |series| Cow::Owned(format!("{series} +Inf")),
                    );
                    page.push_str(&line);
                    page.push('\n');
                }
            }
        }
        page
    }

    /// The same, and what the kernel tells of the process.
    pub async fn page(&self) -> String {
        let mut page = self.render();
        page.push_str(&may_wait(process::page).await);
        page
    }
}

/// What [`Scrape::render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
