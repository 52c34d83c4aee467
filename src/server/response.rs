//! An answer or a refusal goes in; Atlas's form, headers and status come out.
//!
//! Here, in [`document`] and in [`fetch`] is the only place with status codes.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use uuid::Uuid;

mod counted;
mod document;
mod fetch;
mod limits;

use self::counted::{Counted, text_value};
use self::document::Document;
use super::body;
use super::fields::Values;
use super::head::Fault;
use super::layers::Body;
use super::negotiation::MediaType;
use super::request::{Asked, BadRequest};
use super::unsent::Account;
use crate::audit::{RequestId, TooManyRefusals, Unrecorded};
use crate::cache::{CacheStatus, Found, Source};
use crate::clock::Moment;
use crate::gateway;
use crate::gateway::{Answer, OVERLOAD_PAUSE, Refusal};

/// An answer, and what the audit record says of it.
pub type Written = gateway::Written<Response<Body>>;

/// Writes an answer: the list in the form that was asked for, or 304 where the caller has it already.
/// What has to be made for it has room in `unsent`, or the caller is turned away.
pub fn answered(
    answer: &Answer,
    asked: &Asked<'_>,
    request_id: RequestId,
    unsent: &Account,
) -> Written {
    let Some(list) = body::render(answer, asked, unsent) else {
        return shed(request_id, asked.form.has_envelope());
    };
    let unchanged = is_known(asked.known, &list.etag);
    let (template, body) = match (unchanged, asked.media_type) {
        (true, _) => (&UNCHANGED, Body::default()),
        (false, MediaType::Json) => (&JSON, list.body),
        (false, MediaType::Versioned) => (&VERSIONED, list.body),
    };
    let found = &answer.found;
    let mut response = Response::clone(template).map(|()| body);
    let headers = response.headers_mut();
    let mut places = headers.iter_mut();
    let mut fill = |name: &str, value: HeaderValue| {
        if let Some((place, of)) = places.next() {
            debug_assert_eq!(place.as_str(), name);
            *of = value;
        }
    };
    // In the order of the templates.
    fill("age", NUMBERS.value(found.age(answer.now).as_secs()));
    fill("cache-status", cache_status(found, answer.now));
    fill("etag", list.etag);
    fill("x-request-id", request_id_value(request_id));
    if found.upstream_calls > 0 {
        headers.insert(UPSTREAM_CALLS, found.upstream_calls.into());
    }
    if !unchanged && let Some(encoding) = list.encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Written {
        status: response.status().as_u16(),
        reply: response,
        error_code: None,
        certificates: Some(list.certificates),
        is_shed: false,
    }
}

/// The head of every list, in which what differs from list to list has no value yet, and `0` where most
/// of them have one.
///
/// To copy it and fill it in costs half as much as to insert one header after the other, which hashes
/// each name and finds it a place. Those without a value come first, so that they are filled in one by
/// one.
static JSON: LazyLock<Response<()>> = LazyLock::new(|| template(Some(MediaType::Json)));

/// The same for those who ask for a version.
static VERSIONED: LazyLock<Response<()>> = LazyLock::new(|| template(Some(MediaType::Versioned)));

/// The same of a list that the caller has already, which leaves without its content.
static UNCHANGED: LazyLock<Response<()>> = LazyLock::new(|| template(None));

fn template(of_content: Option<MediaType>) -> Response<()> {
    let later = [header::AGE, CACHE_STATUS, header::ETAG, REQUEST_ID];
    let fixed = [
        (UPSTREAM_CALLS, "0"),
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::VARY, "Accept, Accept-Encoding"),
    ];
    let later = later.map(|name| (name, LATER));
    let fixed = fixed.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let mut template = Response::new(());
    *template.status_mut() = match of_content {
        Some(_) => StatusCode::OK,
        None => StatusCode::NOT_MODIFIED,
    };
    let of_content = of_content.map(|it| (header::CONTENT_TYPE, it.header_value()));
    *template.headers_mut() = later.into_iter().chain(fixed).chain(of_content).collect();
    template
}

const LATER: HeaderValue = HeaderValue::from_static("");

/// Writes a refusal of a request that was never asked as a question.
pub fn bad_request(refusal: &BadRequest, request_id: RequestId, envelope: bool) -> Written {
    finish(Document::of_request(refusal), request_id, envelope, 0)
}

/// Writes a refusal of a question.
pub fn refused(refusal: &Refusal, request_id: RequestId, envelope: bool) -> Written {
    let document = Document::of_refusal(refusal);
    let mut written = finish(document, request_id, envelope, refusal.upstream_calls());
    if let Some(source) = refusal.source() {
        let status = text_value(of_this_cache(source.status(None, false)));
        written.reply.headers_mut().insert(CACHE_STATUS, status);
    }
    written
}

/// Writes that there is no room for the answer.
#[cold]
fn shed(request_id: RequestId, envelope: bool) -> Written {
    let retry_after = OVERLOAD_PAUSE;
    let refusal = Refusal::Overloaded { retry_after };
    Written {
        is_shed: true,
        ..refused(&refusal, request_id, envelope)
    }
}

/// Nothing is answered that is not written down (G16).
pub fn unrecorded(request_id: RequestId, envelope: bool) -> Response<Body> {
    finish(Document::unrecorded(), request_id, envelope, 0).reply
}

