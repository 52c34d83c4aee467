//! Replies: Atlas's form, headers and status.
//!
//! Here, in [`document`] and in [`fetch`] is the only place with status codes.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{GetAll, HeaderName};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use uuid::Uuid;

mod document;
mod fetch;
mod limits;

use self::document::Document;
use super::body;
use super::head::Fault;
use super::layers::Body;
use super::negotiation::MediaType;
use super::request::{BadRequest, CertRequest};
use super::unsent_budget::UnsentAccount;
use crate::audit::{RequestId, TooManyRefusals, Unrecorded};
use crate::cache::{CacheStatusHeader, Found};
use crate::gateway;
use crate::gateway::{OVERLOAD_PAUSE, Refusal};

/// A reply, and what the audit record says of it.
pub type Rendered = gateway::Rendered<Response<Body>>;

/// Renders a list in the form that was asked for, or 304 where the caller has it already. What has to be made
/// for it has room in `unsent`, or the lookup is shed.
pub fn answered(
    found: &Found,
    asked: &CertRequest<'_>,
    request_id: RequestId,
    unsent: &UnsentAccount,
) -> Rendered {
    let Some(list) = body::render(found, asked, unsent) else {
        return shed(request_id, asked.form.has_envelope());
    };
    let unchanged = is_known(&asked.validators, &list.etag);
    let template = match (unchanged, asked.media_type) {
        (true, _) => &UNCHANGED,
        (false, MediaType::Json) => &JSON,
        (false, MediaType::Versioned) => &VERSIONED,
    };
    let body = if unchanged {
        Body::default()
    } else {
        list.body
    };
    let mut response = Response::clone(template).map(|()| body);
    let headers = response.headers_mut();
    headers.insert(header::AGE, found.age().as_secs().into());
    headers.insert(CACHE_STATUS, text_value(of_this_cache(found.header())));
    headers.insert(header::ETAG, list.etag);
    headers.insert(REQUEST_ID, request_id_value(request_id));
    headers.insert(UPSTREAM_CALLS, found.upstream_calls.into());
    if !unchanged && let Some(encoding) = list.encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Rendered {
        status: response.status().as_u16(),
        reply: response,
        error_code: None,
        certificates: Some(list.certificates),
        is_shed: false,
    }
}

/// The head of every list, which is copied: its headers in the order in which they leave.
static JSON: LazyLock<Response<()>> = LazyLock::new(|| template(Some(MediaType::Json)));

/// The same for callers that ask for a version.
static VERSIONED: LazyLock<Response<()>> = LazyLock::new(|| template(Some(MediaType::Versioned)));

/// The same of a list that the caller has already, which leaves without its content.
static UNCHANGED: LazyLock<Response<()>> = LazyLock::new(|| template(None));

fn template(of_content: Option<MediaType>) -> Response<()> {
    let unset = || HeaderValue::from_static("");
    let of_list = [
        header::AGE,
        CACHE_STATUS,
        header::ETAG,
        REQUEST_ID,
        UPSTREAM_CALLS,
    ];
    let fixed = [
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::VARY, "Accept, Accept-Encoding"),
    ];
    let of_list = of_list.map(|name| (name, unset()));
    let fixed = fixed.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let mut template = Response::new(());
    *template.status_mut() = match of_content {
        Some(_) => StatusCode::OK,
        None => StatusCode::NOT_MODIFIED,
    };
    let of_content = of_content.map(|it| (header::CONTENT_TYPE, it.header_value()));
    *template.headers_mut() = of_list.into_iter().chain(fixed).chain(of_content).collect();
    template
}

/// Writes a refusal of a malformed request.
pub fn bad_request(refusal: &BadRequest, request_id: RequestId, envelope: bool) -> Rendered {
    finish(Document::of_request(refusal), request_id, envelope, 0)
}

/// Writes a refusal of a lookup.
pub fn refused(refusal: &Refusal, request_id: RequestId, envelope: bool) -> Rendered {
    let document = Document::of_refusal(refusal);
    let mut rendered = finish(document, request_id, envelope, refusal.upstream_calls());
    if let Some(status) = refusal.cache_status() {
        let status = text_value(of_this_cache(status.header(None, false)));
        rendered.reply.headers_mut().insert(CACHE_STATUS, status);
    }
    rendered
}

/// Writes that there is no room for the answer.
#[cold]
fn shed(request_id: RequestId, envelope: bool) -> Rendered {
    let retry_after = OVERLOAD_PAUSE;
    let refusal = Refusal::Overloaded { retry_after };
    Rendered {
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

fn finish(document: Document, request_id: RequestId, envelope: bool, calls: u32) -> Rendered {
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
    Rendered {
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
    HeaderValue::from_bytes(request_id.as_bytes()).expect("a UUID is visible ASCII")
}

/// RFC 9110, section 13.1.2: a list of tags, compared weakly, or `*` for any.
fn is_known(validators: &GetAll<'_, HeaderValue>, etag: &HeaderValue) -> bool {
    validators
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

/// RFC 9211: how this cache came by its answer.
fn of_this_cache(status: CacheStatusHeader) -> String {
    format!("atlas-cert-gateway; {status}")
}

/// A text of ours as a header's value.
fn text_value(text: String) -> HeaderValue {
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
/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// How many calls to Atlas this answer cost.
pub(super) const UPSTREAM_CALLS: HeaderName = HeaderName::from_static("x-upstream-calls");
