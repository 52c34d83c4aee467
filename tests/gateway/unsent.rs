//! Answers that wait to be read: they hold next to nothing, end with their caller's patience, and cost
//! nobody else anything.

mod giants;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame,
};
use crate::world::{PROJECT, Plan, World, certs, set, token};

/// A caller of HTTP/2 that grants each stream the window that it likes.
struct Caller {
    stream: TcpStream,
    read: Vec<u8>,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    heads: BTreeMap<u32, Vec<u8>>,
    data: BTreeMap<u32, Vec<u8>>,
    /// Streams that ended, with the code of those that were reset.
    ended: BTreeMap<u32, Option<u32>>,
    is_gone: bool,
}

impl Caller {
    /// A caller whose streams begin without any window.
    async fn without_window(world: &World) -> Self {
        let stream = TcpStream::connect(world.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut caller = Self {
            stream,
            read: Vec::new(),
            seen: Seen::default(),
        };
        let mut none = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        none.extend([0; 4]);
        let first = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(SETTINGS, 0, 0, &none),
            // The connection's own is as large as it can be.
            window(0, 0x7fff_0000),
        ];
        caller.send(&first.concat()).await;
        caller
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn ask(&mut self, stream: u32, target: &str) {
        let authorization = format!("Bearer {}", token());
        let headers = block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "gateway.test"),
            (":path", target),
            ("authorization", &authorization),
        ]);
        let asked = frame(HEADERS, END_HEADERS | END_STREAM, stream, &headers);
        self.send(&asked).await;
    }

    async fn until(&mut self, enough: impl Fn(&Seen) -> bool) -> &Seen {
        loop {
            self.digest().await;
            if self.seen.is_gone || enough(&self.seen) {
                return &self.seen;
            }
            let count = self.stream.read_buf(&mut self.read).await.unwrap_or(0);
            self.seen.is_gone |= count == 0;
        }
    }

    async fn digest(&mut self) {
        let mut answers = Vec::new();
        let mut at = 0;
        while let Some(head) = self.read[at..].first_chunk::<9>() {
            let [l0, l1, l2, kind, flags, stream @ ..] = *head;
            let length = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
            let Some(payload) = self.read[at + 9..].get(..length) else {
                break;
            };
            at += 9 + length;
            let stream = u32::from_be_bytes(stream);
            let seen = &mut self.seen;
            match kind {
                DATA => seen.data.entry(stream).or_default().extend(payload),
                HEADERS => drop(seen.heads.insert(stream, payload.to_vec())),
                RST_STREAM => {
                    let code = u32::from_be_bytes(payload.try_into().unwrap());
                    seen.ended.insert(stream, Some(code));
                }
                GOAWAY => seen.is_gone = true,
                PING if flags & ACK == 0 => answers.extend(frame(PING, ACK, 0, payload)),
                SETTINGS if flags & ACK == 0 => answers.extend(frame(SETTINGS, ACK, 0, &[])),
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                seen.ended.insert(stream, None);
            }
        }
        self.read.drain(..at);
        self.send(&answers).await;
    }
}

fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// `giant` has as many certificates as a list may have.
fn with_a_giant(plan: &mut Plan) {
    let mut project = plan.atlas.world.project(PROJECT);
    project.user("giant").certificates(10_000);
    project.user("hundred").certificates(100);
}

fn pretty(username: &str) -> String {
    format!("{}?pretty=true", certs(PROJECT, username))
}

async fn until_released(world: &World) {
    let released = async {
        while world.metric("unsent_bytes").await + world.metric("inflight_requests").await > 0 {}
    };
    world.soon(released).await.unwrap();
}

const STATUS_200: u8 = 0x88;
const CANCEL: u32 = 8;

