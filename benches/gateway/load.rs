//! The generator: a fixed number of lines, each of which asks again as soon as it is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Which HTTP is spoken, without TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// One request.
#[derive(Clone)]
pub(crate) struct Ask {
    target: String,
    headers: Vec<(&'static str, String)>,
}

/// Requests that are sent one after another, from the first again after the last.
pub(crate) struct Load {
    asks: Vec<Prepared>,
    next: AtomicUsize,
    /// What every answer must have.
    pub(crate) status: u16,
    pub(crate) protocol: Protocol,
}

enum Prepared {
    Http1(Bytes),
    Http2(Request<Empty<Bytes>>),
}

/// When a slice ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Passed(Duration),
    Answered(usize),
}

/// What came of a slice.
#[derive(Default)]
pub(crate) struct Slice {
    pub(crate) answers: usize,
    pub(crate) wall: Duration,
    /// Answers of another status than the load's: under overload the gateway refuses.
    pub(crate) others: usize,
    /// Of each answer, from its request's first byte to its own last one.
    pub(crate) latencies: Vec<Duration>,
}

/// Open connections to one server.
pub(crate) struct Lines {
    lines: Vec<Line>,
    load: Arc<Load>,
}

enum Line {
    Http1 { stream: TcpStream, buffer: Vec<u8> },
    Http2(SendRequest<Empty<Bytes>>),
}

impl Ask {
    /// A `GET` of `target` with a bearer token.
    pub(crate) fn new(target: String, token: &str) -> Self {
        Self {
            target,
            headers: vec![("authorization", format!("Bearer {token}"))],
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The same, asked with a query.
    pub(crate) fn query(mut self, query: &str) -> Self {
        self.target.push_str(query);
        self
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// As it goes over the wire.
    pub(crate) fn http1(&self) -> Bytes {
        let mut text = format!("GET {} HTTP/1.1\r\nhost: {HOST}\r\n", self.target);
        for (name, value) in &self.headers {
            text.push_str(&[*name, ": ", value, "\r\n"].concat());
        }
        text.push_str("\r\n");
        Bytes::from(text)
    }

    fn http2(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::get(format!("http://{HOST}{}", self.target));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(Empty::new()).unwrap()
    }
}

impl Load {
    pub(crate) fn new(asks: &[Ask], protocol: Protocol, status: u16) -> Self {
        let prepare = |ask: &Ask| match protocol {
            Protocol::Http1 => Prepared::Http1(ask.http1()),
            Protocol::Http2 => Prepared::Http2(ask.http2()),
        };
        Self {
            asks: asks.iter().map(prepare).collect(),
            next: AtomicUsize::new(0),
            status,
            protocol,
        }
    }

    fn next(&self) -> &Prepared {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.asks[next % self.asks.len()]
    }
}

impl Lines {
    /// Connects: `count` lines, which over HTTP/2 are streams, four of them to a connection.
    pub(crate) async fn open(address: SocketAddr, load: &Arc<Load>, count: usize) -> Self {
        let mut lines = Vec::new();
        while lines.len() < count {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            match load.protocol {
                Protocol::Http1 => lines.push(Line::Http1 {
                    stream,
                    buffer: Vec::with_capacity(256 << 10),
                }),
                Protocol::Http2 => {
                    let (sender, connection) =
                        hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                            .handshake(TokioIo::new(stream))
                            .await
                            .unwrap();
                    tokio::spawn(connection);
                    lines.extend((0..4).map(|_| Line::Http2(sender.clone())));
                }
            }
        }
        Self {
            lines,
            load: Arc::clone(load),
        }
    }

    /// Drives all lines until the slice is over and the last answer is there.
    pub(crate) async fn drive(&mut self, until: Until) -> Slice {
        let begun = Instant::now();
        let left = Arc::new(AtomicUsize::new(match until {
            Until::Answered(count) => count,
            Until::Passed(_) => usize::MAX,
        }));
        let mut all = JoinSet::new();
        for mut line in self.lines.drain(..) {
            let (load, left) = (Arc::clone(&self.load), Arc::clone(&left));
            all.spawn(async move {
                let (mut latencies, mut others) = (Vec::new(), 0);
                loop {
                    let asked = Instant::now();
                    let over = match until {
                        Until::Passed(span) => asked.duration_since(begun) >= span,
                        Until::Answered(_) => {
                            let one_less = |left: usize| left.checked_sub(1);
                            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                                .is_err()
                        }
                    };
                    if over {
                        return (line, latencies, others);
                    }
                    others += usize::from(line.ask(load.next()).await != load.status);
                    latencies.push(asked.elapsed());
                }
            });
        }
        let mut slice = Slice::default();
        for (line, latencies, others) in all.join_all().await {
            self.lines.push(line);
            slice.others += others;
            slice.latencies.extend(latencies);
        }
        slice.wall = begun.elapsed();
        slice.answers = slice.latencies.len();
        slice
    }
}

impl Line {
    /// Asks, and returns the answer's status once all of it is there.
    async fn ask(&mut self, ask: &Prepared) -> u16 {
        match (self, ask) {
            (Self::Http1 { stream, buffer }, Prepared::Http1(request)) => {
                stream.write_all(request).await.unwrap();
                read(stream, buffer).await
            }
            (Self::Http2(sender), Prepared::Http2(request)) => {
                sender.ready().await.unwrap();
                let response = sender.send_request(request.clone()).await.unwrap();
                let status = response.status().as_u16();
                response.into_body().collect().await.unwrap();
                status
            }
            _ => unreachable!("lines are opened for their load"),
        }
    }
}

/// Asks once for a list, on a connection of its own, and returns the whole answer as it came.
pub(crate) async fn once(address: SocketAddr, ask: &Ask) -> Vec<u8> {
    let (status, buffer) = answer(address, ask).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&buffer));
    buffer
}

/// Asks once, on a connection of its own, and returns the status.
pub(crate) async fn status(address: SocketAddr, ask: &Ask) -> u16 {
    answer(address, ask).await.0
}

async fn answer(address: SocketAddr, ask: &Ask) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&ask.http1()).await.unwrap();
    let mut buffer = Vec::new();
    let status = read(&mut stream, &mut buffer).await;
    (status, buffer)
}

/// Reads one answer into `buffer`, and returns its status.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> u16 {
    buffer.clear();
    let mut whole = None;
    loop {
        if whole.is_none()
            && let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n")
        {
            let length = memchr::memmem::find(&buffer[..end], b"content-length: ")
                .map_or(0, |at| digits(&buffer[at + "content-length: ".len()..]));
            whole = Some(end + 4 + length);
        }
        if whole.is_some_and(|whole| buffer.len() >= whole) {
            return u16::try_from(digits(&buffer["HTTP/1.1 ".len()..])).unwrap();
        }
        assert_ne!(
            stream.read_buf(buffer).await.unwrap(),
            0,
            "the server hung up"
        );
    }
}

fn digits(text: &[u8]) -> usize {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

/// How the gateway is addressed.
const HOST: &str = "certs.internal.example";
