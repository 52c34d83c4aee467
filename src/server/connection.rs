//! One connection, from the first byte to a graceful end.
//!
//! hyper's own protocol detection has no time limit, so it is done here: a caller that sends nothing is
//! gone after `first_byte` (slow loris). A connection costs its task and what it has sent of its first
//! head; what hyper needs is allocated when that head is whole.

mod http2;
mod http_connection;
mod peer;
mod protocol;
mod slots;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod timer;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{io, iter};

use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::server::conn::{http1, http2 as h2};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::payload::SEND_BUFFER;
use super::head::{HeadGuard, HeadLimits};
use super::proxies::Proxies;
use super::service::{ConnectionService, Handler};
use super::tls::ServerTls;
use super::unsent_budget::UnsentBudget;
use super::{ServerLimits, proxy_protocol, tls};
use crate::audit::Origin;
use crate::memory::Memory;
use crate::system::Clock;
use crate::telemetry::metrics::connections::{ConnectionMetrics, Reason};
use crate::telemetry::metrics::lookups::LookupMetrics;
use crate::upstream::Jitter;

use http_connection::HttpConnection;
use http2::{BegunStreams, Http2Executor, Http2Service, Http2Streams};
use protocol::{DetectedProtocol, detect_protocol};
use socket::{HasSocket, Linger, WriteLimits, WriteTimeout};
use stream::HttpStream;
use timer::ClockTimer;

pub(crate) use peer::{ConnectionPeer, ConnectionState};
pub(crate) use protocol::Protocol;
pub(crate) use slots::{ConnectionSlot, ConnectionSlots, Eviction};

/// What every connection of one listener shares.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) limits: ServerLimits,
    pub(crate) tls: Option<ServerTls>,
    /// Peers that are believed about whose connections and requests they bring.
    pub(crate) trusted_proxies: Proxies,
    /// Whether each of their connections begins with a header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    pub(crate) clock: Clock,
    /// Cancelled when no more connections are accepted and the present ones are to end.
    pub(crate) stop: CancellationToken,
    /// Cancelled after `stop` when the requests in flight are to be given up, too.
    pub(crate) abort: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) metrics: LookupMetrics,
    pub(crate) memory: Memory,
    pub(crate) refusals: ConnectionMetrics,
    pub(crate) unsent: UnsentBudget,
    /// Whether requests may have bodies.
    pub(crate) bodies: bool,
}

impl Listener {
    /// Serves a connection until its end, or its eviction.
    pub(super) async fn serve<H: Handler>(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        slot: &ConnectionSlot,
        handler: Arc<H>,
    ) -> io::Result<()> {
        let connection = tokio::select! {
            biased;
            connection = self.begin(stream, address, slot, handler) => connection?,
            () = slot.evicted() => return Ok(()),
        };
        match connection {
            Some(connection) => self.finish(connection, slot).await,
            None => Ok(()),
        }
    }

