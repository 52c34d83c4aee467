//! A connection whose caller is known goes in; its requests are answered until it ends in good order.
//!
//! A caller that has said nothing yet costs its task and no more, and one whose first head is not whole what
//! it has sent of it: what hyper needs of memory is a box of its own, made when there is something to read.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::connection_slots::{ConnectionSlot, Requests};
use super::delayed_eof::DelayedEof;
use super::http2_service::Http2Service;
use super::http2_streams::Http2Streams;
use super::protocol_detection::{Protocol, ReplayedStream, detect_protocol};
use super::{Acceptor, Peer};
use crate::server::guard::{HeadGuard, HeadGuardConfig};
use crate::server::hangup::HasSocket;
use crate::server::head::HeadLimits;
use crate::server::layers;
use crate::server::layers::Handler;
use crate::server::linger::Linger;
use crate::server::payload::SEND_BUFFER;
use crate::server::pipelining::FairPipelining;
use crate::server::timer::ClockTimer;
use crate::telemetry::metrics::connections::Reason;
use crate::upstream::Jitter;

/// A connection of which it is known what it speaks.
struct Serving {
    connection: Pin<Box<dyn Graceful>>,
    requests: Requests,
    /// Cancelled after the last answer.
    last: CancellationToken,
}

impl Requests {
    async fn idle(&self, limit: Duration) {
        match self {
            Self::OneByOne(idleness) => idleness.lasts(limit).await,
            Self::Multiplexed(streams) => streams.idle(limit).await,
        }
    }
}

impl Acceptor {
    pub(super) async fn serve<H, S>(
        &self,
        mut stream: S,
        peer: Peer,
        slot: &ConnectionSlot,
        handler: Arc<H>,
    ) -> io::Result<()>
    where
        H: Handler,
        S: AsyncRead + AsyncWrite + Send + Unpin + HasSocket + 'static,
    {
        let limits = &self.limits;
        let first_bytes = detect_protocol(&mut stream, peer.agreed, &self.clock);
        let detected = tokio::select! {
            biased;
            detected = self.clock.timeout(limits.first_byte, first_bytes) => detected,
            () = slot.evicted() => return Ok(()),
        };
        let detected = detected
            .inspect_err(|_| self.refusals.refused(Reason::FirstByte))
            .map_err(io::Error::other)??;
        let Some(detected) = detected else {
            return Ok(());
        };
        let serving = match detected.protocol {
            // RFC 7301, section 3.2: what was agreed holds.
            Protocol::Http1 if peer.agreed == Some(Protocol::Http2) => {
                self.refusals.refused(Reason::Alpn);
                return self.take_leave(stream).await;
            }
            Protocol::Http1 => {
                let state = peer.state.clone();
                let read = (detected.read, detected.since);
                let mut guarded = HeadGuard::new(stream, read, self.config(), state);
                tokio::select! {
                    biased;
                    first = poll_fn(|context| guarded.poll_first(context)) => first?,
                    () = self.stop.cancelled() => return Ok(()),
                    () = slot.evicted() => return Ok(()),
                }
                self.begin_http1(guarded, peer, handler)
            }
            Protocol::Http2 => {
                let replayed = ReplayedStream::new(detected.read.freeze(), stream);
                self.begin_http2(replayed, peer, handler)
            }
        };
        slot.serves(&serving.requests);
        self.finish(serving, slot).await
    }

    /// Says in HTTP/2 that what came is none.
    async fn take_leave<S>(&self, mut stream: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(NO_PREFACE).await?;
        stream.shutdown().await?;
        let mut linger = Linger::new(&self.clock);
        poll_fn(|context| linger.poll(&mut stream, context)).await;
        Ok(())
    }

    fn begin_http1<H, S>(&self, stream: HeadGuard<S>, peer: Peer, handler: Arc<H>) -> Serving
    where
        H: Handler,
        S: AsyncRead + AsyncWrite + Send + Unpin + HasSocket + 'static,
    {
        let service = FairPipelining::new(layers::stack(handler, peer), stream.reads().clone());
        let idleness = stream.idleness().clone();
        let connection = self.http1().serve_connection(TokioIo::new(stream), service);
        Serving {
            connection: Box::pin(connection),
            requests: Requests::OneByOne(idleness),
            // hyper sees to it.
            last: CancellationToken::new(),
        }
    }

