//! Heads that are no request, requests that are refused as soon as their head is read, and that nothing
//! behind either of them is read.

use super::{Asked, USUAL, assert_refusal};
use crate::client::Connection;
use crate::world::World;

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
        // hyper would answer these by itself, with nothing in it.
        ("H13", "GET a/b HTTP/1.1"),
        ("H13", "GET ?pretty=true HTTP/1.1"),
        // hyper would drop a fragment unread, and answer what stands before it.
        ("P18", "GET /a#/../../x/certs HTTP/1.1"),
        ("P18", "GET {path}#x HTTP/1.1"),
        ("P18", "GET {path}?pretty=true#\t HTTP/1.1"),
        ("P18", "GET {path}#\u{ff} HTTP/1.1"),
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
    rows.push(("H26", noise(1 << 20), 400, "BAD_REQUEST"));
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

/// As good as random, and the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// What is refused as a request, and so on record.
const REJECTED: [Rejected; 16] = [
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
    // What the bytes behind it make a whole body of, and one that is refused before it is sent.
    (
        "H30",
        "POST {path} HTTP/1.1",
        "Content-Length: 5\r\n",
        405,
        "METHOD_NOT_ALLOWED",
    ),
    (
        "H30",
        "PUT {path} HTTP/1.1",
        "Content-Length: 5\r\n",
        405,
        "METHOD_NOT_ALLOWED",
    ),
    (
        "H21",
        "POST {path} HTTP/1.1",
        "Expect: 100-continue\r\nContent-Length: 9999\r\n",
        405,
        "METHOD_NOT_ALLOWED",
    ),
    (
        "H4",
        "POST /api/oauth/token HTTP/1.1",
        "Content-Length: 29\r\n",
        404,
        "RESOURCE_NOT_FOUND",
    ),
    (
        "H4",
        "GET /nowhere HTTP/1.1",
        "Content-Length: 5\r\n",
        404,
        "RESOURCE_NOT_FOUND",
    ),
];

#[tokio::test]
async fn a_malformed_head_is_refused_in_our_words_and_ends_the_connection() {
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
async fn a_refused_request_is_on_record_and_nothing_behind_it_is_read() {
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
