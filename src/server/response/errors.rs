//! Refusals as Atlas's error documents: the only place with their statuses, codes and sentences.
//!
//! The matches have no wildcard: a new refusal does not compile until it has all three.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{ALLOW, WWW_AUTHENTICATE};

use super::AdminRefusal;
use super::error_reply::ErrorReply;
use super::limits::{
    cooldown, of_caller, own_share, project_unavailable, reserve, too_many_refusals,
};
use crate::atlas::error::Parameter;
use crate::gateway::Refusal;
use crate::policy::Denied;
use crate::server::head::HeadFault;
use crate::server::request::BadRequest;
use crate::upstream::{AtlasAnswer, CredentialFailure, FetchErrorKind, HeldBack};

/// Why a head was no request at all.
pub(super) fn of_head(fault: HeadFault) -> ErrorReply {
    use StatusCode as S;
    let (status, code) = match fault {
        HeadFault::BodyLength
        | HeadFault::Chunk
        | HeadFault::ControlCharacter
        | HeadFault::HeaderLine
        | HeadFault::RequestLine
        | HeadFault::Target
        | HeadFault::TransferEncoding => (S::BAD_REQUEST, "BAD_REQUEST"),
        HeadFault::TargetTooLong => (S::URI_TOO_LONG, "URI_TOO_LONG"),
        HeadFault::Timeout => (S::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
        HeadFault::TooLarge | HeadFault::TooMany => {
            (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "HEADERS_TOO_LARGE")
        }
    };
    ours(status, code, &sentence(&fault)).closing()
}

/// Why a request was no lookup.
pub(super) fn of_request(refusal: &BadRequest) -> ErrorReply {
    use StatusCode as S;
    let detail = &*sentence(refusal);
    match refusal {
        BadRequest::Authorization => {
            bad_request(detail).with(WWW_AUTHENTICATE, "Bearer error=\"invalid_request\"")
        }
        BadRequest::Body | BadRequest::Forwarded | BadRequest::Host | BadRequest::Target => {
            bad_request(detail).closing()
        }
        BadRequest::Connect => not_allowed(detail, "GET, HEAD").closing(),
        BadRequest::Method => not_allowed(detail, "GET, HEAD"),
        BadRequest::Misdirected => misdirected(detail),
        BadRequest::NotAcceptable => ours(
            S::NOT_ACCEPTABLE,
            "INVALID_VERSION_DATE",
            "Invalid accept header or version date. Accept application/json or \
             application/vnd.atlas.2023-01-01+json.",
        ),
        BadRequest::ProjectId(id) => {
            let detail = format!("An invalid group ID {id} was specified. {detail}");
            about(S::NOT_FOUND, "INVALID_GROUP_ID", &detail, id)
        }
        BadRequest::Query(query) => {
            let code = "INVALID_QUERY_PARAMETER";
            about(S::BAD_REQUEST, code, detail, query.name)
        }
        BadRequest::Route => ours(
            S::NOT_FOUND,
            "RESOURCE_NOT_FOUND",
            "Cannot find this resource. Certificates are at \
             /api/atlas/v2/groups/{groupId}/databaseUsers/{username}/certs.",
        ),
        BadRequest::TargetTooLong => ours(S::URI_TOO_LONG, "URI_TOO_LONG", detail),
        BadRequest::Username(_) => {
            let code = "INVALID_PATH_PARAMETER";
            about(S::BAD_REQUEST, code, detail, "username")
        }
    }
}

/// Why a lookup has no list.
pub(super) fn of_lookup(refusal: &Refusal) -> ErrorReply {
    match refusal {
        Refusal::Denied(denied) => {
            let reply = forbidden(
                "No access rule allows this caller to read the certificates of this user. Ask the \
                 gateway's operators for a rule.",
            );
            match denied {
                Denied::InsufficientScope => {
                    reply.with(WWW_AUTHENTICATE, "Bearer error=\"insufficient_scope\"")
                }
                Denied::ByRule(_) | Denied::Listed(_) | Denied::NoRule => reply,
            }
        }
        Refusal::Fetch { error, .. } => of_fetch(&error.reason),
        Refusal::NoInventory {
            retry_after: Some(wait),
        } => unavailable(
            "The first inventory of this project is under way. Try again later, or ask with scope=known.",
            *wait,
        ),
        Refusal::NoInventory { retry_after: None } => about(
            StatusCode::BAD_REQUEST,
            "INVALID_QUERY_PARAMETER",
            "No inventory is made of this project: ask with scope=known, or let the gateway's operators name it in \
             [[insight.projects]].",
            "scope",
        ),
        Refusal::NoKeys => no_keys(),
        Refusal::NoToken => no_token("A bearer token is needed in the Authorization header."),
        Refusal::Overloaded { retry_after } => unavailable(
            "Too many requests are under way. Try again shortly.",
            *retry_after,
        ),
        Refusal::Panicked => unexpected(),
        Refusal::RateLimited(spent) => of_caller(spent),
        Refusal::TimedOut => upstream_timeout(),
        Refusal::TooManyRefusals(refusals) => too_many_refusals(*refusals),
        Refusal::Unauthenticated(_) => bad_token(),
    }
}

/// Why Atlas gave no list: in its own words, where it has any.
fn of_fetch(failure: &FetchErrorKind) -> ErrorReply {
    match failure {
        FetchErrorKind::Atlas(answer) => of_atlas(answer),
        FetchErrorKind::BreakerOpen { retry_after } => unavailable(
            "Atlas keeps failing and is not asked for now. Try again later.",
            *retry_after,
        ),
        FetchErrorKind::Credential(failure) => of_credential(*failure),
        FetchErrorKind::HeldBack {
            why,
            calls_per_minute,
            retry_after,
        } => of_held_back(*why, *calls_per_minute, *retry_after),
        FetchErrorKind::Inconsistent => bad_gateway(
            "UPSTREAM_INCONSISTENT",
            "The list of certificates kept changing while it was read. Try again.",
        ),
        FetchErrorKind::InvalidResponse(problem) => invalid_response(&format!(
            "Atlas's answer cannot be used: {problem}. Try again later."
        )),
        FetchErrorKind::NoCredential => ours(
            StatusCode::NOT_FOUND,
            "GROUP_NOT_FOUND",
            "No credential is configured for this project. Ask the gateway's operators to add one.",
        ),
        // What a load balancer or a maintenance page says is not relayed.
        FetchErrorKind::NoDocument {
            status,
            retry_after,
        } => match (*status, *retry_after) {
            (StatusCode::SERVICE_UNAVAILABLE, Some(wait)) => {
                unavailable("Atlas is not available now. Try again later.", wait)
            }
            (StatusCode::GATEWAY_TIMEOUT, _) => upstream_timeout(),
            (status, retry_after) => {
                let reply = invalid_response(&format!(
                    "Atlas answered {} without a document. Try again later.",
                    status.as_u16()
                ));
                match retry_after {
                    Some(wait) => reply.after(wait),
                    None => reply,
                }
            }
        },
        FetchErrorKind::Timeout => upstream_timeout(),
        FetchErrorKind::Tls => unreachable(
            "Atlas's TLS certificate was not accepted. The gateway's operators must check the network \
             and `atlas.ca_certificate`.",
        ),
        FetchErrorKind::Unreachable => unreachable("Atlas could not be reached. Try again later."),
    }
}

fn of_credential(failure: CredentialFailure) -> ErrorReply {
    match failure {
        CredentialFailure::MintLimit | CredentialFailure::MintLimited(_) => no_mint(),
        CredentialFailure::Refused(_) => unreachable(
            "Atlas refuses the gateway's own service account. The gateway's operators must renew its \
             secret.",
        ),
        CredentialFailure::Unavailable(_) => {
            unreachable("Atlas gave the gateway no token. Try again shortly.")
        }
    }
}

/// 429 only where a rate limit is spent.
fn of_held_back(why: HeldBack, calls_per_minute: u64, wait: Duration) -> ErrorReply {
    match why {
        HeldBack::BucketLow => reserve(calls_per_minute, wait),
        HeldBack::Busy => busy(wait),
        HeldBack::MintLimit => no_mint(),
        HeldBack::OwnShare => own_share(calls_per_minute, wait),
        HeldBack::RateLimited => cooldown(wait),
        HeldBack::Unavailable => project_unavailable(wait),
    }
}

/// What Atlas said, byte for byte. Its `WWW-Authenticate` is not relayed: it speaks of our credential. A 401
/// must have a challenge and a 405 an `Allow` (RFC 9110, 15.5.2 and 15.5.6), so they get ours; a challenge
/// without `error`, because the caller's token was accepted.
fn of_atlas(answer: &AtlasAnswer) -> ErrorReply {
    let code = answer.error_code.clone().unwrap_or_else(|| Arc::from(""));
    let mut reply = ErrorReply::of(answer.status, code, answer.body.clone(), "atlas");
    // Not every 503 of Atlas says when to come back, but every one of ours does.
    let is_outage = answer.status == StatusCode::SERVICE_UNAVAILABLE;
    if let Some(wait) = answer
        .retry_after
        .or_else(|| is_outage.then_some(SHORT_PAUSE))
    {
        reply = reply.after(wait);
    }
    match answer.status {
        StatusCode::UNAUTHORIZED => reply.with(WWW_AUTHENTICATE, "Bearer"),
        StatusCode::METHOD_NOT_ALLOWED => reply.with(ALLOW, "GET, HEAD"),
        _ => reply,
    }
}

pub(super) fn of_operators(refusal: &AdminRefusal) -> ErrorReply {
    use StatusCode as S;
    match refusal {
        AdminRefusal::BadToken => bad_token(),
        AdminRefusal::Body(problem) => bad_request(&format!("The body {problem}.")),
        AdminRefusal::CentralTrailAway => unavailable(
            "The database of the central audit trail does not answer; the gateway's log says why. Without \
             `scope=fleet` this replica's own trail is searched.",
            SHORT_PAUSE,
        ),
        AdminRefusal::Denied => forbidden(
            "The access rules do not allow this caller to do that. Ask the gateway's operators.",
        ),
        AdminRefusal::ForeignForm => foreign_form(),
        AdminRefusal::Method(methods) => {
            not_allowed(&format!("This path takes {methods} only."), methods)
        }
        AdminRefusal::Misdirected => misdirected(
            "Here only an IP address, localhost and the names in `admin.hosts` are answered for. Use one \
             of them, or add the name.",
        ),
        AdminRefusal::NoKeys => no_keys(),
        AdminRefusal::Query(form) => {
            let detail = format!("The query {form}.");
            ours(S::BAD_REQUEST, "INVALID_QUERY_PARAMETER", &detail)
        }
        AdminRefusal::Request(refusal) => of_request(refusal),
        AdminRefusal::SnapshotStays => unavailable(
            "It is purged from memory, but the snapshot of the lists cannot be removed from the disk, and a restart \
             would bring it back; the gateway's log says why. Mend that, and purge again.",
            SHORT_PAUSE,
        ),
        AdminRefusal::Stopping => unavailable(
            "The process is stopping, and does not finish searches. Ask again when it is back.",
            SHORT_PAUSE,
        ),
        AdminRefusal::TooManySearches => unavailable(
            "Two searches of the audit trail are under way, and there are no more at a time. Try again \
             when one has ended, or narrow yours down with `since`, `before` and `limit`.",
            SHORT_PAUSE,
        ),
        AdminRefusal::TooLate => {
            let detail = "The body did not arrive in time.";
            ours(S::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", detail).closing()
        }
        AdminRefusal::TooLarge => {
            let detail = "The body is larger than 16 KiB.";
            ours(S::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", detail).closing()
        }
        AdminRefusal::TooMany(refusals) => too_many_refusals(*refusals),
        AdminRefusal::Unauthenticated => {
            no_token("A bearer token of an operator is needed in the Authorization header.")
        }
        AdminRefusal::Unexpected => unexpected(),
        AdminRefusal::Unreadable => ours(
            S::INTERNAL_SERVER_ERROR,
            "UNEXPECTED_ERROR",
            "A file of the audit trail cannot be read; the gateway's log says which, and why.",
        ),
        AdminRefusal::Unrecorded(_) => unrecorded(),
    }
}

/// Fail closed: nothing is answered that is not on record (G16).
pub(super) fn unrecorded() -> ErrorReply {
    unavailable(
        "The audit trail cannot take this request's record, and nothing is answered without one. \
         Try again shortly.",
        Duration::from_secs(1),
    )
}

pub(super) fn unexpected() -> ErrorReply {
    ours(
        StatusCode::INTERNAL_SERVER_ERROR,
        "UNEXPECTED_ERROR",
        "Something went wrong inside of the gateway. Report the X-Request-Id to its operators.",
    )
}

fn ours(status: StatusCode, code: &'static str, detail: &str) -> ErrorReply {
    ErrorReply::new(status, code, detail, Vec::new())
}

fn about(status: StatusCode, code: &'static str, detail: &str, parameter: &str) -> ErrorReply {
    let parameters = vec![Parameter::Text(parameter.to_owned())];
    ErrorReply::new(status, code, detail, parameters)
}

fn bad_gateway(code: &'static str, detail: &str) -> ErrorReply {
    ours(StatusCode::BAD_GATEWAY, code, detail)
}

fn bad_request(detail: &str) -> ErrorReply {
    ours(StatusCode::BAD_REQUEST, "BAD_REQUEST", detail)
}

/// One sentence for every reason: what is wrong with a token is for the operator's log.
fn bad_token() -> ErrorReply {
    let detail =
        "The bearer token was not accepted. Get a new one for this gateway from your issuer.";
    unauthorized(detail).with(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
}

fn busy(wait: Duration) -> ErrorReply {
    let detail = "Too many questions to Atlas are waiting. Try again shortly.";
    unavailable(detail, wait)
}

fn forbidden(detail: &str) -> ErrorReply {
    ours(StatusCode::FORBIDDEN, "ACCESS_FORBIDDEN", detail)
}

fn foreign_form() -> ErrorReply {
    forbidden("Only the status page's own form may ask for this: open `/` in a browser and use it.")
}

fn invalid_response(detail: &str) -> ErrorReply {
    bad_gateway("UPSTREAM_INVALID_RESPONSE", detail)
}

fn misdirected(detail: &str) -> ErrorReply {
    let status = StatusCode::MISDIRECTED_REQUEST;
    ours(status, "MISDIRECTED_REQUEST", detail)
}

fn no_keys() -> ErrorReply {
    let detail = "The keys of the token's issuer are not known yet. Try again shortly.";
    unavailable(detail, SHORT_PAUSE)
}

fn no_mint() -> ErrorReply {
    let detail = "The gateway may not get another token from Atlas now. Try again shortly.";
    unavailable(detail, MINT_PAUSE)
}

fn no_token(detail: &str) -> ErrorReply {
    unauthorized(detail).with(WWW_AUTHENTICATE, "Bearer")
}

fn not_allowed(detail: &str, methods: &'static str) -> ErrorReply {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    ours(status, "METHOD_NOT_ALLOWED", detail).with(ALLOW, methods)
}

fn unauthorized(detail: &str) -> ErrorReply {
    ours(StatusCode::UNAUTHORIZED, "USER_UNAUTHORIZED", detail)
}

fn unavailable(detail: &str, wait: Duration) -> ErrorReply {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    ours(status, "SERVICE_UNAVAILABLE", detail).after(wait)
}

fn unreachable(detail: &str) -> ErrorReply {
    bad_gateway("UPSTREAM_UNREACHABLE", detail)
}

fn upstream_timeout() -> ErrorReply {
    let detail = "Atlas did not answer in time. Try again later.";
    ours(StatusCode::GATEWAY_TIMEOUT, "UPSTREAM_TIMEOUT", detail)
}

/// With a capital and a full stop.
fn sentence(problem: &impl ToString) -> String {
    let problem = problem.to_string();
    let (first, rest) = problem.split_at(1);
    format!("{}{rest}.", first.to_ascii_uppercase())
}

const MINT_PAUSE: Duration = Duration::from_secs(10);
const SHORT_PAUSE: Duration = Duration::from_secs(5);