    fn begin_http2<H, S>(&self, stream: ReplayedStream<S>, peer: Peer, handler: Arc<H>) -> Serving
    where
        H: Handler,
        S: AsyncRead + AsyncWrite + Send + Unpin + HasSocket + 'static,
    {
        let (last, state) = (CancellationToken::new(), peer.state.clone());
        let service = Http2Service {
            service: layers::stack(handler, peer),
            headers: self.limits.headers,
            refusals: self.refusals.clone(),
            last: last.clone(),
        };
        let streams = Http2Streams::new(
            self.limits.request.saturating_add(self.limits.response),
            self.writing(),
            self.clock.clone(),
            self.refusals.clone(),
            self.tasks.clone(),
        );
        let stream = DelayedEof::new(stream, streams.clone(), state, self.clock.clone());
        let connection = self
            .http2(&streams)
            .serve_connection(TokioIo::new(stream), service);
        Serving {
            connection: Box::pin(connection),
            requests: Requests::Multiplexed(streams),
            last,
        }
    }

    fn config(&self) -> HeadGuardConfig {
        HeadGuardConfig {
            bounds: HeadLimits {
                size: self.head_size(),
                headers: self.limits.headers,
                bodies: self.bodies,
            },
            patience: self.limits.head,
            clock: self.clock.clone(),
            refusals: self.refusals.clone(),
        }
    }

    fn http1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            // An operator who closes a connection gives up what it asked for; a caller may still wait.
            .half_close(!self.bodies)
            // The guard lets only whole heads pass, and says how long it has waited for one.
            .header_read_timeout(None)
            .max_headers(self.limits.headers)
            .max_header_size(self.head_size())
            // Not `pipeline_flush`: with more requests behind it, the answer that closes the connection
            // would never be sent.
            .max_buf_size(self.head_size().max(SMALLEST_BUFFER));
        builder
    }

    fn http2(&self, streams: &Http2Streams) -> http2::Builder<Http2Streams> {
        let mut builder = http2::Builder::new(streams.clone());
        builder
            .timer(ClockTimer::new(self.clock.clone()))
            .max_concurrent_streams(self.limits.streams)
            .max_header_list_size(u32::try_from(self.head_size()).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(256)
            .initial_stream_window_size(64 << 10)
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        builder
    }

    fn head_size(&self) -> usize {
        usize::try_from(self.limits.head_size.0).unwrap_or(usize::MAX)
    }

    /// Serves until the connection ends, or is idle or too old, or memory is short, or the process stops;
    /// all but the first let the requests under way finish. Or until its place is needed by another.
    async fn finish(&self, serving: Serving, slot: &ConnectionSlot) -> io::Result<()> {
        let Serving {
            mut connection,
            requests,
            last,
        } = serving;
        let age = self.limits.connection_age;
        // Connections that were made together, after a restart, do not all come again together.
        let age = Jitter::System.between(age.mul_f64(0.9), age.mul_f64(1.1));
        let end = pin!(async {
            tokio::select! {
                () = self.stop.cancelled() => false,
                () = self.clock.sleep(age) => false,
                () = self.memory.connections_must_end() => false,
                () = requests.idle(self.limits.idle) => false,
                () = last.cancelled() => false,
                () = slot.evicted() => true,
            }
        });
        let evicted = match select(connection.as_mut(), end).await {
            Either::Left((ended, _)) => return ended.map_err(io::Error::other),
            Either::Right((evicted, _)) => evicted,
        };
        connection.as_mut().end();
        if evicted && slot.ends_at_once(&requests) {
            // As far as it goes at once; whoever does not answer must not stay for it.
            let goodbye = connection.as_mut().now_or_never();
            return goodbye.unwrap_or(Ok(())).map_err(io::Error::other);
        }
        let last = self.limits.request.saturating_add(self.limits.response);
        tokio::select! {
            biased;
            ended = self.clock.timeout(last, connection) => {
                ended.map_err(io::Error::other)?.map_err(io::Error::other)
            }
            // Dropped with the connection, a request is on record as abandoned.
            () = self.abort.cancelled() => Ok(()),
            () = slot.evicted() => Ok(()),
        }
    }
}

/// A connection that can be told to end after the requests under way.
trait Graceful: Future<Output = hyper::Result<()>> + Send {
    fn end(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http1::Connection<I, S>
where
    Self: Send,
    S: hyper::service::HttpService<hyper::body::Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S::ResBody: http_body::Body + 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, E> Graceful for http2::Connection<I, S, E>
where
    Self: Send,
    S: hyper::service::HttpService<hyper::body::Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S::ResBody: http_body::Body + 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Our settings, none, and `GOAWAY` for a `PROTOCOL_ERROR` before the first stream (RFC 9113, section 3.4).
const NO_PREFACE: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";
/// hyper panics below this.
const SMALLEST_BUFFER: usize = 8_192;
