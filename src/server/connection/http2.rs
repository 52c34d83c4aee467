//! HTTP/2's requests: their futures, their flow control, and what hyper does for HTTP/1 only.
//!
//! The streams of a connection run in the task of the connection, and before it: so the answers to all that were
//! recorded together leave in one system call. In tasks of their own each answer would cost one.
//!
//! hyper lets a caller that grants no window keep its answer waiting for as long as the connection lives.
//! So a stream is reset when nothing of its answer has left for `write_stall`; the other streams of its
//! connection go on (no head-of-line blocking).

use std::convert::Infallible;
use std::future::{Future, ready};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::Service;
use tokio::task_local;
use tokio_util::sync::CancellationToken;

use super::peer::ConnectionState;
use super::socket::WriteLimits;
use crate::server::body::payload::{ResponseBody, StreamProgress};
use crate::server::head::HeadFault;
use crate::server::response;
use crate::system::Clock;
use crate::telemetry::metrics::connections::{ConnectionMetrics, Reason};

/// Takes the streams of one connection from hyper.
#[derive(Clone, Debug)]
pub(super) struct Http2Executor {
    pub(super) clock: Clock,
    /// From a request's head to the last byte of its answer.
    pub(super) limit: Duration,
    pub(super) writing: WriteLimits,
    pub(super) refusals: ConnectionMetrics,
    pub(super) begun: BegunStreams,
    pub(super) state: ConnectionState,
}

/// Streams that have begun and were not polled yet.
#[derive(Clone, Default)]
pub(super) struct BegunStreams(Arc<Mutex<Vec<StreamFuture>>>);

type StreamFuture = BoxFuture<'static, ()>;

pub(super) struct Http2Streams {
    begun: BegunStreams,
    open: FuturesUnordered<StreamFuture>,
}

task_local! {
    /// Of the answer on the stream whose task this is.
    static PROGRESS: Arc<StreamProgress>;
}

/// Ends the stream in its connection's state when it is dropped.
struct OpenStream(Http2Executor);

impl<F> Executor<F> for Http2Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.state.stream_begins();
        let open = OpenStream(self.clone());
        self.begun.lock().push(Box::pin(async move {
            let progress = Arc::new(StreamProgress::new(open.0.clock.clone()));
            let stream = PROGRESS.scope(Arc::clone(&progress), stream);
            tokio::select! {
                biased;
                () = stream => {}
                // Dropped, the stream is reset and its answer's memory is free.
                () = open.0.stall(&progress) => open.0.refusals.refused(Reason::WriteStall),
            }
        }));
    }
}

impl BegunStreams {
    fn lock(&self) -> MutexGuard<'_, Vec<StreamFuture>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for BegunStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BegunStreams({})", self.lock().len())
    }
}

impl Http2Streams {
    pub(super) fn new(begun: BegunStreams) -> Self {
        Self {
            begun,
            open: FuturesUnordered::new(),
        }
    }

    /// Lets every stream go on that can, those too that have begun since the last time. Says whether there were
    /// any of these.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> bool {
        let begun = mem::take(&mut *self.begun.lock());
        let have_begun = !begun.is_empty();
        self.open.extend(begun);
        while let Poll::Ready(Some(())) = self.open.poll_next_unpin(context) {}
        have_begun
    }
}

impl Http2Executor {
    /// Waits until a stream that begins now has taken too long, or its answer has stopped to leave.
    async fn stall(&self, progress: &StreamProgress) {
        let began = self.clock.elapsed();
        let mut now = began;
        loop {
            let mut due = began.saturating_add(self.limit);
            if let Some((first, last)) = progress.times() {
                due = due.min(first.saturating_add(self.writing.total));
                due = due.min(last.saturating_add(self.writing.stall));
            }
            if now >= due {
                return;
            }
            // Not longer, because the answer may begin to leave meanwhile.
            let look = now.saturating_add(self.writing.stall);
            self.clock.sleep_until(due.min(look)).await;
            now = self.clock.elapsed();
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.state.stream_ends(self.0.clock.elapsed());
    }
}

/// A service for the requests of one connection, with what hyper sees to over HTTP/1 only: how many header
/// lines a request may have, and that an answer to `HEAD` has no content.
///
/// Its futures are boxed, because hyper and tokio move a stream's future nine times.
pub(super) struct Http2Service<S> {
    pub(super) service: S,
    /// How many header lines a request may have.
    pub(super) headers: usize,
    pub(super) refusals: ConnectionMetrics,
    /// Cancelled by an answer after which there are to be no more.
    pub(super) last: CancellationToken,
}

impl<S> Service<Request<Incoming>> for Http2Service<S>
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.headers().len() > self.headers {
            self.refusals.refused(HeadFault::TooMany.reason());
            return Box::pin(ready(Ok(response::refused_head(HeadFault::TooMany))));
        }
        let is_head = *request.method() == Method::HEAD;
        let answer = self.service.call(request);
        let last = self.last.clone();
        Box::pin(async move {
            let mut answer = answer.await?;
            // HTTP/2 has no `Connection: close`, but `GOAWAY`. No list is the last answer.
            if answer.status().is_client_error()
                && answer.headers_mut().remove(CONNECTION).is_some()
            {
                last.cancel();
            }
            if is_head {
                return Ok(without_content(answer));
            }
            PROGRESS.with(|progress| answer.body_mut().leave_in_pieces(Arc::clone(progress)));
            Ok(answer)
        })
    }
}

/// The same head, of which only the content is left out (RFC 9110, section 9.3.2).
fn without_content(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let (mut head, body) = response.into_parts();
    let length = body.size_hint().exact().expect("a body knows its length");
    if length > 0 {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, ResponseBody::default())
}
