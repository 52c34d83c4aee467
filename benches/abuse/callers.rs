//! The callers of an attack: each connects, does its worst until it is sent away, and most come again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;

use crate::attackers::Requests;

/// What a caller does. The first four are the modes of slowhttptest.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A head of which another line comes each second.
    SlowHead,
    /// A body of which another byte comes each second.
    SlowBody,
    /// A large answer of which a byte is read each second.
    SlowRead,
    /// A thousand overlapping ranges.
    Ranges,
    /// One question, and then nothing. Who is sent away stays away.
    Idle,
    /// Nothing.
    Silent,
    /// A flood of frames: a hundred of them, beginning with a stream's number.
    Spam(fn(u32) -> Vec<u8>),
    /// Requests of 26 bytes without a token, one behind the other.
    Strangers,
    /// Tokens without a valid signature, one behind the other.
    BadTokens,
    /// A good token, and what it may not have, one behind the other.
    Denied,
    /// Tokens that name ever other keys of an issuer that says nothing.
    UnknownKeys,
    /// A hundred streams of an indented large list over HTTP/2, and nothing is read of them.
    Unread,
    /// Nothing, on the operators' address.
    IdleOperators,
    /// Searches of the trail, one after the other.
    Searches,
}

impl Kind {
    /// Whether the operators' address is attacked.
    pub(crate) fn is_for_operators(self) -> bool {
        matches!(self, Self::IdleOperators | Self::Searches)
    }
}

/// How the attack fares.
#[derive(Default)]
pub(crate) struct Counts {
    open: AtomicUsize,
    ended: AtomicUsize,
}

impl Counts {
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Begins an attack, which goes on for as long as its runtime, and counts it.
pub(crate) fn attack(
    kind: Kind,
    callers: usize,
    requests: &Arc<Requests>,
    gateway: SocketAddr,
    runtime: &Handle,
) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    for number in 0..callers {
        let (requests, counts) = (Arc::clone(requests), Arc::clone(&counts));
        runtime.spawn(async move {
            // Five thousand a second: an attack, not a queue of connections.
            tokio::time::sleep(Duration::from_micros(200) * u32::try_from(number).unwrap()).await;
            loop {
                if let Some(mut stream) = connect(kind, number, gateway).await {
                    counts.open.fetch_add(1, Ordering::Relaxed);
                    rage(kind, &mut stream, &requests).await;
                    counts.open.fetch_sub(1, Ordering::Relaxed);
                    counts.ended.fetch_add(1, Ordering::Relaxed);
                }
                match kind {
                    Kind::Idle => return,
                    // Those who flood come again at once.
                    Kind::Strangers | Kind::BadTokens | Kind::Denied | Kind::IdleOperators => {
                        tokio::time::sleep(PAUSE / 10).await;
                    }
                    Kind::SlowHead
                    | Kind::SlowBody
                    | Kind::SlowRead
                    | Kind::Ranges
                    | Kind::Silent
                    | Kind::Spam(_)
                    | Kind::UnknownKeys
                    | Kind::Unread
                    | Kind::Searches => tokio::time::sleep(SECOND).await,
                }
            }
        });
    }
    counts
}

/// From an address of the loopback network that few others have.
async fn connect(kind: Kind, number: usize, gateway: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    let host = u8::try_from(number / 500 + 2).unwrap();
    socket
        .bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 0)))
        .ok()?;
    if matches!(kind, Kind::SlowRead) {
        socket.set_recv_buffer_size(4_096).ok()?;
    }
    socket.connect(gateway).await.ok()
}

