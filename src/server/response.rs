//! An answer or a refusal goes in; Atlas's form, headers and status come out.
//!
//! Here and in [`document`] is the only place with status codes.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http::header::HeaderName;
use http_body_util::Full;
use serde::Serialize;
use uuid::Uuid;

mod document;

use self::document::Document;
use super::body;
use super::fields::Values;
use super::head::Fault;
use super::layers::Body;
use super::request::Asked;
use super::request::BadRequest;
use crate::audit::RequestId;
use crate::audit::Unrecorded;
use crate::cache::Found;
use crate::clock::Moment;
use crate::gateway;
use crate::gateway::Answer;
use crate::gateway::Refusal;

/// An answer, and what the audit record says of it.
pub type Written = gateway::Written<Response<Body>>;

/// Writes an answer: the list in the form that was asked for, or 304 where the caller has it already.
pub fn answered(answer: &Answer, asked: &Asked<'_>, request_id: RequestId) -> Written {
    let list = body::render(answer, asked);
    let unchanged = is_known(asked.known, &list.etag);
    let (status, body, mut headers) = if unchanged {
        (StatusCode::NOT_MODIFIED, Bytes::new(), UNCHANGED.clone())
    } else {
        (StatusCode::OK, list.body, CHANGED.clone())
    };
    let found = &answer.found;
    let mut places = headers.iter_mut();
    let mut fill = |name: &str, value: HeaderValue| {
        if let Some((place, of)) = places.next() {
            debug_assert_eq!(place.as_str(), name);
            *of = value;
        }
    };
    // In the order of the templates.
    fill("age", number(found.age(answer.now).as_secs()));
    fill("cache-status", cache_status(found, answer.now));
    fill("etag", list.etag);
    fill("x-request-id", request_id_value(request_id));
    fill("x-upstream-calls", number(found.upstream_calls.into()));
    if !unchanged {
        fill("content-type", asked.media_type.header_value());
    }
    if !unchanged && let Some(encoding) = list.encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Written {
        reply: response,
        status: status.as_u16(),
        error_code: None,
        certificates: Some(list.certificates),
    }
}

/// The headers of every list, in which what differs from list to list has no value yet.
///
/// To copy them and fill them in costs half as much as to insert one after the other, which hashes each
/// name and finds it a place. Those without a value come first, so that they are filled in one by one.
static CHANGED: LazyLock<HeaderMap> = LazyLock::new(|| template([header::CONTENT_TYPE]));

/// The same of one that the caller has already, which leaves without its content.
static UNCHANGED: LazyLock<HeaderMap> = LazyLock::new(|| template([]));

fn template<const N: usize>(of_content: [HeaderName; N]) -> HeaderMap {
    let later = [
        header::AGE,
        CACHE_STATUS,
        header::ETAG,
        REQUEST_ID,
        UPSTREAM_CALLS,
    ];
    let later = later.into_iter().chain(of_content);
    let fixed = [
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::VARY, "Accept, Accept-Encoding"),
    ];
    let later = later.map(|name| (name, LATER));
    let fixed = fixed.map(|(name, value)| (name, HeaderValue::from_static(value)));
    later.chain(fixed).collect()
}

const LATER: HeaderValue = HeaderValue::from_static("");

/// Writes a refusal of a request that was never asked as a question.
pub fn bad_request(refusal: &BadRequest, request_id: RequestId, envelope: bool) -> Written {
    finish(Document::of_request(refusal), request_id, envelope, 0)
}

/// Writes a refusal of a question.
pub fn refused(refusal: &Refusal, request_id: RequestId, envelope: bool) -> Written {
    finish(
        Document::of_refusal(refusal),
        request_id,
        envelope,
        refusal.upstream_calls(),
    )
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
    /// The body is not what the path takes.
    Body(&'static str),
    /// No rule grants it.
    Denied,
    /// The path takes these methods.
    Method(&'static str),
    /// The query is not what the path takes.
    Query(&'static str),
    /// The request itself.
    Request(BadRequest),
    /// No token, or one that was not accepted.
    Unauthenticated,
    /// A bug.
    Unexpected,
    /// It cannot be put on record.
    Unrecorded(Unrecorded),
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
    let mut response = Response::new(Full::new(Bytes::from(body)));
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
    let mut response = Response::new(Full::new(body));
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
    value(request_id.as_bytes())
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
    let mut digits = itoa::Buffer::new();
    let pieces = found.status(now);
    let pieces = pieces.pieces(&mut digits);
    // As long as it will be: a vector that is full becomes the header's memory as it is.
    let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let mut text = Vec::with_capacity(CACHE.len() + length);
    text.extend_from_slice(CACHE);
    for piece in pieces {
        text.extend_from_slice(piece.as_bytes());
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(LATER)
}

/// A number as a header. `HeaderValue::from` would allocate twice for one that is not static.
fn number(number: u64) -> HeaderValue {
    match number {
        0 => HeaderValue::from_static("0"),
        number => value(itoa::Buffer::new().format(number).as_bytes()),
    }
}

fn value(ascii: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(ascii).unwrap_or_else(|_| HeaderValue::from_static(""))
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
/// What `Cache-Status` calls this cache.
const CACHE: &[u8] = b"atlas-cert-gateway; ";
/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// How many calls to Atlas this answer cost.
pub(super) const UPSTREAM_CALLS: HeaderName = HeaderName::from_static("x-upstream-calls");
