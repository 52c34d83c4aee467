//! The metric of how long the TLS certificate is valid.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Says at each scrape how long the certificate is good. Cheap to clone.
#[derive(Clone, Default)]
pub struct TlsMetrics(Arc<OnceLock<Box<SecondsLeft>>>);

/// `None` where there is no certificate.
type SecondsLeft = dyn Fn() -> Option<i64> + Send + Sync;

impl TlsMetrics {
    /// Makes the metric known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// From now on `seconds_left` is asked at each scrape; only the first one ever is.
    pub fn ask(&self, seconds_left: impl Fn() -> Option<i64> + Send + Sync + 'static) {
        // There is one listener with TLS, and it is built once.
        let _ = self.0.set(Box::new(seconds_left));
    }
}

impl Collector for TlsMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metric = encoder.encode_descriptor(
            "tls_certificate_expires_in_seconds",
            "How long the certificate chain that callers are shown is good; below 0 once it has expired",
            None,
            MetricType::Gauge,
        )?;
        match self.0.get().and_then(|seconds_left| seconds_left()) {
            Some(left) => ConstGauge::new(left).encode(metric),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for TlsMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMetrics").finish_non_exhaustive()
    }
}
