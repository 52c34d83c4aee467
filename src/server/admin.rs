//! The admin listener: health, readiness, metrics, purge, explain and the audit trail.
//!
//! Never on the public address. Every path but the first three needs a token whose rule grants `admin`,
//! and what an operator does is put on record like a lookup.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use uuid::Uuid;

mod access;
mod explain;
mod lookups;
mod purge;
mod readiness;

pub use readiness::{PartFault, Readiness, Report};

use super::accept::{ConnectionState, Peer};
use super::hosts::Hosts;
use super::layers::{Body, Handler};
use super::request::{Addressed, BadRequest, Credentials};
use super::response;
use super::response::AdminRefusal;
use crate::audit::{AdminAction, AdminRecord, Outcome, RequestId};
use crate::gateway::Gateway;
use crate::identity::{Caller, Unverified};
use crate::policy::{Denied, Reach};
use crate::settings;
use crate::settings::ConfigError;
use crate::system::Moment;
use crate::telemetry::Scrape;

/// Settings of the admin listener.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where operators and their tools connect to; port 0 takes a free one.
    #[serde(deserialize_with = "settings::socket_address")]
    pub listen: SocketAddr,
    /// The names by which they address it, on any port, beside IP addresses and `localhost`.
    pub hosts: Hosts,
}

/// Answers operators.
pub struct Admin {
    gateway: Arc<Gateway>,
    hosts: Hosts,
    scrape: Scrape,
    readiness: Arc<Readiness>,
    searches: Arc<Semaphore>,
    /// Purges of more than a key come one after the other, so that several leave callers a processor.
    large_purges: Semaphore,
}

/// What an operator asked for, once it is known that they may.
struct Task<'t> {
    action: AdminAction,
    reach: Reach<'t>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            hosts: Hosts::default(),
        }
    }
}

impl Config {
    /// What cannot be meant.
    pub fn config_errors(&self) -> Vec<ConfigError> {
        self.hosts.config_errors("admin.hosts")
    }
}

impl Admin {
    /// What answers operators of `gateway`.
    pub fn new(
        gateway: Arc<Gateway>,
        config: &Config,
        scrape: Scrape,
        readiness: Arc<Readiness>,
    ) -> Self {
        Self {
            gateway,
            hosts: config.hosts.clone(),
            scrape,
            readiness,
            searches: Arc::new(Semaphore::new(lookups::SEARCHES)),
            large_purges: Semaphore::new(1),
        }
    }

    fn ready(&self) -> Response<Body> {
        let report = self.readiness.report();
        let status = if report.ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        response::json(status, &report, None)
    }

