//! HTTP/1 read strictly, row by row, over a raw socket: what RFC 9112 does not allow is refused with
//! words of ours, ends the connection, and nothing behind it is ever a request.

use std::time::Duration;

use crate::client::Connection;
use crate::client::Reply;
use crate::world::PROJECT;
use crate::world::World;
use crate::world::certs;
use crate::world::token;

/// The usual request with other words in some of its places.
struct Asked<'a> {
    line: &'a str,
    headers: &'a str,
}

const USUAL: Asked<'_> = Asked {
    line: "GET {path} HTTP/1.1",
    headers: "",
};

impl Asked<'_> {
    /// Latin-1, so that a row can hold bytes that are no UTF-8.
    fn bytes(&self) -> Vec<u8> {
        let line = self.line.replace("{path}", &certs(PROJECT, "app1"));
        let (headers, token) = (self.headers, token());
        format!("{line}\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n{headers}\r\n")
            .chars()
            .map(|letter| u8::try_from(letter).unwrap())
            .collect()
    }
}

/// A row's id, what is sent, and the answer's status and code.
type Refused = (&'static str, Vec<u8>, u16, &'static str);
/// The same with the request's first line, and what else stands in its head.
type Rejected = (&'static str, &'static str, &'static str, u16, &'static str);

/// What is refused before it is a request.
#[expect(clippy::too_many_lines, reason = "a table")]
fn refused() -> Vec<Refused> {
    let mut rows = Vec::new();
    let bad_headers = [
        ("H01", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("H01", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("H02", "Content-Length: 3\r\nContent-Length: 4\r\n"),
        ("H02", "Content-Length: 3\r\nContent-Length: 3\r\n"),
        ("H02", "Content-Length: 0\r\nContent-Length: 0\r\n"),
        ("H02", "Content-Length: 3, 3\r\n"),
        ("H03", "Content-Length: +3\r\n"),
        ("H03", "Content-Length: -1\r\n"),
        ("H03", "Content-Length: 0x3\r\n"),
        ("H03", "Content-Length: 03\r\n"),
        ("H03", "Content-Length: 99999999999999999999\r\n"),
        ("H03", "Content-Length:\r\n"),
        ("H04", "Transfer-Encoding: xchunked\r\n"),
        ("H04", "Transfer-Encoding: chunked, identity\r\n"),
        ("H04", "Transfer-Encoding: identity, chunked\r\n"),
        ("H04", "Transfer-Encoding: \"chunked\"\r\n"),
        ("H04", "Transfer-Encoding: Chunked\u{b}\r\n"),
        ("H04", "Transfer-Encoding: gzip, chunked\r\n"),
        (
            "H04",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "H04",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        ),
        ("H17", "X: a\n"),
        ("H17", "X: a\rb\r\n"),
        ("H17", "X: a\0b\r\n"),
        ("H17", "X: a\r\n b\r\n"),
        ("H17", "X : a\r\n"),
        ("H17", ": a\r\n"),
        ("H17", "X\r\n"),
    ];
    for (id, headers) in bad_headers {
        let bytes = Asked { headers, ..USUAL }.bytes();
        rows.push((id, bytes, 400, "BAD_REQUEST"));
    }
    let bad_lines = [
        ("H16", "GET {path} HTTP/1.2"),
        ("H16", "GET {path} HTTP/2.0"),
        ("H16", "GET {path} HTTP/0.9"),
        ("H16", "GET {path} HTTP/1.1 x"),
        ("H16", "GET {path} http/1.1"),
        ("H16", "GET {path}"),
        ("H17", "GET\t{path}\tHTTP/1.1"),
        ("H26", "SSH-2.0-OpenSSH_10.0"),
        ("H33", "G E T {path} HTTP/1.1"),
        ("H33", "G\u{e9}T {path} HTTP/1.1"),
        ("H33", "! /body_length HTTP/1.1"),
        ("P15", "GET /a<b HTTP/1.1"),
    ];
    for (id, line) in bad_lines {
        let bytes = Asked { line, ..USUAL }.bytes();
        rows.push((id, bytes, 400, "BAD_REQUEST"));
    }
    let old_chunks = Asked {
        line: "GET {path} HTTP/1.0",
        headers: "Transfer-Encoding: chunked\r\n",
    };
    rows.push(("H05", old_chunks.bytes(), 400, "BAD_REQUEST"));
    rows.push((
        "H26",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(),
        400,
        "BAD_REQUEST",
    ));
    rows.push(("H33", vec![b'G'; 1 << 20], 400, "BAD_REQUEST"));
    let many = "X: x\r\n".repeat(63);
    let large = |size: usize| format!("X: {}\r\n", "x".repeat(size));
    for (id, headers) in [
        ("H18", many),
        ("H19", large(16 << 10)),
        ("H19", large(420 << 10)),
    ] {
        let bytes = Asked {
            headers: &headers,
            ..USUAL
        }
        .bytes();
        rows.push((id, bytes, 431, "HEADERS_TOO_LARGE"));
    }
    let long = format!("GET /{} HTTP/1.1", "x".repeat(70_000));
    rows.push((
        "P39",
        Asked {
            line: &long,
            ..USUAL
        }
        .bytes(),
        414,
        "URI_TOO_LONG",
    ));
    rows
}

/// What is refused as a request, and so on record.
const REJECTED: [Rejected; 12] = [
    (
        "H06",
        "GET {path} HTTP/1.1",
        "Transfer-Encoding: chunked\r\n",
        400,
        "BAD_REQUEST",
    ),
    (
        "H07",
        "GET {path} HTTP/1.1",
        "Content-Length: 5\r\n",
        400,
        "BAD_REQUEST",
    ),
    (
        "H11",
        "GET {path} HTTP/1.1",
        "Host: b\r\n",
        400,
        "BAD_REQUEST",
    ),
    (
        "H11",
        "GET http://other{path} HTTP/1.1",
        "",
        400,
        "BAD_REQUEST",
    ),
    ("H13", "GET http://evil/p HTTP/1.1", "", 400, "BAD_REQUEST"),
    ("H13", "GET h:80 HTTP/1.1", "", 400, "BAD_REQUEST"),
    ("H13", "GET * HTTP/1.1", "", 400, "BAD_REQUEST"),
    (
        "H14",
        "CONNECT h:443 HTTP/1.1",
        "",
        405,
        "METHOD_NOT_ALLOWED",
    ),
    (
        "H21",
        "GET {path} HTTP/1.1",
        "Expect: 100-continue\r\nContent-Length: 5\r\n",
        400,
        "BAD_REQUEST",
    ),
    (
        "H22",
        "GET {path} HTTP/1.1",
        "Content-Encoding: gzip\r\nContent-Length: 5\r\n",
        400,
        "BAD_REQUEST",
    ),
    (
        "H23",
        "GET {path} HTTP/1.1",
        "Trailer: Authorization\r\nTransfer-Encoding: chunked\r\n",
        400,
        "BAD_REQUEST",
    ),
    (
        "H30",
        "POST {path} HTTP/1.1",
        "Content-Length: 5\r\n",
        400,
        "BAD_REQUEST",
    ),
];

#[tokio::test]
async fn what_is_no_well_formed_head_is_refused_in_our_words_and_ends_the_connection() {
    let world = World::new().await;
    for (id, mut bytes, status, code) in refused() {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        bytes.extend(USUAL.bytes());
        let mut connection = Connection::open(world.address()).await;
        connection.send(&bytes).await;
        let reply = connection.reply(false).await;
        assert_refusal(&reply, status, code, &format!("{id} {shown:?}"));
        assert!(
            connection.is_closed().await,
            "{id}: nothing behind it is answered"
        );
    }
    assert_eq!(world.lookups().len(), 0, "none of them was a request");
    assert_eq!(world.atlas.certificate_calls(), 0);
}

#[tokio::test]
async fn after_a_refusal_the_caller_may_go_on_sending_for_a_while_to_no_effect() {
    let world = World::new().await;
    let mut connection = Connection::open(world.address()).await;
    connection.send(b"nonsense\r\n").await;
    assert_eq!(connection.reply(false).await.status, 400);
    assert!(connection.is_closed().await);
    for _ in 0..100 {
        tokio::task::yield_now().await;
        // A connection that were closed for good would answer with a reset, and that, on its way,
        // could overtake the refusal.
        assert!(connection.can_send(&USUAL.bytes()).await);
    }
    assert_eq!(world.lookups().len(), 0);
}

#[tokio::test]
async fn what_is_refused_as_a_request_is_on_record_and_nothing_behind_it_is_read() {
    let world = World::new().await;
    for (id, line, headers, status, code) in REJECTED {
        let before = world.lookups().len();
        let mut bytes = Asked { line, headers }.bytes();
        bytes.extend(USUAL.bytes());
        bytes.extend(USUAL.bytes());
        let mut connection = Connection::open(world.address()).await;
        connection.send(&bytes).await;
        let reply = connection.reply(false).await;
        assert_refusal(&reply, status, code, &format!("{id} {line} {headers}"));
        assert!(
            connection.is_closed().await,
            "{id}: nothing behind it is answered"
        );
        assert_eq!(world.lookups().len(), before + 1, "{id} {line} {headers}");
    }
    assert_eq!(world.atlas.certificate_calls(), 0);
}

#[tokio::test]
async fn what_is_only_odd_is_answered() {
    let world = World::new().await;
    for (id, line, headers, status) in [
        ("H05", "GET {path} HTTP/1.0", "", 200),
        ("H13", "OPTIONS * HTTP/1.1", "", 405),
        (
            "H15",
            "GET {path} HTTP/1.1",
            "Connection: upgrade\r\nUpgrade: h2c\r\n",
            200,
        ),
        (
            "H15",
            "GET {path} HTTP/1.1",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            200,
        ),
        ("H18", "GET {path} HTTP/1.1", &"X: x\r\n".repeat(62), 200),
        ("H20", "GET {path} HTTP/1.1", "X: \u{ff}\r\n", 200),
        ("H21", "GET {path} HTTP/1.1", "Expect: 200-maybe\r\n", 200),
        (
            "H24",
            "GET {path} HTTP/1.1",
            "Connection: Authorization\r\n",
            200,
        ),
        (
            "H25",
            "GET {path} HTTP/1.1",
            "Transfer_Encoding: chunked\r\nContent_Length: 3\r\n",
            200,
        ),
        (
            "H31",
            "GET {path}?_method=POST HTTP/1.1",
            "X-HTTP-Method-Override: POST\r\n",
            200,
        ),
        ("H32", "TRACE {path} HTTP/1.1", "", 405),
        ("H33", "get {path} HTTP/1.1", "", 405),
        ("H34", "BREW {path} HTTP/1.1", "", 405),
        ("-", "GET {path} HTTP/1.1", "Content-Length: 0\r\n", 200),
    ] {
        let mut connection = Connection::open(world.address()).await;
        let bytes = Asked { line, headers }.bytes();
        connection.send(&[&b"\r\n"[..], &bytes].concat()).await;
        assert_eq!(
            connection.reply(false).await.status,
            status,
            "{id} {line} {headers}"
        );
    }
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order_however_its_bytes_arrive() {
    let world = World::new().await;
    let good = USUAL.bytes();
    let bad = Asked {
        headers: "X: a\n",
        ..USUAL
    }
    .bytes();
    // H10.
    let mut connection = Connection::open(world.address()).await;
    connection.send(&[&good[..], &bad, &good].concat()).await;
    assert_eq!(connection.reply(false).await.status, 200);
    assert_eq!(connection.reply(false).await.status, 400);
    assert!(connection.is_closed().await);
    assert_eq!(world.lookups().len(), 1);
    // H09, larger than hyper's first buffer.
    let mut connection = Connection::open(world.address()).await;
    connection.send(&good.repeat(100)).await;
    for _ in 0..100 {
        assert_eq!(connection.reply(false).await.status, 200);
    }
    assert_eq!(world.lookups().len(), 101);
    // A head in two pieces, cut everywhere, and behind it the beginning of the next.
    let mut connection = Connection::open(world.address()).await;
    let two = good.repeat(2);
    for cut in (1..good.len()).step_by(7) {
        connection.send(&two[..cut]).await;
        tokio::task::yield_now().await;
        connection.send(&two[cut..]).await;
        for _ in 0..2 {
            assert_eq!(connection.reply(false).await.status, 200, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_head_has_five_seconds_from_its_first_byte() {
    // H51: a byte now and then does not help, at the beginning of a connection or later.
    for leading in [Vec::new(), USUAL.bytes()] {
        let world = World::new().await;
        let mut connection = Connection::open(world.address()).await;
        if !leading.is_empty() {
            connection.send(&leading).await;
            assert_eq!(connection.reply(false).await.status, 200);
            world.advance(Duration::from_secs(30));
        }
        let head = USUAL.bytes();
        let mut glances = tokio::time::interval(Duration::from_millis(5));
        let dripping = async {
            for byte in head {
                connection.send(&[byte]).await;
                glances.tick().await;
                world.advance(Duration::from_millis(500));
                if connection.has_something() {
                    break;
                }
            }
            connection.reply(false).await
        };
        let began = world.clock.now().elapsed;
        assert_refusal(&dripping.await, 408, "REQUEST_TIMEOUT", "H51");
        // The whole head would take minutes. On a busy machine the hands run ahead of the gateway.
        let passed = world.clock.now().elapsed.saturating_sub(began);
        assert!(passed < Duration::from_mins(1), "H51: {passed:?}");
        assert!(connection.is_closed().await);
    }
}

#[tokio::test]
async fn who_says_nothing_or_too_little_is_gone_when_the_first_byte_is_due() {
    let world = World::new().await;
    for (id, bytes) in [
        ("H50", &b""[..]),
        ("H52", b"P"),
        ("H52", b"PRI * HTTP/2.0\r\n"),
    ] {
        let mut connection = Connection::open(world.address()).await;
        connection.send(bytes).await;
        let closed = world.while_time_passes(connection.is_closed()).await;
        assert!(closed, "{id}");
    }
}

#[tokio::test]
async fn a_connection_may_wait_a_minute_for_its_next_request_and_no_longer() {
    let world = World::new().await;
    let mut connection = Connection::open(world.address()).await;
    for _ in 0..2 {
        connection.send(&USUAL.bytes()).await;
        assert_eq!(connection.reply(false).await.status, 200);
        world.advance(Duration::from_secs(59));
    }
    world.advance(Duration::from_secs(1));
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn half_a_connection_closed_still_gets_a_clean_end() {
    let world = World::new().await;
    let mut connection = Connection::open(world.address()).await;
    connection.send(&USUAL.bytes()).await;
    connection.finish().await;
    let status = connection.reply(false).await.status;
    assert!(matches!(status, 0 | 200), "H55: {status}");
}

#[tokio::test]
async fn callers_that_reset_at_once_cause_no_storm_and_leave_no_connection() {
    let world = World::new().await;
    for _ in 0..300 {
        let mut connection = Connection::open(world.address()).await;
        connection.send(&USUAL.bytes()).await;
        connection.reset();
    }
    // H57.
    assert_eq!(world.ask("app1").await.status, 200);
    assert_eq!(world.atlas.certificate_calls(), 1);
    let outcomes = ["answered", "abandoned"];
    for record in world.lookups() {
        let outcome = record["outcome"].as_str().unwrap();
        assert!(outcomes.contains(&outcome), "H57: {record}");
    }
}

#[tokio::test]
async fn refused_heads_are_counted_by_reason_and_by_nothing_that_callers_choose() {
    let world = World::new().await;
    for (_, bytes, _, _) in refused() {
        let _ = world.raw(&bytes).await;
    }
    for (reason, count) in [
        ("body_length", 12),
        ("too_many", 1),
        ("too_large", 2),
        ("target_too_long", 1),
    ] {
        assert_eq!(world.refused(reason).await, count, "{reason}");
    }
}

fn assert_refusal(reply: &Reply, status: u16, code: &str, row: &str) {
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (status, code),
        "{row}"
    );
    assert_eq!(reply.header("connection"), Some("close"), "{row}");
    assert_eq!(reply.header("x-error-origin"), Some("gateway"), "{row}");
    assert_eq!(
        reply.header("content-type"),
        Some("application/json"),
        "{row}"
    );
    let document = reply.json();
    assert_eq!(document["error"], status, "{row}");
    assert!(document["detail"].as_str().unwrap().ends_with('.'), "{row}");
}
