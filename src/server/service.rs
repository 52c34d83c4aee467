//! The service that hyper calls for each request of a connection: tower's layers around a [`Handler`].
//!
//! It hides tokens from everything further in, answers synthetic error requests, catches panics, yields
//! between pipelined requests, and ends connections of HTTP/1.0.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use http::header::{AUTHORIZATION, CONNECTION};
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use tokio::task::yield_now;
use tower::{Service, ServiceBuilder};

use super::body::payload::ResponseBody;
use super::connection::ConnectionPeer;
use super::head::HeadFault;
use super::response;

/// What answers requests: the public listener or the admin listener.
pub(crate) trait Handler: Send + Sync + 'static {
    /// An answer that may still have to be waited for. hyper keeps and moves it, so it should be small.
    type Answer: Future<Output = Response<ResponseBody>> + Send + Unpin + 'static;

    /// Answers one request. What need not be waited for is done before this returns.
    fn handle(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: &Arc<ConnectionPeer>,
    ) -> Self::Answer;
}

/// The layers around a handler, for the requests of one connection.
pub(super) struct ConnectionService<H>(ConnectionHandler<H>);

/// What the layers are around.
struct ConnectionHandler<H> {
    handler: Arc<H>,
    peer: Arc<ConnectionPeer>,
}

impl<H> ConnectionService<H> {
    pub(super) fn new(handler: Arc<H>, peer: ConnectionPeer) -> Self {
        let peer = Arc::new(peer);
        Self(ConnectionHandler { handler, peer })
    }
}

// Each layer is always ready, so it is called at once. hyper-util's `TowerToHyperService` asks first, in a future
// that moves each request about six times.
impl<H: Handler> hyper::service::Service<Request<Incoming>> for ConnectionService<H> {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = CatchPanic<Either<H::Answer, Ready<Response<ResponseBody>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        ServiceBuilder::new()
            // Outermost, so that not even a panic's message can print a token.
            .map_request(hide_tokens)
            .service(&self.0)
            .call(request)
    }
}

fn hide_tokens(mut request: Request<Incoming>) -> Request<Incoming> {
    for (name, value) in request.headers_mut() {
        if *name == AUTHORIZATION {
            value.set_sensitive(true);
        }
    }
    request
}

impl<H: Handler> Service<Request<Incoming>> for &ConnectionHandler<H> {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = CatchPanic<Either<H::Answer, Ready<Response<ResponseBody>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let version = request.version();
        let is_pipelined = version < Version::HTTP_2 && !self.peer.state.take_read();
        let answer = if let Some(fault) = HeadFault::of_synthetic(&request) {
            Either::Right(ready(response::refused_head(fault)))
        } else {
            let handle = || self.handler.handle(request, &self.peer);
            match catch_unwind(AssertUnwindSafe(handle)) {
                Ok(answer) => Either::Left(answer),
                Err(_) => Either::Right(ready(response::unexpected())),
            }
        };
        CatchPanic {
            answer,
            is_of_http_1_0: version == Version::HTTP_10,
            others_first: is_pipelined.then(|| yield_now().boxed()),
        }
    }
}

/// The last net: a panic inside of a lookup is caught, answered and recorded by the gateway. One that is
/// caught here costs its own request an answer of 500, and no other request anything.
pub(super) struct CatchPanic<F> {
    answer: F,
    is_of_http_1_0: bool,
    /// Of a request that came in one piece with the one before it. hyper would answer sixteen of those
    /// before any other connection is polled, so each lets the others go first (fairness).
    others_first: Option<BoxFuture<'static, ()>>,
}

impl<F: Future<Output = Response<ResponseBody>> + Unpin> Future for CatchPanic<F> {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(others_first) = &mut self.others_first {
            ready!(others_first.as_mut().poll(context));
            self.others_first = None;
        }
        let poll = || Pin::new(&mut self.answer).poll(context);
        let mut answer = match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(polled) => ready!(polled),
            Err(_) => response::unexpected(),
        };
        if self.is_of_http_1_0 {
            // What HTTP/1.0 calls keep-alive is no standard, so its connections end with the first answer.
            // To an answer of HTTP/1.1 hyper would add that they go on.
            *answer.version_mut() = Version::HTTP_10;
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        Poll::Ready(Ok(answer))
    }
}
