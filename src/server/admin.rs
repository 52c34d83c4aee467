//! The admin listener: health, readiness, metrics, purge, explain and the audit trail.
//!
//! Every path but the first three and `/openapi.json` needs a token whose rule grants `admin`, and what an operator does is on
//! record like a lookup. The cookie of a [session] opens the status page alone.

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
mod budgets;
mod explain;
mod fleet_lookups;
mod lookups;
mod operation;
mod purge;
mod readiness;
mod session;
mod status;
mod usage;

pub(crate) use readiness::{Readiness, ReadinessReport};

use self::operation::Operation;
use self::session::Sessions;

use super::body::payload::ResponseBody;
use super::connection::{ConnectionPeer, ConnectionState};
use super::hosts::Hosts;
use super::openapi;
use super::request::{Addressed, BadRequest, BearerCredentials};
use super::response::{self, AdminRefusal};
use super::service::Handler;
use crate::audit::{AdminAction, AdminRecord, Outcome, RequestId};
use crate::gateway::Gateway;
use crate::identity::{Caller, Unverified};
use crate::policy::{Denied, Reach};
use crate::settings::{self, ConfigError};
use crate::telemetry::Scrape;

/// Settings of the admin listener.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
pub struct Config {
    #[serde(deserialize_with = "settings::socket_address")]
    pub listen: SocketAddr,
    pub(crate) hosts: Hosts,
}

pub(crate) struct Admin {
    gateway: Arc<Gateway>,
    hosts: Hosts,
    scrape: Scrape,
    readiness: Arc<Readiness>,
    searches: Arc<Semaphore>,
    sessions: Sessions,
    /// Purges of more than a key come one after the other, so that several leave callers a processor.
    large_purges: Semaphore,
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
    pub(crate) fn config_errors(&self) -> Vec<ConfigError> {
        self.hosts.config_errors("admin.hosts")
    }
}

