//! The spans of HTTP, of lookups as a server and of calls to Atlas as a client.

use std::fmt::Display;

use http::{Method, Version};
use opentelemetry::trace::TraceContextExt;
use tracing::field::Empty;
use tracing::{Level, Span, debug_span, span_enabled};
use tracing_opentelemetry::OpenTelemetrySpanExt;

#[derive(Clone, Copy)]
#[expect(
    clippy::struct_field_names,
    reason = "it is called so in records and in the log"
)]
pub(crate) struct Request<'r> {
    pub(crate) request_id: &'r dyn Display,
    pub(crate) method: &'r Method,
    pub(crate) protocol: Version,
    pub(crate) scheme: &'r str,
    pub(crate) host: &'r str,
    pub(crate) root: &'r str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'e> {
    pub(crate) status: u16,
    pub(crate) error_code: Option<&'e str>,
    pub(crate) outcome: &'static str,
    pub(crate) cache: &'static str,
    pub(crate) upstream_calls: u32,
}

/// The span of a lookup until it is answered. Dropped before, the lookup was abandoned.
#[derive(Debug)]
pub(crate) struct Traced {
    span: Span,
    outcome: &'static str,
    status: u16,
    error_code: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientCall<'c> {
    pub(crate) method: &'static str,
    /// What, with places in it for what differs.
    pub(crate) template: &'static str,
    pub(crate) place: (&'c str, u16),
    pub(crate) resends: u32,
}

/// The span of a request to Atlas until it is answered. Dropped before, it was given up.
#[derive(Debug)]
pub(crate) struct Sent {
    span: Span,
    answered: bool,
}

/// Whether lookups have spans: where traces are on, or the log shows them.
pub(crate) fn are_recorded() -> bool {
    span_enabled!(Level::DEBUG)
}

pub(crate) fn lookup(request: &Request<'_>) -> Span {
    let (method, root) = (request.method, request.root);
    debug_span!(
        "request",
        otel.name = %format_args!("{method} {root}{CERTIFICATES}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method.as_str(),
        http.route = %format_args!("{root}{CERTIFICATES}"),
        http.response.status_code = Empty,
        url.scheme = request.scheme,
        network.protocol.version = version(request.protocol),
        server.address = without_port(request.host),
        error.type = Empty,
        atlas_cert_gateway.request_id = %request.request_id,
        trace_id = Empty,
        atlas_cert_gateway.outcome = Empty,
        atlas_cert_gateway.cache = Empty,
        atlas_cert_gateway.upstream_calls = Empty,
    )
}

impl Traced {
    pub(crate) fn of(span: &Span) -> Option<Box<Self>> {
        (!span.is_disabled()).then(|| {
            Box::new(Self {
                span: span.clone(),
                outcome: ABANDONED,
                status: 0,
                error_code: None,
            })
        })
    }

    /// The id of the trace that the lookup is in, which its lines in the log have from now on; `None` where no traces
    /// are kept.
    pub(crate) fn trace_id(&self) -> Option<String> {
        let context = self.span.context();
        let span = context.span();
        let span = span.span_context();
        let id = span.is_valid().then(|| span.trace_id().to_string())?;
        self.span.record("trace_id", &*id);
        Some(id)
    }

    /// It has an answer, which leaves once its record is written.
    pub(crate) fn answered(&mut self, end: &End<'_>) {
        self.outcome = end.outcome;
        self.status = end.status;
        self.error_code = end.error_code.map(Into::into);
        self.span.record("atlas_cert_gateway.cache", end.cache);
        let calls = end.upstream_calls;
        self.span.record("atlas_cert_gateway.upstream_calls", calls);
    }

    /// Its record is written, or cannot be, which is an answer of its own.
    pub(crate) fn ended(mut self, recorded: bool) {
        if !recorded {
            self.outcome = "failed";
            self.status = 503;
            self.error_code = Some("SERVICE_UNAVAILABLE".into());
        }
        let (span, status) = (&self.span, self.status);
        span.record("http.response.status_code", status);
        if status >= 500 {
            span.record("error.type", self.error_code.as_deref().unwrap_or("500"));
            span.record("otel.status_code", "ERROR");
        }
        span.record("atlas_cert_gateway.outcome", self.outcome);
        self.outcome = RECORDED;
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.outcome != RECORDED {
            self.span.record("atlas_cert_gateway.outcome", ABANDONED);
        }
    }
}

impl ClientCall<'_> {
    pub(crate) fn span(&self) -> Sent {
        let (method, template) = (self.method, self.template);
        let span = debug_span!(
            "call",
            otel.name = %format_args!("{method} {template}"),
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = method,
            http.request.resend_count = Empty,
            http.response.status_code = Empty,
            server.address = self.place.0,
            server.port = self.place.1,
            error.type = Empty,
        );
        if self.resends > 0 {
            span.record("http.request.resend_count", self.resends);
        }
        Sent {
            span,
            answered: false,
        }
    }
}

impl Sent {
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// An answer has come, or it was lost, for one of a few reasons.
    pub(crate) fn answered(mut self, answer: Result<u16, &'static str>) {
        match answer {
            Ok(status) => {
                self.span.record("http.response.status_code", status);
                if status >= 400 {
                    self.failed(&status);
                }
            }
            Err(lost) => self.failed(&lost),
        }
        self.answered = true;
    }

    fn failed(&self, why: &dyn Display) {
        self.span.record("error.type", tracing::field::display(why));
        self.span.record("otel.status_code", "ERROR");
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if !self.answered {
            self.failed(&"canceled");
        }
    }
}

fn version(protocol: Version) -> &'static str {
    match protocol {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// The path of a list behind the root of a version.
const CERTIFICATES: &str = "/groups/{groupId}/databaseUsers/{username}/certs";
const ABANDONED: &str = "abandoned";
/// Of a lookup whose end is in its span.
const RECORDED: &str = "";
