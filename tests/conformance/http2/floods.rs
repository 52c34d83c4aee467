//! Floods: each ends its own connection, or is borne, and costs little memory and nobody else anything.

use std::fs;

use super::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    Spammer, WINDOW_UPDATE, block, frame, lookup,
};
use crate::world::World;

pub(super) fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What is sent in each round.
type Flood = Box<dyn Fn(u32) -> Vec<u8>>;
/// The row, whether its connection ends, and the flood.
type Row = (&'static str, bool, Flood);

#[expect(clippy::too_many_lines, reason = "a table")]
fn floods() -> Vec<Row> {
    let id = |round: u32| round * 2 + 1;
    let open = block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
    ]);
    let opened = open.clone();
    vec![
        (
            "X01 rapid reset",
            true,
            Box::new(move |round| {
                [
                    lookup(id(round)),
                    frame(RST_STREAM, 0, id(round), &[0, 0, 0, 8]),
                ]
                .concat()
            }),
        ),
        (
            "X02 errors that we are made to reset for",
            true,
            Box::new(move |round| {
                [
                    frame(HEADERS, END_HEADERS, id(round), &open),
                    frame(WINDOW_UPDATE, 0, id(round), &[0; 4]),
                ]
                .concat()
            }),
        ),
        (
            "X02 windows opened beyond measure",
            true,
            Box::new(move |round| {
                [
                    lookup(id(round)),
                    frame(WINDOW_UPDATE, 0, id(round), &[0x7f, 0xff, 0xff, 0xff]),
                ]
                .concat()
            }),
        ),
        (
            "X03 continuations without end",
            true,
            Box::new(|round| {
                if round == 0 {
                    frame(HEADERS, END_STREAM, 1, &block(&[(":method", "GET")]))
                } else {
                    frame(CONTINUATION, 0, 1, &block(&[("x", &"x".repeat(1_000))]))
                }
            }),
        ),
        (
            "X05 empty data",
            true,
            Box::new(move |round| {
                if round == 0 {
                    frame(HEADERS, END_HEADERS, 1, &opened)
                } else {
                    frame(DATA, 0, 1, &[])
                }
            }),
        ),
        ("X06 pings", false, Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        (
            "X06 settings",
            false,
            Box::new(|_| frame(SETTINGS, 0, 0, &[])),
        ),
        (
            "X06 priorities",
            false,
            Box::new(move |round| frame(PRIORITY, 0, id(round), &[0, 0, 0, 0, 1])),
        ),
        (
            "X04 a table entry named again and again",
            true,
            Box::new(move |round| {
                let bomb = if round == 0 {
                    let mut entry = vec![0x40, 1, b'x', 127];
                    entry.extend([0x80 | 0x41, 0x1e]);
                    entry.extend([b'x'; 3_969 + 127]);
                    entry.truncate(4 + 2 + 4_000 - 31);
                    entry
                } else {
                    vec![0xbe; 16_000]
                };
                frame(HEADERS, END_HEADERS | END_STREAM, id(round), &bomb)
            }),
        ),
    ]
}

#[tokio::test]
async fn floods_end_their_connection_and_cost_no_other_caller_anything() {
    let world = World::new().await;
    world.ask("app1").await;
    let before = resident_kib();
    for (row, ends, flood) in floods() {
        let mut spammer = Spammer::open(&world).await;
        spammer.flood(20_000, flood).await;
        if ends {
            let seen = spammer.until(|seen| seen.goaway.is_some()).await;
            assert!(seen.goaway.is_some() || seen.closed, "{row}: {seen:?}");
        }
        assert_eq!(world.ask("app1").await.status, 200, "{row}");
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 48 << 10, "{row}: {grown} KiB more");
    }
}
