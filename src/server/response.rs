//! An answer or a refusal goes in; Atlas's form, headers and status come out.
//!
//! The only file with status codes. The matches over refusals have no wildcard: a new refusal does not
//! compile until it has a status, a code and a sentence.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http::header::HeaderName;
use http::request::Parts;
use http_body_util::Full;
use serde::Serialize;
use uuid::Uuid;

use super::body;
use super::layers::Body;
use super::request::Asked;
use super::request::BadRequest;
use crate::atlas::ApiError;
use crate::atlas::error::Parameter;
use crate::audit::Unrecorded;
use crate::cache::Found;
use crate::clock::Moment;
use crate::gateway;
use crate::gateway::Answer;
use crate::gateway::Refusal;
use crate::policy::Denied;
use crate::upstream::AtlasAnswer;
use crate::upstream::CredentialFailure;
use crate::upstream::FetchFailure;

/// An answer, and what the audit record says of it.
pub type Written = gateway::Written<Response<Body>>;

/// A refusal in Atlas's form, before it has headers.
#[derive(Debug)]
struct Document {
    status: StatusCode,
    body: Bytes,
    code: Arc<str>,
    origin: &'static str,
    retry_after: Option<Duration>,
    challenge: Option<&'static str>,
    /// Whether the connection is not to be used again.
    closes: bool,
    allow: Option<&'static str>,
}

/// Writes an answer: the list in the form that was asked for, or 304 where the caller has it already.
pub fn answered(answer: &Answer, asked: &Asked<'_>, parts: &Parts, request_id: Uuid) -> Written {
    let list = body::render(answer, asked);
    let unchanged = is_known(&parts.headers, &list.etag);
    let mut response = Response::new(Full::new(if unchanged { Bytes::new() } else { list.body }));
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let status = response.status().as_u16();
    let headers = response.headers_mut();
    headers.reserve(10);
    if !unchanged {
        headers.insert(header::CONTENT_TYPE, asked.media_type.header_value());
        if let Some(encoding) = list.encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
    }
    let found = &answer.found;
    headers.insert(
        header::AGE,
        HeaderValue::from(found.age(answer.now).as_secs()),
    );
    headers.insert(CACHE_STATUS, cache_status(found, answer.now));
    headers.insert(header::ETAG, list.etag);
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    headers.insert(
        header::VARY,
        HeaderValue::from_static("Accept, Accept-Encoding"),
    );
    headers.insert(REQUEST_ID, request_id_value(request_id));
    headers.insert(UPSTREAM_CALLS, HeaderValue::from(found.upstream_calls));
    Written {
        reply: response,
        status,
        error_code: None,
        certificates: Some(list.certificates),
    }
}

/// Writes a refusal of a request that was never asked as a question.
pub fn bad_request(refusal: &BadRequest, request_id: Uuid, envelope: bool) -> Written {
    finish(bad_request_document(refusal), request_id, envelope, 0)
}

/// Writes a refusal of a question.
pub fn refused(refusal: &Refusal, request_id: Uuid, envelope: bool) -> Written {
    finish(
        refusal_document(refusal),
        request_id,
        envelope,
        refusal.upstream_calls(),
    )
}

/// Nothing can be answered that is not written down (G16).
pub fn unrecorded(request_id: Uuid, envelope: bool) -> Response<Body> {
    let document = unavailable(
        "The audit trail cannot take this request's record, and nothing is answered without one. Try \
         again shortly.",
        Duration::from_secs(1),
    );
    finish(document, request_id, envelope, 0).reply
}

/// The answer after a panic that nobody inside has caught.
pub fn unexpected() -> Response<Body> {
    finish(unexpected_document(), Uuid::nil(), false, 0).reply
}

