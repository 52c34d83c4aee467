//! The outside door's handler: one HTTP request goes in, is asked as a question, and its answer comes
//! out, on record.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
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
use crate::audit::Arrival;
use crate::clock::Ids;
use crate::gateway::Answer;
use crate::gateway::Gateway;
use crate::gateway::Refusal;
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

    /// In a box, so that the others do not carry the room that this needs.
    fn reject<'d>(
        &'d self,
        arrival: Arrival,
        refusal: &BadRequest,
        parts: &'d Parts,
    ) -> BoxFuture<'d, Response<Body>> {
        let request_id = arrival.request_id;
        let envelope = request::wants_envelope(parts);
        let written = response::bad_request(refusal, request_id, envelope);
        let path = parts.uri.path().as_bytes();
        let rejected = self.gateway.reject(arrival, path, written);
        rejected
            .map(move |answer| {
                answer.unwrap_or_else(|problem| {
                    error!(%request_id, "not answered, because it is not on record: {problem}");
                    response::unrecorded(request_id, envelope)
                })
            })
            .boxed()
    }
}

impl Handler for Door {
    async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let now = self.gateway.clock.now();
        let (parts, body) = request.into_parts();
        let version = parts.version;
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
        let mut response = match Asked::read(&parts, &fields, peer.scheme, has_body) {
            Ok(asked) if !self.hosts.include(asked.address.host) => {
                self.reject(arrival, &BadRequest::Misdirected, &parts).await
            }
            Ok(asked) => {
                let (request_id, envelope) = (arrival.request_id, asked.form.has_envelope());
                let lookup = asked.lookup(&fields);
                let write = |outcome: &Result<Answer, Refusal>| match outcome {
                    Ok(answer) => response::answered(answer, &asked, request_id),
                    Err(refusal) => response::refused(refusal, request_id, envelope),
                };
                let withheld = self.gateway.answer(arrival, &lookup, write).await;
                drop(asked);
                drop(parts);
                withheld.release().await.unwrap_or_else(|problem| {
                    error!(%request_id, "not answered, because it is not on record: {problem}");
                    response::unrecorded(request_id, envelope)
                })
            }
            Err(refusal) => self.reject(arrival, &refusal, &parts).await,
        };
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
    }
}
