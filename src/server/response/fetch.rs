//! Why Atlas gave no list goes in; the error document that says so comes out: Atlas's own, byte for byte,
//! where it has one.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::document::{Document, bad_gateway, ours, unavailable, upstream_timeout};
use super::limits;
use crate::upstream::{AtlasAnswer, CredentialFailure, FetchErrorKind, HeldBack};

pub(super) fn document(failure: &FetchErrorKind) -> Document {
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
        } => held_back(*why, *calls_per_minute, *retry_after),
        FetchErrorKind::Inconsistent => bad_gateway(
            "UPSTREAM_INCONSISTENT",
            "The list of certificates kept changing while it was read. Try again.",
        ),
        FetchErrorKind::InvalidResponse(problem) => bad_gateway(
            "UPSTREAM_INVALID_RESPONSE",
            &format!("Atlas's answer cannot be used: {problem}. Try again later."),
        ),
        FetchErrorKind::NoCredential => ours(
            StatusCode::NOT_FOUND,
            "GROUP_NOT_FOUND",
            "No credential is configured for this project. Ask the gateway's operators to add one.",
        ),
        FetchErrorKind::NoDocument {
            status,
            retry_after,
        } => no_document(*status, *retry_after),
        FetchErrorKind::Timeout => upstream_timeout(),
        FetchErrorKind::Tls => bad_gateway(
            "UPSTREAM_UNREACHABLE",
            "Atlas's TLS certificate was not accepted. The gateway's operators must check the network \
             and `atlas.ca_certificate`.",
        ),
        FetchErrorKind::Unreachable => bad_gateway(
            "UPSTREAM_UNREACHABLE",
            "Atlas could not be reached. Try again later.",
        ),
    }
}

/// 429 only where a rate limit is spent.
fn held_back(why: HeldBack, calls_per_minute: u64, retry_after: Duration) -> Document {
    match why {
        HeldBack::BucketLow => limits::reserve(calls_per_minute, retry_after),
        HeldBack::OwnShare => limits::own_share(calls_per_minute, retry_after),
        HeldBack::RateLimited => limits::cooldown(retry_after),
        HeldBack::Busy => busy(retry_after),
        HeldBack::MintLimit => no_mint(),
        HeldBack::Unavailable => limits::unavailable(retry_after),
    }
}

fn busy(retry_after: Duration) -> Document {
    unavailable(
        "Too many questions to Atlas are waiting. Try again shortly.",
        retry_after,
    )
}

fn no_mint() -> Document {
    unavailable(
        "The gateway may not get another token from Atlas now. Try again shortly.",
        MINT_PAUSE,
    )
}

fn of_credential(failure: CredentialFailure) -> Document {
    match failure {
        CredentialFailure::MintLimit | CredentialFailure::MintLimited(_) => no_mint(),
        CredentialFailure::Refused(_) => bad_gateway(
            "UPSTREAM_UNREACHABLE",
            "Atlas refuses the gateway's own service account. The gateway's operators must renew its \
             secret.",
        ),
        CredentialFailure::Unavailable(_) => bad_gateway(
            "UPSTREAM_UNREACHABLE",
            "Atlas gave the gateway no token. Try again shortly.",
        ),
    }
}

/// What Atlas said, byte for byte. Its `WWW-Authenticate` is not relayed: it speaks of our credential. A 401
/// must have a challenge and a 405 an `Allow` (RFC 9110, 15.5.2 and 15.5.6), so they get ours; a challenge
/// without `error`, because the caller's token was accepted.
fn of_atlas(answer: &AtlasAnswer) -> Document {
    Document {
        status: answer.status,
        body: answer.body.clone(),
        code: answer.error_code.clone().unwrap_or_else(|| Arc::from("")),
        origin: "atlas",
        // Not every 503 of Atlas says when to come back, but every one of ours does.
        retry_after: answer
            .retry_after
            .or_else(|| (answer.status == StatusCode::SERVICE_UNAVAILABLE).then_some(OUTAGE_PAUSE)),
        challenge: (answer.status == StatusCode::UNAUTHORIZED).then_some("Bearer"),
        closes: false,
        allow: (answer.status == StatusCode::METHOD_NOT_ALLOWED).then_some("GET, HEAD"),
    }
}

/// An error without words of Atlas's: what a load balancer or a maintenance page says is not relayed.
fn no_document(status: StatusCode, retry_after: Option<Duration>) -> Document {
    match (status, retry_after) {
        (StatusCode::SERVICE_UNAVAILABLE, Some(wait)) => {
            unavailable("Atlas is not available now. Try again later.", wait)
        }
        (StatusCode::GATEWAY_TIMEOUT, _) => upstream_timeout(),
        (_, retry_after) => bad_gateway(
            "UPSTREAM_INVALID_RESPONSE",
            &format!(
                "Atlas answered {} without a document. Try again later.",
                status.as_u16()
            ),
        )
        .after(retry_after),
    }
}

const MINT_PAUSE: Duration = Duration::from_secs(10);
const OUTAGE_PAUSE: Duration = Duration::from_secs(5);
