//! Traces to an OpenTelemetry collector.
//!
//! A lookup is a span of a server, and within it are `identity`, `policy` and `cache`; a fetch is `fetch`,
//! and each request to Atlas in it is a span of a client. Both have the names and attributes of
//! OpenTelemetry's conventions for HTTP, and none says whom or what was asked for: no subject, no project,
//! no username. A caller's `traceparent` (W3C Trace Context) makes its trace go on here; nothing of it is
//! sent on to Atlas.

mod spans;

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;

pub(crate) use spans::{ClientCall, End, Request, Traced, are_recorded, lookup};

/// The way to the collector. Spans that wait are sent when it is closed.
#[derive(Clone, Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Connects when there is something to send, so that a collector which is down keeps nothing from
    /// starting. To be called inside a tokio runtime.
    ///
    /// `percent` of the traces that begin here are kept; one that a caller has begun is kept if the
    /// caller keeps it.
    pub(super) fn to(
        endpoint: &str,
        percent: u8,
        replica: &str,
    ) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let ratio = Sampler::TraceIdRatioBased(f64::from(percent) / 100.0);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_resource(resource(replica))
            .build();
        Ok(Self(provider))
    }

    pub(super) fn layer<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        // Not where in the source, nor on which thread.
        tracing_opentelemetry::layer()
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_tracer(self.0.tracer(SERVICE))
    }

    pub(crate) async fn close(self) {
        // The exporter waits for its thread, and so must not hold up the runtime that sends.
        let closed = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::debug!("the last traces were not sent");
        }
    }
}

/// Lets the trace of a caller go on in `span`. What is no trace context changes nothing.
pub(crate) fn continue_trace(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    // It fails where no traces are kept, and there is nothing to continue then.
    let _ = span.set_parent(context);
}

fn resource(replica: &str) -> Resource {
    Resource::builder()
        .with_service_name(SERVICE)
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", replica.to_owned()),
        ])
        .build()
}

const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
const SERVICE: &str = "atlas-cert-gateway";
