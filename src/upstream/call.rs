//! One call to Atlas: one page, after as many tries as are right.
//!
//! Each try has a token of the project's bucket and an access token of Atlas, and passes the limits
//! ([`super::limiter`]) and the wire ([`super::client`]). Whatever is not used on the way is given back.

use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, AUTHORIZATION, DATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::Url;
use tracing::error;

use super::Upstream;
use super::api_key::{ApiKey, Challenged, challenged};
use super::config::Api;
use super::credential::{Credential, CredentialUnavailable, Login};
use super::error::{AtlasAnswer, CallError, CredentialFailure, FetchErrorKind};
use super::limiter::{CallOutcome, FetchLimits, Quota, Reservation};
use super::page::{AtlasPage, LONGEST_PAGE, PageError};
use super::progress::FetchCounts;
use super::response::page_body;
use super::retry::{self, Backoff, Next};
use super::service_account::Bearer;
use crate::atlas::{CertQuery, ProjectId, Timestamp};
use crate::http_client::{CallBounds, HttpErrorKind, HttpReply};
use crate::system::Moment;
use crate::telemetry::Tally;
use crate::telemetry::metrics::upstream::Endpoint;

pub(super) struct CallContext<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) project: ProjectId,
    pub(super) retries: bool,
    pub(super) credential: &'a Credential,
    pub(super) limits: FetchLimits,
    pub(super) progress: FetchCounts,
    pub(super) deadline: Duration,
    pub(super) url: Url,
    pub(super) endpoint: Endpoint,
}

#[derive(Debug)]
pub(super) struct PageReply {
    pub(super) page: AtlasPage,
    pub(super) at: Moment,
    /// Atlas's own clock, as the answer's `Date` has it.
    pub(super) date: Option<Timestamp>,
}

/// The path of a list, byte for byte as it is sent.
pub(super) fn list_path(api: Api, query: &CertQuery) -> String {
    let users = users_path(api, query.project);
    let username = query.username.to_path_segment();
    format!("{users}/{username}/certs")
}

/// That of a project's users.
pub(super) fn users_path(api: Api, project: ProjectId) -> String {
    let version = match api {
        Api::V2 => "v2",
        Api::V1 => "v1.0",
    };
    format!("/api/atlas/{version}/groups/{project}/databaseUsers")
}

