//! One connection: hyper speaks HTTP on it, until the script takes its bytes over.

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::answer::Answer;
use crate::atlas::Atlas;
use crate::body::SpoiltBody;
use crate::fault::{Cut, Ending, Wire};
use crate::stream::Stream;

/// Serves a connection until one side ends it.
pub(crate) async fn serve(stream: Stream, peer: SocketAddr, atlas: Arc<Atlas>) {
    let (order, mut orders) = mpsc::unbounded_channel();
    let service = service_fn(|request| answer(Arc::clone(&atlas), request, peer, order.clone()));
    let http2 = atlas.rules.with(|rules| rules.http2);
    let mut builder = Builder::new(TokioExecutor::new());
    // Atlas's `Date` is that of the simulated world, or left out by a fault.
    builder.http1().auto_date_header(false);
    builder.http2().auto_date_header(false);
    if let Some(streams) = http2.streams {
        builder.http2().max_concurrent_streams(streams);
    }
    if let Some(window) = http2.window {
        builder.http2().initial_stream_window_size(window);
    }
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream.clone()), service));
    loop {
        tokio::select! {
            biased;
            Some(order) = orders.recv() => match order {
                Order::GoAway => connection.as_mut().graceful_shutdown(),
                Order::TakeOver { bytes, ending } => {
                    drop(connection);
                    return take_over(stream, &bytes, ending).await;
                }
            },
            // A connection that fails has been ended by its client or by the script.
            _ = connection.as_mut() => return,
        }
    }
}

/// What a request asks of its connection.
#[derive(Debug)]
enum Order {
    GoAway,
    TakeOver { bytes: Bytes, ending: Ending },
}

async fn answer(
    atlas: Arc<Atlas>,
    request: Request<Incoming>,
    peer: SocketAddr,
    orders: mpsc::UnboundedSender<Order>,
) -> Result<Response<SpoiltBody>, Box<dyn Error + Send + Sync>> {
    let version = request.version();
    let (answer, wire) = atlas.serve(request, peer).await;
    let body = match wire.or_else(|| needs_own_hand(&answer)) {
        None => SpoiltBody::whole(answer.body.clone()),
        Some(Wire::Drip { size, pause }) => SpoiltBody::dripping(answer.body.clone(), size, pause),
        Some(Wire::Endless(filler)) => SpoiltBody::endless(answer.body.clone(), filler),
        Some(Wire::GoAway) => {
            // If the connection is gone, so is the need to end it.
            let _ = orders.send(Order::GoAway);
            SpoiltBody::whole(answer.body.clone())
        }
        Some(Wire::ResetStream(code)) => return Err(h2::Error::from(h2::Reason::from(code)).into()),
        Some(Wire::Send {
            before: _,
            cut: Cut::AfterBody(bytes),
            ending,
        }) if version == Version::HTTP_2 && ending != Ending::Silence => {
            SpoiltBody::broken(&answer.body, bytes)
        }
        Some(Wire::Silence) => pending().await,
        Some(Wire::Send {
            before,
            cut,
            ending,
        }) => {
            let bytes = written(&before, &answer, cut);
            let _ = orders.send(Order::TakeOver { bytes, ending });
            // The connection is dropped with this future in it.
            let never: Infallible = pending().await;
            match never {}
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

/// hyper does not write what HTTP forbids: a length that is not true, a final 1xx.
fn needs_own_hand(answer: &Answer) -> Option<Wire> {
    let framed = [CONTENT_LENGTH, TRANSFER_ENCODING];
    let odd = answer.status.is_informational()
        || framed.iter().any(|name| answer.headers.contains_key(name));
    odd.then(|| Wire::Send {
        before: Bytes::new(),
        cut: Cut::Never,
        ending: Ending::Fin,
    })
}

/// The bytes of a response in HTTP/1.1, as far as `cut` lets them go.
fn written(before: &Bytes, answer: &Answer, cut: Cut) -> Bytes {
    let body = match cut {
        Cut::BeforeHead => return before.clone(),
        Cut::AfterBody(bytes) => answer.body.slice(..bytes.min(answer.body.len())),
        Cut::Never => answer.body.clone(),
    };
    let mut headers = answer.headers.clone();
    if !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING) {
        headers.insert(CONTENT_LENGTH, answer.body.len().into());
    }
    headers.insert(CONNECTION, http::HeaderValue::from_static("close"));
    let mut bytes = before.to_vec();
    bytes.extend_from_slice(format!("HTTP/1.1 {}\r\n", answer.status).as_bytes());
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes.into()
}

async fn take_over(mut stream: Stream, bytes: &[u8], ending: Ending) {
    // A client that has had enough and is gone already is what such answers are for.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    match ending {
        Ending::Fin => {
            let _ = stream.shutdown().await;
        }
        Ending::Reset => stream.reset_when_closed(),
        Ending::Silence => pending().await,
    }
}
