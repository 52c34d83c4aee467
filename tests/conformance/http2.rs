//! HTTP/2 by hand, frame by frame: what floods, starves or contradicts itself ends, costs little memory
//! and nobody else anything.

mod conformance;
mod exchanges;
mod floods;
mod farewell;
mod fuzzed;
mod half_closed;
mod malformed;
mod patience;

use std::collections::{BTreeMap, BTreeSet};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, block, frame,
};
use crate::world::{PROJECT, World, certs, token};

/// A caller that says what it likes.
struct Spammer<S = TcpStream> {
    stream: S,
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
    /// What the answers to our pings said.
    pongs: Vec<Vec<u8>>,
    /// How many of our settings were agreed to.
    acks: usize,
    /// The length of each piece of data.
    data: Vec<usize>,
    /// The streams that the other side has finished.
    ended: BTreeSet<u32>,
    /// Type and flags of the first frame.
    first: Option<(u8, u8)>,
    closed: bool,
}

impl Spammer {
    async fn open(world: &World) -> Self {
        Self::with_settings(world, &[]).await
    }

    async fn with_settings(world: &World, wanted: &[(u16, u32)]) -> Self {
        let mut spammer = Self::over(connect(world).await);
        spammer.send(PREFACE).await;
        spammer.send(&settings(wanted)).await;
        spammer
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
}

impl<S: AsyncRead + AsyncWrite + Unpin> Spammer<S> {
    /// A caller that has said nothing yet.
    fn over(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Sends; that the other side has hung up shows in what is seen.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
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
            self.seen.first.get_or_insert((kind, flags));
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                self.seen.ended.insert(stream);
            }
            match kind {
                DATA => self.seen.data.push(payload.len()),
                HEADERS => drop(self.seen.heads.insert(stream, payload)),
                RST_STREAM => drop(self.seen.resets.insert(stream, code(0))),
                GOAWAY => self.seen.goaway = Some(code(4)),
                PING if flags & ACK != 0 => self.seen.pongs.push(payload),
                PING => answers.extend(frame(PING, ACK, 0, &payload)),
                SETTINGS if flags & ACK != 0 => self.seen.acks += 1,
                SETTINGS => answers.extend(frame(SETTINGS, ACK, 0, &[])),
                _ => {}
            }
        }
        answers
    }
}

async fn connect(world: &World) -> TcpStream {
    let stream = TcpStream::connect(world.address()).await.unwrap();
    // Frames that are sent one by one do not wait for each other.
    stream.set_nodelay(true).unwrap();
    stream
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

fn settings(wanted: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = wanted
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
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

/// What the two families of browsers open a connection with, and the fields that they send.
#[tokio::test]
async fn browsers_are_answered() {
    let world = World::new().await;
    let (path, authorization) = (certs(PROJECT, "app1"), format!("Bearer {}", token()));
    let mut fields = get(&path, &authorization);
    fields.extend([
        ("sec-ch-ua", "\"Chromium\";v=\"142\""),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        (
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ),
        ("sec-fetch-mode", "navigate"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-US,en;q=0.9"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("priority", "u=0, i"),
    ]);
    let fields = block(&fields);
    let window = |by: u32| frame(WINDOW_UPDATE, 0, 0, &by.to_be_bytes());
    let headers = |stream, weight: &[u8]| {
        let flags = END_HEADERS | END_STREAM | WITH_PRIORITY;
        frame(HEADERS, flags, stream, &[weight, &fields].concat())
    };
    // Chromium: a large window, and an exclusive dependency.
    let settings = [(1, 65_536), (2, 0), (4, 6_291_456), (6, 262_144)];
    let mut chromium = Spammer::with_settings(&world, &settings).await;
    let asked = headers(1, &[0x80, 0, 0, 0, 255]);
    chromium.send(&[window(15_663_105), asked].concat()).await;
    let seen = chromium.until(|seen| !seen.heads.is_empty()).await;
    assert_eq!(seen.heads[&1][0], STATUS_200, "{seen:?}");
    // Firefox: groups of idle streams, and a request that depends on one of them.
    let settings = [(1, 65_536), (4, 131_072), (5, 16_384)];
    let mut firefox = Spammer::with_settings(&world, &settings).await;
    let group = |stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 200]);
    let groups: Vec<u8> = [3, 5, 7, 9, 11, 13].into_iter().flat_map(group).collect();
    let asked = headers(15, &[0, 0, 0, 13, 41]);
    firefox
        .send(&[window(12_517_377), groups, asked].concat())
        .await;
    let seen = firefox.until(|seen| !seen.heads.is_empty()).await;
    assert_eq!(seen.heads[&15][0], STATUS_200, "{seen:?}");
    assert_eq!((seen.goaway, seen.resets.len()), (None, 0));
}

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

// RFC 7541, appendix A: whole entries of the static table.
const STATUS_200: u8 = 0x88;
const STATUS_400: u8 = 0x8c;
const STATUS_404: u8 = 0x8d;
