//! Bytes go to a socket as they are, and what comes back is read as HTTP/1.1: no client library stands
//! between a test and the gateway to put anything right.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The status; 0 if the connection ended without a word.
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// A connection that stays.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// Sends a request on a connection of its own and reads the reply.
pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> Reply {
    let mut connection = Connection::open(address).await;
    connection.send(request).await;
    let is_head = request.starts_with(b"HEAD ");
    connection.reply(is_head).await
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.unwrap()
    }

    /// Connects, if anybody listens.
    pub(crate) async fn try_open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        Some(Self {
            stream,
            read: Vec::new(),
        })
    }

    /// Connects from an address of this machine.
    pub(crate) async fn open_from(source: [u8; 4], address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((source, 0))).unwrap();
        Self {
            stream: socket.connect(address).await.unwrap(),
            read: Vec::new(),
        }
    }

    /// Sends bytes. That the other side has already hung up shows in the reply.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads one reply.
    pub(crate) async fn reply(&mut self, is_head: bool) -> Reply {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                return Reply {
                    status: 0,
                    headers: Vec::new(),
                    body: self.read.split_off(0),
                };
            }
        };
        let rest = self.read.split_off(head_end);
        let head = String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap_or((line, "")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
        };
        let length = match reply.header("content-length") {
            _ if is_head || status == 304 => 0,
            Some(length) => length.parse().unwrap(),
            None => usize::MAX,
        };
        while self.read.len() < length {
            if !self.more().await {
                break;
            }
        }
        let after = self.read.split_off(length.min(self.read.len()));
        reply.body = std::mem::replace(&mut self.read, after);
        reply
    }

    /// Sends no more.
    pub(crate) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Ends without a goodbye.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Whether something has come that was not read yet, if only the end.
    pub(crate) fn has_something(&mut self) -> bool {
        self.stream.try_read_buf(&mut self.read).is_ok()
    }

    /// How many answers have begun to come that were not read yet.
    pub(crate) fn answers_here(&mut self) -> usize {
        while self
            .stream
            .try_read_buf(&mut self.read)
            .is_ok_and(|count| count > 0)
        {}
        memchr::memmem::find_iter(&self.read, b"HTTP/1.1 ").count()
    }

    /// Sends bytes, and says whether the other side still takes any.
    pub(crate) async fn can_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Reads some bytes and forgets them; `None` at the end.
    pub(crate) async fn read_some(&mut self, most: usize) -> Option<usize> {
        let mut bytes = vec![0; most];
        let count = self.stream.read(&mut bytes).await.ok()?;
        (count > 0).then_some(count)
    }

    /// Whether the other side has closed and nothing is left to read.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }

    async fn more(&mut self) -> bool {
        self.stream
            .read_buf(&mut self.read)
            .await
            .is_ok_and(|count| count > 0)
    }
}

impl Reply {
    /// A header's first value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// `errorCode`, or an empty text.
    pub(crate) fn error_code(&self) -> String {
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(document) => document["errorCode"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            Err(_) => String::new(),
        }
    }
}