impl Admin {
    pub(crate) fn new(
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
            sessions: Sessions::default(),
            large_purges: Semaphore::new(1),
        }
    }

    fn ready(&self) -> Response<ResponseBody> {
        let report = self.readiness.report();
        let status = if report.ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        response::json(status, &report, None)
    }

    async fn metrics(&self) -> Response<ResponseBody> {
        let cache = self.gateway.cache.clone();
        // It counts what was put and taken since the last time, and may have to wait for a purge that does
        // so, too. A panic in it has been logged.
        let _ = spawn_blocking(move || cache.measure()).await;
        self.gateway.show_expirations().await;
        if let Some(snapshot) = &self.gateway.snapshot {
            snapshot.measure();
        }
        self.readiness.report();
        self.gateway.upstream.update_gauges();
        self.gateway.show_policy();
        let mut response = Response::new(ResponseBody::from(Bytes::from(self.scrape.page().await)));
        let kind = HeaderValue::from_static(crate::telemetry::metrics::CONTENT_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    async fn administer(
        &self,
        parts: &Parts,
        credentials: Result<BearerCredentials<'_>, BadRequest>,
        body: Incoming,
        request: &AdminRequest,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let route = (&parts.method, parts.uri.path());
        let action = action_of(route.1).ok_or(AdminRefusal::Request(BadRequest::Route))?;
        let credentials = credentials.map_err(AdminRefusal::Request)?;
        let caller = self.authenticate(credentials, action, request).await?;
        request.state.set_authenticated();
        let operation = &Operation {
            caller,
            action,
            query: parts.uri.query().unwrap_or(""),
            request,
        };
        // Only operators are told what is wrong with what they have sent.
        let policy = self.gateway.policy.load_full();
        if let Err(denied) = policy.administrates(&operation.caller) {
            return Err(self.deny(operation, Reach::Everything, &denied).await);
        }
        let done = match route {
            (&Method::POST, "/cache/purge") => self.purge(operation, body).await,
            (&Method::GET, "/cache/explain") => self.explain(operation).await,
            (&Method::GET, "/access/explain") => self.explain_access(operation).await,
            (&Method::GET, "/audit/lookups") => self.lookups(operation).await,
            (&Method::GET | &Method::HEAD, "/") => self.page_with_names(operation, false).await,
            (&Method::GET, "/budgets") => self.budgets(operation).await,
            (&Method::GET, "/usage") => self.usage(operation).await,
            (_, "/cache/purge") => Err(AdminRefusal::Method("POST")),
            _ => Err(AdminRefusal::Method("GET")),
        };
        self.with_rejection(operation, done).await
    }

    /// What a known operator has sent wrong is on record, too.
    async fn with_rejection(
        &self,
        operation: &Operation<'_>,
        done: Result<Response<ResponseBody>, AdminRefusal>,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        if let Err(refusal) = &done
            && refusal.is_of_what_was_sent()
        {
            let has_filters = operation.action == AdminAction::Search;
            let rejected = AdminRecord {
                outcome: Outcome::Rejected,
                status: Some(refusal.status().as_u16()),
                filters: has_filters.then_some(operation.query),
                ..self.record_of(operation, Reach::Everything)
            };
            self.write_down(&rejected).await?;
        }
        done
    }

    /// The status page for who shows no token: with names for the holder of a session.
    async fn open_page(
        &self,
        parts: &Parts,
        request: &AdminRequest,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let Some(caller) = self.session_holder(&parts.headers).await else {
            return Ok(self.page(None).await);
        };
        request.state.set_authenticated();
        let operation = &Operation {
            caller,
            action: AdminAction::Status,
            query: parts.uri.query().unwrap_or(""),
            request,
        };
        let page = self.page_with_names(operation, true).await;
        self.with_rejection(operation, page).await
    }

    fn is_believed(&self, caller: &Caller) -> bool {
        let passed = self.gateway.policy.load().pass_deny_list(caller);
        !matches!(passed, Err(Denied::Listed(listed)) if listed.is_of_token())
    }

    async fn authenticate(
        &self,
        credentials: BearerCredentials<'_>,
        action: AdminAction,
        request: &AdminRequest,
    ) -> Result<Arc<Caller>, AdminRefusal> {
        let now = self.gateway.clock.now();
        let mut refused_for = None;
        let refusal = match credentials {
            BearerCredentials::Bearer(token) => {
                match self.gateway.identity.verify(token, now).await {
                    Ok(caller) if self.is_believed(&caller) => return Ok(caller),
                    Ok(_) => AdminRefusal::BadToken,
                    Err(Unverified::NoKeys | Unverified::TooManyWait) => AdminRefusal::NoKeys,
                    Err(why) => {
                        refused_for = Some(why);
                        AdminRefusal::BadToken
                    }
                }
            }
            BearerCredentials::None => AdminRefusal::Unauthenticated,
        };
        let is_our_fault = matches!(refusal, AdminRefusal::NoKeys);
        let audit = &self.gateway.audit;
        if let Some(folded) = audit.refuse_admin(None, request.peer, &refusal.code(), now) {
            // What is wrong with us is said all the same.
            return Err(if is_our_fault {
                refusal
            } else {
                AdminRefusal::TooMany(folded)
            });
        }
        if let Some(why) = refused_for {
            let (request_id, reason, claim) = (request.request_id, why.reason(), why.claim());
            info!(%request_id, reason, claim, "an operator's token was refused: {why}");
        }
        let outcome = if is_our_fault {
            Outcome::Failed
        } else {
            Outcome::Unauthenticated
        };
        let record = AdminRecord {
            status: Some(refusal.status().as_u16()),
            ..self.record(action, request, outcome)
        };
        self.write_down(&record).await?;
        Err(refusal)
    }
}

impl Handler for Admin {
    type Answer = BoxFuture<'static, Response<ResponseBody>>;

    fn handle(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: &Arc<ConnectionPeer>,
    ) -> Self::Answer {
        let admin = Arc::clone(self);
        let admin_request = AdminRequest {
            peer: peer.address,
            request_id: Uuid::now_v7().into(),
            state: peer.state.clone(),
            gone: CancellationToken::new(),
        };
        let hangs_up = admin_request.gone.clone().drop_guard();
        // In a task of its own: what an operator has begun is done and on record, even if they hang up.
        // Only what changes nothing, and takes long, looks whether the caller still waits for it.
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
    ) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let answered = self.route(&parts, body, admin_request).await;
        answered.unwrap_or_else(|refusal| {
            let request_id = admin_request.request_id;
            if let AdminRefusal::Unrecorded(problem) = &refusal {
                debug!(%request_id, "not answered, because it is not on record: {problem}");
            }
            response::not_administered(&refusal, request_id)
        })
    }

    async fn route(
        &self,
        parts: &Parts,
        body: Incoming,
        request: &AdminRequest,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let addressed = Addressed::read(parts).map_err(|bad| {
            if bad == BadRequest::Method {
                AdminRefusal::Method("GET, HEAD, POST")
            } else {
                AdminRefusal::Request(bad)
            }
        })?;
        let host = addressed.host();
        // DNS rebinding: a foreign page that a browser was told is here names its own host.
        if !self.hosts.include_or_local(host) {
            return Err(AdminRefusal::Misdirected);
        }
        let credentials = addressed.credentials(&parts.headers, false);
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        match parts.uri.path() {
            "/healthz" if is_read => Ok(response::json(StatusCode::OK, &"ok", None)),
            "/readyz" if is_read => Ok(self.ready()),
            "/metrics" if is_read => Ok(self.metrics().await),
            openapi::PATH if is_read => Ok(openapi::document()),
            "/healthz" | "/readyz" | "/metrics" | openapi::PATH => {
                Err(AdminRefusal::Method("GET, HEAD"))
            }
            "/" if is_read && matches!(credentials, Ok(BearerCredentials::None)) => {
                Box::pin(self.open_page(parts, request)).await
            }
            "/session" if parts.method == Method::POST => {
                Box::pin(self.begin_session((parts, host), body, request)).await
            }
            "/session/end" if parts.method == Method::POST => {
                self.end_session((parts, host), request).await
            }
            "/session" | "/session/end" => Err(AdminRefusal::Method("POST")),
            _ => Box::pin(self.administer(parts, credentials, body, request)).await,
        }
    }
}

struct AdminRequest {
    peer: SocketAddr,
    request_id: RequestId,
    state: ConnectionState,
    gone: CancellationToken,
}

fn action_of(path: &str) -> Option<AdminAction> {
    match path {
        "/" => Some(AdminAction::Status),
        "/access/explain" => Some(AdminAction::ExplainAccess),
        "/audit/lookups" => Some(AdminAction::Search),
        "/budgets" => Some(AdminAction::Budgets),
        "/cache/explain" => Some(AdminAction::Explain),
        "/cache/purge" => Some(AdminAction::Purge),
        "/usage" => Some(AdminAction::Usage),
        _ => None,
    }
}
