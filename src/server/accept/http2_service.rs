//! A request of HTTP/2 goes in; its answer comes out, with what hyper sees to over HTTP/1 only: how many
//! header lines a request may have, that an answer to `HEAD` has no content, and that an answer may be
//! the last of its connection.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio_util::sync::CancellationToken;

use crate::server::head::Fault;
use crate::server::layers::Body;
use crate::server::response;
use crate::telemetry::metrics::connections::ConnectionMetrics;

/// A service for the requests of one HTTP/2 connection.
///
/// Its futures are in boxes: between its head and the end of its task, hyper and tokio move a stream's
/// future nine times, and it is as large as everything that an answer may have to wait for.
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
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.headers().len() > self.headers {
            self.refusals.refused(Fault::TooMany.reason());
            return Box::pin(ready(Ok(response::refused_head(Fault::TooMany))));
        }
        let is_head = *request.method() == Method::HEAD;
        let answer = self.service.call(request);
        let last = self.last.clone();
        Box::pin(async move {
            let answer = ended(answer.await?, &last);
            Ok(if is_head {
                without_content(answer)
            } else {
                answer
            })
        })
    }
}

/// HTTP/2 has no `Connection: close`, but says the same of the connection itself.
fn ended(mut answer: Response<Body>, last: &CancellationToken) -> Response<Body> {
    // No list is the last answer of its connection.
    if answer.status().is_client_error() && answer.headers_mut().remove(CONNECTION).is_some() {
        last.cancel();
    }
    answer
}

/// The same head, of which only the content is left out (RFC 9110, section 9.3.2).
fn without_content(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact()
        && length > 0
    {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Body::default())
}
