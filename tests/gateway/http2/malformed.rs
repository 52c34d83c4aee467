//! Frames and requests that RFC 9113 does not allow: an error of the stream or of the connection, and
//! never an answer.

use std::cell::Cell;
use std::panic;

use tokio::io::AsyncWriteExt;

use super::COMPRESSION_ERROR;
use super::CONTINUATION;
use super::DATA;
use super::END_HEADERS;
use super::END_STREAM;
use super::FLOW_CONTROL_ERROR;
use super::FRAME_SIZE_ERROR;
use super::GOAWAY;
use super::HEADERS;
use super::PADDED;
use super::PING;
use super::PRIORITY;
use super::PROTOCOL_ERROR;
use super::PUSH_PROMISE;
use super::RST_STREAM;
use super::SETTINGS;
use super::STATUS_200;
use super::STATUS_400;
use super::STATUS_404;
use super::STREAM_CLOSED;
use super::Seen;
use super::Spammer;
use super::WINDOW_UPDATE;
use super::WITH_PRIORITY;
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

/// What may come of a row.
#[derive(Clone, Copy)]
enum End {
    /// An error of the connection.
    Connection(u32),
    /// An error of the stream, or of the connection.
    Stream(u32),
    /// Nothing: it is ignored, and the connection goes on.
    Ignored,
}

