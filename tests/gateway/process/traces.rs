//! Traces, as a collector gets them: gRPC by hand, so that no library of ours stands on both sides.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message;
use tokio::net::TcpListener;

use crate::client;
use crate::client::Connection;
use crate::program::{Program, records, request, world_with};
use crate::world::set;

/// What a collector was sent: the path of each call, and its message.
pub(super) type Exports = Arc<Mutex<Vec<(String, Bytes)>>>;

pub(super) async fn collector() -> (SocketAddr, Exports) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let exports = Exports::default();
    let seen = Arc::clone(&exports);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            let service = service_fn(move |request| export(request, Arc::clone(&seen)));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    (address, exports)
}

async fn export(
    request: Request<Incoming>,
    seen: Exports,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let message = request.into_body().collect().await.unwrap().to_bytes();
    seen.lock().unwrap().push((path, message));
    // An empty message: not compressed, of no bytes. Its status comes behind it.
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Every export so far: gRPC puts five bytes before a message, and none is compressed.
pub(super) fn exported(exports: &Exports) -> Vec<ResourceSpans> {
    let exports = exports.lock().unwrap();
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    assert!(exports.iter().all(|(called, _)| called == path));
    exports
        .iter()
        .flat_map(|(_, message)| {
            let request = ExportTraceServiceRequest::decode(&message[5..]).unwrap();
            request.resource_spans
        })
        .collect()
}

/// Every span so far.
pub(super) fn spans_of(exports: &Exports) -> Vec<Span> {
    let resources = exported(exports).into_iter();
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

/// A lookup, a page and a mint are called so.
pub(super) const LOOKUP: &str = "GET /api/atlas/v2/groups/{groupId}/databaseUsers/{username}/certs";
pub(super) const PAGE: &str = "GET /groups/{groupId}/databaseUsers/{username}/certs";
pub(super) const MINT: &str = "POST /api/oauth/token";

const TRACE: [u8; 16] = *b"0123456789abcdef";
const CALLERS_SPAN: [u8; 8] = *b"callspan";

fn traceparent() -> String {
    let (trace, span) = (u128::from_be_bytes(TRACE), u64::from_be_bytes(CALLERS_SPAN));
    format!("00-{trace:032x}-{span:016x}-01")
}

/// A lookup that is part of its caller's trace.
pub(super) fn traced(connection: &str) -> Vec<u8> {
    let request = String::from_utf8(request(connection)).unwrap();
    let traceparent = format!("\r\ntraceparent: {}\r\n\r\n", traceparent());
    request.replace("\r\n\r\n", &traceparent).into_bytes()
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_every_span_of_a_callers_trace_and_atlas_learns_nothing_of_it() {
    let (address, exports) = collector().await;
    let (atlas, files) = world_with(|config| {
        set(
            config,
            "telemetry.otlp_endpoint",
            format!("http://{address}"),
        );
        // The first token is minted before anybody asks, in a trace of its own.
        set(config, "telemetry.otlp_sample_percent", 100);
    })
    .await;
    let mut program = Program::start(files.path());
    for request in [traced("close"), traced("close")] {
        let reply = client::exchange(program.address, &request).await;
        assert_eq!(reply.status, 200);
    }
    // What waits is sent at the end.
    program.signal("-TERM");
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
    let spans = spans_of(&exports);
    let named = |name: &str| spans.iter().filter(|span| span.name == name).count();
    for (name, times) in [
        (LOOKUP, 2),
        ("identity", 2),
        ("policy", 2),
        ("cache", 2),
        ("fetch", 1),
        (PAGE, 1),
    ] {
        assert_eq!(named(name), times, "{name}");
        let mut of_it = spans.iter().filter(|span| span.name == name);
        assert!(of_it.all(|span| span.trace_id == TRACE), "{name}");
    }
    assert_eq!((named(MINT), named("POST /api/oauth/revoke")), (1, 1));
    let beneath = spans.iter().filter(|it| it.parent_span_id == CALLERS_SPAN);
    assert_eq!(beneath.count(), 2);
    // So a trace leads to its records, and back.
    let trace = format!("{:032x}", u128::from_be_bytes(TRACE));
    let lookups = records(files.path(), "lookup");
    assert!(lookups.len() == 2 && lookups.iter().all(|it| it["trace_id"] == trace));
    for request in atlas.requests() {
        for header in ["traceparent", "tracestate", "baggage"] {
            assert!(!request.headers.contains_key(header), "{header}");
        }
    }
    assert!(!atlas.saw_anywhere(&traceparent()));
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_or_hangs_keeps_no_answer_waiting() {
    // One that takes connections and says nothing, and one that is not there.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let down = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for collector in [hanging.local_addr().unwrap(), down] {
        let (_atlas, files) = world_with(|config| {
            set(
                config,
                "telemetry.otlp_endpoint",
                format!("http://{collector}"),
            );
            set(config, "telemetry.otlp_sample_percent", 100);
        })
        .await;
        let program = Program::start(files.path());
        let mut connection = Connection::open(program.address).await;
        // More spans than may wait for a collector.
        for _ in 0..8 {
            connection.send(&traced("keep-alive").repeat(100)).await;
            for _ in 0..100 {
                assert_eq!(connection.reply(false).await.status, 200);
            }
        }
    }
}
