//! The public listener's handler: from an HTTP request to a lookup, and from what came of it to the response.

mod document;
mod reply_form;

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Request, Response, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::body::payload::ResponseBody;
use super::connection::ConnectionPeer;
use super::expirations::{AskedExpirations, project_segment};
use super::forwarded::Forwarded;
use super::hosts::Hosts;
use super::proxies::Proxies;
use super::public_url::PublicUrl;
use super::request::{BadRequest, CertRequest, Received};
use super::response::{REQUEST_ID, tell_allowances};
use super::service::Handler;
use super::{Config, openapi, request};
use crate::audit::{Arrival, RequestId};
use crate::cache::Found;
use crate::gateway::{AwaitingRecord, Gateway, Refusal};
use crate::memory::Stage;
use crate::system::{Ids, Moment};

use reply_form::ReplyForm;

pub(crate) struct PublicHandler {
    gateway: Arc<Gateway>,
    draining: Arc<AtomicBool>,
    hosts: Hosts,
    public_url: Option<PublicUrl>,
    trusted_proxies: Proxies,
    fast_path: bool,
    ids: Ids,
}

impl PublicHandler {
    /// A listener to `gateway`. Once `draining` is set each answer asks its caller to connect anew.
    pub(crate) fn new(gateway: Arc<Gateway>, config: &Config, draining: Arc<AtomicBool>) -> Self {
        let (hosts, public_url) = (config.hosts.clone(), config.public_url.clone());
        Self {
            gateway,
            draining,
            hosts: match &public_url {
                Some(url) => hosts.and(url.host()),
                None => hosts,
            },
            public_url,
            trusted_proxies: config.trusted_proxies.clone(),
            fast_path: config.fast_path,
            ids: Ids::default(),
        }
    }
}

#[must_use = "a response that is not waited for is not sent"]
#[expect(
    clippy::large_enum_variant,
    reason = "in a box, each hit would cost an allocation"
)]
pub(crate) enum Answering {
    CachedReply(CachedReply),
    LookedUp(BoxFuture<'static, Response<ResponseBody>>),
}

/// A response that waits for its record.
pub(crate) struct CachedReply {
    reply: AwaitingRecord<Response<ResponseBody>>,
    form: ReplyForm,
}

/// When a request arrived, and what its record calls it.
#[derive(Clone, Copy)]
struct Stamp {
    request_id: RequestId,
    at: Moment,
}

/// A request, and what is known of its way here.
struct RequestOfCaller<'r> {
    parts: &'r Parts,
    body: Option<Incoming>,
    stamp: Stamp,
    peer: &'r ConnectionPeer,
    forwarded: &'r Forwarded,
}

impl Handler for PublicHandler {
    type Answer = Answering;

    fn handle(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: &Arc<ConnectionPeer>,
    ) -> Answering {
        let now = self.gateway.clock.now();
        let stamp = Stamp {
            request_id: self.ids.at(now.wall).into(),
            at: now,
        };
        let (parts, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        if self.fast_path
            && !has_body
            && let Some(cached) = self.answer_cached(&parts, stamp, peer)
        {
            return Answering::CachedReply(cached);
        }
        let (handler, peer) = (Arc::clone(self), Arc::clone(peer));
        let body = has_body.then_some(body);
        Answering::LookedUp(Box::pin(async move {
            handler.answer(&parts, body, stamp, &peer).await
        }))
    }
}

impl PublicHandler {
    async fn answer(
        &self,
        parts: &Parts,
        body: Option<Incoming>,
        stamp: Stamp,
        peer: &ConnectionPeer,
    ) -> Response<ResponseBody> {
        let forwarded = self.forwarded(&parts.headers, peer);
        let arrival = arrival(parts, stamp, peer, forwarded.as_ref().ok());
        if let (openapi::PATH, None, Ok(forwarded)) = (parts.uri.path(), &body, &forwarded) {
            return match self.document(parts, forwarded, peer, stamp) {
                Ok(document) => document,
                Err(refusal) => self.reject(arrival, &refusal, parts, body).await,
            };
        }
        if let (Some(project), Ok(forwarded)) = (project_segment(parts.uri.path()), &forwarded) {
            let request = RequestOfCaller {
                parts,
                body,
                stamp,
                peer,
                forwarded,
            };
            let expirations = self.expirations(project, request);
            // A list is asked for a thousand times as often.
            return Box::pin(expirations).await;
        }
        let asked = match &forwarded {
            Ok(forwarded) => self.read(parts, forwarded, peer, body.is_some()),
            Err(refusal) => Err(refusal.clone()),
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(refusal) => return self.reject(arrival, &refusal, parts, body).await,
        };
        let form = self.form(&asked, stamp);
        let waiting = peer.state.wait();
        let request = asked.lookup();
        let reply = self.gateway.lookup(arrival, &request, |outcome, left| {
            note_authenticated(peer, outcome);
            form.render((outcome, left), &asked, &peer.unsent)
        });
        let reply = reply.await;
        drop(waiting);
        form.finish(reply)
    }

