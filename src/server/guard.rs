//! A caller's bytes go in; to hyper go only whole, well-formed heads.
//!
//! Each head is [scanned](super::head) where it lies in hyper's own buffer, so the usual request, which
//! arrives in one piece, is neither copied nor costs a system call more. The beginning of a head is kept
//! here until the rest has come, which has to be soon.
//!
//! A refused head is replaced by a [stand-in](Fault::stand_in), so that hyper answers what came before
//! it, then says why in its turn, and closes. What follows a refused head is never read as a request: it
//! is only thrown away, so that the caller's kernel does not discard our answer because of a reset.

use std::future::Future;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{io, mem};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::accept::ConnectionState;
use super::chunks::{ChunkProgress, Chunks};
use super::hangup::{HangupWatch, HasSocket};
use super::head::{Fault, HeadLimits, HeadProgress, Next, Scan};
use super::idleness::Idleness;
use super::linger::Linger;
use super::pipelining::NewBytes;
use crate::system::Clock;
use crate::telemetry::metrics::connections::ConnectionMetrics;

/// A stream of which only well-formed requests come out.
pub struct HeadGuard<S> {
    stream: S,
    config: HeadGuardConfig,
    scan: Scan,
    expects: Expected,
    /// What was read and not passed on, and how much of it may be.
    held: BytesMut,
    passable: usize,
    deadline: Option<Deadline>,
    linger: Option<Linger>,
    idleness: Idleness,
    reads: NewBytes,
    watch: HangupWatch,
    /// Something was written that has not been flushed.
    has_written: bool,
}

/// What a guard goes by.
pub struct HeadGuardConfig {
    /// How large a head may be.
    pub bounds: HeadLimits,
    /// How long it may take from its first byte.
    pub patience: Duration,
    /// The clock of that.
    pub clock: Clock,
    /// Counts what is refused.
    pub refusals: ConnectionMetrics,
}

/// What the next byte belongs to.
#[derive(Clone, Copy)]
enum Expected {
    Head,
    Body(u64),
    Chunks(Chunks),
    /// Nothing that may be passed on, in the midst of a body that hyper is to take for cut off.
    End,
    Nothing,
}

/// What became of some bytes.
struct Examined {
    /// How many may be passed on.
    passable: usize,
    fault: Option<Fault>,
}

type Deadline = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<S> HeadGuard<S> {
    /// A guard of `stream`, of which `read` was read already, the first byte of it at `since`. What its
    /// requests say of it is in `state`.
    pub fn new(
        stream: S,
        (read, since): (BytesMut, Duration),
        config: HeadGuardConfig,
        state: ConnectionState,
    ) -> Self {
        let mut guarded = Self {
            stream,
            watch: HangupWatch::new(state),
            idleness: Idleness::new(config.clock.clone()),
            reads: NewBytes::default(),
            has_written: false,
            config,
            scan: Scan::default(),
            expects: Expected::Head,
            held: read,
            passable: 0,
            deadline: None,
            linger: None,
        };
        guarded.examine_held(since);
        guarded
    }

    /// Since when the next request is waited for.
    pub fn idleness(&self) -> &Idleness {
        &self.idleness
    }

    /// Whether the next request has been read for.
    pub fn reads(&self) -> &NewBytes {
        &self.reads
    }

    /// Scans what is held, from where the scan stopped.
    fn examine_held(&mut self, since: Duration) {
        let mut held = mem::take(&mut self.held);
        let examined = self.examine(&held);
        self.passable = examined.passable;
        match (examined.fault, self.expects) {
            (Some(_), _) | (None, Expected::End | Expected::Nothing) => {
                held.truncate(self.passable)
            }
            (None, Expected::Head | Expected::Body(_) | Expected::Chunks(_)) => {}
        }
        self.held = held;
        self.settle(examined.fault, since);
    }

    /// Puts a stand-in behind what may be passed on, or waits for the rest of what may not yet.
    fn settle(&mut self, fault: Option<Fault>, since: Duration) {
        if let Some(fault) = fault {
            self.config.refusals.refused(fault.reason());
            self.held.extend_from_slice(fault.stand_in());
            self.passable = self.held.len();
            self.deadline = None;
        } else if self.held.len() > self.passable && self.deadline.is_none() {
            let (clock, due) = (
                self.config.clock.clone(),
                since.saturating_add(self.config.patience),
            );
            self.deadline = Some(Box::pin(async move { clock.sleep_until(due).await }));
        }
    }

    fn examine(&mut self, bytes: &[u8]) -> Examined {
        let mut passable = 0;
        let fault = loop {
            let rest = bytes.get(passable..).unwrap_or_default();
            if rest.is_empty() {
                break None;
            }
            match self.expects {
                Expected::Body(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    passable += count;
                    self.expects = following(left - u64::try_from(count).unwrap_or(left));
                }
                Expected::Chunks(mut chunks) => match chunks.advance(rest) {
                    ChunkProgress::Partial => {
                        passable = bytes.len();
                        self.expects = Expected::Chunks(chunks);
                    }
                    ChunkProgress::Whole(count) => {
                        passable += count;
                        self.expects = Expected::Head;
                    }
                    ChunkProgress::Bad => {
                        self.config.refusals.refused(Fault::Chunk.reason());
                        self.expects = Expected::End;
                    }
                },
                Expected::Head => match self.scan.advance(rest, self.config.bounds) {
                    HeadProgress::Partial => break None,
                    HeadProgress::Whole { length, next } => {
                        passable += length;
                        self.scan = Scan::default();
                        self.deadline = None;
                        self.idleness.ends();
                        self.expects = match next {
                            Next::Chunks => Expected::Chunks(Chunks::default()),
                            Next::Head(body) => following(body),
                            Next::Nothing => Expected::Nothing,
                        };
                    }
                    HeadProgress::Bad(fault) => {
                        self.expects = Expected::Nothing;
                        break Some(fault);
                    }
                },
                Expected::End | Expected::Nothing => break None,
            }
        };
        Examined { passable, fault }
    }

    fn pass_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.passable.min(buffer.remaining());
        buffer.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.advance(count);
        self.passable -= count;
        if self.held.is_empty() {
            // A connection that waits for its next request keeps no memory for it.
            self.held = BytesMut::new();
        }
    }
}

