//! The outside door's handler: one HTTP request goes in, is asked as a question, and its answer comes
//! out, on record.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::future::Either;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::header;
use http::request::Parts;
use http_body::Body as _;
use hyper::body::Incoming;
use tracing::error;

use super::Config;
use super::accept::Peer;
use super::fields::Fields;
use super::hosts::Hosts;
use super::layers::Body;
use super::layers::Handler;
use super::request;
use super::request::Asked;
use super::request::BadRequest;
use super::response;
use super::response::Written;
use crate::audit::Arrival;
use crate::audit::RequestId;
use crate::audit::Unrecorded;
use crate::clock::Ids;
use crate::gateway::Answer;
use crate::gateway::Gateway;
use crate::gateway::Refusal;
use crate::gateway::Unanswered;
use crate::gateway::Withheld;
use crate::memory::Stage;

/// Answers lookups.
pub struct Door {
    gateway: Arc<Gateway>,
    draining: Arc<AtomicBool>,
    hosts: Hosts,
    ids: Ids,
}

impl Door {
    /// A door to `gateway`. Once `draining` is set each answer asks its caller to connect anew.
    pub fn new(gateway: Arc<Gateway>, config: &Config, draining: Arc<AtomicBool>) -> Self {
        Self {
            gateway,
            draining,
            hosts: config.hosts.clone(),
            ids: Ids::default(),
        }
    }
}

impl Door {
    /// Does at once all that need not be waited for. A request that memory answers is gone when this
    /// returns: only its answer waits, for the record. Most of what an `async fn` would carry through
    /// that wait, and hyper move about with it, is of no use any more.
    fn begin<'d>(
        &'d self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> impl Future<Output = Response<Body>> + use<'d> {
        let now = self.gateway.clock.now();
        let (parts, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        // A body is never read: what comes of it is an error, and the connection closes.
        drop(body);
        let fields = Fields::read(&parts.headers);
        let caller_request_id = fields.request_id.first();
        let arrival = Arrival {
            request_id: self.ids.at(now.wall).into(),
            origin: peer.origin.clone(),
            at: now,
            caller_request_id: caller_request_id.map(|id| Box::from(id.as_bytes())),
        };
        let request_id = arrival.request_id;
        let asked = match Asked::read(&parts, &fields, peer.scheme, has_body) {
            Ok(asked) if !self.hosts.include(asked.address.host) => {
                return Either::Right(self.reject(arrival, BadRequest::Misdirected, parts));
            }
            Ok(asked) => asked,
            Err(refusal) => return Either::Right(self.reject(arrival, refusal, parts)),
        };
        let answered = self
            .gateway
            .answer(arrival, &asked.lookup(&fields), |outcome| {
                write(outcome, &asked, request_id)
            });
        match answered {
            Ok(withheld) => Either::Left(release(withheld, request_id, asked.form.has_envelope())),
            Err(unanswered) => {
                drop(asked);
                Either::Right(wait(unanswered, request_id, parts, peer.scheme))
            }
        }
    }

    /// In a box, so that the others do not carry the room that this needs.
    fn reject(
        &self,
        arrival: Arrival,
        refusal: BadRequest,
        parts: Parts,
    ) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            let request_id = arrival.request_id;
            let envelope = request::wants_envelope(&parts);
            let written = response::bad_request(&refusal, request_id, envelope);
            let path = parts.uri.path().as_bytes();
            let answer = self.gateway.reject(arrival, path, written).await;
            answer.unwrap_or_else(|problem| unrecorded(problem, request_id, envelope))
        })
    }
}

impl Handler for Door {
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> impl Future<Output = Response<Body>> + Send {
        let version = request.version();
        self.begin(request, peer).map(move |mut response| {
            // What HTTP/1.0 calls keeping alive is nobody's standard.
            let is_last = match version {
                http::Version::HTTP_11 => {
                    self.draining.load(Ordering::Relaxed)
                        || self.gateway.memory.stage() >= Stage::Closing
                }
                version => version < http::Version::HTTP_11,
            };
            if is_last {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        })
    }
}

/// Waits for what memory could not answer; in a box, too.
fn wait<'d>(
    unanswered: Box<Unanswered<'d>>,
    request_id: RequestId,
    parts: Parts,
    scheme: &'static str,
) -> BoxFuture<'d, Response<Body>> {
    Box::pin(async move {
        // What is read borrows from what it is read of, so it cannot be brought along.
        let fields = Fields::read(&parts.headers);
        let Ok(asked) = Asked::read(&parts, &fields, scheme, false) else {
            return response::unexpected();
        };
        let withheld = unanswered
            .answer(&asked.lookup(&fields), |outcome| {
                write(outcome, &asked, request_id)
            })
            .await;
        release(withheld, request_id, asked.form.has_envelope()).await
    })
}

fn write(outcome: &Result<Answer, Refusal>, asked: &Asked<'_>, request_id: RequestId) -> Written {
    match outcome {
        Ok(answer) => response::answered(answer, asked, request_id),
        Err(refusal) => response::refused(refusal, request_id, asked.form.has_envelope()),
    }
}

fn release(
    withheld: Withheld<'_, Response<Body>>,
    request_id: RequestId,
    envelope: bool,
) -> impl Future<Output = Response<Body>> {
    withheld.release().map(move |answer| {
        answer.unwrap_or_else(|problem| unrecorded(problem, request_id, envelope))
    })
}

fn unrecorded(problem: Unrecorded, request_id: RequestId, envelope: bool) -> Response<Body> {
    error!(%request_id, "not answered, because it is not on record: {problem}");
    response::unrecorded(request_id, envelope)
}