    /// Waits until it is known what the caller speaks, and hyper is needed; `None` if it ends before.
    async fn begin<H: Handler>(
        &self,
        mut stream: TcpStream,
        address: SocketAddr,
        slot: &ConnectionSlot,
        handler: Arc<H>,
    ) -> io::Result<Option<HttpConnection>> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        // Also ends what only the kernel still holds: an answer that was written and is not read.
        socket.set_tcp_user_timeout(Some(self.limits.write_stall))?;
        // Backpressure: else the kernel takes megabytes of answers for a caller that reads none of them.
        socket.set_tcp_notsent_lowat(MOST_UNSENT)?;
        let address = self.source(&mut stream, address).await?;
        // The connections of a proxy are those of many callers.
        let is_trusted_proxy = self.trusted_proxies.include(address.ip());
        if !is_trusted_proxy && !slot.admits(address.ip()) {
            return Ok(None);
        }
        let local = stream.local_addr().ok().map(|local| local.ip());
        let (clock, refusals) = (self.clock.clone(), self.refusals.clone());
        let stream = WriteTimeout::new(stream, self.write_limits(), clock, refusals);
        let peer = ConnectionPeer {
            address,
            local,
            is_trusted_proxy,
            scheme: "http",
            agreed: None,
            origin: Origin::new(address, None),
            unsent: self.unsent.account(),
            state: slot.state().clone(),
        };
        match &self.tls {
            None => self.begin_http(stream, peer, handler).await,
            // In a box, or each connection without TLS would be as large as one with it.
            Some(tls) => Box::pin(self.begin_tls(tls, stream, peer, handler)).await,
        }
    }

    /// Whose connection it is: the peer's, unless a trusted proxy says otherwise before its first byte.
    async fn source(&self, stream: &mut TcpStream, address: SocketAddr) -> io::Result<SocketAddr> {
        if !self.proxy_protocol || !self.trusted_proxies.include(address.ip()) {
            return Ok(address);
        }
        let header = proxy_protocol::read(stream);
        let source = self.clock.timeout(self.limits.first_byte, header).await;
        let source = source
            .map_err(io::Error::other)
            .flatten()
            .inspect_err(|_| self.refusals.refused(Reason::ProxyProtocol))?;
        Ok(source.unwrap_or(address))
    }

    async fn begin_tls<H: Handler>(
        &self,
        tls: &ServerTls,
        stream: WriteTimeout,
        mut peer: ConnectionPeer,
        handler: Arc<H>,
    ) -> io::Result<Option<HttpConnection>> {
        let handshake = tls.accept(stream);
        let handshake = self.clock.timeout(self.limits.first_byte, handshake).await;
        let stream = handshake
            .map_err(io::Error::other)
            .flatten()
            .inspect_err(|_| self.refusals.refused(Reason::TlsHandshake))?;
        peer.scheme = "https";
        peer.agreed = Protocol::agreed(&stream);
        peer.origin = Origin::new(peer.address, tls::peer_certificate(&stream).as_ref());
        self.begin_http(stream, peer, handler).await
    }

    async fn begin_http<H, S>(
        &self,
        mut stream: S,
        peer: ConnectionPeer,
        handler: Arc<H>,
    ) -> io::Result<Option<HttpConnection>>
    where
        H: Handler,
        S: AsyncRead + AsyncWrite + Send + Unpin + HasSocket + 'static,
    {
        let detected = detect_protocol(&mut stream, peer.agreed, &self.clock);
        let detected = self.clock.timeout(self.limits.first_byte, detected).await;
        let detected = detected
            .inspect_err(|_| self.refusals.refused(Reason::FirstByte))
            .map_err(io::Error::other)??;
        match detected {
            None => Ok(None),
            Some(detected) if detected.protocol == Protocol::Http2 => {
                Ok(Some(self.begin_http2(detected, stream, peer, handler)))
            }
            // RFC 7301, section 3.2: what was agreed holds.
            Some(_) if peer.agreed == Some(Protocol::Http2) => {
                self.refusals.refused(Reason::Alpn);
                self.refuse_http1(stream).await?;
                Ok(None)
            }
            Some(detected) => self.begin_http1(detected, stream, peer, handler).await,
        }
    }

    /// Says in HTTP/2 that what came is none.
    async fn refuse_http1<S>(&self, mut stream: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(NO_PREFACE).await?;
        stream.shutdown().await?;
        let mut linger = Linger::new(&self.clock);
        poll_fn(|context| linger.poll(&mut stream, context)).await;
        Ok(())
    }

    async fn begin_http1<H, S>(
        &self,
        detected: DetectedProtocol,
        stream: S,
        peer: ConnectionPeer,
        handler: Arc<H>,
    ) -> io::Result<Option<HttpConnection>>
    where
        H: Handler,
        S: AsyncRead + AsyncWrite + Send + Unpin + HasSocket + 'static,
    {
        let state = peer.state.clone();
        let guard = HeadGuard::new(HeadLimits {
            size: self.head_size(),
            headers: self.limits.headers,
            bodies: self.bodies,
            patience: self.limits.head,
        });
        let read = (&*detected.read, detected.since);
        let shared = (&state, &self.clock, &self.refusals);
        let mut stream = HttpStream::http1(stream, guard, read, shared);
        tokio::select! {
            biased;
            first = stream.first_head() => first?,
            () = self.stop.cancelled() => return Ok(None),
        }
        state.set_begun();
        let mut builder = http1::Builder::new();
        builder
            // An operator who closes a connection gives up what it asked for; a caller may still wait.
            .half_close(!self.bodies)
            // The head guard has its own.
            .header_read_timeout(None)
            .max_headers(self.limits.headers)
            .max_header_size(self.head_size())
            // Not `pipeline_flush`: with more requests behind it, the answer that closes the connection
            // would never be sent.
            .max_buf_size(self.head_size().max(SMALLEST_BUFFER));
        let service = ConnectionService::new(handler, peer);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        Ok(Some(HttpConnection {
            connection: Box::pin(connection),
            streams: None,
            // hyper closes HTTP/1 by itself.
            last: CancellationToken::new(),
        }))
    }

    fn begin_http2<H, S>(
        &self,
        detected: DetectedProtocol,
        stream: S,
        peer: ConnectionPeer,
        handler: Arc<H>,
    ) -> HttpConnection
    where
        H: Handler,
        S: AsyncRead + AsyncWrite + Send + Unpin + HasSocket + 'static,
    {
        let (state, clock) = (peer.state.clone(), self.clock.clone());
        state.set_idle(clock.elapsed());
        state.set_begun();
        let shared = (&state, &clock, &self.refusals);
        let stream = HttpStream::http2(stream, detected.read.freeze(), shared);
        let last = CancellationToken::new();
        let service = Http2Service {
            service: ConnectionService::new(handler, peer),
            headers: self.limits.headers,
            refusals: self.refusals.clone(),
            last: last.clone(),
        };
        let begun = BegunStreams::default();
        let mut builder = h2::Builder::new(Http2Executor {
            clock: clock.clone(),
            limit: self.limits.request.saturating_add(self.limits.response),
            writing: self.write_limits(),
            refusals: self.refusals.clone(),
            begun: begun.clone(),
            state,
        });
        builder
            .timer(ClockTimer::new(clock))
            .max_concurrent_streams(self.limits.streams)
            .max_header_list_size(u32::try_from(self.head_size()).expect("at most 1 MiB"))
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(256)
            .initial_stream_window_size(64 << 10)
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        HttpConnection {
            connection: Box::pin(connection),
            streams: Some(Http2Streams::new(begun)),
            last,
        }
    }

    fn head_size(&self) -> usize {
        usize::try_from(self.limits.head_size.0).expect("at most 1 MiB")
    }

    fn write_limits(&self) -> WriteLimits {
        WriteLimits {
            stall: self.limits.write_stall,
            total: self.limits.response,
        }
    }

    /// Serves until the connection ends, is idle or too old, memory is short, or the process stops; all but
    /// the first let the requests in flight finish. Or until it is evicted.
    async fn finish(
        &self,
        mut connection: HttpConnection,
        slot: &ConnectionSlot,
    ) -> io::Result<()> {
        let last = connection.last.clone();
        let age = self.limits.connection_age;
        // With jitter: connections made together, after a restart, do not all come again together.
        let age = Jitter::System.between(age.mul_f64(0.9), age.mul_f64(1.1));
        let end = async {
            tokio::select! {
                () = self.stop.cancelled() => false,
                () = self.clock.sleep(age) => false,
                () = self.memory.connections_must_end() => false,
                () = slot.state().idle(&self.clock, self.limits.idle) => false,
                () = last.cancelled() => false,
                () = slot.evicted() => true,
            }
        };
        // Polled when it is woken, and not with each step of a request.
        let mut end: FuturesUnordered<_> = iter::once(end).collect();
        let evicted = match select(&mut connection, end.next()).await {
            Either::Left((ended, _)) => return ended.map_err(io::Error::other),
            Either::Right((evicted, _)) => evicted.expect("it has one future"),
        };
        connection.connection.as_mut().graceful_shutdown();
        if evicted && slot.ends_at_once() {
            // As far as it goes without waiting for the caller.
            let ended = connection.now_or_never();
            return ended.unwrap_or(Ok(())).map_err(io::Error::other);
        }
        let longest = self.limits.request.saturating_add(self.limits.response);
        tokio::select! {
            biased;
            ended = self.clock.timeout(longest, connection) => {
                ended.map_err(io::Error::other)?.map_err(io::Error::other)
            }
            // Dropped with the connection, a request is on record as abandoned.
            () = self.abort.cancelled() => Ok(()),
            () = slot.evicted() => Ok(()),
        }
    }
}

/// Our settings, none, and `GOAWAY` for a `PROTOCOL_ERROR` before the first stream (RFC 9113, section 3.4).
const NO_PREFACE: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";
/// hyper panics below this.
const SMALLEST_BUFFER: usize = 8_192;
/// Bytes of answers that wait in the kernel beyond those on their way: more than all but the longest lists
/// have, so that these are written at once.
const MOST_UNSENT: u32 = 128 << 10;
