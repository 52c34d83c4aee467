//! Frames and requests that RFC 9113 does not allow: an error of the stream or of the connection, and
//! never an answer.

use std::cell::Cell;
use std::panic;

use tokio::io::AsyncWriteExt;

use super::CONTINUATION;
use super::END_HEADERS;
use super::END_STREAM;
use super::HEADERS;
use super::PING;
use super::STATUS_200;
use super::STATUS_400;
use super::STATUS_404;
use super::Spammer;
use super::block;
use super::frame;
use super::get;
use super::lookup;
use crate::world::PROJECT;
use crate::world::World;
use crate::world::certs;
use crate::world::set;
use crate::world::token;

#[tokio::test]
async fn malformed_requests_are_stream_errors_or_refused_and_never_answered() {
    let world = World::new().await;
    let (path, authorization) = (certs(PROJECT, "app1"), format!("Bearer {}", token()));
    let usual = get(&path, &authorization);
    let mut rows = Vec::new();
    for replaced in ["", "*", "a/b", "/a b", "http://evil/", "/a\u{e9}", "/#"] {
        rows.push(("X09", block(&get(replaced, &authorization))));
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
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("host", "other.test"),
        ("content-length", "5"),
    ] {
        rows.push(("X09", block(&[usual.clone(), vec![(name, value)]].concat())));
    }
    for value in ["a\r\nb", "a\0b", "a\nb", "a\rb"] {
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

#[tokio::test]
async fn frames_made_by_chance_break_nothing() {
    count_panics();
    let world = World::new().await;
    world.ask("app1").await;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut chance = move |below: u32| {
        // Xorshift: the same frames each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u32::try_from(state % u64::from(below)).unwrap()
    };
    for round in 0..300 {
        let mut caller = Spammer::open(&world).await;
        for _ in 0..chance(40) {
            let mut byte = || u8::try_from(chance(256)).unwrap();
            let (kind, flags, first) = (byte() % 12, byte(), byte());
            let payload: Vec<u8> = (0..first % 48).map(|_| byte()).collect();
            let stream = chance(8);
            let bytes = match chance(4) {
                0 => lookup(stream | 1),
                1 => frame(HEADERS, flags, stream, &payload),
                _ => frame(kind, flags, stream, &payload),
            };
            caller.send(&bytes).await;
        }
        caller.send(&frame(PING, 0, 0, b"question")).await;
        caller.stream.shutdown().await.unwrap_or_default();
        caller.until(|seen| seen.goaway.is_some()).await;
        assert_eq!(PANICS.with(Cell::get), 0, "X14: round {round}");
    }
    assert_eq!(world.ask("app1").await.status, 200, "X14");
    assert_eq!(PANICS.with(Cell::get), 0, "X14");
}

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the panics of this test: its tasks run on its own thread, and a task's panic ends nothing else.
fn count_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.with(|panics| panics.set(panics.get() + 1));
        before(info);
    }));
}