/// A rule, what breaks it, and what comes of that.
type Rule = (&'static str, Vec<u8>, End);

/// Every rule of RFC 9113 and RFC 7541 that a caller can break in a few frames: what the conformance
/// suite `h2spec` asks, strict mode included, as far as a caller without bodies can be asked.
fn rules() -> Vec<Rule> {
    use End::Connection;
    use End::Ignored;
    use End::Stream;
    let (path, authorization) = (certs(PROJECT, "app1"), format!("Bearer {}", token()));
    let usual = block(&get(&path, &authorization));
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &usual);
    let asked = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &usual);
    let begun = |stream| frame(HEADERS, END_STREAM, stream, &usual);
    let raw = |bytes: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, bytes);
    let setting = |id: u16, value: u32| {
        let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        frame(SETTINGS, 0, 0, &payload)
    };
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let depends_on = |stream: u32| [&stream.to_be_bytes()[..], &[1]].concat();
    vec![
        ("4.1 unknown type", frame(0x16, 0, 0, &[0; 8]), Ignored),
        ("4.1 unknown flags", frame(PING, 0x16, 0, &[0; 8]), Ignored),
        (
            "4.2 DATA too large",
            [open(1), frame(DATA, 0, 1, &[0; 16_385])].concat(),
            Stream(FRAME_SIZE_ERROR),
        ),
        (
            "4.2 HEADERS too large",
            frame(HEADERS, END_HEADERS, 1, &[0; 16_385]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "4.3 no header block",
            raw(&[0x40]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "4.3 PRIORITY within headers",
            [begun(1), frame(PRIORITY, 0, 1, &depends_on(0))].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "4.3 other HEADERS within headers",
            [begun(1), asked(3)].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 DATA when idle",
            frame(DATA, END_STREAM, 1, &[0]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 RST_STREAM when idle",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 WINDOW_UPDATE when idle",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 CONTINUATION when idle",
            frame(CONTINUATION, END_HEADERS, 1, &usual),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 DATA when half closed",
            [asked(1), frame(DATA, END_STREAM, 1, &[0])].concat(),
            Stream(STREAM_CLOSED),
        ),
        (
            "5.1 HEADERS when half closed",
            [asked(1), asked(1)].concat(),
            Stream(STREAM_CLOSED),
        ),
        (
            "5.1 CONTINUATION when half closed",
            [asked(1), frame(CONTINUATION, END_HEADERS, 1, &usual)].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 DATA when reset",
            [
                open(1),
                frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
                frame(DATA, 0, 1, &[0]),
            ]
            .concat(),
            Ignored,
        ),
        ("5.1.1 even stream", asked(2), Connection(PROTOCOL_ERROR)),
        (
            "5.1.1 older stream",
            [asked(5), asked(3)].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.5 unknown type within headers",
            [begun(1), frame(0x16, 0, 0, &[0; 8])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.1 DATA on no stream",
            frame(DATA, END_STREAM, 0, &[0]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.1 padding longer than DATA",
            [open(1), frame(DATA, END_STREAM | PADDED, 1, &[9, 0])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.2 HEADERS on no stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, &usual),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.2 padding longer than HEADERS",
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[200, 0x82]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.3 PRIORITY on no stream",
            frame(PRIORITY, 0, 0, &depends_on(0)),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.3 PRIORITY of another size",
            frame(PRIORITY, 0, 1, &[0; 4]),
            Stream(FRAME_SIZE_ERROR),
        ),
        (
            "6.3 HEADERS that depend on themselves",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | WITH_PRIORITY,
                1,
                &[&depends_on(1)[..], &usual].concat(),
            ),
            Ignored,
        ),
        (
            "6.4 RST_STREAM on no stream",
            frame(RST_STREAM, 0, 0, &[0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.4 RST_STREAM of another size",
            [open(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.5 SETTINGS agreed to with words",
            frame(SETTINGS, 1, 0, &[0; 6]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.5 SETTINGS on a stream",
            frame(SETTINGS, 0, 1, &[0; 6]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.5 SETTINGS of another size",
            frame(SETTINGS, 0, 0, &[0; 3]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.5.2 ENABLE_PUSH of 2",
            setting(2, 2),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.5.2 too large a window",
            setting(4, 0x8000_0000),
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "6.5.2 too small frames",
            setting(5, 16_383),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.5.2 too large frames",
            setting(5, 1 << 24),
            Connection(PROTOCOL_ERROR),
        ),
        ("6.5.2 unknown setting", setting(0xff, 1), Ignored),
        (
            "6.6 PUSH_PROMISE",
            [
                open(1),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    &[&[0, 0, 0, 2][..], &usual].concat(),
                ),
            ]
            .concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.7 PING on a stream",
            frame(PING, 0, 1, &[0; 8]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.7 PING of another size",
            frame(PING, 0, 0, &[0; 6]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.8 GOAWAY on a stream",
            frame(GOAWAY, 0, 1, &[0; 8]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.9 no more window",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.9 no more window of a stream",
            [open(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "6.9 WINDOW_UPDATE of another size",
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.9.1 too much window",
            frame(WINDOW_UPDATE, 0, 0, &most).repeat(2),
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.1 too much window of a stream",
            [open(1), frame(WINDOW_UPDATE, 0, 1, &most).repeat(2)].concat(),
            Stream(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.2 a setting that makes it too much",
            [
                open(1),
                frame(WINDOW_UPDATE, 0, 1, &0x7fff_0000_u32.to_be_bytes()),
                setting(4, 0x7fff_ffff),
            ]
            .concat(),
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "6.10 CONTINUATION on no stream",
            [begun(1), frame(CONTINUATION, END_HEADERS, 0, &[])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.10 CONTINUATION of another stream",
            [begun(1), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.10 CONTINUATION behind the end",
            [asked(1), frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "RFC 7541, 2.3.3 no such entry",
            raw(&[0xc6]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "RFC 7541, 6.1 entry 0",
            raw(&[0x80]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "RFC 7541, 6.3 table beyond its size",
            raw(&[0x3f, 0xe1, 0xff, 0x03]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "RFC 7541, 5.2 a code of more than padding",
            raw(&[0x00, 0x82, 0xff, 0xff, 0x01, b'x']),
            Connection(COMPRESSION_ERROR),
        ),
    ]
}

#[tokio::test]
async fn every_rule_of_the_protocol_that_is_broken_is_an_error_of_its_stream_or_connection() {
    let world = World::new().await;
    let mut broken = Vec::new();
    for (rule, bytes, end) in rules() {
        let mut caller = Spammer::open(&world).await;
        caller.until(|_| true).await;
        caller.send(&bytes).await;
        caller.send(&frame(PING, 0, 0, b"question")).await;
        // An answer to the ping may overtake the error of a stream, but not that of the connection.
        let is_over = |seen: &Seen| {
            let is_borne = seen.pongs > 0 && !matches!(end, End::Stream(_));
            seen.goaway.is_some() || !seen.resets.is_empty() || is_borne
        };
        let seen = caller.until(is_over).await;
        let reset = seen.resets.values().next().copied();
        // A connection that is closed with bytes unread may lose its last words.
        let silent = seen.closed && seen.goaway.is_none();
        // RFC 9113, section 7: what has a code of its own may be called a protocol error, too.
        let is = |said: Option<u32>, code| said == Some(code) || said == Some(PROTOCOL_ERROR);
        let is_well = match end {
            End::Connection(code) => silent || is(seen.goaway, code),
            End::Stream(code) => silent || is(seen.goaway, code) || is(reset, code),
            End::Ignored => seen.pongs > 0 && seen.goaway.is_none() && reset.is_none(),
        };
        if !is_well {
            broken.push(format!("{rule}: {seen:?}"));
        }
    }
    assert!(broken.is_empty(), "X13:\n{}", broken.join("\n"));
    assert_eq!(world.ask("app1").await.status, 200);
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
