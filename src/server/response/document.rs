//! A refusal goes in; Atlas's error document with its status and circumstances comes out.
//!
//! The matches have no wildcard: a new refusal does not compile until it has a status, a code and a
//! sentence that says what to do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::{AdminRefusal, fetch, limits};
use crate::atlas::ApiError;
use crate::atlas::error::Parameter;
use crate::audit::TooManyRefusals;
use crate::gateway::Refusal;
use crate::policy::Denied;
use crate::server::head::Fault;
use crate::server::request::BadRequest;

/// A refusal in Atlas's form, before it has headers.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    pub(super) code: Arc<str>,
    pub(super) origin: &'static str,
    pub(super) retry_after: Option<Duration>,
    pub(super) challenge: Option<&'static str>,
    /// Whether the connection is not to be used again.
    pub(super) closes: bool,
    pub(super) allow: Option<&'static str>,
}

impl Document {
    /// Why a request was never asked as a question.
    pub(super) fn of_request(refusal: &BadRequest) -> Self {
        use StatusCode as S;
        let detail = format!("{}.", capitalised(&refusal.to_string()));
        match refusal {
            BadRequest::Authorization => ours(S::BAD_REQUEST, "BAD_REQUEST", &detail)
                .challenging("Bearer error=\"invalid_request\""),
            BadRequest::Body | BadRequest::Forwarded | BadRequest::Host | BadRequest::Target => {
                ours(S::BAD_REQUEST, "BAD_REQUEST", &detail).closing()
            }
            BadRequest::Connect => not_allowed(&detail, "GET, HEAD").closing(),
            BadRequest::Method => not_allowed(&detail, "GET, HEAD"),
            BadRequest::Misdirected => ours(S::MISDIRECTED_REQUEST, "MISDIRECTED_REQUEST", &detail),
            BadRequest::NotAcceptable => ours(
                S::NOT_ACCEPTABLE,
                "INVALID_VERSION_DATE",
                "Invalid accept header or version date. Accept application/json or \
                 application/vnd.atlas.2023-01-01+json.",
            ),
            BadRequest::ProjectId(id) => about(
                S::NOT_FOUND,
                "INVALID_GROUP_ID",
                &format!("An invalid group ID {id} was specified. {detail}"),
                Parameter::Text(id.clone()),
            ),
            BadRequest::Query(query) => about(
                S::BAD_REQUEST,
                "INVALID_QUERY_PARAMETER",
                &detail,
                Parameter::Text(query.name.to_owned()),
            ),
            BadRequest::Route => ours(
                S::NOT_FOUND,
                "RESOURCE_NOT_FOUND",
                "Cannot find this resource. Certificates are at \
                 /api/atlas/v2/groups/{groupId}/databaseUsers/{username}/certs.",
            ),
            BadRequest::TargetTooLong => ours(S::URI_TOO_LONG, "URI_TOO_LONG", &detail),
            BadRequest::Username(_) => about(
                S::BAD_REQUEST,
                "INVALID_PATH_PARAMETER",
                &detail,
                Parameter::Text("username".to_owned()),
            ),
        }
    }

