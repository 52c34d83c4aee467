//! A connection that hyper serves, of either version of HTTP.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::server::graceful::GracefulConnection;
use tokio_util::sync::CancellationToken;

use super::http2::Http2Streams;

pub(super) type GracefulHttp =
    dyn GracefulConnection<Error = hyper::Error, Output = hyper::Result<()>> + Send;

pub(super) struct HttpConnection {
    pub(super) connection: Pin<Box<GracefulHttp>>,
    /// Over HTTP/2; polled before the connection, which sends what they answer.
    pub(super) streams: Option<Http2Streams>,
    /// Cancelled after the last answer.
    pub(super) last: CancellationToken,
}

impl Future for HttpConnection {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            connection,
            streams,
            ..
        } = &mut *self;
        let Some(streams) = streams else {
            return connection.as_mut().poll(context);
        };
        streams.poll(context);
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            if !streams.poll(context) {
                return Poll::Pending;
            }
        }
    }
}
