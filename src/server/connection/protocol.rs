//! Protocol detection: HTTP/1 or HTTP/2, by the first bytes of a connection.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::system::Clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
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
        // On the stack and not before it is needed: most connections of a flood say nothing.
        let more = poll_fn(|context| {
            let mut bytes = [const { MaybeUninit::uninit() }; FIRST_READ];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
            read.extend_from_slice(buffer.filled());
            Poll::Ready(io::Result::Ok(!buffer.filled().is_empty()))
        });
        if !more.await? {
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

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// That, and the head of the first frame.
const WHOLE_PREFACE: usize = PREFACE.len() + 9;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const FIRST_READ: usize = 4_096;