impl CallContext<'_> {
    pub(super) async fn first_page(&self) -> Result<PageReply, CallError> {
        let reserved = self.limits.reserve(1, true).await;
        let mut reserved = reserved.map_err(CallError::NotSent)?;
        let reservation = reserved.pop().expect("one was asked for");
        self.page(1, reservation, false).await
    }

    /// A page behind the first one. If what was asked for is gone meanwhile, the list has changed.
    pub(super) async fn further_page(
        &self,
        number: u64,
        reservation: Reservation,
    ) -> Result<PageReply, CallError> {
        let page = self.page(number, reservation, true).await;
        page.map_err(|error| match error.atlas().map(|answer| answer.status) {
            Some(StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) => CallError::Changed,
            Some(_) | None => error,
        })
    }

    pub(super) async fn pause(&self, backoff: Backoff) {
        let span = self
            .upstream
            .0
            .env
            .jitter
            .between(backoff.least, backoff.most);
        self.upstream.0.env.clock.sleep(span).await;
    }

    /// Whether another try after `error` may be made, after its backoff: within the time and the budget of
    /// retries.
    pub(super) async fn may_retry(&self, error: &CallError) -> bool {
        let left = self.left();
        let Next::Retry(backoff) = retry::next(error, self.progress.retries(), left) else {
            return false;
        };
        let fits = self.retries && left >= backoff.most + SHORTEST_TRY;
        if !fits || !self.limits.spend_retry(backoff.cost) {
            return false;
        }
        self.count_retry();
        self.pause(backoff).await;
        true
    }

    async fn page(
        &self,
        number: u64,
        mut reservation: Reservation,
        further: bool,
    ) -> Result<PageReply, CallError> {
        let mut earlier = None;
        let mut resends = 0;
        loop {
            let mut bearer = None;
            let attempt = self.attempt((number, resends), reservation, further, &mut bearer);
            let error = match (attempt.await, earlier) {
                (Ok(page), _) => return Ok(page),
                // That we may not try again is not why there is no page.
                (Err(CallError::NotSent(why)), Some(earlier)) if why.is_held_back() => {
                    return Err(earlier);
                }
                (Err(error @ (CallError::NotSent(_) | CallError::Torn(_))), _) => {
                    return Err(error);
                }
                (Err(error), _) => error,
            };
            let has_new_token = match retry::next(&error, self.progress.retries(), self.left()) {
                Next::NewToken => self.has_new_token(bearer.as_ref(), &error).await?,
                Next::Retry(_) | Next::Stop => false,
            };
            if !has_new_token && !self.may_retry(&error).await {
                return Err(error);
            }
            let Some(another) = self
                .limits
                .reserve(1, false)
                .await
                .ok()
                .and_then(|mut it| it.pop())
            else {
                return Err(error);
            };
            reservation = another;
            earlier = Some(error);
            resends += 1;
        }
    }

    async fn attempt(
        &self,
        (number, resends): (u64, u32),
        reservation: Reservation,
        further: bool,
        bearer: &mut Option<Bearer>,
    ) -> Result<PageReply, CallError> {
        if let Login::Account(account) = &self.credential.login {
            *bearer = Some(account.bearer().await.map_err(not_sent)?);
        }
        let permit = reservation.acquire(further).await;
        let permit = permit.map_err(CallError::NotSent)?;
        let reply = match &self.credential.login {
            Login::Key(key) => self.exchange_digest(key, number, resends).await,
            Login::Account(_) => {
                let header = bearer.as_ref().map(|bearer| bearer.header.clone());
                self.exchange(number, header, resends).await
            }
        };
        let mut result = self.read(reply.as_ref().map_err(|kind| *kind));
        let cooldown = result.as_ref().err().and_then(retry::cooldown);
        let quota = reply.as_ref().map_or_else(|_| Quota::default(), quota);
        let (others, wait) = permit.finish(outcome(&reply), quota, cooldown);
        if others > 0 {
            let metrics = &self.upstream.0.env.metrics.others_calls;
            let labels = self.credential.labels();
            metrics.get_or_create(&labels).inc_by(others);
        }
        if let Some(wait) = wait {
            self.upstream.update_gauges();
            if let Err(CallError::Response(reason)) = &mut result {
                reason.set_retry_after(wait);
            }
        }
        result
    }

    fn read(&self, reply: Result<&HttpReply, HttpErrorKind>) -> Result<PageReply, CallError> {
        let reply = reply?;
        let body = page_body(reply).inspect_err(|error| {
            let answer = error.atlas();
            if answer.is_some_and(AtlasAnswer::says_address_refused) {
                self.credential.refused(CredentialUnavailable::Address);
            } else if reply.status == StatusCode::NOT_FOUND {
                self.credential.accepted();
            }
        })?;
        self.credential.accepted();
        match AtlasPage::read(body, &self.project) {
            Ok(page) => Ok(PageReply {
                page,
                at: reply.at,
                date: date(&reply.headers),
            }),
            Err(PageError::Torn) => Err(CallError::Torn("it breaks off or is no JSON")),
            Err(PageError::Refused(why)) => {
                self.upstream.0.env.metrics.answers_refused.inc();
                let project = self.project;
                let refused = &self.upstream.0.answers_refused;
                if let Some(Tally { times, .. }) = refused.happened(self.now()) {
                    error!(%project, times, "refused an answer of Atlas: {why}");
                }
                Err(CallError::Unusable(why))
            }
        }
    }

    /// Asks with a nonce that was used before; where there is none, or it is no longer good, Atlas's
    /// challenge brings another. Two challenges are answered, and no more.
    pub(super) async fn exchange_digest(
        &self,
        key: &ApiKey,
        number: u64,
        resends: u32,
    ) -> Result<HttpReply, HttpErrorKind> {
        let target = format!("{}?{}", self.url.path(), page_query(number));
        let mut nonce = key.nonce();
        let mut rounds = 0;
        loop {
            let header = nonce.as_mut().and_then(|it| key.authorize(it, &target));
            let reply = self.exchange(number, header, resends + rounds).await?;
            let challenged = match reply.status {
                StatusCode::UNAUTHORIZED => challenged(&reply.headers, nonce.as_ref()),
                _ => Challenged::No,
            };
            match (challenged, nonce.take()) {
                (Challenged::Again(next), _) if rounds < MOST_CHALLENGES => {
                    rounds += 1;
                    nonce = Some(next);
                    // Whether Atlas counts a challenge as a call is not known; so we do.
                    self.limits.count_challenge();
                }
                (Challenged::No, Some(accepted)) => {
                    key.keep(accepted);
                    return Ok(reply);
                }
                (Challenged::Again(_) | Challenged::No | Challenged::Refused, _) => {
                    return Ok(reply);
                }
            }
        }
    }

    /// One request for one page: no header of a caller's is ever sent on.
    pub(super) async fn exchange(
        &self,
        number: u64,
        authorization: Option<HeaderValue>,
        resends: u32,
    ) -> Result<HttpReply, HttpErrorKind> {
        let upstream = self.upstream;
        let mut url = self.url.clone();
        url.set_query(Some(&page_query(number)));
        let accept = match upstream.0.api {
            Api::V2 => "application/vnd.atlas.2023-01-01+json",
            Api::V1 => "application/json",
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let began = self.now();
        let cause = self.progress.called(number, began);
        let bounds = CallBounds {
            bytes: upstream.0.limits.page_bytes.0,
            time: upstream
                .0
                .limits
                .page
                .min(self.deadline.saturating_sub(began)),
            from: began,
        };
        let request = (url, headers, None);
        let reply = upstream
            .0
            .env
            .client
            .send(self.endpoint, request, bounds, resends)
            .await;
        let status = reply.as_ref().map(|reply| reply.status).ok();
        self.progress.answered(status, self.now());
        if self.endpoint == Endpoint::Certificates {
            upstream.0.env.metrics.caused(cause);
        }
        reply
    }

    /// Whether there is, or will be, another token than the one that a 401 refused. Atlas answers it to a
    /// dead token and to an account without a right, and not always with a code that tells which.
    pub(super) async fn has_new_token(
        &self,
        bearer: Option<&Bearer>,
        error: &CallError,
    ) -> Result<bool, CallError> {
        let lacks_access = error.atlas().is_some_and(AtlasAnswer::says_no_access);
        let is_new = match (&self.credential.login, bearer) {
            (Login::Account(account), Some(bearer)) if lacks_access => {
                account.replaced(bearer).await.map_err(not_sent)?
            }
            (Login::Account(account), Some(bearer)) => account.refused(bearer),
            (Login::Account(_) | Login::Key(_), _) => false,
        };
        if is_new {
            self.count_retry();
        } else if !lacks_access {
            // A second 401 is believed.
            self.credential.refused(CredentialUnavailable::Key);
        }
        Ok(is_new)
    }

    fn count_retry(&self) {
        self.upstream.0.env.metrics.retries.inc();
        self.progress.retried();
    }

    fn now(&self) -> Duration {
        self.upstream.0.env.clock.elapsed()
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.now())
    }
}

