//! A connection's stream as hyper sees it: checked heads of HTTP/1, delayed end of HTTP/2, lingering close.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::peer::ConnectionState;
use super::socket::{DeadlineFuture, HangupWatch, HasSocket, Linger, deadline};
use crate::server::head::{Examined, HeadGuard, Readable};
use crate::system::Clock;
use crate::telemetry::metrics::connections::ConnectionMetrics;

pub(super) struct HttpStream<S> {
    stream: S,
    input: Input,
    state: ConnectionState,
    clock: Clock,
    refusals: ConnectionMetrics,
    hangup: HangupWatch,
    /// Something was written that has not been flushed.
    has_written: bool,
    linger: Option<Linger>,
}

enum Input {
    Http1 {
        guard: Box<HeadGuard>,
        /// Of the head whose beginning the guard holds.
        deadline: Option<(Duration, DeadlineFuture)>,
    },
    /// h2 takes the end of its input for the end of the connection and drops the answers that wait. So a
    /// half-close is kept from it until every stream has ended and the last answer is flushed.
    Http2 {
        /// What was read to detect the protocol.
        first: Bytes,
        has_ended: bool,
        /// h2 was polled since the last stream ended: to begin what it had read, and to write the rest.
        was_polled: bool,
    },
}

impl<S> HttpStream<S> {
    /// HTTP/1, of which `read` was read already, the first byte of it at `since`.
    pub(super) fn http1(
        stream: S,
        mut guard: HeadGuard,
        (read, since): (&[u8], Duration),
        shared: (&ConnectionState, &Clock, &ConnectionMetrics),
    ) -> Self {
        let examined = guard.push(read, since);
        let input = Input::Http1 {
            guard: Box::new(guard),
            deadline: None,
        };
        let mut stream = Self::new(stream, input, shared);
        stream.note(&examined);
        stream
    }

    /// HTTP/2, of which `first` was read already.
    pub(super) fn http2(
        stream: S,
        first: Bytes,
        shared: (&ConnectionState, &Clock, &ConnectionMetrics),
    ) -> Self {
        let input = Input::Http2 {
            first,
            has_ended: false,
            was_polled: false,
        };
        Self::new(stream, input, shared)
    }

    fn new(
        stream: S,
        input: Input,
        (state, clock, refusals): (&ConnectionState, &Clock, &ConnectionMetrics),
    ) -> Self {
        Self {
            stream,
            input,
            hangup: HangupWatch::new(state.clone()),
            state: state.clone(),
            clock: clock.clone(),
            refusals: refusals.clone(),
            has_written: false,
            linger: None,
        }
    }

    fn note(&mut self, examined: &Examined) {
        if examined.has_head {
            self.state.set_busy();
        }
        if let Some(fault) = examined.fault {
            self.refusals.refused(fault.reason());
        }
    }
}

impl<S: AsyncRead + Unpin> HttpStream<S> {
    /// Waits until the first head is whole or refused, or the stream ends: until then no buffer of hyper's
    /// is needed.
    pub(super) async fn first_head(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_head(context)).await
    }

    /// Reads until there are bytes to pass on, or the stream has ended.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Input::Http1 {
                guard,
                deadline: timer,
            } = &mut self.input
            else {
                return Poll::Ready(Ok(()));
            };
            match guard.readable() {
                Readable::Passed | Readable::End => return Poll::Ready(Ok(())),
                // The answer to the last request closes the connection, whatever else comes.
                Readable::Nothing => return Poll::Pending,
                Readable::More => {}
            }
            let mut bytes = [const { MaybeUninit::uninit() }; READ_AT_A_TIME];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            let examined = match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => guard.push(buffer.filled(), self.clock.elapsed()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let Some(due) = guard.due() else {
                        *timer = None;
                        return Poll::Pending;
                    };
                    let timer = match timer {
                        Some((present, timer)) if *present == due => timer,
                        _ => &mut timer.insert((due, deadline(&self.clock, due))).1,
                    };
                    ready!(timer.as_mut().poll(context));
                    guard.time_out()
                }
            };
            self.note(&examined);
        }
    }
}

impl<S: AsyncRead + Unpin + HasSocket> AsyncRead for HttpStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (first, has_ended, was_polled) = match &mut this.input {
            Input::Http1 { .. } => {
                this.state.note_read();
                ready!(this.poll_head(context))?;
                if let Input::Http1 { guard, .. } = &mut this.input {
                    guard.pass_on(buffer);
                }
                return Poll::Ready(Ok(()));
            }
            Input::Http2 {
                first,
                has_ended,
                was_polled,
            } => (first, has_ended, was_polled),
        };
        if !first.is_empty() {
            let count = first.len().min(buffer.remaining());
            first.copy_to_slice(buffer.initialize_unfilled_to(count));
            buffer.advance(count);
            return Poll::Ready(Ok(()));
        }
        if !*has_ended {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            *has_ended = true;
        }
        if let Poll::Ready(gone) = this.hangup.poll_gone(&this.stream, context) {
            return Poll::Ready(Err(gone));
        }
        if this.state.poll_drained(context).is_pending() {
            *was_polled = false;
            return Poll::Pending;
        }
        if !std::mem::replace(was_polled, true) {
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

impl<S: AsyncRead + AsyncWrite + Unpin + HasSocket> AsyncWrite for HttpStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.has_written = true;
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // hyper does not read HTTP/1 while a request is in flight, but flushes each time it was woken.
        if matches!(this.input, Input::Http1 { .. })
            && let Poll::Ready(gone) = this.hangup.poll_gone(&this.stream, context)
        {
            return Poll::Ready(Err(gone));
        }
        ready!(Pin::new(&mut this.stream).poll_flush(context))?;
        if std::mem::take(&mut this.has_written) {
            match this.input {
                // hyper flushes when there is nothing left to be written.
                Input::Http1 { .. } => this.state.set_idle(this.clock.elapsed()),
                Input::Http2 { has_ended, .. } if has_ended => context.waker().wake_by_ref(),
                Input::Http2 { .. } => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let may_send_more = match &this.input {
            Input::Http1 { guard, .. } => guard.is_closed(),
            Input::Http2 { has_ended, .. } => !*has_ended,
        };
        if !may_send_more {
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

/// As much as hyper reads of HTTP/1 at first.
const READ_AT_A_TIME: usize = 8 << 10;
