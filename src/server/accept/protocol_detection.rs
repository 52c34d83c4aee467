//! The first bytes of a connection go in; the protocol that they begin comes out, and the stream as if
//! nobody had read it.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::server::hangup::HasSocket;
use crate::system::Clock;

/// What a caller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, and before.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// What both sides of a handshake have agreed on (RFC 7301), if the caller has named anything.
    pub(super) fn agreed<S>(stream: &TlsStream<S>) -> Option<Self> {
        let (_, session) = stream.get_ref();
        match session.alpn_protocol() {
            Some(b"h2") => Some(Self::Http2),
            Some(_) => Some(Self::Http1),
            None => None,
        }
    }
}

/// What was read, and what it means.
pub(super) struct DetectedProtocol {
    pub(super) protocol: Protocol,
    /// What was read to make the guess.
    pub(super) read: BytesMut,
    /// When the first of it came.
    pub(super) since: Duration,
}

/// Reads until the bytes cannot be, or are, HTTP/2's preface; `None` if they end before. Of a caller that has
/// `agreed` to HTTP/1 no preface is taken for one.
pub(super) async fn detect_protocol(
    stream: &mut (impl AsyncRead + Unpin),
    agreed: Option<Protocol>,
    clock: &Clock,
) -> io::Result<Option<DetectedProtocol>> {
    let mut read = BytesMut::new();
    let mut since = None;
    loop {
        if poll_fn(|context| poll_more(stream, context, &mut read)).await? {
            return Ok(None);
        }
        let since = *since.get_or_insert_with(|| clock.now().elapsed);
        let common = read
            .iter()
            .zip(PREFACE)
            .take_while(|(byte, known)| byte == known)
            .count();
        let is_other = common < PREFACE.len() && common < read.len();
        let protocol = if is_other || agreed == Some(Protocol::Http1) {
            Protocol::Http1
        } else if let Some(head) = read.get(PREFACE.len()..WHOLE_PREFACE) {
            // hyper's h2 would take any other frame, too.
            if !matches!(head, [_, _, _, SETTINGS, flags, ..] if flags & ACK == 0) {
                return Err(io::Error::other("HTTP/2 does not begin with settings"));
            }
            Protocol::Http2
        } else {
            continue;
        };
        return Ok(Some(DetectedProtocol {
            protocol,
            read,
            since,
        }));
    }
}

/// Reads some bytes behind those that were read. `true` at the end of the stream.
///
/// Room is made for what has come and not before: most of the connections that a storm brings say nothing.
fn poll_more(
    stream: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
    read: &mut BytesMut,
) -> Poll<io::Result<bool>> {
    let mut room = [MaybeUninit::uninit(); FIRST_READ];
    let mut buffer = ReadBuf::uninit(&mut room);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    read.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(buffer.filled().is_empty()))
}

/// A stream whose first bytes were already read.
pub(super) struct ReplayedStream<S> {
    first: Bytes,
    stream: S,
}

impl<S> ReplayedStream<S> {
    pub(super) fn new(first: Bytes, stream: S) -> Self {
        Self { first, stream }
    }
}

impl<S: HasSocket> HasSocket for ReplayedStream<S> {
    fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReplayedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        let first = self.first.split_to(count);
        buffer.put_slice(first.chunk());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReplayedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// That, and the head of the first frame.
const WHOLE_PREFACE: usize = PREFACE.len() + 9;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const FIRST_READ: usize = 4_096;
