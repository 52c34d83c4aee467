//! A connection's socket: write timeout (slow readers), hangup detection (half-close), and lingering close.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::peer::ConnectionState;
use crate::system::Clock;
use crate::telemetry::metrics::connections::{ConnectionMetrics, Reason};

/// Resolves when it has passed.
pub(super) type DeadlineFuture = BoxFuture<'static, ()>;

pub(super) fn deadline(clock: &Clock, due: Duration) -> DeadlineFuture {
    let clock = clock.clone();
    Box::pin(async move { clock.sleep_until(due).await })
}

#[derive(Clone, Copy, Debug)]
pub(super) struct WriteLimits {
    /// Without one byte being taken.
    pub(super) stall: Duration,
    /// From the first full buffer until everything has been taken.
    pub(super) total: Duration,
}

/// A socket that gives up on a peer which does not read.
///
/// hyper waits for a slow reader for ever, and the answer's memory with it. The clock is only read once the
/// kernel's buffer is full, so nearly every answer costs nothing here.
pub(super) struct WriteTimeout {
    socket: TcpStream,
    limits: WriteLimits,
    clock: Clock,
    refusals: ConnectionMetrics,
    /// Since when the present answer has had to wait.
    waits_since: Option<Duration>,
    deadline: Option<DeadlineFuture>,
    /// TLS still writes its `close_notify`, which must not wait once more.
    gave_up: bool,
}

impl WriteTimeout {
    pub(super) fn new(
        socket: TcpStream,
        limits: WriteLimits,
        clock: Clock,
        refusals: ConnectionMetrics,
    ) -> Self {
        Self {
            socket,
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
        if !self.gave_up {
            let (clock, limits) = (&self.clock, self.limits);
            let waits_since = &mut self.waits_since;
            let deadline = self.deadline.get_or_insert_with(|| {
                let now = clock.elapsed();
                let total = waits_since.get_or_insert(now).saturating_add(limits.total);
                deadline(clock, now.saturating_add(limits.stall).min(total))
            });
            ready!(deadline.as_mut().poll(context));
            self.gave_up = true;
            self.refusals.refused(Reason::WriteStall);
        }
        let problem = "the caller does not read its answer";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, problem)))
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, buffer);
        self.bounded(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when everything before has been written.
        self.waits_since = None;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, buffers);
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

pub(super) trait HasSocket {
    fn socket(&self) -> &TcpStream;
}

impl HasSocket for WriteTimeout {
    fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl HasSocket for TlsStream<WriteTimeout> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0.socket()
    }
}

/// Detects a caller's hangup without reading from the socket.
///
/// A caller may half-close and still wait for its answer (`nc -N`), so the end of what it sends says
/// nothing; only a reset does. Watching costs a descriptor, so it is done only while a request waits for
/// something other than its record, and on no more sockets than an eighth of the process's descriptors.
#[derive(Debug)]
pub(super) struct HangupWatch {
    state: ConnectionState,
    duplicate: Option<Box<DuplicatedSocket>>,
}

/// The same socket with events of its own, which is neither read from nor written to.
#[derive(Debug)]
struct DuplicatedSocket(TcpStream);

impl HangupWatch {
    pub(super) fn new(state: ConnectionState) -> Self {
        let duplicate = None;
        Self { state, duplicate }
    }

    /// Ready with an error once the caller of a request that waits has reset the connection.
    pub(super) fn poll_gone(
        &mut self,
        stream: &impl HasSocket,
        context: &mut Context<'_>,
    ) -> Poll<io::Error> {
        if !self.state.has_waiting() {
            self.duplicate = None;
            return Poll::Pending;
        }
        if self.duplicate.is_none() {
            self.duplicate = DuplicatedSocket::new(stream.socket()).map(Box::new);
        }
        // Without a descriptor for it a caller that hangs up is answered.
        let Some(duplicate) = &self.duplicate else {
            return Poll::Pending;
        };
        let socket = &duplicate.0;
        loop {
            if ready!(socket.poll_write_ready(context)).is_err() {
                return Poll::Pending;
            }
            // While a request waits we have not closed anything, so the caller has.
            let state = socket.ready(Interest::WRITABLE).now_or_never();
            if matches!(state, Some(Ok(state)) if state.is_write_closed()) {
                return Poll::Ready(io::ErrorKind::ConnectionReset.into());
            }
            // Clears this registration's readiness: the next event will tell.
            let _ = socket.try_io(Interest::WRITABLE, || {
                io::Result::<()>::Err(io::ErrorKind::WouldBlock.into())
            });
        }
    }
}

impl DuplicatedSocket {
    fn new(socket: &TcpStream) -> Option<Self> {
        let duplicate = || {
            let socket = socket.as_fd().try_clone_to_owned()?;
            TcpStream::from_std(std::net::TcpStream::from(socket))
        };
        let order = Ordering::Relaxed;
        let one_more = |count: usize| (count < *MOST_WATCHED).then_some(count + 1);
        WATCHED.fetch_update(order, order, one_more).ok()?;
        let duplicate = duplicate().map(Self);
        if duplicate.is_err() {
            WATCHED.fetch_sub(1, order);
        }
        duplicate.ok()
    }
}

impl Drop for DuplicatedSocket {
    fn drop(&mut self) {
        WATCHED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sockets of this process that are watched, and how many may be.
static WATCHED: AtomicUsize = AtomicUsize::new(0);
static MOST_WATCHED: LazyLock<usize> = LazyLock::new(|| {
    let descriptors = getrlimit(Resource::Nofile).current;
    descriptors.map_or(usize::MAX, |most| {
        usize::try_from(most / 8).unwrap_or(usize::MAX)
    })
});

/// The lingering close: waits for the caller to close after us, and discards what it still sends.
///
/// Bytes that are not read would make the kernel answer with a reset, which would overtake our last answer.
pub(super) struct Linger {
    deadline: DeadlineFuture,
    left: usize,
}

impl Linger {
    pub(super) fn new(clock: &Clock) -> Self {
        Self {
            deadline: deadline(clock, clock.elapsed() + LINGER),
            left: MOST_DISCARDED,
        }
    }

    pub(super) fn poll(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let mut discarded = [0; 4_096];
        while self.left > 0 {
            let mut buffer = ReadBuf::new(&mut discarded);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.left = self.left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(self.deadline.as_mut().poll(context));
                    break;
                }
            }
        }
        self.left = 0;
        Poll::Ready(())
    }
}

const LINGER: Duration = Duration::from_secs(2);
const MOST_DISCARDED: usize = 4 << 20;