#[tokio::test]
async fn what_three_hundred_streams_do_not_read_stays_in_the_budget() {
    let world = World::with(with_a_giant).await;
    world.ask("giant").await;
    world.ask("app1").await;
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut caller = Caller::without_window(&world).await;
        for stream in (1..200).step_by(2) {
            caller.ask(stream, &pretty("giant")).await;
        }
        let seen = caller.until(|seen| seen.heads.len() == 100).await;
        assert!(seen.heads.values().all(|head| head[0] == STATUS_200));
        callers.push(caller);
    }
    let unsent = world.metric("unsent_bytes").await;
    assert!((300 * 8_192..12 << 20).contains(&unsent), "{unsent}");
    assert_eq!(world.metric("inflight_requests").await, 300);
    // Nobody else loses anything.
    for target in [
        certs(PROJECT, "app1"),
        certs(PROJECT, "giant"),
        pretty("giant"),
    ] {
        assert_eq!(world.get(&target, &[]).await.status, 200, "{target}");
    }
    for caller in &mut callers {
        let all = caller.until(|seen| seen.ended.len() == 100);
        let seen = world.while_time_passes(all).await;
        assert!(seen.ended.values().all(|code| *code == Some(CANCEL)));
        assert!(seen.data.is_empty() && !seen.is_gone);
    }
    assert_eq!(world.refused("write_stall").await, 300);
    until_released(&world).await;
}

#[tokio::test]
async fn a_stalled_stream_is_reset_and_the_others_of_its_connection_go_on() {
    let world = World::with(with_a_giant).await;
    let expected = world.get(&pretty("giant"), &[]).await.body;
    let mut caller = Caller::without_window(&world).await;
    for (stream, target) in [(1, pretty("giant")), (3, certs(PROJECT, "giant"))] {
        caller.ask(stream, &target).await;
    }
    caller.ask(5, &pretty("giant")).await;
    caller.until(|seen| seen.heads.len() == 3).await;
    let began = world.clock.now().elapsed;
    caller.send(&window(5, 0x7fff_ffff)).await;
    let seen = caller.until(|seen| seen.ended.contains_key(&5)).await;
    assert_eq!((seen.ended[&5], seen.data[&5] == expected), (None, true));
    let both = caller.until(|seen| seen.ended.len() == 3);
    let seen = world.while_time_passes(both).await;
    assert_eq!(
        (seen.ended[&1], seen.ended[&3]),
        (Some(CANCEL), Some(CANCEL))
    );
    let passed = world.clock.now().elapsed.saturating_sub(began);
    let expected = Duration::from_secs(10)..Duration::from_secs(14);
    assert!(expected.contains(&passed), "{passed:?}");
    caller.ask(7, &certs(PROJECT, "hundred")).await;
    caller.send(&window(7, 0x7fff_ffff)).await;
    let seen = caller.until(|seen| seen.ended.contains_key(&7)).await;
    assert_eq!(seen.ended[&7], None);
    until_released(&world).await;
}

#[tokio::test]
async fn a_stream_that_is_read_slowly_goes_on_until_its_minute_is_over() {
    let world = World::with(with_a_giant).await;
    let mut caller = Caller::without_window(&world).await;
    for (stream, target) in [(1, pretty("giant")), (3, certs(PROJECT, "giant"))] {
        caller.ask(stream, &target).await;
    }
    caller.until(|seen| seen.heads.len() == 2).await;
    let began = world.clock.now().elapsed;
    let mut read = 0;
    while caller.seen.ended.len() < 2 {
        // Less than a piece at a time.
        caller
            .send(&[window(1, 100), window(3, 100)].concat())
            .await;
        read += 100;
        let more = |seen: &Seen| {
            let is_read = |stream| {
                seen.data
                    .get(&stream)
                    .is_some_and(|data| data.len() == read)
            };
            seen.ended.len() == 2 || [1, 3].into_iter().all(is_read)
        };
        world.soon(caller.until(more)).await;
        world.advance(Duration::from_secs(2));
        world.soon(caller.until(|_| true)).await;
    }
    let passed = world.clock.now().elapsed.saturating_sub(began);
    let expected = Duration::from_mins(1)..Duration::from_secs(66);
    assert!(expected.contains(&passed), "{passed:?}");
    assert!(caller.seen.ended.values().all(|code| *code == Some(CANCEL)));
    until_released(&world).await;
}

