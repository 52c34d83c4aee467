//! What the spans say, decoded as a collector decodes them: OpenTelemetry's conventions for HTTP, and nothing
//! of whom or what was asked for (M3).

use atlas_simulator::{Asked, Fault};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::traces::{Exports, LOOKUP, MINT, PAGE, collector, exported, spans_of, traced};
use crate::client;
use crate::program::{Program, records, request, request_for, token_now, world_with};
use crate::world::{PROJECT, set, use_api_key};

/// An attribute's value as text; empty if there is none, and never twice.
fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let mut values = attributes.iter().filter(|it| it.key == key);
    let value = values.next().and_then(|it| it.value.clone());
    assert!(values.next().is_none(), "{key} twice: {attributes:?}");
    match value {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
        }) => text,
        Some(AnyValue {
            value: Some(Value::IntValue(number)),
        }) => number.to_string(),
        None => String::new(),
        other => panic!("{key}: {other:?}"),
    }
}

fn assert_says(span: &Span, kind: SpanKind, failed: bool, expected: &[(&str, &str)]) {
    assert_eq!(span.kind(), kind, "{span:?}");
    let status = span.status.as_ref().map_or(StatusCode::Unset, Status::code);
    assert_eq!(status == StatusCode::Error, failed, "{span:?}");
    for (key, value) in expected {
        assert_eq!(
            &attribute(&span.attributes, key),
            value,
            "{key} of {span:?}"
        );
    }
}

fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

struct World {
    atlas: atlas_simulator::Simulator,
    files: tempfile::TempDir,
    exports: Exports,
}

async fn world(change: impl FnOnce(&mut toml::Table)) -> World {
    let (address, exports) = collector().await;
    let (atlas, files) = world_with(|config| {
        let endpoint = format!("http://{address}");
        set(config, "telemetry.otlp_endpoint", endpoint);
        set(config, "telemetry.otlp_sample_percent", 100);
        change(config);
    })
    .await;
    World {
        atlas,
        files,
        exports,
    }
}