    async fn expirations(
        &self,
        project: &str,
        request: RequestOfCaller<'_>,
    ) -> Response<ResponseBody> {
        let RequestOfCaller {
            parts,
            body,
            stamp,
            peer,
            forwarded,
        } = request;
        let arrival = arrival(parts, stamp, peer, Some(forwarded));
        let received = self.received(forwarded, peer);
        let asked = AskedExpirations::read(parts, project, received, body.is_some());
        let asked = asked.and_then(|asked| {
            let is_asked = self.is_asked(asked.host, asked.is_absolute, peer);
            is_asked.then_some(asked).ok_or(BadRequest::Misdirected)
        });
        let asked = match asked {
            Ok(asked) => asked,
            Err(refusal) => return self.reject(arrival, &refusal, parts, body).await,
        };
        let form = ReplyForm {
            request_id: stamp.request_id,
            envelope: false,
            is_last: self.is_last(parts.version),
        };
        let waiting = peer.state.wait();
        let request = asked.request();
        let reply = self
            .gateway
            .expirations(arrival, &request, |outcome, left| {
                if let Err(refusal) = outcome {
                    note_refused(peer, refusal);
                } else {
                    peer.state.set_authenticated();
                }
                let mut rendered = asked.render(outcome, stamp.request_id, &peer.unsent);
                form.close(&mut rendered.reply);
                tell_allowances(&mut rendered.reply, left);
                rendered
            });
        let reply = reply.await;
        drop(waiting);
        form.finish(reply.map(|(response, present)| (response, Some(present))))
    }

    /// Answers a hit, without a future of its own: hyper reads the next head into the same buffer while the
    /// record is written. `None` for all else, which [`PublicHandler::answer`] begins anew.
    fn answer_cached(
        &self,
        parts: &Parts,
        stamp: Stamp,
        peer: &ConnectionPeer,
    ) -> Option<CachedReply> {
        let forwarded = self.forwarded(&parts.headers, peer).ok()?;
        let arrival = arrival(parts, stamp, peer, Some(&forwarded));
        let asked = self.read(parts, &forwarded, peer, false).ok()?;
        let form = self.form(&asked, stamp);
        let reply = self
            .gateway
            .lookup_cached(&arrival, &asked.lookup(), |outcome, left| {
                note_authenticated(peer, outcome);
                form.render((outcome, left), &asked, &peer.unsent)
            })?;
        Some(CachedReply { reply, form })
    }

