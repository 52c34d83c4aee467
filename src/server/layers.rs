//! The tower layers around every request, one list, each with the reason for its place.
//!
//! Layers are for what knows nothing of certificates. What must be written down (a request that is shed,
//! one that takes too long, one that panics) is [`gateway`](crate::gateway)'s, because only it holds the
//! record.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Request;
use http::Response;
use http::header::AUTHORIZATION;
use http_body_util::Full;
use hyper::body::Incoming;
use tower::Service;
use tower::ServiceBuilder;
use tower::service_fn;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;

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
    Future: Send,
> + Send {
    let both = Arc::new((handler, peer));
    let layers = ServiceBuilder::new()
        // First, so that nothing further in, not even a panic's message, can print a caller's token.
        .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION]))
        // The last net: a panic inside of a lookup is caught, answered and recorded by the gateway. One
        // that is caught here costs its own request an answer of 500, and no other request anything.
        // Not tower-http's layer, which would box the body of every answer.
        .service(service_fn(move |request: Request<Incoming>| {
            let both = Arc::clone(&both);
            async move {
                // The guard of the connection has refused what this request stands in for.
                if let Some(fault) = Fault::behind(&request) {
                    return Ok(response::refused_head(fault));
                }
                let (handler, peer) = &*both;
                let outcome = AssertUnwindSafe(handler.handle(request, peer))
                    .catch_unwind()
                    .await;
                Ok::<_, Infallible>(outcome.unwrap_or_else(|_| response::unexpected()))
            }
        }));
    Stack(layers)
}
