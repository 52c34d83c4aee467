//! A socket goes in; it comes out with a bound on how long its peer may leave our bytes unread.
//!
//! hyper waits for a caller to read its answer for as long as the caller likes, and the answer's memory
//! waits with it. Time is only looked at once the kernel's buffer is full, so that an answer which fits
//! there, as nearly every one does, costs nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::hangup::HasSocket;
use crate::system::Clock;
use crate::telemetry::metrics::connections::{ConnectionMetrics, Reason};

/// How long writing may take.
#[derive(Clone, Copy, Debug)]
pub struct WriteLimits {
    /// Without one byte being taken.
    pub stall: Duration,
    /// From the first full buffer until everything has been taken.
    pub total: Duration,
}

/// A stream that gives up on a peer which does not read.
pub struct WriteTimeout<S> {
    stream: S,
    limits: WriteLimits,
    clock: Clock,
    refusals: ConnectionMetrics,
    /// Since when the answer under way has to wait.
    waits_since: Option<Duration>,
    deadline: Option<Deadline>,
    /// TLS still wants to say goodbye, to a caller that does not listen.
    gave_up: bool,
}

type Deadline = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<S> WriteTimeout<S> {
    /// Bounds the writing on `stream`.
    pub fn new(stream: S, limits: WriteLimits, clock: Clock, refusals: ConnectionMetrics) -> Self {
        Self {
            stream,
            limits,
            clock,
            refusals,
            waits_since: None,
            deadline: None,
            gave_up: false,
        }
    }

    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        if self.gave_up {
            return Poll::Ready(Err(not_read()));
        }
        let (clock, limits) = (&self.clock, self.limits);
        let waits_since = &mut self.waits_since;
        let deadline = self.deadline.get_or_insert_with(|| {
            let now = clock.now().elapsed;
            let since = *waits_since.get_or_insert(now);
            let due = now
                .saturating_add(limits.stall)
                .min(since.saturating_add(limits.total));
            let clock = clock.clone();
            Box::pin(async move { clock.sleep_until(due).await })
        });
        if deadline.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.gave_up = true;
        self.refusals.refused(Reason::WriteStall);
        Poll::Ready(Err(not_read()))
    }
}

impl HasSocket for WriteTimeout<TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.bounded(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever flushes has handed over everything before.
        self.waits_since = None;
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

fn not_read() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the caller does not read its answer",
    )
}
