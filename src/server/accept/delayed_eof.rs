//! An HTTP/2 connection goes in; that its caller sends no more comes out once all answers have left, and its
//! end does not overtake the last of them.
//!
//! h2 takes the end of what it reads for the end of the connection, and drops the answers that wait. So the
//! end is kept from it while a stream is open, and until what was written of the last one is flushed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ConnectionState;
use super::http2_streams::Http2Streams;
use crate::server::hangup::{HangupWatch, HasSocket};
use crate::server::linger::Linger;
use crate::system::Clock;

/// A stream whose end waits for the answers.
pub(super) struct DelayedEof<S> {
    stream: S,
    streams: Http2Streams,
    watch: HangupWatch,
    /// The caller sends no more.
    has_ended: bool,
    /// h2 has had a turn since the last answer: to begin with what it had read, and to write the rest.
    had_turn: bool,
    /// Something was written that has not been flushed.
    has_written: bool,
    clock: Clock,
    linger: Option<Linger>,
}

impl<S> DelayedEof<S> {
    /// Of a connection with these requests, which say of it what is in `state`.
    pub(super) fn new(
        stream: S,
        streams: Http2Streams,
        state: ConnectionState,
        clock: Clock,
    ) -> Self {
        Self {
            stream,
            streams,
            watch: HangupWatch::new(state),
            has_ended: false,
            had_turn: false,
            has_written: false,
            clock,
            linger: None,
        }
    }
}

impl<S: AsyncRead + Unpin + HasSocket> AsyncRead for DelayedEof<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.has_ended {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            this.has_ended = true;
        }
        if let Poll::Ready(gone) = this.watch.poll_gone(&this.stream, context) {
            return Poll::Ready(Err(gone));
        }
        if this.streams.poll_done(context).is_pending() {
            this.had_turn = false;
            return Poll::Pending;
        }
        if !this.had_turn {
            this.had_turn = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.has_written {
            // Flushing it wakes h2 again.
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for DelayedEof<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.has_written = true;
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if std::mem::take(&mut self.has_written) && self.has_ended {
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        if this.has_ended {
            return Poll::Ready(Ok(()));
        }
        let linger = this.linger.get_or_insert_with(|| Linger::new(&this.clock));
        linger.poll(&mut this.stream, context).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.has_written = true;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