#[tokio::test]
async fn beyond_the_budget_only_what_is_kept_is_answered() {
    let world = World::with(|plan| {
        with_a_giant(plan);
        set(&mut plan.config, "server.limits.unsent", "64KiB");
        set(&mut plan.config, "server.limits.unsent_total", "64KiB");
    })
    .await;
    let etag = world.get(&pretty("many"), &[]).await;
    let etag = etag.header("etag").unwrap();
    let mut caller = Caller::without_window(&world).await;
    for stream in [1, 3] {
        caller.ask(stream, &pretty("many")).await;
    }
    caller.until(|seen| seen.heads.len() == 2).await;
    assert_eq!(world.metric("unsent_bytes").await, 64 << 10);
    for encoding in ["identity", "gzip"] {
        let accept = [("Accept-Encoding", encoding)];
        let refused = world.get(&pretty("many"), &accept).await;
        assert_eq!(
            (
                refused.status,
                refused.error_code().as_str(),
                refused.header("retry-after")
            ),
            (503, "SERVICE_UNAVAILABLE", Some("1")),
            "{encoding}"
        );
        let record = world.lookups().pop().unwrap();
        assert_eq!(record["outcome"], "failed");
        assert_eq!(
            (&record["reason"], &record["status"]),
            (&"shed".into(), &503.into())
        );
        assert_eq!(record["certificates"], Value::Null);
    }
    assert_eq!(world.metric("lookups_shed_total").await, 2);
    // A page that is not kept leaves uncompressed, because that takes no room.
    for (query, encoding, got) in [
        ("", "identity", None),
        ("", "gzip", Some("gzip")),
        ("?envelope=true", "br", Some("br")),
        ("?itemsPerPage=500", "identity", None),
        ("?itemsPerPage=500", "zstd", None),
        ("?includeCount=false", "zstd", Some("zstd")),
    ] {
        let target = format!("{}{query}", certs(PROJECT, "many"));
        let reply = world.get(&target, &[("Accept-Encoding", encoding)]).await;
        assert_eq!(
            (reply.status, reply.header("content-encoding")),
            (200, got),
            "{query} {encoding}"
        );
    }
    let all = caller.until(|seen| seen.ended.len() == 2);
    world.while_time_passes(all).await;
    until_released(&world).await;
    let again = world.get(&pretty("many"), &[]).await;
    assert_eq!((again.status, again.header("etag")), (200, Some(etag)));
}

#[tokio::test]
async fn a_request_is_under_way_until_the_last_byte_of_its_answer_has_left() {
    let world = World::with(with_a_giant).await;
    world.ask("giant").await;
    for target in [pretty("giant"), certs(PROJECT, "giant")] {
        let expected = world.get(&target, &[]).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(world.address()).await.unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\nConnection: \
             close\r\n\r\n",
            token()
        );
        let before = world.lookups().len();
        stream.write_all(request.as_bytes()).await.unwrap();
        world.until(|world| world.lookups().len() > before).await;
        stream.readable().await.unwrap();
        for _ in 0..50 {
            assert_eq!(world.metric("inflight_requests").await, 1, "{target}");
        }
        let unsent = world.metric("unsent_bytes").await;
        assert!(unsent <= 64 << 10, "{target}: {unsent}");
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert!(read.ends_with(&expected.body), "{target}");
        until_released(&world).await;
    }
}

#[tokio::test]
async fn a_caller_that_stops_reading_http_1_holds_nothing_after_the_stall() {
    let world = World::with(with_a_giant).await;
    world.ask("giant").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(world.address()).await.unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n\r\n",
        pretty("giant"),
        token()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    let held = async { while world.metric("unsent_bytes").await > 0 {} };
    world.while_time_passes(held).await;
    assert_eq!(world.refused("write_stall").await, 1);
    until_released(&world).await;
}
