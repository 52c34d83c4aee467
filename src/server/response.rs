//! Responses: headers, and with [`errors`] the only place with status codes.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{GetAll, HeaderName};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use uuid::Uuid;

mod error_reply;
mod errors;
mod limits;

use self::error_reply::ErrorReply;
use super::body;
use super::body::payload::ResponseBody;
use super::head::HeadFault;
use super::request::{BadRequest, CertRequest};
use super::unsent_budget::UnsentAccount;
use crate::audit::{RequestId, TooManyRefusals, Unrecorded};
use crate::cache::{CacheStatusHeader, Found};
use crate::gateway;
use crate::gateway::{OVERLOAD_PAUSE, Refusal};
use crate::policy::allowance::{AllowanceLeft, AllowancesLeft};

/// A reply, and what the audit record says of it.
pub(crate) type RenderedReply = gateway::Rendered<Response<ResponseBody>>;

/// Renders a list in the form that was asked for, or 304 where the caller has it already; 503 where the
/// budget of unsent bytes is spent (load shedding).
pub fn answered(
    found: &Found,
    asked: &CertRequest<'_>,
    request_id: RequestId,
    unsent: &UnsentAccount,
) -> RenderedReply {
    let envelope = asked.form.has_envelope();
    let Some(list) = body::render(found, asked, unsent) else {
        let retry_after = OVERLOAD_PAUSE;
        let shed = refused(&Refusal::Overloaded { retry_after }, request_id, envelope);
        return RenderedReply {
            is_shed: true,
            ..shed
        };
    };
    let unchanged = is_known(&asked.validators, &list.etag);
    let mut response = if unchanged {
        Response::default()
    } else {
        Response::new(list.body)
    };
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(header::AGE, found.age().as_secs().into());
    headers.insert(CACHE_STATUS, cache_status(found.header()));
    headers.insert(header::ETAG, list.etag);
    headers.insert(REQUEST_ID, request_id_value(request_id));
    headers.insert(UPSTREAM_CALLS, found.upstream_calls.into());
    let fixed = HeaderValue::from_static;
    headers.insert(header::CACHE_CONTROL, fixed("private, no-cache"));
    headers.insert(header::VARY, fixed("Accept, Accept-Encoding"));
    if !unchanged {
        headers.insert(header::CONTENT_TYPE, asked.media_type.header_value());
        if let Some(encoding) = list.encoding {
            headers.insert(header::CONTENT_ENCODING, fixed(encoding));
        }
    }
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    RenderedReply {
        status: response.status().as_u16(),
        reply: response,
        error_code: None,
        certificates: Some(list.certificates),
        is_shed: false,
    }
}

/// Tells a caller what its rules let it ask in a minute, and how much of that is left
/// (draft-ietf-httpapi-ratelimit-headers-10). Nothing where they set no limit; never what Atlas says of its own.
pub(super) fn tell_allowances(response: &mut Response<ResponseBody>, left: AllowancesLeft) {
    let AllowancesLeft { lookups, misses } = left;
    if lookups.is_none() && misses.is_none() {
        return;
    }
    let limits = [("lookups", lookups), ("misses", misses)];
    let limits = limits.map(|(name, left)| left.map(|left| (name, left)));
    let (mut policy, mut rest) = (String::new(), String::new());
    for (name, left) in limits.into_iter().flatten() {
        let comma = if policy.is_empty() { "" } else { ", " };
        let AllowanceLeft {
            per_minute,
            left,
            whole_in,
        } = left;
        let seconds = whole_in.as_secs() + u64::from(whole_in.subsec_nanos() > 0);
        write!(policy, "{comma}\"{name}\";q={per_minute};w=60").expect("a text takes every text");
        write!(rest, "{comma}\"{name}\";r={left};t={seconds}").expect("a text takes every text");
    }
    let headers = response.headers_mut();
    for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, rest)] {
        let value = HeaderValue::try_from(text).expect("it is visible ASCII");
        headers.insert(name, value);
    }
}

/// Gives an answer from what is known already its headers.
pub(super) fn describe(
    response: &mut Response<ResponseBody>,
    request_id: RequestId,
    etag: &HeaderValue,
) {
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag.clone());
    headers.insert(REQUEST_ID, request_id_value(request_id));
    headers.insert(UPSTREAM_CALLS, 0.into());
    let fixed = HeaderValue::from_static;
    headers.insert(header::CACHE_CONTROL, fixed("private, no-cache"));
    headers.insert(header::VARY, fixed("Accept"));
}

pub(crate) fn bad_request(
    refusal: &BadRequest,
    request_id: RequestId,
    envelope: bool,
) -> RenderedReply {
    finish(errors::of_request(refusal), request_id, envelope, 0)
}

pub(crate) fn refused(refusal: &Refusal, request_id: RequestId, envelope: bool) -> RenderedReply {
    let (reply, calls) = (errors::of_lookup(refusal), refusal.upstream_calls());
    let mut rendered = finish(reply, request_id, envelope, calls);
    if let Some(status) = refusal.cache_status() {
        let status = cache_status(status.header(None, false));
        rendered.reply.headers_mut().insert(CACHE_STATUS, status);
    }
    rendered
}

/// Nothing is answered that is not written down (G16).
pub(crate) fn unrecorded(request_id: RequestId, envelope: bool) -> Response<ResponseBody> {
    finish(errors::unrecorded(), request_id, envelope, 0).reply
}

