//! The accept loop: a listening socket goes in, connections that are served and ended in good order
//! come out.
//!
//! hyper's own protocol guess has no time limit, so it is made here: whoever sends nothing, or only the
//! first bytes of HTTP/2's preface, is gone when `first_byte` has passed.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;
use tracing::warn;

use super::Bound;
use super::Limits;
use super::guard::Guarded;
use super::head::Bounds;
use super::layers;
use super::layers::Handler;
use super::timer::ClockTimer;
use super::tls::Tls;
use crate::clock::Clock;
use crate::telemetry::metrics::connections::ConnectionMetrics;
use crate::telemetry::metrics::lookups::LookupMetrics;

/// What every connection of one listener shares.
#[derive(Clone)]
pub struct Acceptor {
    /// Bounds of a connection.
    pub limits: Limits,
    /// TLS, where it is configured.
    pub tls: Option<Tls>,
    /// The clock of every deadline.
    pub clock: Clock,
    /// Cancelled when no more connections are to be taken and the present ones are to end.
    pub stop: CancellationToken,
    /// Counts connections.
    pub metrics: LookupMetrics,
    /// Counts those that are refused.
    pub refusals: ConnectionMetrics,
    /// Whether requests may have bodies.
    pub bodies: bool,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// `http` or `https`, as the connection was made.
    pub scheme: &'static str,
}

impl Acceptor {
    /// Takes connections until it is told to stop, then waits until the last one has ended.
    pub async fn run<H: Handler>(self, bound: Bound, handler: Arc<H>) {
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                accepted = self.next(&bound, &room) => accepted,
            };
            match accepted {
                Ok((stream, address, place)) => {
                    let acceptor = self.clone();
                    let handler = Arc::clone(&handler);
                    connections.spawn(async move {
                        let _counted = acceptor.metrics.connection();
                        if let Err(error) = acceptor.connection(stream, address, handler).await {
                            debug!(%error, peer = %address, "a connection ended badly");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly. They come back when connections end, and an accept
                    // loop that gives up would need a restart.
                    warn!(%error, "cannot take a connection; trying again in {PAUSE:?}");
                    self.clock.sleep(PAUSE).await;
                }
            }
        }
        drop(bound);
        connections.close();
        connections.wait().await;
    }

    /// The next connection, once there is room for it; until then it waits in the kernel's queue.
    async fn next(
        &self,
        bound: &Bound,
        room: &Arc<Semaphore>,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let place = Arc::clone(room)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, address) = bound.listener.accept().await?;
        Ok((stream, address, place))
    }

    async fn connection<H: Handler>(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        handler: Arc<H>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return self
                .plain(
                    stream,
                    Peer {
                        address,
                        scheme: "http",
                    },
                    handler,
                )
                .await;
        };
        let handshake = self
            .clock
            .timeout(self.limits.first_byte, tls.accept(stream));
        let stream = handshake.await.map_err(io::Error::other)??;
        self.plain(
            stream,
            Peer {
                address,
                scheme: "https",
            },
            handler,
        )
        .await
    }

    async fn plain<H, S>(&self, mut stream: S, peer: Peer, handler: Arc<H>) -> io::Result<()>
    where
        H: Handler,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let guess = self
            .clock
            .timeout(self.limits.first_byte, guess(&mut stream, &self.clock));
        let Some(guess) = guess.await.map_err(io::Error::other)?? else {
            return Ok(());
        };
        let service = TowerToHyperService::new(layers::stack(handler, peer));
        let timer = ClockTimer::new(self.clock.clone());
        match guess.protocol {
            Protocol::Http1 => {
                let size = usize::try_from(self.limits.head_size.0).unwrap_or(usize::MAX);
                let bounds = Bounds {
                    size,
                    headers: self.limits.headers,
                    bodies: self.bodies,
                };
                let io = TokioIo::new(Guarded::new(
                    stream,
                    guess.read,
                    guess.since,
                    (bounds, self.limits.head),
                    self.clock.clone(),
                    self.refusals.clone(),
                ));
                let mut builder = http1::Builder::new();
                builder
                    .timer(timer)
                    .header_read_timeout(self.limits.idle)
                    .max_headers(self.limits.headers)
                    .max_header_size(size)
                    // Not `pipeline_flush`: with more requests behind it, the answer that closes the
                    // connection would never be sent.
                    .max_buf_size(size.max(SMALLEST_BUFFER));
                self.finish(builder.serve_connection(io, service)).await
            }
            Protocol::Http2 => {
                let io = TokioIo::new(Replayed {
                    first: guess.read.freeze(),
                    stream,
                });
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder
                    .timer(timer)
                    .max_concurrent_streams(self.limits.streams)
                    .max_header_list_size(
                        u32::try_from(self.limits.head_size.0).unwrap_or(u32::MAX),
                    )
                    .max_pending_accept_reset_streams(20)
                    .max_local_error_reset_streams(256)
                    .initial_stream_window_size(64 << 10)
                    .initial_connection_window_size(1 << 20)
                    .keep_alive_interval(Duration::from_secs(20))
                    .keep_alive_timeout(Duration::from_secs(10));
                self.finish(builder.serve_connection(io, service)).await
            }
        }
    }

    /// Serves until the connection ends, or is too old, or the process stops; the last two let the
    /// requests under way finish.
    async fn finish<C: Graceful>(&self, connection: C) -> io::Result<()> {
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            () = self.stop.cancelled() => {}
            () = self.clock.sleep(self.limits.connection_age) => {}
        }
        connection.as_mut().end();
        connection.await.map_err(io::Error::other)
    }
}

/// A connection that can be told to end after the requests under way.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http1::Connection<I, S>
where
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

enum Protocol {
    Http1,
    Http2,
}

struct Guess {
    protocol: Protocol,
    /// What was read to make the guess.
    read: BytesMut,
    /// When the first of it came.
    since: Duration,
}

/// Reads until the bytes cannot be, or are, HTTP/2's preface; `None` if nothing comes at all.
async fn guess(stream: &mut (impl AsyncRead + Unpin), clock: &Clock) -> io::Result<Option<Guess>> {
    let mut read = BytesMut::with_capacity(FIRST_READ);
    let mut since = None;
    loop {
        if stream.read_buf(&mut read).await? == 0 && read.is_empty() {
            return Ok(None);
        }
        let since = *since.get_or_insert_with(|| clock.now().elapsed);
        let common = read
            .iter()
            .zip(PREFACE)
            .take_while(|(byte, known)| byte == known)
            .count();
        let protocol = if common == PREFACE.len() {
            Protocol::Http2
        } else if common < read.len() || read.len() == read.capacity() {
            Protocol::Http1
        } else {
            continue;
        };
        return Ok(Some(Guess {
            protocol,
            read,
            since,
        }));
    }
}

/// A stream whose first bytes were already read.
struct Replayed<S> {
    first: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
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
const FIRST_READ: usize = 4_096;
const PAUSE: Duration = Duration::from_millis(50);
/// hyper panics below this.
const SMALLEST_BUFFER: usize = 8_192;
