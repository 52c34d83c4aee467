//! Honest callers: each asks at its own pace and notes how long the answer took.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::Request;

/// Of latencies: the median, and what one in a hundred takes longer than.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    p50: Duration,
    p99: Duration,
}

impl Figures {
    fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self {
            p50: latencies[latencies.len() / 2],
            p99: latencies[latencies.len() * 99 / 100],
        }
    }

    /// Each figure's median by itself.
    pub(crate) fn median(slices: impl Iterator<Item = Self>) -> Self {
        let (mut p50s, mut p99s): (Vec<_>, Vec<_>) =
            slices.map(|figures| (figures.p50, figures.p99)).unzip();
        p50s.sort_unstable();
        p99s.sort_unstable();
        Self {
            p50: p50s[p50s.len() / 2],
            p99: p99s[p99s.len() / 2],
        }
    }

    /// How many times as long as `others`.
    pub(crate) fn beside(&self, others: &Self) -> String {
        let ratio = |ours: Duration, theirs: Duration| ours.as_secs_f64() / theirs.as_secs_f64();
        let (p50, p99) = (ratio(self.p50, others.p50), ratio(self.p99, others.p99));
        format!("{p50:>5.2} {p99:>5.2}")
    }
}

/// In microseconds.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.p50.as_micros(), self.p99.as_micros());
        write!(f, "{p50:>4} {p99:>6}")
    }
}

/// Asks once, on a connection of its own.
pub(crate) async fn once(address: SocketAddr, request: &Request) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream, request, &mut Vec::new()).await;
}

/// Connects. A connection from before an attack stays; new ones may be refused.
pub(crate) async fn connect(address: SocketAddr) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..CALLERS {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        streams.push(stream);
    }
    streams
}

/// Asks at a steady pace for so long.
pub(crate) async fn measure(
    streams: &mut Vec<TcpStream>,
    request: &Request,
    span: Duration,
) -> Figures {
    let begun = Instant::now();
    // Their own records of a minute have to fit onto the small disk.
    let pace = if span < A_MINUTE { PACE } else { PACE * 10 };
    let mut callers = JoinSet::new();
    for (number, mut stream) in (0..).zip(streams.drain(..)) {
        let request = request.clone();
        callers.spawn(async move {
            // Not all at the same moment.
            tokio::time::sleep(pace * number / CALLERS).await;
            let mut pace = tokio::time::interval(pace);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut latencies, mut buffer) = (Vec::new(), Vec::new());
            while begun.elapsed() < span {
                pace.tick().await;
                let asked = Instant::now();
                ask(&mut stream, &request, &mut buffer).await;
                latencies.push(asked.elapsed());
            }
            (stream, latencies)
        });
    }
    let mut latencies = Vec::new();
    for (stream, of_one) in callers.join_all().await {
        streams.push(stream);
        latencies.extend(of_one);
    }
    Figures::of(latencies)
}

async fn ask(stream: &mut TcpStream, request: &Request, buffer: &mut Vec<u8>) {
    stream.write_all(request).await.unwrap();
    buffer.clear();
    loop {
        let count = stream.read_buf(buffer).await.unwrap();
        assert_ne!(
            count,
            0,
            "an honest caller was sent away: {}",
            String::from_utf8_lossy(buffer)
        );
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            assert!(
                buffer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(buffer)
            );
            let name = b"content-length: ";
            let at = memchr::memmem::find(&buffer[..end], name).unwrap() + name.len();
            let digits = buffer[at..].iter().take_while(|byte| byte.is_ascii_digit());
            let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
            if buffer.len() >= end + 4 + length {
                return;
            }
        }
    }
}

const CALLERS: u32 = 16;
const PACE: Duration = Duration::from_millis(5);
const A_MINUTE: Duration = Duration::from_mins(1);
