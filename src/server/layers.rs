//! What stands around every request, from the outside to the inside, each with the reason for its place.
//!
//! It is for what knows nothing of certificates. What must be written down (a request that is shed,
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
use http::HeaderMap;
use http::Request;
use http::Response;
use http::header::AUTHORIZATION;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::service::service_fn;

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

/// Answers the requests of one connection, each within what stands around every handler.
pub fn stack<H: Handler>(
    handler: Arc<H>,
    peer: Peer,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> + Send {
    let both = Arc::new((handler, peer));
    service_fn(move |mut request: Request<Incoming>| {
        hide_tokens(request.headers_mut());
        let both = Arc::clone(&both);
        async move {
            // The guard of the connection has refused what this request stands in for.
            if let Some(fault) = Fault::behind(&request) {
                return Ok(response::refused_head(fault));
            }
            let (handler, peer) = &*both;
            Ok::<_, Infallible>(caught(|| handler.handle(request, peer)).await)
        }
    })
}

/// First, so that nothing further in, not even a panic's message, can print a caller's token.
fn hide_tokens(headers: &mut HeaderMap) {
    for (name, value) in headers {
        if *name == AUTHORIZATION {
            value.set_sensitive(true);
        }
    }
}

/// The last net: a panic inside of a lookup is caught, answered and recorded by the gateway. One that is
/// caught here, in what is done at once or in what is waited for, costs its own request an answer of 500,
/// and no other request anything.
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
