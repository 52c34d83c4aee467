//! The public listener's handler: one HTTP request goes in, is asked as a question, and its answer comes
//! out, on record.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tracing::debug;

use super::accept::{Peer, Standing};
use super::fields::Fields;
use super::forwarded::Forwarded;
use super::hosts::Hosts;
use super::layers::{Body, Handler};
use super::proxies::Proxies;
use super::public_url::PublicUrl;
use super::request::{Asked, BadRequest, Received};
use super::response::Written;
use super::unsent::Account;
use super::{Config, request, response};
use crate::audit::{Arrival, RequestId, Unrecorded};
use crate::clock::Ids;
use crate::gateway::{Answer, AwaitingRecord, Gateway, Refusal, Unanswered};
use crate::memory::Stage;

/// Answers lookups.
pub struct PublicHandler {
    gateway: Arc<Gateway>,
    draining: Arc<AtomicBool>,
    hosts: Hosts,
    public_url: Option<PublicUrl>,
    trusted_proxies: Proxies,
    ids: Ids,
}

impl PublicHandler {
    /// A listener to `gateway`. Once `draining` is set each answer asks its caller to connect anew.
    pub fn new(gateway: Arc<Gateway>, config: &Config, draining: Arc<AtomicBool>) -> Self {
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
            ids: Ids::default(),
        }
    }
}

/// The answer to one request.
#[must_use = "what is not waited for was not answered"]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all answers are known; a box for each would cost more than it saves"
)]
pub enum Answering {
    /// Known, and waits for its record.
    Known(Known),
    /// Not known yet.
    Unknown(BoxFuture<'static, Response<Body>>),
}

/// An answer that waits for its record.
pub struct Known {
    withheld: AwaitingRecord<Response<Body>>,
    terms: Terms,
}

/// What has a say in the form of any answer to one request.
#[derive(Clone, Copy)]
struct Terms {
    request_id: RequestId,
    envelope: bool,
    /// The answer is the last on its connection.
    is_last: bool,
    /// It leaves beside others.
    is_stream: bool,
}

impl PublicHandler {
    fn reject(
        self: &Arc<Self>,
        arrival: Arrival<'static>,
        refusal: BadRequest,
        (parts, body): (Parts, Option<Incoming>),
    ) -> Answering {
        let handler = Arc::clone(self);
        Answering::Unknown(Box::pin(async move {
            let is_stream = parts.version > Version::HTTP_11;
            let has_body = body.is_some();
            if let Some(body) = body.filter(|_| is_stream) {
                handler.wait_for(body).await;
            }
            let terms = Terms {
                request_id: arrival.request_id,
                envelope: request::wants_envelope(&parts),
                // What stands behind a body that nobody reads is nobody's.
                is_last: handler.is_last(parts.version) || (has_body && !is_stream),
                is_stream,
            };
            let written = terms.reject(&refusal);
            let path = parts.uri.path().as_bytes();
            let too_many = |refusal: &Refusal| terms.refuse(refusal);
            let answer = handler
                .gateway
                .reject(arrival, path, written, too_many)
                .await;
            answer.unwrap_or_else(|problem| terms.unrecorded(problem))
        }))
    }

    /// Waits until a body has come, which nobody will read: a stream whose frames turn out to be malformed is
    /// reset for it, and not answered. The guard does the same for HTTP/1.
    async fn wait_for(&self, body: Incoming) {
        let whole = Limited::new(body, LARGEST_BODY).collect();
        // Too long or too slow, it is refused without the rest of it.
        let _ = self.gateway.clock.timeout(BODY_PATIENCE, whole).await;
    }

    /// Waits for what memory could not answer.
    fn wait(
        self: &Arc<Self>,
        unanswered: Box<Unanswered>,
        request_id: RequestId,
        (parts, forwarded): (Parts, Forwarded),
        peer: &Peer,
    ) -> Answering {
        let handler = Arc::clone(self);
        let (scheme, unsent) = (peer.scheme, peer.unsent.clone());
        let standing = peer.standing.clone();
        let waiting = standing.wait();
        Answering::Unknown(Box::pin(async move {
            // What is read borrows from what it is read of, so it cannot be brought along.
            let fields = Fields::read(&parts.headers);
            let received = handler.received(scheme, &forwarded);
            let Ok(asked) = Asked::read(&parts, &fields, received, false) else {
                return response::unexpected();
            };
            let terms = || handler.terms(request_id, &asked, parts.version);
            let lookup = asked.lookup(&fields);
            let withheld = unanswered
                .answer(&handler.gateway, &lookup, |outcome| {
                    note(&standing, outcome);
                    terms().write(outcome, &asked, &unsent)
                })
                .await;
            drop(waiting);
            let terms = terms();
            Known { withheld, terms }.await
        }))
    }

    /// What trusted proxies say of a request; of others nothing is believed.
    fn forwarded(&self, headers: &HeaderMap, peer: &Peer) -> Result<Forwarded, BadRequest> {
        if !peer.is_trusted_proxy {
            return Ok(Forwarded::default());
        }
        Forwarded::read(headers, &self.trusted_proxies).map_err(|_| BadRequest::Forwarded)
    }