    /// Why a head was no request at all.
    pub(super) fn of_head(fault: Fault) -> Self {
        use StatusCode as S;
        let (status, code) = match fault {
            Fault::BodyLength
            | Fault::Chunk
            | Fault::ControlCharacter
            | Fault::HeaderLine
            | Fault::RequestLine
            | Fault::Target
            | Fault::TransferEncoding => (S::BAD_REQUEST, "BAD_REQUEST"),
            Fault::TargetTooLong => (S::URI_TOO_LONG, "URI_TOO_LONG"),
            Fault::Timeout => (S::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
            Fault::TooLarge | Fault::TooMany => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "HEADERS_TOO_LARGE")
            }
        };
        let detail = format!("{}.", capitalised(&fault.to_string()));
        ours(status, code, &detail).closing()
    }

    /// Why a question has no answer.
    pub(super) fn of_refusal(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Denied(denied) => of_denial(denied),
            Refusal::Fetch { error, .. } => fetch::document(&error.reason),
            Refusal::NoKeys => no_keys(),
            Refusal::NoToken => {
                unauthorized("A bearer token is needed in the Authorization header.")
                    .challenging("Bearer")
            }
            Refusal::Overloaded { retry_after } => unavailable(
                "Too many requests are under way. Try again shortly.",
                *retry_after,
            ),
            Refusal::Panicked => Self::unexpected(),
            Refusal::RateLimited(spent) => limits::of_caller(spent),
            Refusal::TimedOut => upstream_timeout(),
            Refusal::TooManyRefusals(refusals) => too_many_refusals(*refusals),
            Refusal::Unauthenticated(_) => bad_token(),
        }
    }

    /// Why an operator's request was not done.
    pub(super) fn of_operators(refusal: &AdminRefusal) -> Self {
        use StatusCode as S;
        match refusal {
            AdminRefusal::BadToken => bad_token(),
            AdminRefusal::Body(problem) => ours(
                S::BAD_REQUEST,
                "BAD_REQUEST",
                &format!("The body {problem}."),
            ),
            AdminRefusal::Denied => ours(
                S::FORBIDDEN,
                "ACCESS_FORBIDDEN",
                "The access rules do not allow this caller to do that. Ask the gateway's operators.",
            ),
            AdminRefusal::Method(methods) => {
                not_allowed(&format!("This path takes {methods} only."), methods)
            }
            AdminRefusal::Misdirected => ours(
                S::MISDIRECTED_REQUEST,
                "MISDIRECTED_REQUEST",
                NOT_AN_ADMIN_HOST,
            ),
            AdminRefusal::NoKeys => no_keys(),
            AdminRefusal::Query(form) => {
                let detail = format!("The query {form}.");
                ours(S::BAD_REQUEST, "INVALID_QUERY_PARAMETER", &detail)
            }
            AdminRefusal::Request(refusal) => Self::of_request(refusal),
            AdminRefusal::Stopping => unavailable(
                "The process is stopping, and does not finish searches. Ask again when it is back.",
                Duration::from_secs(5),
            ),
            AdminRefusal::TooManySearches => unavailable(
                "Two searches of the audit trail are under way, and there are no more at a time. Try again \
                 when one has ended, or narrow yours down with `since`, `before` and `limit`.",
                Duration::from_secs(5),
            ),
            AdminRefusal::TooLate => {
                let detail = "The body did not arrive in time.";
                ours(S::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", detail).closing()
            }
            AdminRefusal::TooLarge => ours(
                S::PAYLOAD_TOO_LARGE,
                "PAYLOAD_TOO_LARGE",
                "The body is larger than 16 KiB.",
            )
            .closing(),
            AdminRefusal::TooMany(refusals) => too_many_refusals(*refusals),
            AdminRefusal::Unauthenticated => {
                unauthorized("A bearer token of an operator is needed in the Authorization header.")
                    .challenging("Bearer")
            }
            AdminRefusal::Unexpected => Self::unexpected(),
            AdminRefusal::Unreadable => ours(
                S::INTERNAL_SERVER_ERROR,
                "UNEXPECTED_ERROR",
                "A file of the audit trail cannot be read; the gateway's log says which, and why.",
            ),
            AdminRefusal::Unrecorded(_) => Self::unrecorded(),
        }
    }

    /// Nothing is answered that is not written down (G16).
    pub(super) fn unrecorded() -> Self {
        unavailable(
            "The audit trail cannot take this request's record, and nothing is answered without one. \
             Try again shortly.",
            Duration::from_secs(1),
        )
    }

    /// A bug.
    pub(super) fn unexpected() -> Self {
        ours(
            StatusCode::INTERNAL_SERVER_ERROR,
            "UNEXPECTED_ERROR",
            "Something went wrong inside of the gateway. Report the X-Request-Id to its operators.",
        )
    }

    fn challenging(self, challenge: &'static str) -> Self {
        Self {
            challenge: Some(challenge),
            ..self
        }
    }

    fn closing(self) -> Self {
        Self {
            closes: true,
            ..self
        }
    }

    pub(super) fn after(self, wait: Option<Duration>) -> Self {
        Self {
            retry_after: wait,
            ..self
        }
    }
}

