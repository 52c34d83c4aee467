//! HTTP/2 by hand, frame by frame: what floods, starves or contradicts itself ends, costs little memory
//! and nobody else anything.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::world::PROJECT;
use crate::world::World;
use crate::world::certs;
use crate::world::token;

/// A caller that says what it likes.
struct Spammer {
    stream: TcpStream,
    read: Vec<u8>,
    seen: Seen,
}

/// What came back.
#[derive(Debug, Default)]
struct Seen {
    /// The first bytes of each stream's header block.
    heads: BTreeMap<u32, Vec<u8>>,
    /// The error code of each stream that was reset.
    resets: BTreeMap<u32, u32>,
    goaway: Option<u32>,
    closed: bool,
}

impl Spammer {
    async fn open(world: &World) -> Self {
        Self::with_settings(world, &[]).await
    }

    async fn with_settings(world: &World, settings: &[(u16, u32)]) -> Self {
        let mut spammer = Self {
            stream: TcpStream::connect(world.address()).await.unwrap(),
            read: Vec::new(),
            seen: Seen::default(),
        };
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        spammer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        spammer.send(&frame(SETTINGS, 0, 0, &settings)).await;
        spammer
    }

    /// Sends; that the other side has hung up shows in what is seen.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends again and again, reading as it goes, until the other side has had enough or `rounds` are
    /// over.
    async fn flood(&mut self, rounds: u32, bytes: impl Fn(u32) -> Vec<u8>) {
        for round in 0..rounds {
            if self.stream.write_all(&bytes(round)).await.is_err() {
                break;
            }
            if round % 64 == 0 {
                tokio::task::yield_now().await;
                while self
                    .stream
                    .try_read_buf(&mut self.read)
                    .is_ok_and(|count| count > 0)
                {}
                self.digest();
                if self.seen.goaway.is_some() {
                    break;
                }
            }
        }
    }

    /// Reads, answering settings and pings, until it has seen enough or the connection ends.
    async fn until(&mut self, enough: impl Fn(&Seen) -> bool) -> &Seen {
        loop {
            let answers = self.digest();
            self.send(&answers).await;
            if self.seen.closed || enough(&self.seen) {
                return &self.seen;
            }
            let count = self.stream.read_buf(&mut self.read).await.unwrap_or(0);
            self.seen.closed = count == 0;
        }
    }

    fn digest(&mut self) -> Vec<u8> {
        let mut answers = Vec::new();
        while let Some((kind, flags, stream, payload)) = next_frame(&mut self.read) {
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                HEADERS => drop(self.seen.heads.insert(stream, payload)),
                RST_STREAM => drop(self.seen.resets.insert(stream, code(0))),
                GOAWAY => self.seen.goaway = Some(code(4)),
                PING if flags & ACK == 0 => answers.extend(frame(PING, ACK, 0, &payload)),
                SETTINGS if flags & ACK == 0 => answers.extend(frame(SETTINGS, ACK, 0, &[])),
                _ => {}
            }
        }
        answers
    }
}

/// Type, flags, stream and payload.
type Frame = (u8, u8, u32, Vec<u8>);

fn next_frame(read: &mut Vec<u8>) -> Option<Frame> {
    let head: [u8; 9] = read.get(..9)?.try_into().unwrap();
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let payload = read.get(9..9 + length)?.to_vec();
    read.drain(..9 + length);
    let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
    Some((head[3], head[4], stream, payload))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block without compression.
fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        // RFC 7541, section 5.1, with seven bits.
        let mut bytes = match text.len() {
            short @ 0..127 => vec![u8::try_from(short).unwrap()],
            long => {
                let (mut rest, mut bytes) = (long - 127, vec![127]);
                while rest >= 128 {
                    bytes.push(u8::try_from(rest % 128 + 128).unwrap());
                    rest /= 128;
                }
                bytes.push(u8::try_from(rest).unwrap());
                bytes
            }
        };
        bytes.extend(text.chars().map(|letter| u8::try_from(letter).unwrap()));
        bytes
    };
    headers
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect()
}

fn get<'a>(path: &'a str, authorization: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "gateway.test"),
        (":path", path),
        ("authorization", authorization),
    ]
}