/// The answer after a panic that only the connection has caught.
pub(crate) fn unexpected() -> Response<ResponseBody> {
    finish(errors::unexpected(), Uuid::nil().into(), false, 0).reply
}

/// Writes why a request's head was refused; nothing else on its connection is read.
pub(crate) fn refused_head(fault: HeadFault) -> Response<ResponseBody> {
    finish(errors::of_head(fault), Uuid::now_v7().into(), false, 0).reply
}

#[derive(Debug)]
pub(crate) enum AdminRefusal {
    BadToken,
    Body(&'static str),
    /// The database does not answer.
    CentralTrailAway,
    Denied,
    /// No browser says that the form stands on the status page.
    ForeignForm,
    /// The path takes these methods.
    Method(&'static str),
    Misdirected,
    NoKeys,
    Query(Cow<'static, str>),
    Request(BadRequest),
    /// What was purged is still on the disk.
    SnapshotStays,
    /// The process is stopping, and this would take too long.
    Stopping,
    TooManySearches,
    TooLarge,
    TooLate,
    /// One more that was refused than there may be.
    TooMany(TooManyRefusals),
    Unauthenticated,
    Unexpected,
    /// A file of the trail cannot be read.
    Unreadable,
    Unrecorded(Unrecorded),
}

impl AdminRefusal {
    pub(crate) fn status(&self) -> StatusCode {
        errors::of_operators(self).response.status()
    }

    pub(crate) fn code(&self) -> Arc<str> {
        errors::of_operators(self).code
    }

    /// Whether it is about what a known operator has sent, not about who or about us.
    pub(crate) fn is_of_what_was_sent(&self) -> bool {
        match self {
            Self::Body(_) | Self::Method(_) | Self::Query(_) | Self::TooLarge | Self::TooLate => {
                true
            }
            Self::BadToken
            | Self::CentralTrailAway
            | Self::Denied
            | Self::ForeignForm
            | Self::Misdirected
            | Self::NoKeys
            | Self::Request(_)
            | Self::SnapshotStays
            | Self::Stopping
            | Self::TooMany(_)
            | Self::TooManySearches
            | Self::Unauthenticated
            | Self::Unexpected
            | Self::Unreadable
            | Self::Unrecorded(_) => false,
        }
    }
}

pub(crate) fn not_administered(
    refusal: &AdminRefusal,
    request_id: RequestId,
) -> Response<ResponseBody> {
    finish(errors::of_operators(refusal), request_id, false, 0).reply
}

pub(crate) fn json(
    status: StatusCode,
    value: &impl Serialize,
    request_id: Option<RequestId>,
) -> Response<ResponseBody> {
    let mut body = serde_json::to_vec(value).expect("values of ours can be written");
    body.push(b'\n');
    let mut response = Response::new(ResponseBody::from(Bytes::from(body)));
    *response.status_mut() = status;
    not_stored(&mut response);
    if let Some(id) = request_id {
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, request_id_value(id));
    }
    response
}

fn finish(reply: ErrorReply, request_id: RequestId, envelope: bool, calls: u32) -> RenderedReply {
    let ErrorReply { response, code } = reply;
    let status = response.status();
    let mut response = response.map(|document| {
        ResponseBody::from(if envelope {
            enveloped(status, &document)
        } else {
            document
        })
    });
    not_stored(&mut response);
    let headers = response.headers_mut();
    headers.insert(UPSTREAM_CALLS, HeaderValue::from(calls));
    headers.insert(REQUEST_ID, request_id_value(request_id));
    RenderedReply {
        reply: response,
        status: status.as_u16(),
        error_code: Some(code),
        certificates: None,
        is_shed: false,
    }
}

fn not_stored(response: &mut Response<ResponseBody>) {
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// `{"status": N, "content": {…}}`, the error inside unchanged.
fn enveloped(status: StatusCode, document: &[u8]) -> Bytes {
    let mut body = format!("{{\"status\":{},\"content\":", status.as_u16()).into_bytes();
    body.extend_from_slice(document);
    body.push(b'}');
    Bytes::from(body)
}

pub(super) fn request_id_value(request_id: RequestId) -> HeaderValue {
    HeaderValue::from_bytes(request_id.as_bytes()).expect("a UUID is visible ASCII")
}

/// RFC 9110, section 13.1.2: a list of tags, compared weakly, or `*` for any.
pub(super) fn is_known(validators: &GetAll<'_, HeaderValue>, etag: &HeaderValue) -> bool {
    validators
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

/// RFC 9211: how this cache came by its answer.
fn cache_status(status: CacheStatusHeader) -> HeaderValue {
    let text = format!("atlas-cert-gateway; {status}");
    HeaderValue::try_from(text).expect("it is visible ASCII")
}

/// Whole seconds, rounded up, and never zero: a caller that waits for zero seconds does not wait.
fn whole_seconds(wait: Duration) -> u64 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    seconds.max(1)
}

/// On errors: `atlas` or `gateway`.
pub(super) const ERROR_ORIGIN: HeaderName = HeaderName::from_static("x-error-origin");
/// Ours; also in the audit record and in every log line.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// How many calls to Atlas this answer cost.
pub(super) const UPSTREAM_CALLS: HeaderName = HeaderName::from_static("x-upstream-calls");
/// Of a list, those of hyper and of the connection included.
const HEADERS: usize = 14;