impl<S: AsyncRead + Unpin> HeadGuard<S> {
    /// Reads bytes of which none are held yet. `true` if some of them, or the end, can be passed on.
    fn poll_fresh(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let count = read.len();
        let examined = self.examine(read);
        if examined.passable == count {
            return Poll::Ready(Ok(true));
        }
        if examined.fault.is_none() && !matches!(self.expects, Expected::End | Expected::Nothing) {
            let rest = read.get(examined.passable..).unwrap_or_default();
            self.held.extend_from_slice(rest);
        }
        buffer.set_filled(before + examined.passable);
        let now = self.config.clock.now().elapsed;
        self.settle(examined.fault, now);
        Poll::Ready(Ok(examined.passable > 0))
    }

    /// Reads more of a head whose beginning is held. `true` at the end of the stream.
    fn poll_rest(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        // The reader's buffer is borrowed for it, so that none has to be made ready here.
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(done) => done?,
            Poll::Pending => {
                let deadline = self.deadline.as_mut();
                if deadline.is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
                    self.expects = Expected::Nothing;
                    if let Some(head) = self.scan.refusable() {
                        self.held.truncate(head);
                        self.passable = self.held.len();
                        self.deadline = None;
                    } else {
                        self.held.clear();
                        self.settle(Some(Fault::Timeout), Duration::ZERO);
                    }
                    return Poll::Ready(Ok(false));
                }
                return Poll::Pending;
            }
        }
        let read = buffer.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.held.extend_from_slice(read);
        buffer.set_filled(before);
        let now = self.config.clock.now().elapsed;
        self.examine_held(now);
        Poll::Ready(Ok(false))
    }

    /// Waits until there is something to pass on, or the stream ends: until then nobody needs the buffers
    /// into which it is passed.
    pub fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut is_over = false;
        while self.passable == 0 && !is_over {
            let mut room = [MaybeUninit::uninit(); ROOM];
            is_over = ready!(self.poll_rest(context, &mut ReadBuf::uninit(&mut room)))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads.note();
        loop {
            if self.passable > 0 {
                self.pass_on(buffer);
                return Poll::Ready(Ok(()));
            }
            let can_pass = match self.expects {
                // The answer to the last request closes the connection, whatever else comes.
                Expected::Nothing => return Poll::Pending,
                Expected::End => return Poll::Ready(Ok(())),
                Expected::Head | Expected::Body(_) | Expected::Chunks(_)
                    if self.held.is_empty() =>
                {
                    ready!(self.poll_fresh(context, buffer))?
                }
                Expected::Head | Expected::Body(_) | Expected::Chunks(_) => {
                    ready!(self.poll_rest(context, buffer))?
                }
            };
            if can_pass {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + HasSocket> AsyncWrite for HeadGuard<S> {
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
        // hyper does not read while it has a request to answer, but flushes each time it was woken.
        if let Poll::Ready(gone) = this.watch.poll_gone(&this.stream, context) {
            return Poll::Ready(Err(gone));
        }
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        // hyper flushes when there is nothing left to be written.
        if mem::take(&mut self.has_written) {
            self.idleness.begins();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        let this = &mut *self;
        match this.expects {
            Expected::End | Expected::Nothing => {
                let clock = &this.config.clock;
                let linger = this.linger.get_or_insert_with(|| Linger::new(clock));
                linger.poll(&mut this.stream, context).map(Ok)
            }
            Expected::Head | Expected::Body(_) | Expected::Chunks(_) => Poll::Ready(Ok(())),
        }
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

fn following(body: u64) -> Expected {
    if body > 0 {
        Expected::Body(body)
    } else {
        Expected::Head
    }
}

/// How much of a first head is read at a time.
const ROOM: usize = 4_096;