    /// Reads a request, and whether it is this gateway that it is for.
    fn read<'r>(
        &'r self,
        parts: &'r Parts,
        forwarded: &'r Forwarded,
        peer: &'r ConnectionPeer,
        has_body: bool,
    ) -> Result<CertRequest<'r>, BadRequest> {
        let received = self.received(forwarded, peer);
        let asked = CertRequest::read(parts, received, has_body)?;
        if self.is_asked(asked.host, asked.is_absolute, peer) {
            Ok(asked)
        } else {
            Err(BadRequest::Misdirected)
        }
    }

    fn received<'r>(&'r self, forwarded: &'r Forwarded, peer: &'r ConnectionPeer) -> Received<'r> {
        Received {
            scheme: forwarded.scheme.unwrap_or(peer.scheme),
            host: forwarded.host.as_deref(),
            public_url: self.public_url.as_ref(),
        }
    }

    async fn reject(
        &self,
        arrival: Arrival<'_>,
        refusal: &BadRequest,
        parts: &Parts,
        body: Option<Incoming>,
    ) -> Response<ResponseBody> {
        let is_stream = parts.version > Version::HTTP_11;
        let has_body = body.is_some();
        if let Some(body) = body.filter(|_| is_stream) {
            self.wait_for(body).await;
        }
        let form = ReplyForm {
            request_id: arrival.request_id,
            envelope: request::wants_envelope(parts),
            // What stands behind a body that is not read cannot be told from it.
            is_last: self.is_last(parts.version) || (has_body && !is_stream),
        };
        let rendered = form.reject(refusal);
        let path = parts.uri.path().as_bytes();
        let too_many = |refusal: &Refusal| form.refuse(refusal);
        let reply = self.gateway.reject(arrival, path, rendered, too_many);
        form.finish(reply.await.map(|response| (response, None)))
    }

    /// Waits until a body that is not wanted has come: a stream whose frames turn out to be malformed is reset
    /// for it, and not answered. The guard does the same for HTTP/1.
    async fn wait_for(&self, body: Incoming) {
        let whole = Limited::new(body, LARGEST_BODY).collect();
        // Too long or too slow, it is refused without the rest of it.
        let _ = self.gateway.clock.timeout(BODY_PATIENCE, whole).await;
    }

    /// What trusted proxies say of a request; of others nothing is believed.
    fn forwarded(
        &self,
        headers: &HeaderMap,
        peer: &ConnectionPeer,
    ) -> Result<Forwarded, BadRequest> {
        if !peer.is_trusted_proxy {
            return Ok(Forwarded::default());
        }
        Forwarded::read(headers, &self.trusted_proxies).map_err(|_| BadRequest::Forwarded)
    }

    /// Whether this gateway is the one that was asked. A request that could be one to a proxy has to name
    /// it in so many words.
    fn is_asked(&self, host: &str, is_absolute: bool, peer: &ConnectionPeer) -> bool {
        let is_named = || {
            let public = self.public_url.as_ref().map(PublicUrl::host);
            public == Some(host) || self.hosts.identify(host, peer.local)
        };
        self.hosts.include(host) && (!is_absolute || is_named())
    }

    fn form(&self, asked: &CertRequest<'_>, stamp: Stamp) -> ReplyForm {
        ReplyForm {
            request_id: stamp.request_id,
            envelope: asked.form.has_envelope(),
            is_last: self.is_last(asked.protocol),
        }
    }

    /// Whether a connection ends with an answer that is given now.
    fn is_last(&self, version: Version) -> bool {
        match version {
            Version::HTTP_11 => {
                self.draining.load(Ordering::Relaxed)
                    || self.gateway.memory.stage() >= Stage::Closing
            }
            // No standard says what HTTP/1.0's keeping alive is.
            version => version < Version::HTTP_11,
        }
    }
}

/// How a request came, as its record says it.
fn arrival<'r>(
    parts: &'r Parts,
    stamp: Stamp,
    peer: &'r ConnectionPeer,
    forwarded: Option<&Forwarded>,
) -> Arrival<'r> {
    let caller_request_id = parts.headers.get(REQUEST_ID);
    Arrival {
        request_id: stamp.request_id,
        origin: match forwarded.and_then(|forwarded| forwarded.source) {
            None => Cow::Borrowed(&peer.origin),
            Some(node) => Cow::Owned(peer.origin.forwarded(node.address, node.port)),
        },
        at: stamp.at,
        caller_request_id: caller_request_id.map(|id| Cow::Borrowed(id.as_bytes())),
    }
}

fn note_authenticated(peer: &ConnectionPeer, outcome: &Result<Found, Refusal>) {
    match outcome {
        Ok(_) => peer.state.set_authenticated(),
        Err(refusal) => note_refused(peer, refusal),
    }
}

fn note_refused(peer: &ConnectionPeer, refusal: &Refusal) {
    if let Refusal::Denied(_)
    | Refusal::Fetch { .. }
    | Refusal::RateLimited(_)
    | Refusal::TimedOut = refusal
    {
        peer.state.set_authenticated();
    }
}

impl Future for Answering {
    type Output = Response<ResponseBody>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response<ResponseBody>> {
        match self.get_mut() {
            Self::CachedReply(cached) => {
                let reply = ready!(Pin::new(&mut cached.reply).poll(context));
                Poll::Ready(cached.form.finish(reply))
            }
            Self::LookedUp(answer) => answer.as_mut().poll(context),
        }
    }
}

/// How much of a body that is not wanted is waited for, and for how long.
const LARGEST_BODY: usize = 16 << 10;
const BODY_PATIENCE: Duration = Duration::from_secs(5);
