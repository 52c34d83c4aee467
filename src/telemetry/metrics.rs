//! The metrics: every part registers its own here and holds the handles; a scrape gets text.
//!
//! Labels come from closed sets only, so the number of series does not depend on what callers send
//! (G38).

pub mod audit;
pub mod cache;
pub mod identity;
pub mod lookups;
pub mod upstream;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// Every metric of the process, by the part that counts it. Cheap to clone: the values are shared.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What the audit trail counts.
    pub audit: audit::AuditMetrics,
    /// What the cache counts.
    pub cache: cache::CacheMetrics,
    /// What identity counts.
    pub identity: identity::IdentityMetrics,
    /// What is counted per lookup and per connection.
    pub lookups: lookups::LookupMetrics,
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
            identity: identity::IdentityMetrics::register(&mut registry),
            lookups: lookups::LookupMetrics::register(&mut registry),
            upstream: upstream::UpstreamMetrics::register(&mut registry),
        };
        (metrics, Scrape(registry))
    }
}

impl Scrape {
    /// The page in OpenMetrics text.
    pub fn render(&self) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail; an encoder's own failure leaves a page without `# EOF`,
        // which a scraper refuses.
        let _ = encode(&mut page, &self.0);
        page
    }
}
