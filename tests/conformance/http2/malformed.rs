//! Frames and requests that RFC 9113 does not allow: an error of the stream or of the connection, and
//! never an answer.

use super::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, STATUS_200, STATUS_400, STATUS_404, Spammer,
    block, frame, get, lookup,
};
use crate::world::{PROJECT, World, certs, set, token};

#[tokio::test]
async fn malformed_requests_are_stream_errors_or_refused_and_never_answered() {
    let world = World::new().await;
    let (path, authorization) = (certs(PROJECT, "app1"), format!("Bearer {}", token()));
    let usual = get(&path, &authorization);
    let mut rows = Vec::new();
    for replaced in ["", "*", "a/b", "/a b", "http://evil/", "/a\u{e9}", "/#"] {
        rows.push(("X09", block(&get(replaced, &authorization))));
    }
    for authority in ["", "a b", "caller@gateway.test"] {
        let mut other = usual.clone();
        other[2].1 = authority;
        rows.push(("X09", block(&other)));
    }
    for scheme in ["", "ftp", "https:"] {
        let mut other = usual.clone();
        other[1].1 = scheme;
        rows.push(("X09", block(&other)));
    }
    // A pseudo-header behind a header, and one that is missing.
    let mut late = usual.clone();
    late.swap(0, 4);
    rows.push(("X09", block(&late)));
    rows.push(("X09", block(&usual[1..])));
    for (name, value) in [
        (":path", "/"),
        (":method", "GET"),
        (":unknown", "x"),
        ("X-Upper", "x"),
        ("a b", "x"),
        ("a:b", "x"),
        ("", "x"),
        ("connection", "close"),
        ("keep-alive", "x"),
        ("proxy-connection", "x"),
        ("upgrade", "h2c"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("host", "other.test"),
        ("content-length", "5"),
    ] {
        rows.push(("X09", block(&[usual.clone(), vec![(name, value)]].concat())));
    }
    for value in ["a\r\nb", "a\0b", "a\nb", "a\rb", "a\u{1}b", "a\u{7f}b"] {
        rows.push(("X10", block(&[usual.clone(), vec![("x", value)]].concat())));
    }
    let large = "x".repeat(17 << 10);
    let too_large = block(&[usual.clone(), vec![("x", &large)]].concat());
    for (row, block) in rows {
        let mut caller = Spammer::open(&world).await;
        caller
            .send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block))
            .await;
        let seen = caller
            .until(|seen| {
                !seen.heads.is_empty() || !seen.resets.is_empty() || seen.goaway.is_some()
            })
            .await;
        let refused = seen
            .heads
            .get(&1)
            .is_none_or(|head| head[0] == STATUS_400 || head[0] == STATUS_404);
        assert!(
            refused,
            "{row} {:?}: {seen:?}",
            String::from_utf8_lossy(&block)
        );
    }
    let mut caller = Spammer::open(&world).await;
    let (first, rest) = too_large.split_at(16_000);
    caller.send(&frame(HEADERS, END_STREAM, 1, first)).await;
    caller
        .send(&frame(CONTINUATION, END_HEADERS, 1, rest))
        .await;
    let seen = caller
        .until(|seen| !seen.heads.is_empty() || !seen.resets.is_empty() || seen.goaway.is_some())
        .await;
    assert!(
        seen.heads.get(&1).is_none_or(|head| head[0] != STATUS_200),
        "X04: {seen:?}"
    );
    assert_eq!(world.atlas.certificate_calls(), 0);
}

#[tokio::test]
async fn over_http_2_too_another_host_is_misdirected() {
    let world = World::with(|plan| {
        set(
            &mut plan.config,
            "server.hosts",
            vec![toml::Value::from("other.test")],
        );
    })
    .await;
    let mut caller = Spammer::open(&world).await;
    caller.send(&lookup(1)).await;
    caller.until(|seen| !seen.heads.is_empty()).await;
    // It has no place in the static table.
    let record = world.lookups().pop().unwrap();
    assert_eq!(record["status"], 421, "H12");
}
