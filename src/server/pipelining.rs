//! Requests of one HTTP/1 connection go in, one after the other; each that came in one piece with the one
//! before it lets everybody else have a turn first.
//!
//! Without that, hyper answers sixteen of them before any other connection has its turn, so a few callers
//! with a pipeline each would make everybody else wait for hundreds of answers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::Either;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::task::yield_now;

use super::layers::Body;

/// Whether bytes were read for the next request, or it was there already. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct NewBytes(Arc<AtomicBool>);

/// A service that answers the requests of one connection in turn with other connections.
pub struct FairPipelining<S> {
    service: Arc<S>,
    reads: NewBytes,
}

impl NewBytes {
    /// hyper has nothing left and reads more.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl<S> FairPipelining<S> {
    /// Of a connection that notes its `reads`.
    pub fn new(service: S, reads: NewBytes) -> Self {
        Self {
            service: Arc::new(service),
            reads,
        }
    }
}

impl<S> Service<Request<Incoming>> for FairPipelining<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Either<S::Future, Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if self.reads.take() {
            return Either::Left(self.service.call(request));
        }
        let service = Arc::clone(&self.service);
        Either::Right(Box::pin(async move {
            yield_now().await;
            service.call(request).await
        }))
    }
}