    async fn metrics(&self) -> Response<Body> {
        let cache = self.gateway.cache.clone();
        // It counts what was put and taken since the last time, and may have to wait for a purge that does
        // so, too. A panic in it has been logged.
        let _ = spawn_blocking(move || cache.measure()).await;
        self.readiness.report();
        self.gateway.upstream.update_gauges();
        self.gateway.show_policy();
        let mut response = Response::new(Body::from(Bytes::from(self.scrape.page().await)));
        let kind = HeaderValue::from_static(crate::telemetry::metrics::CONTENT_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    /// What is not on record is not done.
    async fn write_down(&self, record: &AdminRecord<'_>) -> Result<(), AdminRefusal> {
        let written = self.gateway.audit.record_admin(record).await;
        written.map_err(AdminRefusal::Unrecorded)
    }

    /// The rule that allows the task. A denial is on record before it is answered.
    async fn permitted(
        &self,
        caller: &Caller,
        task: &Task<'_>,
        by: &Requester,
    ) -> Result<Arc<str>, AdminRefusal> {
        let verdict = self
            .gateway
            .policy
            .load()
            .may_administer(caller, task.reach);
        match verdict {
            Ok(administrator) => Ok(Arc::clone(administrator.rule())),
            Err(denied) => Err(self.deny(caller, task, by, &denied).await),
        }
    }

    async fn deny(
        &self,
        caller: &Caller,
        task: &Task<'_>,
        by: &Requester,
        denied: &Denied,
    ) -> AdminRefusal {
        let now = self.gateway.clock.now();
        let refusal = AdminRefusal::Denied;
        let audit = &self.gateway.audit;
        let folded = audit.refuse_admin(Some(caller), by.peer, &refusal.code(), now);
        if folded.is_some() {
            return refusal;
        }
        let record = AdminRecord {
            rule: denied.rule().map(|rule| &**rule),
            ..by.record(caller, task, Outcome::Denied, now)
        };
        self.write_down(&record).await.err().unwrap_or(refusal)
    }

    async fn administer(
        &self,
        parts: &Parts,
        credentials: Result<Credentials<'_>, BadRequest>,
        body: Incoming,
        admin_request: &AdminRequest,
    ) -> Result<Response<Body>, AdminRefusal> {
        let (by, route) = (admin_request.by, (&parts.method, parts.uri.path()));
        let action = action_of(route.1).ok_or(AdminRefusal::Request(BadRequest::Route))?;
        let credentials = credentials.map_err(AdminRefusal::Request)?;
        let caller = self.caller(credentials, action, &by).await?;
        admin_request.state.set_authenticated();
        // What it reaches is not known before it has been read, and only operators are told what is
        // wrong with it.
        let unread = Task {
            action,
            reach: Reach::Everything,
        };
        if let Err(denied) = self.gateway.policy.load().administrates(&caller) {
            return Err(self.deny(&caller, &unread, &by, &denied).await);
        }
        let query = parts.uri.query().unwrap_or_default();
        let done = match route {
            (&Method::POST, "/cache/purge") => self.purge(&caller, body, by).await,
            (&Method::GET, "/cache/explain") => self.explain(&caller, query, by).await,
            (&Method::GET, "/access/explain") => self.explain_access(&caller, query, by).await,
            (&Method::GET, "/audit/lookups") => {
                self.lookups(&caller, query, by, &admin_request.gone).await
            }
            (_, "/cache/purge") => Err(AdminRefusal::Method("POST")),
            _ => Err(AdminRefusal::Method("GET")),
        };
        if let Err(refusal) = &done
            && refusal.is_of_what_was_sent()
        {
            let now = self.gateway.clock.now();
            let rejected = AdminRecord {
                status: Some(refusal.status().as_u16()),
                filters: (action == AdminAction::Search).then_some(query),
                ..by.record(&caller, &unread, Outcome::Rejected, now)
            };
            self.write_down(&rejected).await?;
        }
        done
    }

    /// Whether the caller's token is not on the deny list.
    fn is_believed(&self, caller: &Caller) -> bool {
        let passed = self.gateway.policy.load().pass_deny_list(caller);
        !matches!(passed, Err(Denied::Listed(listed)) if listed.is_of_token())
    }

    async fn caller(
        &self,
        credentials: Credentials<'_>,
        action: AdminAction,
        by: &Requester,
    ) -> Result<Arc<Caller>, AdminRefusal> {
        let now = self.gateway.clock.now();
        let unauthenticated = Outcome::Unauthenticated;
        let mut refused_for = None;
        let (refusal, outcome) = match credentials {
            Credentials::Bearer(token) => match self.gateway.identity.verify(token, now).await {
                Ok(caller) if self.is_believed(&caller) => return Ok(caller),
                Ok(_) => (AdminRefusal::BadToken, unauthenticated),
                Err(Unverified::NoKeys | Unverified::TooManyWait) => {
                    (AdminRefusal::NoKeys, Outcome::Failed)
                }
                Err(why) => {
                    refused_for = Some(why);
                    (AdminRefusal::BadToken, unauthenticated)
                }
            },
            Credentials::None => (AdminRefusal::Unauthenticated, unauthenticated),
        };
        let audit = &self.gateway.audit;
        match (
            audit.refuse_admin(None, by.peer, &refusal.code(), now),
            &refusal,
        ) {
            (None, _) => {}
            // What is wrong with us is said all the same.
            (Some(_), AdminRefusal::NoKeys) => return Err(refusal),
            (Some(refusals), _) => return Err(AdminRefusal::TooMany(refusals)),
        }
        if let Some(why) = refused_for {
            let (request_id, reason, claim) = (by.request_id, why.reason(), why.claim());
            info!(%request_id, reason, claim, "an operator's token was refused: {why}");
        }
        let refused = AdminRecord {
            action,
            outcome,
            caller: None,
            peer: Some(by.peer),
            request_id: Some(by.request_id),
            status: Some(refusal.status().as_u16()),
            rule: None,
            group_id: None,
            username: None,
            entries: None,
            filters: None,
            now,
        };
        self.write_down(&refused).await?;
        Err(refusal)
    }
}

impl Handler for Admin {
    type Answer = BoxFuture<'static, Response<Body>>;

    fn handle(self: &Arc<Self>, request: Request<Incoming>, peer: &Arc<Peer>) -> Self::Answer {
        let admin = Arc::clone(self);
        let admin_request = AdminRequest {
            by: Requester {
                peer: peer.address,
                request_id: Uuid::now_v7().into(),
            },
            state: peer.state.clone(),
            gone: CancellationToken::new(),
        };
        let hangs_up = admin_request.gone.clone().drop_guard();
        // In a task of its own: what an operator has begun is done and on record, even if they hang up.
        // Only what changes nothing, and takes long, looks whether somebody still waits for it.
        let answering = tokio::spawn(async move { admin.answer(request, &admin_request).await });
        Box::pin(async move {
            let answer = answering.await.unwrap_or_else(|_| response::unexpected());
            drop(hangs_up);
            answer
        })
    }
}

impl Admin {
    async fn answer(
        &self,
        request: Request<Incoming>,
        admin_request: &AdminRequest,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let refused = |refusal| response::not_administered(&refusal, admin_request.by.request_id);
        let credentials = match Addressed::read(&parts) {
            // A page of somebody else's that a browser was told is here speaks of its own host.
            Ok(addressed) if !self.hosts.include_or_local(addressed.host()) => {
                return refused(AdminRefusal::Misdirected);
            }
            Ok(addressed) => addressed.credentials(&parts.headers, false),
            Err(BadRequest::Method) => return refused(AdminRefusal::Method("GET, HEAD, POST")),
            Err(refusal) => return refused(AdminRefusal::Request(refusal)),
        };
        match (&parts.method, parts.uri.path()) {
            (&Method::GET | &Method::HEAD, "/healthz") => {
                response::json(StatusCode::OK, &"ok", None)
            }
            (&Method::GET | &Method::HEAD, "/readyz") => self.ready(),
            (&Method::GET | &Method::HEAD, "/metrics") => self.metrics().await,
            (_, "/healthz" | "/readyz" | "/metrics") => refused(AdminRefusal::Method("GET, HEAD")),
            _ => {
                let request_id = admin_request.by.request_id;
                self.administer(&parts, credentials, body, admin_request).await.unwrap_or_else(|refusal| {
                    if let AdminRefusal::Unrecorded(problem) = &refusal {
                        debug!(%request_id, "not answered, because it is not on record: {problem}");
                    }
                    response::not_administered(&refusal, request_id)
                })
            }
        }
    }
}

/// The connection by which somebody asks.
struct AdminRequest {
    by: Requester,
    state: ConnectionState,
    /// Cancelled when nobody waits for the answer any more.
    gone: CancellationToken,
}

/// Who is asking, apart from their token.
#[derive(Clone, Copy)]
struct Requester {
    peer: SocketAddr,
    request_id: RequestId,
}

impl Requester {
    fn record<'a>(
        &self,
        caller: &'a Caller,
        task: &Task<'a>,
        outcome: Outcome,
        now: Moment,
    ) -> AdminRecord<'a> {
        let status = match outcome {
            Outcome::Denied => StatusCode::FORBIDDEN,
            Outcome::Unauthenticated => StatusCode::UNAUTHORIZED,
            Outcome::Abandoned | Outcome::Answered | Outcome::Failed | Outcome::Rejected => {
                StatusCode::OK
            }
        };
        let (group_id, username) = match task.reach {
            Reach::Everything => (None, None),
            Reach::Project(project) => (Some(project.as_str()), None),
            Reach::CertQuery(query) => {
                (Some(query.project.as_str()), Some(query.username.as_str()))
            }
        };
        AdminRecord {
            action: task.action,
            outcome,
            caller: Some(caller),
            peer: Some(self.peer),
            request_id: Some(self.request_id),
            status: Some(status.as_u16()),
            rule: None,
            group_id,
            username,
            entries: None,
            filters: None,
            now,
        }
    }
}

/// What is done at a path.
fn action_of(path: &str) -> Option<AdminAction> {
    match path {
        "/access/explain" => Some(AdminAction::ExplainAccess),
        "/audit/lookups" => Some(AdminAction::Search),
        "/cache/explain" => Some(AdminAction::Explain),
        "/cache/purge" => Some(AdminAction::Purge),
        _ => None,
    }
}