/// The answer after a panic that nobody inside has caught.
pub fn unexpected() -> Response<Body> {
    finish(Document::unexpected(), Uuid::nil().into(), false, 0).reply
}

/// Writes why a request's head was refused; nothing else on its connection is read.
pub fn refused_head(fault: Fault) -> Response<Body> {
    finish(Document::of_head(fault), Uuid::now_v7().into(), false, 0).reply
}

/// Why an operator's request was not done.
#[derive(Debug)]
pub enum AdminRefusal {
    /// The token was not accepted.
    BadToken,
    /// The body is not what the path takes.
    Body(&'static str),
    /// No rule grants it.
    Denied,
    /// The path takes these methods.
    Method(&'static str),
    /// Another host was addressed.
    Misdirected,
    /// The keys of the token's issuer are not known.
    NoKeys,
    /// The query is not what the path takes.
    Query(Cow<'static, str>),
    /// The request itself.
    Request(BadRequest),
    /// The process is stopping, and this would take too long.
    Stopping,
    /// As many search the trail as may at a time.
    TooManySearches,
    /// The body is larger than any that means something.
    TooLarge,
    /// The body did not come.
    TooLate,
    /// One more that was refused than there may be.
    TooMany(TooManyRefusals),
    /// No token.
    Unauthenticated,
    /// A bug.
    Unexpected,
    /// A file of the trail cannot be read.
    Unreadable,
    /// It cannot be put on record.
    Unrecorded(Unrecorded),
}

impl AdminRefusal {
    /// The status that says it.
    pub fn status(&self) -> StatusCode {
        Document::of_operators(self).status
    }

    /// The code in its document.
    pub fn code(&self) -> Arc<str> {
        Document::of_operators(self).code
    }

    /// Whether it is about what a known operator has sent, not about who or about us.
    pub fn is_of_what_was_sent(&self) -> bool {
        match self {
            Self::Body(_) | Self::Method(_) | Self::Query(_) | Self::TooLarge | Self::TooLate => {
                true
            }
            Self::BadToken
            | Self::Denied
            | Self::Misdirected
            | Self::NoKeys
            | Self::Request(_)
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

/// Writes a refusal to an operator.
pub fn not_administered(refusal: &AdminRefusal, request_id: RequestId) -> Response<Body> {
    finish(Document::of_operators(refusal), request_id, false, 0).reply
}

/// Writes a value for an operator or a probe.
pub fn json(
    status: StatusCode,
    value: &impl Serialize,
    request_id: Option<RequestId>,
) -> Response<Body> {
    // Values of ours always serialise.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    let mut response = Response::new(Body::from(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(request_id) = request_id {
        headers.insert(REQUEST_ID, request_id_value(request_id));
    }
    response
}

fn finish(document: Document, request_id: RequestId, envelope: bool, calls: u32) -> Written {
    let body = if envelope {
        enveloped(document.status, &document.body)
    } else {
        document.body
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = document.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ERROR_ORIGIN, HeaderValue::from_static(document.origin));
    headers.insert(UPSTREAM_CALLS, HeaderValue::from(calls));
    headers.insert(REQUEST_ID, request_id_value(request_id));
    if let Some(wait) = document.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    if let Some(challenge) = document.challenge {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static(challenge),
        );
    }
    if let Some(methods) = document.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    if document.closes {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = document.status.as_u16();
    Written {
        reply: response,
        status,
        error_code: Some(document.code),
        certificates: None,
        is_shed: false,
    }
}

/// `{"status": N, "content": {…}}`, the error inside unchanged.
fn enveloped(status: StatusCode, document: &[u8]) -> Bytes {
    let mut body = format!("{{\"status\":{},\"content\":", status.as_u16()).into_bytes();
    body.extend_from_slice(document);
    body.push(b'}');
    Bytes::from(body)
}

/// The request's id as a header.
pub(super) fn request_id_value(request_id: RequestId) -> HeaderValue {
    HeaderValue::from_bytes(request_id.as_bytes()).unwrap_or(LATER)
}

/// RFC 9110, section 13.1.2: a list of tags, compared weakly, or `*` for any.
fn is_known(known: Values<'_>, etag: &HeaderValue) -> bool {
    known
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

/// RFC 9211: how this cache came by its answer.
fn cache_status(found: &Found, now: Moment) -> HeaderValue {
    let status = found.status(now);
    match (found.source, status.ttl().map(u64::try_from)) {
        (Source::Hit, Some(Ok(ttl))) => HITS.value(ttl),
        (Source::RefreshedAhead, Some(Ok(ttl))) => HITS_AHEAD.value(ttl),
        (_, _) => text_value(of_this_cache(status)),
    }
}

fn of_this_cache(status: CacheStatus) -> String {
    format!("atlas-cert-gateway; {status}")
}

static HITS: Counted = Counted::new(|ttl| of_this_cache(hit(Source::Hit, ttl)));
static HITS_AHEAD: Counted = Counted::new(|ttl| of_this_cache(hit(Source::RefreshedAhead, ttl)));
static NUMBERS: Counted = Counted::new(|number| number.to_string());

fn hit(source: Source, ttl: u64) -> CacheStatus {
    source.status(i64::try_from(ttl).ok(), true)
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
/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// How many calls to Atlas this answer cost.
pub(super) const UPSTREAM_CALLS: HeaderName = HeaderName::from_static("x-upstream-calls");
