//! A stream that bounds what one reply may be, and notes when the engine was last heard.
//!
//! The client of Redis reads a reply of any size into memory, and asks nobody. So the bytes pass a reader of RESP's
//! frames first, which knows lengths alone: a reply that is longer, has more parts or is deeper than ours ever are
//! ends the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes have come, so that silence can be told from slowness.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<AtomicU64>);

/// A stream whose replies are bounded.
pub(super) struct BoundedStream<S> {
    stream: S,
    heard: Heard,
    frames: Frames,
}

/// Where in which reply the stream is.
#[derive(Debug, Default)]
struct Frames {
    /// How many parts each open aggregate still lacks.
    open: Vec<u64>,
    /// The header that is being read.
    header: Vec<u8>,
    /// How many bytes of a text are still to come.
    text: u64,
    /// How many bytes and parts the present reply has had.
    bytes: u64,
    parts: u64,
}

impl Heard {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> BoundedStream<S> {
    pub(super) fn new(stream: S, heard: Heard) -> Self {
        Self {
            stream,
            heard,
            frames: Frames::default(),
        }
    }
}

impl Frames {
    /// Takes the next bytes of the stream; an error if they are part of no reply of ours.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.text > 0 {
                let length = usize::try_from(self.text).unwrap_or(usize::MAX);
                let length = length.min(bytes.len());
                bytes = bytes.get(length..).unwrap_or_default();
                self.text = self.text.saturating_sub(count(length));
                self.grow(count(length))?;
                if self.text == 0 {
                    self.end_part();
                }
                continue;
            }
            bytes = rest;
            self.grow(1)?;
            if *first == b'\n' {
                self.read_header()?;
            } else if self.header.len() < LONGEST_HEADER {
                self.header.push(*first);
            } else {
                return Err("a line of its reply is too long");
            }
        }
        Ok(())
    }

    fn grow(&mut self, bytes: u64) -> Result<(), &'static str> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > LONGEST_REPLY {
            return Err("its reply is too long");
        }
        Ok(())
    }

    fn read_header(&mut self) -> Result<(), &'static str> {
        let header = std::mem::take(&mut self.header);
        let (kind, number) = header.split_first().ok_or("its reply is no RESP")?;
        let length = || {
            let number = number.strip_suffix(b"\r").ok_or("its reply is no RESP")?;
            let number = str::from_utf8(number).ok().and_then(|it| it.parse().ok());
            number.ok_or("its reply is no RESP")
        };
        self.parts += 1;
        if self.parts > MOST_PARTS {
            return Err("its reply has too many parts");
        }
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => self.end_part(),
            b'$' | b'=' | b'!' => match length()? {
                -1 => self.end_part(),
                length => {
                    let length = u64::try_from(length).map_err(|_| "its reply is no RESP")?;
                    // With the line's end.
                    self.text = length.saturating_add(2);
                    if self.text > LONGEST_REPLY {
                        return Err("its reply is too long");
                    }
                }
            },
            b'*' | b'%' | b'~' | b'>' | b'|' => {
                let parts: i64 = length()?;
                let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                match u64::try_from(parts).map(|parts| parts.saturating_mul(each)) {
                    Ok(0) | Err(_) => self.end_part(),
                    Ok(parts) if parts <= MOST_PARTS && self.open.len() < DEEPEST => {
                        self.open.push(parts);
                    }
                    Ok(_) => return Err("its reply has too many parts"),
                }
            }
            _ => return Err("its reply is no RESP"),
        }
        Ok(())
    }

    fn end_part(&mut self) {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
        (self.bytes, self.parts) = (0, 0);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let read = into.filled().get(before..).unwrap_or_default();
        self.heard.0.fetch_add(count(read.len()), Ordering::Relaxed);
        let bounded = self.frames.take(read);
        Poll::Ready(bounded.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).expect("memory has less than 2^64 bytes")
}

/// An entry is at most 1 MiB; a reading of the events some hundreds of bytes each.
const LONGEST_REPLY: u64 = 2 << 20;
/// Of a reading of a thousand events, each of which has a dozen parts.
const MOST_PARTS: u64 = 20_000;
const LONGEST_HEADER: usize = 1_024;
const DEEPEST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `replies` pass, however they are cut.
    fn passes(replies: &[u8]) -> bool {
        let whole = Frames::default().take(replies).is_ok();
        let mut bytewise = Frames::default();
        let is_same = replies.chunks(1).try_for_each(|byte| bytewise.take(byte));
        assert_eq!(
            whole,
            is_same.is_ok(),
            "{:?}",
            String::from_utf8_lossy(replies)
        );
        whole
    }

    #[test]
    fn what_our_commands_are_answered_passes() {
        let open = b"*3\r\n$4\r\nlist\r\n:1796097936254\r\n$5\r\na\r\nbc\r\n".as_slice();
        for reply in [
            b"+OK\r\n-ERR no\r\n:1\r\n_\r\n#t\r\n".as_slice(),
            open,
            b"*0\r\n*-1\r\n$-1\r\n$0\r\n\r\n",
            b"%1\r\n+a\r\n*1\r\n:1\r\n>2\r\n+message\r\n+x\r\n",
        ] {
            assert!(passes(reply));
        }
        // Any number of replies, each within its bounds.
        assert!(passes(&open.repeat(100_000)));
    }

    #[test]
    fn a_reply_without_bounds_ends_the_connection() {
        let long_line = [b"+".as_slice(), &b"a".repeat(2_000)].concat();
        let many = [b"*20000\r\n".as_slice(), &b":1\r\n".repeat(20_000)].concat();
        let deep = b"*1\r\n".repeat(9);
        let large = format!("$1048576\r\n{}\r\n", "a".repeat(1 << 20));
        for reply in [
            b"$536870912\r\n".as_slice(),
            b"*1000000000\r\n",
            b"$-2\r\n",
            b"$x\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\n",
            &long_line,
            &many,
            &deep,
            format!("*3\r\n{large}{large}{large}").as_bytes(),
        ] {
            assert!(!passes(reply));
        }
    }
}