pub(super) fn not_sent(why: CredentialFailure) -> CallError {
    CallError::NotSent(FetchErrorKind::Credential(why))
}

fn page_query(number: u64) -> String {
    format!("itemsPerPage={LONGEST_PAGE}&includeCount=true&pageNum={number}")
}

/// How a call ended, for the limits; `None` if no connection came about.
fn outcome(reply: &Result<HttpReply, HttpErrorKind>) -> Option<CallOutcome> {
    match reply {
        Ok(reply)
            if reply.status.is_server_error() || reply.status == StatusCode::REQUEST_TIMEOUT =>
        {
            Some(CallOutcome::Failed)
        }
        Ok(_) => Some(CallOutcome::Answered),
        Err(HttpErrorKind::NoConnection | HttpErrorKind::Tls) => None,
        Err(HttpErrorKind::Timeout | HttpErrorKind::Reset) => Some(CallOutcome::Unanswered),
        Err(
            HttpErrorKind::Encoded
            | HttpErrorKind::Malformed
            | HttpErrorKind::TooLarge
            | HttpErrorKind::Torn,
        ) => Some(CallOutcome::Failed),
    }
}

/// Whole numbers in Atlas's headers; anything else is not there.
fn quota(reply: &HttpReply) -> Quota {
    let number = |name: &HeaderName| {
        let value = reply.headers.get(name)?;
        value.to_str().ok()?.trim().parse().ok()
    };
    Quota {
        limit: number(&LIMIT),
        remaining: number(&REMAINING),
    }
}

/// When Atlas sent an answer, by its own clock.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let since = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp::default().plus(since))
}

static LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
/// No try is begun that could not end in time.
const SHORTEST_TRY: Duration = Duration::from_secs(1);
const MOST_CHALLENGES: u32 = 2;
