//! Metrics of connections: why some are refused or ended, and how long our certificate is good.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Label, Register, from_zero};

words! {
    /// Why a connection is refused, in the server's own words.
    #[expect(missing_docs, reason = "docs/operating.md says what each word means")]
    pub enum Reason {
        Alpn = "alpn",
        BodyLength = "body_length",
        Chunk = "chunk",
        Connections = "connections",
        ConnectionsPerSource = "connections_per_source",
        ControlCharacter = "control_character",
        Descriptors = "descriptors",
        FirstByte = "first_byte",
        HeaderLine = "header_line",
        Memory = "memory",
        ProxyProtocol = "proxy_protocol",
        RequestLine = "request_line",
        Target = "target",
        TargetTooLong = "target_too_long",
        Timeout = "timeout",
        TlsHandshake = "tls_handshake",
        TooLarge = "too_large",
        TooMany = "too_many",
        TransferEncoding = "transfer_encoding",
        WriteStall = "write_stall",
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ConnectionMetrics {
    refused: Family<Label<Reason>, Counter>,
    tls_loaded: Counter,
    tls_refused: Counter,
}

impl ConnectionMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let [tls_loaded, tls_refused] = registry.add_counters(
            "tls_reloads",
            "Times that changed certificate files were read, by result",
            "result",
            ["loaded", "refused"],
        );
        Self {
            refused: registry.add(
                "connections_refused",
                "Connections that the gateway has refused, or ended for a newer one, by why",
                from_zero("reason", Reason::ALL),
            ),
            tls_loaded,
            tls_refused,
        }
    }

    pub(crate) fn refused(&self, reason: Reason) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn tls_reload(&self, is_good: bool) {
        if is_good {
            &self.tls_loaded
        } else {
            &self.tls_refused
        }
        .inc();
    }
}

/// Says at each scrape how long the certificate is good. Cheap to clone.
#[derive(Clone, Default)]
pub struct CertificateMetrics(Arc<OnceLock<Box<SecondsLeft>>>);

/// `None` where there is no certificate.
type SecondsLeft = dyn Fn() -> Option<i64> + Send + Sync;

impl CertificateMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
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

impl Collector for CertificateMetrics {
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

impl fmt::Debug for CertificateMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateMetrics").finish_non_exhaustive()
    }
}
