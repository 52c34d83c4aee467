//! Atlas's error documents: each situation has its status, its code and its words.

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::bucket::BucketSize;
use crate::pretty;

/// An error in Atlas's form, members in the order in which Atlas writes them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiError<'a> {
    detail: &'a str,
    error: u16,
    error_code: &'a str,
    parameters: &'a [Value],
    reason: &'a str,
}

/// Any error of the API, with the `X-Error-Code` that goes with it.
pub(crate) fn api_error(
    status: StatusCode,
    code: &str,
    detail: &str,
    parameters: &[Value],
) -> Answer {
    let reason = status.canonical_reason().unwrap_or_default();
    let error = status.as_u16();
    let document = ApiError {
        detail,
        error,
        error_code: code,
        parameters,
        reason,
    };
    let mut answer = Answer::json(status, &document);
    if let Ok(code) = HeaderValue::from_str(code) {
        answer.headers.insert("x-error-code", code);
    }
    answer
}

/// No credential, or one that is wrong under Digest: the same words, pretty-printed, as observed.
pub(crate) fn challenge(challenges: &[HeaderValue]) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Challenge {
        error: u16,
        reason: &'static str,
        detail: &'static str,
        error_code: &'static str,
    }
    let document = Challenge {
        error: 401,
        reason: "Unauthorized",
        detail: "You are not authorized for this resource.",
        error_code: "UNEXPECTED_ERROR",
    };
    let mut answer = Answer::bytes(StatusCode::UNAUTHORIZED, pretty::to_vec(&document));
    for challenge in challenges {
        answer.headers.append(WWW_AUTHENTICATE, challenge.clone());
    }
    answer
}

/// A bearer token that is expired, revoked or made up. Its exact body is not recorded anywhere.
pub(crate) fn token_refused() -> Answer {
    let detail = "You are not authorized for this resource.";
    api_error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", detail, &[])
}

pub(crate) fn no_access_to_group() -> Answer {
    let detail = "User cannot access this group.";
    api_error(
        StatusCode::UNAUTHORIZED,
        "USER_CANNOT_ACCESS_GROUP",
        detail,
        &[],
    )
}

pub(crate) fn address_not_listed(address: &str) -> Answer {
    let detail = format!("IP address {address} is not allowed to access this resource.");
    let code = "IP_ADDRESS_NOT_ON_ACCESS_LIST";
    api_error(StatusCode::FORBIDDEN, code, &detail, &[json!(address)])
}

pub(crate) fn no_such_resource(path: &str) -> Answer {
    let detail = format!("Cannot find resource {path}.");
    api_error(
        StatusCode::NOT_FOUND,
        "RESOURCE_NOT_FOUND",
        &detail,
        &[json!(path)],
    )
}

pub(crate) fn no_such_method(method: &str) -> Answer {
    let detail = format!("Method {method} is not allowed for this resource.");
    api_error(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        &detail,
        &[json!(method)],
    )
}

pub(crate) fn invalid_group(id: &str) -> Answer {
    let detail = format!("An invalid group ID {id} was specified.");
    api_error(
        StatusCode::NOT_FOUND,
        "INVALID_GROUP_ID",
        &detail,
        &[json!(id)],
    )
}

pub(crate) fn no_such_group(id: &str) -> Answer {
    let detail = format!("No group with ID {id} exists.");
    api_error(
        StatusCode::NOT_FOUND,
        "GROUP_NOT_FOUND",
        &detail,
        &[json!(id)],
    )
}

pub(crate) fn no_such_user(name: &str) -> Answer {
    let detail = format!("No user with username {name} exists.");
    api_error(
        StatusCode::NOT_FOUND,
        "USERNAME_NOT_FOUND",
        &detail,
        &[json!(name)],
    )
}

pub(crate) fn user_not_managed() -> Answer {
    let detail = "The user does not have managed mode X.509 enabled.";
    api_error(
        StatusCode::BAD_REQUEST,
        "USER_NOT_MANAGED_X509",
        detail,
        &[],
    )
}

pub(crate) fn invalid_version() -> Answer {
    let detail = "Invalid accept header or version date.";
    api_error(
        StatusCode::NOT_ACCEPTABLE,
        "INVALID_VERSION_DATE",
        detail,
        &[],
    )
}

pub(crate) fn invalid_query(parameter: &str) -> Answer {
    let detail = format!("Invalid query parameter {parameter} specified.");
    api_error(
        StatusCode::BAD_REQUEST,
        "INVALID_QUERY_PARAMETER",
        &detail,
        &[json!(parameter)],
    )
}

pub(crate) fn invalid_body(field: &str) -> Answer {
    let detail = format!("Invalid attribute {field} specified.");
    api_error(
        StatusCode::BAD_REQUEST,
        "INVALID_ATTRIBUTE",
        &detail,
        &[json!(field)],
    )
}

/// An empty bucket.
pub(crate) fn bucket_empty(endpoint: &str, wait_seconds: u64, size: &BucketSize) -> Answer {
    let BucketSize {
        capacity,
        refill,
        period,
        filling: _,
    } = size;
    let period = period.as_secs();
    let detail = format!(
        "Rate limit exceeded for {endpoint}. Please retry after {wait_seconds} seconds. \
         Request capacity: {capacity}. Refill rate: {refill} per {period} seconds."
    );
    let parameters = [
        json!(endpoint),
        json!(wait_seconds),
        json!(capacity),
        json!(refill),
        json!(period),
    ];
    let code = "RATE_LIMITED_TOKEN_BUCKET";
    let mut answer = api_error(StatusCode::TOO_MANY_REQUESTS, code, &detail, &parameters);
    answer
        .headers
        .insert(RETRY_AFTER, HeaderValue::from(wait_seconds));
    answer
}

/// Too many requests for tokens: the form really seen is the API's, not OAuth's.
pub(crate) fn too_many_mints(allowed: usize) -> Answer {
    let resource = "/api/oauth/token";
    let detail = format!("Resource {resource} is limited to {allowed} requests every 1 minutes.");
    let parameters = [json!(resource), json!(allowed), json!(1)];
    api_error(
        StatusCode::TOO_MANY_REQUESTS,
        "RATE_LIMITED",
        &detail,
        &parameters,
    )
}

/// An error of the token endpoint in OAuth's form (RFC 6749 section 5.2).
pub(crate) fn oauth_error(status: StatusCode, error: &str, description: &str) -> Answer {
    Answer::json(
        status,
        &json!({ "error": error, "error_description": description }),
    )
}
