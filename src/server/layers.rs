//! The tower layers around every request, one list, each with the reason for its place.
//!
//! Layers are for what knows nothing of certificates. What must be written down (a request that is shed,
//! one that takes too long, one that panics) is [`gateway`](crate::gateway)'s, because only it holds the
//! record.

use std::convert::Infallible;
use std::future;
use std::future::{Future, Ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::Either;
use http::header::{AUTHORIZATION, CONNECTION};
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use tower::{Service, ServiceBuilder};

use super::accept::Peer;
use super::head::Fault;
use super::response;

pub use super::payload::Body;

/// What answers requests: the public listener or the operators'.
pub trait Handler: Send + Sync + 'static {
    /// An answer that may still have to be waited for. What hyper keeps and moves meanwhile is this, so it
    /// should be small.
    type Answer: Future<Output = Response<Body>> + Send + Unpin + 'static;

    /// Answers one request. What need not be waited for is done before this returns.
    fn handle(self: &Arc<Self>, request: Request<Incoming>, peer: &Arc<Peer>) -> Self::Answer;
}

/// A handler for the requests of one connection: what the layers are around.
#[derive(Debug)]
struct ConnectionService<H> {
    handler: Arc<H>,
    peer: Arc<Peer>,
}

/// The layers as the service that hyper calls.
///
/// None of them ever has to be waited for before it is called, so this calls at once. hyper-util's
/// `TowerToHyperService` asks first, in a future that moves each request about six times.
#[derive(Debug)]
struct Stack<H>(ConnectionService<H>);

impl<H: Handler> hyper::service::Service<Request<Incoming>> for Stack<H> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = CatchPanic<Either<H::Answer, Ready<Response<Body>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Outermost first.
        ServiceBuilder::new()
            // So that nothing further in, not even a panic's message, can print a caller's token. Not
            // tower-http's layer, which moves each request once more.
            .map_request(hide_tokens)
            .service(&self.0)
            .call(request)
    }
}

impl<H: Handler> Service<Request<Incoming>> for &ConnectionService<H> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = CatchPanic<Either<H::Answer, Ready<Response<Body>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let is_of_http_1_0 = request.version() == Version::HTTP_10;
        let answer = if let Some(fault) = Fault::behind(&request) {
            // The guard of the connection has refused what this request stands in for.
            Either::Right(future::ready(response::refused_head(fault)))
        } else {
            let handle = || self.handler.handle(request, &self.peer);
            match catch_unwind(AssertUnwindSafe(handle)) {
                Ok(answer) => Either::Left(answer),
                Err(_) => Either::Right(future::ready(response::unexpected())),
            }
        };
        CatchPanic {
            answer,
            is_of_http_1_0,
        }
    }
}

/// The last net: a panic inside of a lookup is caught, answered and recorded by the gateway. One that is
/// caught here, in what is done at once or in what is waited for, costs its own request an answer of 500,
/// and no other request anything. Not tower-http's layer, which would box the body of every answer.
struct CatchPanic<F> {
    answer: F,
    /// The request was one of HTTP/1.0.
    is_of_http_1_0: bool,
}

impl<F: Future<Output = Response<Body>> + Unpin> Future for CatchPanic<F> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let poll = || Pin::new(&mut self.answer).poll(context);
        let mut answer = match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(polled) => ready!(polled),
            Err(_) => response::unexpected(),
        };
        if self.is_of_http_1_0 {
            end_with(&mut answer);
        }
        Poll::Ready(Ok(answer))
    }
}

/// What HTTP/1.0 calls keeping alive is nobody's standard, so its connections end with the first answer.
/// Unless the answer is one of HTTP/1.0, hyper says beside that that they go on.
#[cold]
fn end_with(answer: &mut Response<Body>) {
    *answer.version_mut() = Version::HTTP_10;
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
}

/// The layers around a handler, for one connection.
pub fn stack<H: Handler>(
    handler: Arc<H>,
    peer: Peer,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> + Send
+ Sync {
    let peer = Arc::new(peer);
    Stack(ConnectionService { handler, peer })
}

fn hide_tokens(mut request: Request<Incoming>) -> Request<Incoming> {
    for (name, value) in request.headers_mut() {
        if *name == AUTHORIZATION {
            value.set_sensitive(true);
        }
    }
    request
}
