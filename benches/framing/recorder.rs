//! What stands behind a proxy and writes down each request that comes, as the proxy has framed it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request, as a proxy has understood it.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded {
    pub(crate) target: String,
    /// Whether it has a body, if only one that never came.
    pub(crate) has_body: bool,
}

/// The requests of each caller, in their order.
pub(crate) type Notes = Arc<Mutex<HashMap<Ipv4Addr, Vec<Forwarded>>>>;

/// Listens, writes down, and answers everything with an empty 200.
pub(crate) async fn start() -> (SocketAddr, Notes) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let notes = Notes::default();
    let kept = Arc::clone(&notes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(record(stream, Arc::clone(&kept)));
        }
    });
    (address, notes)
}

/// Until the proxy ends the connection.
async fn record(mut stream: TcpStream, notes: Notes) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let head = until(&mut stream, &mut read, b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut words = head.split(' ');
        let (method, target) = (words.next()?, words.next()?.to_owned());
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (known, value) = line.split_once(':')?;
                known.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let caller = header(CALLER).map_or(UNNAMED, |caller| caller.parse().unwrap());
        let length: u128 = header("content-length").map_or(0, |length| length.parse().unwrap());
        // HAProxy passes on lengths that no body has.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let is_chunked = header("transfer-encoding").is_some();
        let forwarded = Forwarded {
            target,
            has_body: length > 0 || is_chunked,
        };
        notes
            .lock()
            .unwrap()
            .entry(caller)
            .or_default()
            .push(forwarded);
        // A tunnel would swallow everything behind it.
        let status = if method == "CONNECT" {
            "405 No"
        } else {
            "200 OK"
        };
        if is_chunked {
            chunks(&mut stream, &mut read).await?;
        }
        while read.len() < length {
            more(&mut stream, &mut read).await?;
        }
        read.drain(..length);
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// As many as there are, and the trailers; none of either is looked at.
async fn chunks(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    loop {
        let line = until(stream, read, b"\r\n").await?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let digits = line.trim_end().split(';').next()?;
        let size = usize::from_str_radix(digits, 16).unwrap();
        if size == 0 {
            while until(stream, read, b"\r\n").await?.len() > 2 {}
            return Some(());
        }
        while read.len() < size + 2 {
            more(stream, read).await?;
        }
        read.drain(..size + 2);
    }
}

/// The bytes up to and with `end`.
async fn until(stream: &mut TcpStream, read: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = memchr::memmem::find(read, end) {
            return Some(read.drain(..at + end.len()).collect());
        }
        more(stream, read).await?;
    }
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    stream
        .read_buf(read)
        .await
        .ok()
        .filter(|count| *count > 0)
        .map(|_| ())
}

/// A caller that the proxy has not named: it does not know that it has sent such a request.
pub(crate) const UNNAMED: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// The header in which a proxy says where a request came from.
pub(crate) const CALLER: &str = "X-Caller";
