//! Traces, as a collector gets them: gRPC by hand, so that no library of ours stands on both sides.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::client;
use crate::client::Connection;
use crate::program::Program;
use crate::program::request;
use crate::program::world_with;
use crate::world::set;

/// What a collector was sent: the path of each call, and its message.
type Exports = Arc<Mutex<Vec<(String, Bytes)>>>;

async fn collector() -> (SocketAddr, Exports) {
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

const TRACE: [u8; 16] = *b"0123456789abcdef";
const CALLERS_SPAN: [u8; 8] = *b"callspan";

fn traceparent() -> String {
    let (trace, span) = (u128::from_be_bytes(TRACE), u64::from_be_bytes(CALLERS_SPAN));
    format!("00-{trace:032x}-{span:016x}-01")
}

/// A lookup that is part of its caller's trace.
fn traced(connection: &str) -> Vec<u8> {
    let request = String::from_utf8(request(connection)).unwrap();
    let traceparent = format!("\r\ntraceparent: {}\r\n\r\n", traceparent());
    request.replace("\r\n\r\n", &traceparent).into_bytes()
}

fn count(message: &[u8], part: &[u8]) -> usize {
    message
        .windows(part.len())
        .filter(|window| *window == part)
        .count()
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
    let exports = exports.lock().unwrap();
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    assert!(exports.iter().all(|(called, _)| called == path));
    let message: Vec<u8> = exports
        .iter()
        .flat_map(|(_, message)| message.to_vec())
        .collect();
    // trace.proto: a span's trace_id is field 1, parent_span_id field 4 and name field 5.
    let field = |number: u8, text: &[u8]| {
        let length = u8::try_from(text.len()).unwrap();
        [&[number << 3 | 2, length], text].concat()
    };
    let mut spans = 0;
    for (name, times) in [
        ("request", 2),
        ("identity", 2),
        ("policy", 2),
        ("cache", 2),
        ("walk", 1),
        ("page", 1),
    ] {
        let found = count(&message, &field(5, name.as_bytes()));
        assert_eq!(found, times, "{name}");
        spans += times;
    }
    assert!(count(&message, &field(1, &TRACE)) >= spans);
    assert_eq!(count(&message, &field(5, b"mint")), 1);
    assert_eq!(count(&message, &field(4, &CALLERS_SPAN)), 2);
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
