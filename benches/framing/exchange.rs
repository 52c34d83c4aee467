//! Bytes go to a server on a connection of their own; the answers that come back are told apart without
//! knowing what was asked.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::streams::Stream;

/// What came of a stream.
pub(crate) struct Exchange {
    /// Where it came from, by which others know it.
    pub(crate) caller: Ipv4Addr,
    pub(crate) answers: Vec<Answered>,
    /// Whether it is not HTTP/1 that came: a body alone, as HTTP/0.9 has it, or frames.
    pub(crate) is_foreign: bool,
    /// Whether the other side had not closed when its time was over.
    pub(crate) hangs: bool,
}

/// An answer.
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// Whether it says that it is the last.
    pub(crate) closes: bool,
    /// The gateway's id of the request.
    pub(crate) id: Option<String>,
}

/// Sends every stream, many at a time.
pub(crate) async fn send_all(streams: &Arc<Vec<Stream>>, address: SocketAddr) -> Vec<Exchange> {
    let (places, mut sending) = (Arc::new(Semaphore::new(AT_A_TIME)), JoinSet::new());
    for at in 0..streams.len() {
        let (streams, places) = (Arc::clone(streams), Arc::clone(&places));
        sending.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            (at, exchange(caller(at), address, &streams[at].bytes).await)
        });
    }
    let mut sent = sending.join_all().await;
    sent.sort_by_key(|(at, _)| *at);
    sent.into_iter().map(|(_, exchange)| exchange).collect()
}

/// Each stream has an address of its own.
fn caller(stream: usize) -> Ipv4Addr {
    let [.., network, high, low] = stream.to_be_bytes();
    Ipv4Addr::new(127, 1 + network, high, low)
}

/// Sends bytes from an address of the loopback network, and reads until the end.
async fn exchange(caller: Ipv4Addr, address: SocketAddr, bytes: &[u8]) -> Exchange {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((caller, 0).into()).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let mut said = Vec::new();
    // Both at once, for an answer may come, and the end, before everything is sent.
    let sending = async {
        let _ = write.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    let reading = async { while read.read_buf(&mut said).await.is_ok_and(|count| count > 0) {} };
    let hangs = tokio::select! {
        () = sending => true,
        () = reading => false,
        () = tokio::time::sleep(PATIENCE) => true,
    };
    Exchange {
        caller,
        answers: answers(&said),
        is_foreign: !said.is_empty() && !said.starts_with(b"HTTP/1."),
        hangs,
    }
}

/// The answers in what a server has said. None follows one that is not HTTP/1.
fn answers(mut said: &[u8]) -> Vec<Answered> {
    let mut answers = Vec::new();
    while let Some(head) = memchr::memmem::find(said, b"\r\n\r\n") {
        let (bytes, rest) = said.split_at(head + 4);
        let head = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        let mut lines = head.lines();
        let Some(status) = lines.next().and_then(|line| line.strip_prefix("http/1.")) else {
            break;
        };
        let status: u16 = status.split(' ').nth(1).unwrap().parse().unwrap();
        let header = |name: &str| {
            lines
                .clone()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        // An answer to HEAD has a length and no body.
        let length = if rest.starts_with(b"HTTP/1.") {
            None
        } else {
            header("content-length")
        };
        said = length.map_or(rest, |length| {
            let length: usize = length.parse().unwrap();
            &rest[length.min(rest.len())..]
        });
        if status >= 200 {
            answers.push(Answered {
                status,
                closes: header("connection") == Some("close"),
                id: header("x-request-id").map(str::to_owned),
            });
        }
    }
    answers
}

/// Longer than any limit of those that are asked.
const PATIENCE: Duration = Duration::from_secs(8);
/// Streams under way together.
const AT_A_TIME: usize = 200;