/// A whole lookup on a stream.
fn lookup(stream: u32) -> Vec<u8> {
    let (path, authorization) = (certs(PROJECT, "app1"), format!("Bearer {}", token()));
    let block = block(&get(&path, &authorization));
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_well_behaved_caller_is_answered_on_every_stream() {
    let world = World::new().await;
    let mut caller = Spammer::open(&world).await;
    caller.send(&[lookup(1), lookup(3)].concat()).await;
    let seen = caller.until(|seen| seen.heads.len() == 2).await;
    assert!(
        seen.heads.values().all(|head| head[0] == STATUS_200),
        "{seen:?}"
    );
    assert_eq!(world.lookups().len(), 2);
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
async fn floods_end_their_connection_cost_little_memory_and_nobody_else_anything() {
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

#[tokio::test]
async fn the_stream_beyond_the_limit_is_refused_and_the_others_are_answered() {
    let world = World::new().await;
    // Without a window the answers stay, and with them their streams.
    let mut caller = Spammer::with_settings(&world, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    caller.until(|_| true).await;
    let all: Vec<u8> = (0..101).flat_map(|round| lookup(round * 2 + 1)).collect();
    caller.send(&all).await;
    let seen = caller
        .until(|seen| seen.heads.len() == 100 && !seen.resets.is_empty())
        .await;
    assert_eq!(seen.resets, BTreeMap::from([(201, REFUSED_STREAM)]), "X07");
    assert_eq!(seen.goaway, None);
}

#[tokio::test]
async fn who_grants_no_window_is_not_waited_for_for_ever() {
    let world = World::new().await;
    let mut caller = Spammer::with_settings(&world, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    caller.send(&lookup(1)).await;
    caller.until(|seen| !seen.heads.is_empty()).await;
    let ends = caller.until(|seen| !seen.resets.is_empty() || seen.goaway.is_some());
    let seen = world.while_time_passes(ends).await;
    assert!(seen.resets.contains_key(&1), "X08: {seen:?}");
    let passed = world.clock.now().elapsed;
    assert!(passed >= Duration::from_secs(75), "X08: {passed:?}");
    assert_eq!(world.refused("write_stall").await, 1);
}

#[tokio::test]
async fn malformed_requests_are_stream_errors_or_refused_and_never_answered() {
    let world = World::new().await;
    let (path, authorization) = (certs(PROJECT, "app1"), format!("Bearer {}", token()));
    let usual = get(&path, &authorization);
    let mut rows = Vec::new();
    for replaced in ["", "*", "a/b", "/a b", "http://evil/", "/a\u{e9}"] {
        rows.push(("X09", block(&get(replaced, &authorization))));
    }
    for (name, value) in [
        (":path", "/"),
        (":method", "GET"),
        (":unknown", "x"),
        ("X-Upper", "x"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("host", "other.test"),
        ("x", "a\r\nb"),
        ("x", "a\0b"),
        ("x", "a\nb"),
        ("content-length", "5"),
    ] {
        rows.push(("X09", block(&[usual.clone(), vec![(name, value)]].concat())));
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
async fn a_body_that_never_comes_is_not_waited_for() {
    let world = World::new().await;
    let mut caller = Spammer::open(&world).await;
    let (path, authorization) = (certs(PROJECT, "app1"), format!("Bearer {}", token()));
    let block = block(&get(&path, &authorization));
    caller.send(&frame(HEADERS, END_HEADERS, 1, &block)).await;
    let seen = caller.until(|seen| !seen.heads.is_empty()).await;
    assert_eq!(seen.heads[&1][0], STATUS_400, "X11");
}

#[tokio::test]
async fn who_only_answers_pings_is_idle() {
    let world = World::new().await;
    let mut caller = Spammer::open(&world).await;
    caller.until(|_| true).await;
    let seen = world
        .while_time_passes(caller.until(|seen| seen.closed))
        .await;
    assert_eq!(seen.goaway, Some(0), "X12");
    let passed = world.clock.now().elapsed;
    let expected = Duration::from_mins(1)..Duration::from_mins(30);
    assert!(expected.contains(&passed), "X12: {passed:?}");
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
const REFUSED_STREAM: u32 = 7;
// RFC 7541, appendix A: whole entries of the static table.
const STATUS_200: u8 = 0x88;
const STATUS_400: u8 = 0x8c;
const STATUS_404: u8 = 0x8d;
