//! The tower layers around every request, one list, each with the reason for its place.
//!
//! Layers are for what knows nothing of certificates. What must be written down (a request that is shed,
//! one that takes too long, one that panics) is [`gateway`](crate::gateway)'s, because only it holds the
//! record.

use std::convert::Infallible;
use std::future::Future;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Either;
use http::Request;
use http::Response;
use http::header::AUTHORIZATION;
use http_body_util::Full;
use hyper::body::Incoming;
use tower::Service;
use tower::ServiceBuilder;
use tower::service_fn;

use super::accept::Peer;
use super::head::Fault;
use super::response;

/// The body of every answer.
pub type Body = Full<Bytes>;

/// What answers requests: the outside door or the operators'.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// The layers as the service that hyper calls.
///
/// None of them ever has to be waited for before it is called, so this calls at once. hyper-util's
/// `TowerToHyperService` asks first, in a future that moves each request about six times.
#[derive(Debug)]
struct Stack<S>(S);

impl<S> hyper::service::Service<Request<Incoming>> for Stack<S>
where
    S: Service<Request<Incoming>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> S::Future {
        self.0.clone().call(request)
    }
}

/// The layers, outermost first, around a handler.
pub fn stack<H: Handler>(
    handler: Arc<H>,
    peer: Peer,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> + Send {
    let both = Arc::new((handler, peer));
    let layers = ServiceBuilder::new()
        // First, so that nothing further in, not even a panic's message, can print a caller's token.
        // Not tower-http's layer, which moves each request once more.
        .map_request(hide_tokens)
        .service(service_fn(move |request: Request<Incoming>| {
            let both = Arc::clone(&both);
            async move {
                // The guard of the connection has refused what this request stands in for.
                if let Some(fault) = Fault::behind(&request) {
                    return Ok(response::refused_head(fault));
                }
                let (handler, peer) = &*both;
                Ok::<_, Infallible>(caught(|| handler.handle(request, peer)).await)
            }
        }));
    Stack(layers)
}

fn hide_tokens(mut request: Request<Incoming>) -> Request<Incoming> {
    for (name, value) in request.headers_mut() {
        if *name == AUTHORIZATION {
            value.set_sensitive(true);
        }
    }
    request
}

/// The last net: a panic inside of a lookup is caught, answered and recorded by the gateway. One that is
/// caught here, in what is done at once or in what is waited for, costs its own request an answer of 500,
/// and no other request anything. Not tower-http's layer, which would box the body of every answer.
fn caught<F: Future<Output = Response<Body>>>(
    begin: impl FnOnce() -> F,
) -> impl Future<Output = Response<Body>> {
    let answer = match catch_unwind(AssertUnwindSafe(begin)) {
        Ok(answer) => Either::Left(answer),
        Err(_) => Either::Right(ready(response::unexpected())),
    };
    AssertUnwindSafe(answer)
        .catch_unwind()
        .map(|outcome| outcome.unwrap_or_else(|_| response::unexpected()))
}