const NOT_AN_ADMIN_HOST: &str = "Here only an IP address, localhost and the names in `admin.hosts` are answered \
                                 for. Use one of them, or add the name.";

fn of_denial(denied: &Denied) -> Document {
    let document = ours(
        StatusCode::FORBIDDEN,
        "ACCESS_FORBIDDEN",
        "No access rule allows this caller to read the certificates of this user. Ask the gateway's \
         operators for a rule.",
    );
    match denied {
        Denied::InsufficientScope => document.challenging("Bearer error=\"insufficient_scope\""),
        Denied::ByRule(_) | Denied::Listed(_) | Denied::NoRule => document,
    }
}

pub(super) fn ours(status: StatusCode, code: &'static str, detail: &str) -> Document {
    written(status, code, detail, Vec::new())
}

fn about(status: StatusCode, code: &'static str, detail: &str, parameter: Parameter) -> Document {
    written(status, code, detail, vec![parameter])
}

pub(super) fn written(
    status: StatusCode,
    code: &'static str,
    detail: &str,
    parameters: Vec<Parameter>,
) -> Document {
    let error = ApiError {
        detail: detail.to_owned(),
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

fn not_allowed(detail: &str, methods: &'static str) -> Document {
    let document = ours(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail);
    Document {
        allow: Some(methods),
        ..document
    }
}

fn unauthorized(detail: &str) -> Document {
    ours(StatusCode::UNAUTHORIZED, "USER_UNAUTHORIZED", detail)
}

/// One sentence for every reason: what is wrong with a token is for the operator's log.
fn bad_token() -> Document {
    unauthorized(
        "The bearer token was not accepted. Get a new one for this gateway from your issuer.",
    )
    .challenging("Bearer error=\"invalid_token\"")
}

fn no_keys() -> Document {
    unavailable(
        "The keys of the token's issuer are not known yet. Try again shortly.",
        Duration::from_secs(5),
    )
}

pub(super) fn unavailable(detail: &str, wait: Duration) -> Document {
    ours(
        StatusCode::SERVICE_UNAVAILABLE,
        "SERVICE_UNAVAILABLE",
        detail,
    )
    .after(Some(wait))
}

pub(super) fn bad_gateway(code: &'static str, detail: &str) -> Document {
    ours(StatusCode::BAD_GATEWAY, code, detail)
}

/// Says nothing of why the request was refused, and closes the connection: whoever goes on does so at the
/// price of a new one.
fn too_many_refusals(refusals: TooManyRefusals) -> Document {
    let seconds = super::whole_seconds(refusals.retry_after);
    let limit = match refusals.limit {
        Some(limit) => format!(
            "This address, or its /64 of IPv6, has had the {limit} refusals a minute that this gateway \
             explains."
        ),
        None => "This gateway explains no refusals at present.".to_owned(),
    };
    let detail = format!(
        "{limit} Requests with a token that is accepted are answered as ever. For the reason of a refusal, \
         please retry after {seconds} seconds."
    );
    let status = StatusCode::TOO_MANY_REQUESTS;
    about(status, "RATE_LIMITED", &detail, Parameter::Number(seconds))
        .after(Some(refusals.retry_after))
        .closing()
}

pub(super) fn upstream_timeout() -> Document {
    let detail = "Atlas did not answer in time. Try again later.";
    ours(StatusCode::GATEWAY_TIMEOUT, "UPSTREAM_TIMEOUT", detail)
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