impl World {
    /// Sends each request, ends the program, and has every span.
    async fn ask(&self, requests: &[Vec<u8>]) -> (Vec<client::Reply>, Vec<Span>) {
        let mut program = Program::start(self.files.path());
        let mut replies = Vec::new();
        for request in requests {
            replies.push(client::exchange(program.address, request).await);
        }
        program.signal("-TERM");
        assert_eq!(program.child.wait().unwrap().code(), Some(0));
        (replies, spans_of(&self.exports))
    }
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn m3_a_lookup_is_a_span_of_a_server_with_its_route_and_its_result() {
    let world = world(|_| {}).await;
    let older = String::from_utf8(request("close")).unwrap();
    let older = older.replace("/v2/", "/v1.0/").replace("GET ", "HEAD ");
    let bad = request_for("app1", "no-token", "close");
    let requests = [request("close"), traced("close"), older.into_bytes(), bad];
    let (replies, spans) = world.ask(&requests).await;
    let lookups = named(&spans, LOOKUP);
    assert_eq!(lookups.len(), 3, "{lookups:?}");
    let [miss, hit, refused] = lookups[..] else {
        panic!("three");
    };
    let request_id = replies[0].header("x-request-id").unwrap();
    let common = [
        ("http.request.method", "GET"),
        (
            "http.route",
            "/api/atlas/v2/groups/{groupId}/databaseUsers/{username}/certs",
        ),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("server.address", "localhost"),
        ("error.type", ""),
    ];
    for span in &lookups {
        assert_says(span, SpanKind::Server, false, &common);
    }
    assert_says(
        miss,
        SpanKind::Server,
        false,
        &[
            ("http.response.status_code", "200"),
            ("atlas_cert_gateway.request_id", request_id),
            ("atlas_cert_gateway.outcome", "answered"),
            ("atlas_cert_gateway.cache", "miss"),
            ("atlas_cert_gateway.upstream_calls", "1"),
        ],
    );
    assert_says(
        hit,
        SpanKind::Server,
        false,
        &[
            ("http.response.status_code", "200"),
            ("atlas_cert_gateway.cache", "hit"),
            ("atlas_cert_gateway.upstream_calls", "0"),
        ],
    );
    assert_says(
        refused,
        SpanKind::Server,
        false,
        &[
            ("http.response.status_code", "401"),
            ("atlas_cert_gateway.outcome", "unauthenticated"),
            ("atlas_cert_gateway.cache", "none"),
        ],
    );
    let older = LOOKUP.replace("GET ", "HEAD ").replace("/v2/", "/v1.0/");
    assert_says(
        named(&spans, &older)[0],
        SpanKind::Server,
        false,
        &[
            ("http.request.method", "HEAD"),
            ("http.response.status_code", "200"),
        ],
    );
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn m3_what_atlas_is_asked_are_spans_of_a_client_and_a_retry_says_so() {
    let world = world(|_| {}).await;
    let once = world.atlas.on(Asked::certificates()).once();
    once.respond(Fault::html(503));
    let (replies, spans) = world.ask(&[request("close")]).await;
    assert_eq!(replies[0].status, 200);
    let port = world.atlas.local_addr().port().to_string();
    let pages = named(&spans, PAGE);
    let [failed, good] = pages[..] else {
        panic!("{pages:?}");
    };
    let common = [
        ("http.request.method", "GET"),
        ("server.address", "127.0.0.1"),
        ("server.port", &*port),
    ];
    assert_says(failed, SpanKind::Client, true, &common);
    assert_says(
        failed,
        SpanKind::Client,
        true,
        &[
            ("http.response.status_code", "503"),
            ("error.type", "503"),
            ("http.request.resend_count", ""),
        ],
    );
    assert_says(good, SpanKind::Client, false, &common);
    assert_says(
        good,
        SpanKind::Client,
        false,
        &[
            ("http.response.status_code", "200"),
            ("error.type", ""),
            ("http.request.resend_count", "1"),
        ],
    );
    let fetch = named(&spans, "fetch");
    assert_eq!(fetch.len(), 1, "{fetch:?}");
    assert_eq!(failed.parent_span_id, fetch[0].span_id);
    let mint = named(&spans, MINT);
    assert_eq!(mint.len(), 1);
    assert_says(
        mint[0],
        SpanKind::Client,
        false,
        &[
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
        ],
    );
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn m3_a_failed_fetch_says_why_in_each_span_and_has_no_empty_twin() {
    for (fault, page) in [
        (Fault::rate_limited(60), "429"),
        (Fault::unexpected_error(), "500"),
        (Fault::silence(), "timeout"),
        (
            Fault::cut_before_head(atlas_simulator::Ending::Reset),
            "connection",
        ),
    ] {
        let world = world(|config| set(config, "atlas.limits.first_byte", "300ms")).await;
        world.atlas.on(Asked::certificates()).respond(fault);
        let (replies, spans) = world.ask(&[request("close")]).await;
        let code = replies[0].error_code();
        let failed = replies[0].status >= 500;
        let of_lookup = named(&spans, LOOKUP)[0];
        let status = replies[0].status.to_string();
        let why = if failed { &*code } else { "" };
        assert_says(
            of_lookup,
            SpanKind::Server,
            failed,
            &[("error.type", why), ("http.response.status_code", &status)],
        );
        for span in named(&spans, PAGE) {
            assert_says(span, SpanKind::Client, true, &[("error.type", page)]);
        }
        assert_eq!(named(&spans, "fetch").len(), 1, "{page}");
    }
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn m3_a_challenge_of_digest_is_a_request_of_its_own() {
    let world = world(use_api_key).await;
    let (replies, spans) = world.ask(&[request("close")]).await;
    assert_eq!(replies[0].status, 200);
    let pages = named(&spans, PAGE);
    let said = pages.iter().map(|span| {
        let said = |key| attribute(&span.attributes, key);
        (
            said("http.response.status_code"),
            said("http.request.resend_count"),
        )
    });
    let expected = [("401", ""), ("200", "1")];
    let expected = expected.map(|(status, resends)| (status.to_owned(), resends.to_owned()));
    assert_eq!(said.collect::<Vec<_>>(), expected);
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn m3_spans_name_no_caller_project_or_user_and_the_process_as_the_trail_does() {
    let world = world(|config| set(config, "telemetry.log", "debug")).await;
    let gate_closed = world.atlas.on(Asked::certificates().user("app2"));
    gate_closed.respond(Fault::rate_limited(60));
    let token = token_now();
    let requests = ["app1", "app1", "nobody", "app2", "secret-keeper"]
        .map(|username| request_for(username, &token, "close"));
    let (_, spans) = world.ask(&requests).await;
    assert!(spans.len() > 15, "{}", spans.len());
    let text = format!("{:?}", exported(&world.exports));
    let names = [
        PROJECT,
        "app1",
        "app2",
        "nobody\"",
        "secret-keeper",
        "payments-api",
        &token,
        "idp.internal.example",
    ];
    for name in names {
        assert!(!text.contains(name), "{name}");
    }
    let replica = records(world.files.path(), "lookup")[0]["replica"].clone();
    for exported in exported(&world.exports) {
        let resource = exported.resource.unwrap().attributes;
        let said = |key| attribute(&resource, key);
        assert_eq!(said("service.name"), "atlas-cert-gateway");
        assert_eq!(said("service.version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(said("service.instance.id"), replica.as_str().unwrap());
    }
}