/// Why an operator's request was not done.
#[derive(Debug)]
pub enum AdminRefusal {
    /// The body is not what the path takes.
    Body(&'static str),
    /// No rule grants it.
    Denied,
    /// The query does not name a project and a user.
    Query,
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
pub fn not_administered(refusal: &AdminRefusal, request_id: Uuid) -> Response<Body> {
    use StatusCode as S;
    let document = match refusal {
        AdminRefusal::Body(problem) => {
            let detail = format!("The body {problem}.");
            ours(S::BAD_REQUEST, "BAD_REQUEST", detail, Vec::new())
        }
        AdminRefusal::Denied => ours(
            S::FORBIDDEN,
            "ACCESS_FORBIDDEN",
            "No access rule with `admin = true` allows this caller to do that.".to_owned(),
            Vec::new(),
        ),
        AdminRefusal::Query => ours(
            S::BAD_REQUEST,
            "INVALID_QUERY_PARAMETER",
            "The query must be groupId=…&username=…, percent-encoded.".to_owned(),
            Vec::new(),
        ),
        AdminRefusal::Request(refusal) => bad_request_document(refusal),
        AdminRefusal::Unauthenticated => Document {
            challenge: Some("Bearer"),
            ..ours(
                S::UNAUTHORIZED,
                "USER_UNAUTHORIZED",
                "A bearer token of an operator is needed in the Authorization header.".to_owned(),
                Vec::new(),
            )
        },
        AdminRefusal::Unexpected => unexpected_document(),
        AdminRefusal::Unrecorded(_) => return unrecorded(request_id, false),
    };
    finish(document, request_id, false, 0).reply
}

/// Writes a value for an operator or a probe.
pub fn json(
    status: StatusCode,
    value: &impl Serialize,
    request_id: Option<Uuid>,
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

fn bad_request_document(refusal: &BadRequest) -> Document {
    use StatusCode as S;
    let detail = format!("{}.", capitalised(&refusal.to_string()));
    match refusal {
        BadRequest::Authorization => Document {
            challenge: Some("Bearer error=\"invalid_request\""),
            ..ours(S::BAD_REQUEST, "BAD_REQUEST", detail, Vec::new())
        },
        BadRequest::Body | BadRequest::Host | BadRequest::Target => Document {
            closes: true,
            ..ours(S::BAD_REQUEST, "BAD_REQUEST", detail, Vec::new())
        },
        BadRequest::Connect => Document {
            closes: true,
            allow: Some(ALLOWED),
            ..ours(
                S::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                detail,
                Vec::new(),
            )
        },
        BadRequest::Method => Document {
            allow: Some(ALLOWED),
            ..ours(
                S::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                detail,
                Vec::new(),
            )
        },
        BadRequest::NotAcceptable => ours(
            S::NOT_ACCEPTABLE,
            "INVALID_VERSION_DATE",
            "Invalid accept header or version date. Accept application/json or \
             application/vnd.atlas.2023-01-01+json."
                .to_owned(),
            Vec::new(),
        ),
        BadRequest::ProjectId(id) => ours(
            S::NOT_FOUND,
            "INVALID_GROUP_ID",
            format!("An invalid group ID {id} was specified. {detail}"),
            vec![Parameter::Text(id.clone())],
        ),
        BadRequest::Query(query) => ours(
            S::BAD_REQUEST,
            "INVALID_QUERY_PARAMETER",
            detail,
            vec![Parameter::Text(query.name.to_owned())],
        ),
        BadRequest::Route => ours(
            S::NOT_FOUND,
            "RESOURCE_NOT_FOUND",
            "Cannot find this resource. Certificates are at \
             /api/atlas/v2/groups/{groupId}/databaseUsers/{username}/certs."
                .to_owned(),
            Vec::new(),
        ),
        BadRequest::TargetTooLong => ours(S::URI_TOO_LONG, "URI_TOO_LONG", detail, Vec::new()),
        BadRequest::Username(_) => ours(
            S::BAD_REQUEST,
            "INVALID_PATH_PARAMETER",
            detail,
            vec![Parameter::Text("username".to_owned())],
        ),
    }
}

fn refusal_document(refusal: &Refusal) -> Document {
    use StatusCode as S;
    match refusal {
        Refusal::Denied(denied) => Document {
            challenge: match denied {
                Denied::InsufficientScope => Some("Bearer error=\"insufficient_scope\""),
                Denied::ByRule(_) | Denied::NoRule => None,
            },
            ..ours(
                S::FORBIDDEN,
                "ACCESS_FORBIDDEN",
                "No access rule allows this caller to read the certificates of this user. Ask the \
                 gateway's operators for a rule."
                    .to_owned(),
                Vec::new(),
            )
        },
        Refusal::Fetch { error, .. } => fetch_document(&error.reason),
        Refusal::NoKeys => unavailable(
            "The keys of the token's issuer are not known yet. Try again shortly.",
            Duration::from_secs(5),
        ),
        Refusal::NoToken => Document {
            challenge: Some("Bearer"),
            ..ours(
                S::UNAUTHORIZED,
                "USER_UNAUTHORIZED",
                "A bearer token is needed in the Authorization header.".to_owned(),
                Vec::new(),
            )
        },
        Refusal::Overloaded { retry_after } => {
            unavailable("Too many requests are under way. Try again shortly.", *retry_after)
        }
        Refusal::Panicked => unexpected_document(),
        Refusal::RateLimited(spent) => rate_limited(spent.retry_after),
        Refusal::TimedOut => upstream_timeout(),
        // One sentence for every reason: what is wrong with a token is for the operator's log.
        Refusal::Unauthenticated(_) => Document {
            challenge: Some("Bearer error=\"invalid_token\""),
            ..ours(
                S::UNAUTHORIZED,
                "USER_UNAUTHORIZED",
                "The bearer token was not accepted. Get a new one for this gateway from your issuer."
                    .to_owned(),
                Vec::new(),
            )
        },
    }
}

fn fetch_document(failure: &FetchFailure) -> Document {
    use StatusCode as S;
    match failure {
        FetchFailure::Atlas(answer) => atlas_document(answer),
        FetchFailure::BreakerOpen { retry_after } => {
            unavailable("Atlas keeps failing and is not asked for now. Try again later.", *retry_after)
        }
        FetchFailure::Busy { retry_after } => {
            unavailable("Too many questions to Atlas are waiting. Try again shortly.", *retry_after)
        }
        FetchFailure::Credential(CredentialFailure::Refused) => ours(
            S::BAD_GATEWAY,
            "UPSTREAM_UNREACHABLE",
            "Atlas refuses the gateway's own service account. The gateway's operators must renew its \
             secret."
                .to_owned(),
            Vec::new(),
        ),
        FetchFailure::Credential(CredentialFailure::MintLimit) => unavailable(
            "The gateway may not get another token from Atlas now. Try again shortly.",
            MINT_PAUSE,
        ),
        FetchFailure::Credential(CredentialFailure::Unavailable) => ours(
            S::BAD_GATEWAY,
            "UPSTREAM_UNREACHABLE",
            "Atlas gave the gateway no token. Try again shortly.".to_owned(),
            Vec::new(),
        ),
        FetchFailure::Inconsistent => ours(
            S::BAD_GATEWAY,
            "UPSTREAM_INCONSISTENT",
            "The list of certificates kept changing while it was read. Try again.".to_owned(),
            Vec::new(),
        ),
        FetchFailure::InvalidResponse(problem) => ours(
            S::BAD_GATEWAY,
            "UPSTREAM_INVALID_RESPONSE",
            format!("Atlas's answer cannot be used: {problem}. Try again later."),
            Vec::new(),
        ),
        FetchFailure::NoCredential => ours(
            S::NOT_FOUND,
            "GROUP_NOT_FOUND",
            "No credential is configured for this project. Ask the gateway's operators to add one."
                .to_owned(),
            Vec::new(),
        ),
        FetchFailure::NoDocument { status, retry_after } => no_document(*status, *retry_after),
        FetchFailure::RateLimited { retry_after } => rate_limited(*retry_after),
        FetchFailure::Timeout => upstream_timeout(),
        FetchFailure::Tls => ours(
            S::BAD_GATEWAY,
            "UPSTREAM_UNREACHABLE",
            "Atlas's TLS certificate was not accepted. The gateway's operators must check the network \
             and `atlas.ca_certificate`."
                .to_owned(),
            Vec::new(),
        ),
        FetchFailure::Unreachable => ours(
            S::BAD_GATEWAY,
            "UPSTREAM_UNREACHABLE",
            "Atlas could not be reached. Try again later.".to_owned(),
            Vec::new(),
        ),
    }
}

/// What Atlas said, byte for byte. Its `WWW-Authenticate` is not relayed: it speaks of our credential.
fn atlas_document(answer: &AtlasAnswer) -> Document {
    Document {
        status: answer.status,
        body: answer.body.clone(),
        code: answer.error_code.clone().unwrap_or_else(|| Arc::from("")),
        origin: "atlas",
        retry_after: answer.retry_after,
        challenge: None,
        closes: false,
        allow: None,
    }
}

/// An error without words of Atlas's: what a load balancer or a maintenance page says is not relayed.
fn no_document(status: StatusCode, retry_after: Option<Duration>) -> Document {
    match (status, retry_after) {
        (StatusCode::SERVICE_UNAVAILABLE, Some(wait)) => {
            unavailable("Atlas is not available now. Try again later.", wait)
        }
        (StatusCode::GATEWAY_TIMEOUT, _) => upstream_timeout(),
        (_, retry_after) => Document {
            retry_after,
            ..ours(
                StatusCode::BAD_GATEWAY,
                "UPSTREAM_INVALID_RESPONSE",
                format!(
                    "Atlas answered {} without a document. Try again later.",
                    status.as_u16()
                ),
                Vec::new(),
            )
        },
    }
}

fn ours(
    status: StatusCode,
    code: &'static str,
    detail: String,
    parameters: Vec<Parameter>,
) -> Document {
    let error = ApiError {
        detail,
        error: status.as_u16(),
        error_code: code,
        parameters,
        reason: status.canonical_reason().unwrap_or_default(),
    };
    Document {
        status,
        body: Bytes::from(error.to_json()),
        code: Arc::from(code),
        origin: "gateway",
        retry_after: None,
        challenge: None,
        closes: false,
        allow: None,
    }
}

fn unavailable(detail: &str, retry_after: Duration) -> Document {
    Document {
        retry_after: Some(retry_after),
        ..ours(
            StatusCode::SERVICE_UNAVAILABLE,
            "SERVICE_UNAVAILABLE",
            detail.to_owned(),
            Vec::new(),
        )
    }
}

fn rate_limited(retry_after: Duration) -> Document {
    let seconds = whole_seconds(retry_after);
    Document {
        retry_after: Some(retry_after),
        ..ours(
            StatusCode::TOO_MANY_REQUESTS,
            "RATE_LIMITED",
            format!("Rate limit exceeded. Please retry after {seconds} seconds."),
            vec![Parameter::Number(seconds)],
        )
    }
}

fn upstream_timeout() -> Document {
    ours(
        StatusCode::GATEWAY_TIMEOUT,
        "UPSTREAM_TIMEOUT",
        "Atlas did not answer in time. Try again later.".to_owned(),
        Vec::new(),
    )
}

fn unexpected_document() -> Document {
    ours(
        StatusCode::INTERNAL_SERVER_ERROR,
        "UNEXPECTED_ERROR",
        "Something went wrong inside of the gateway. Report the X-Request-Id to its operators."
            .to_owned(),
        Vec::new(),
    )
}

fn finish(document: Document, request_id: Uuid, envelope: bool, calls: u32) -> Written {
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
pub(super) fn request_id_value(request_id: Uuid) -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let text = request_id.as_hyphenated().encode_lower(&mut text);
    // A UUID's text is always a header value.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// RFC 9110, section 13.1.2: a list of tags, compared weakly, or `*` for any.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

/// RFC 9211: how this cache came by its answer.
fn cache_status(found: &Found, now: Moment) -> HeaderValue {
    HeaderValue::try_from(format!("atlas-cert-gateway; {}", found.status(now)))
        // The words are ASCII of ours.
        .unwrap_or_else(|_| HeaderValue::from_static("atlas-cert-gateway"))
}

/// Whole seconds, rounded up, and never zero: a caller that waits for zero seconds does not wait.
fn whole_seconds(wait: Duration) -> u64 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    seconds.max(1)
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

/// On errors: `atlas` or `gateway`.
pub(super) const ERROR_ORIGIN: HeaderName = HeaderName::from_static("x-error-origin");
/// Ours; also in the audit record and in every log line.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// How many calls to Atlas this answer cost.
pub(super) const UPSTREAM_CALLS: HeaderName = HeaderName::from_static("x-upstream-calls");

const ALLOWED: &str = "GET, HEAD";
const MINT_PAUSE: Duration = Duration::from_secs(10);