/// Returns when the gateway has had enough.
async fn rage(kind: Kind, stream: &mut TcpStream, requests: &Requests) {
    match kind {
        Kind::Idle => {
            let _ = stream.write_all(&requests.small).await;
            until_ended(stream).await;
        }
        Kind::Silent | Kind::IdleOperators => until_ended(stream).await,
        Kind::Strangers => flood(stream, &b"GET / HTTP/1.1\r\nHost:a\r\n\r\n".repeat(100)).await,
        Kind::BadTokens => flood(stream, &requests.unsigned.repeat(20)).await,
        Kind::Denied => flood(stream, &requests.denied.repeat(20)).await,
        Kind::UnknownKeys => in_turn(stream, || requests.of_unknown_key()).await,
        Kind::Searches => in_turn(stream, || requests.search.to_vec()).await,
        Kind::Unread => {
            if stream.write_all(&requests.unread).await.is_ok() {
                until_ended(stream).await;
            }
        }
        Kind::SlowHead => {
            let head = &requests.small[..requests.small.len() - 2];
            drip(stream, head, b"x-more: x\r\n").await;
        }
        Kind::SlowBody => {
            let target = memchr::memchr(b' ', &requests.small).unwrap();
            let head = &requests.small[target..requests.small.len() - 2];
            let head = [b"POST", head, b"content-length: 100000\r\n\r\n"].concat();
            drip(stream, &head, b"x").await;
        }
        Kind::SlowRead => {
            if stream.write_all(&requests.large.repeat(8)).await.is_err() {
                return;
            }
            while stream.read(&mut [0]).await.is_ok_and(|count| count > 0) {
                tokio::time::sleep(SECOND).await;
            }
        }
        Kind::Ranges => {
            let ranges: Vec<String> = (1..1_000).map(|end| format!("5-{end}")).collect();
            let range = format!("range: bytes=0-,{}\r\n\r\n", ranges.join(","));
            let request = [
                &requests.large[..requests.large.len() - 2],
                range.as_bytes(),
            ]
            .concat();
            // Asked for again as soon as a part of the answer is there.
            let mut part = vec![0; 64 << 10];
            while stream.write_all(&request).await.is_ok() {
                if !stream.read(&mut part).await.is_ok_and(|count| count > 0) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Kind::Spam(frames) => spam(stream, frames).await,
    }
}

/// Sends the first bytes, and then the same few each second.
async fn drip(stream: &mut TcpStream, first: &[u8], more: &[u8]) {
    let (mut read, mut write) = stream.split();
    let dripping = async {
        let mut sent = write.write_all(first).await;
        while sent.is_ok() {
            tokio::time::sleep(SECOND).await;
            sent = write.write_all(more).await;
        }
    };
    let ending = until_ended(&mut read);
    tokio::select! {
        () = dripping => {}
        () = ending => {}
    }
}

/// A hundred frames at a time, ten thousand a second for each caller.
async fn spam(stream: &mut TcpStream, frames: fn(u32) -> Vec<u8>) {
    let (mut read, mut write) = stream.split();
    let flooding = async {
        let mut sent = write.write_all(PREFACE).await;
        let (mut stream, mut pace) = (1, tokio::time::interval(Duration::from_millis(10)));
        while sent.is_ok() {
            pace.tick().await;
            sent = write.write_all(&frames(stream)).await;
            stream += 200;
        }
    };
    let ending = until_ended(&mut read);
    tokio::select! {
        () = flooding => {}
        () = ending => {}
    }
}

/// The same bytes again and again, as fast as they are taken; what comes back is read.
async fn flood(stream: &mut TcpStream, bytes: &[u8]) {
    let (mut read, mut write) = stream.split();
    let flooding = async { while write.write_all(bytes).await.is_ok() {} };
    let ending = until_ended(&mut read);
    tokio::select! {
        () = flooding => {}
        () = ending => {}
    }
}

/// One request after the other, as soon as something has come back.
async fn in_turn(stream: &mut TcpStream, next: impl Fn() -> Vec<u8>) {
    let mut part = vec![0; 64 << 10];
    while stream.write_all(&next()).await.is_ok() {
        if !stream.read(&mut part).await.is_ok_and(|count| count > 0) {
            return;
        }
    }
}

/// Whatever comes back, the other side's end ends it.
async fn until_ended(read: &mut (impl AsyncRead + Unpin)) {
    while read.read(&mut [0; 512]).await.is_ok_and(|count| count > 0) {}
}

/// RFC 9113, section 3.4, and settings that say nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PAUSE: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