    fn received<'a>(&'a self, scheme: &'a str, forwarded: &'a Forwarded) -> Received<'a> {
        Received {
            scheme: forwarded.scheme.unwrap_or(scheme),
            host: forwarded.host.as_deref(),
            public_url: self.public_url.as_ref(),
        }
    }

    /// Whether this gateway is the one that was asked. A request that could be one to a proxy has to name
    /// it in so many words.
    fn is_asked(&self, asked: &Asked<'_>, peer: &Peer) -> bool {
        let is_named = || {
            let public = self.public_url.as_ref().map(PublicUrl::host);
            public == Some(asked.host) || self.hosts.identify(asked.host, peer.local)
        };
        self.hosts.include(asked.host) && (!asked.is_absolute || is_named())
    }

    fn terms(&self, request_id: RequestId, asked: &Asked<'_>, version: Version) -> Terms {
        Terms {
            request_id,
            envelope: asked.form.has_envelope(),
            is_last: self.is_last(version),
            is_stream: version > Version::HTTP_11,
        }
    }

    /// Whether a connection ends with an answer that is given now.
    fn is_last(&self, version: Version) -> bool {
        match version {
            Version::HTTP_11 => {
                self.draining.load(Ordering::Relaxed)
                    || self.gateway.memory.stage() >= Stage::Closing
            }
            // What HTTP/1.0 calls keeping alive is nobody's standard.
            version => version < Version::HTTP_11,
        }
    }
}

impl Handler for PublicHandler {
    type Answer = Answering;

    /// A request that memory answers is gone when this returns: only its answer waits, for the record.
    fn handle(self: &Arc<Self>, request: Request<Incoming>, peer: &Peer) -> Answering {
        let now = self.gateway.clock.now();
        let (parts, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        let body = has_body.then_some(body);
        let fields = Fields::read(&parts.headers);
        let caller_request_id = fields.request_id.first();
        let forwarded = self.forwarded(&parts.headers, peer);
        let source = forwarded.as_ref().ok().and_then(|it| it.source);
        let arrival = Arrival {
            request_id: self.ids.at(now.wall).into(),
            origin: match source {
                None => Cow::Borrowed(&peer.origin),
                Some(node) => Cow::Owned(peer.origin.forwarded(node.address, node.port)),
            },
            at: now,
            caller_request_id: caller_request_id.map(|id| Cow::Borrowed(id.as_bytes())),
        };
        let forwarded = match forwarded {
            Ok(forwarded) => forwarded,
            Err(refusal) => return self.reject(arrival.into_owned(), refusal, (parts, body)),
        };
        let received = self.received(peer.scheme, &forwarded);
        let asked = match Asked::read(&parts, &fields, received, has_body) {
            Ok(asked) if !self.is_asked(&asked, peer) => {
                return self.reject(arrival.into_owned(), BadRequest::Misdirected, (parts, body));
            }
            Ok(asked) => asked,
            Err(refusal) => return self.reject(arrival.into_owned(), refusal, (parts, body)),
        };
        let terms = self.terms(arrival.request_id, &asked, parts.version);
        let answered = self
            .gateway
            .answer(arrival, &asked.lookup(&fields), |outcome| {
                note(&peer.standing, outcome);
                terms.write(outcome, &asked, &peer.unsent)
            });
        match answered {
            Ok(withheld) => Answering::Known(Known { withheld, terms }),
            Err(unanswered) => self.wait(unanswered, terms.request_id, (parts, forwarded), peer),
        }
    }
}

/// Notes that a connection is one of somebody who was let in.
fn note(standing: &Standing, outcome: &Result<Answer, Refusal>) {
    if let Ok(_)
    | Err(
        Refusal::Denied(_) | Refusal::Fetch { .. } | Refusal::RateLimited(_) | Refusal::TimedOut,
    ) = outcome
    {
        standing.vouch();
    }
}

/// Every answer is made here, so that none forgets how it ends.
impl Terms {
    fn write(
        &self,
        outcome: &Result<Answer, Refusal>,
        asked: &Asked<'_>,
        unsent: &Account,
    ) -> Written {
        let mut written = match outcome {
            Ok(answer) => response::answered(answer, asked, self.request_id, unsent),
            Err(refusal) => return self.refuse(refusal),
        };
        self.finish(&mut written.reply);
        written
    }

    fn refuse(&self, refusal: &Refusal) -> Written {
        let mut written = response::refused(refusal, self.request_id, self.envelope);
        self.finish(&mut written.reply);
        written
    }

    fn reject(&self, refusal: &BadRequest) -> Written {
        let mut written = response::bad_request(refusal, self.request_id, self.envelope);
        self.finish(&mut written.reply);
        written
    }

    fn unrecorded(&self, problem: Unrecorded) -> Response<Body> {
        let request_id = self.request_id;
        // Not louder: whoever is not let in can ask for it, too. The trail itself says once what is wrong.
        debug!(%request_id, "not answered, because it is not on record: {problem}");
        let mut response = response::unrecorded(request_id, self.envelope);
        self.finish(&mut response);
        response
    }

    fn finish(&self, response: &mut Response<Body>) {
        if self.is_last {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
}

impl Future for Answering {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response<Body>> {
        match self.get_mut() {
            Self::Known(known) => Pin::new(known).poll(context),
            Self::Unknown(answer) => answer.as_mut().poll(context),
        }
    }
}

impl Future for Known {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response<Body>> {
        match ready!(Pin::new(&mut self.withheld).poll(context)) {
            Ok((mut answer, present)) => {
                if let Some(present) = present {
                    let is_stream = self.terms.is_stream;
                    answer.body_mut().count(present, is_stream);
                }
                Poll::Ready(answer)
            }
            Err(problem) => Poll::Ready(self.terms.unrecorded(problem)),
        }
    }
}

/// How much of a body is waited for that nobody will read, and for how long.
const LARGEST_BODY: usize = 16 << 10;
const BODY_PATIENCE: Duration = Duration::from_secs(5);
