//! The token endpoint's response: an access token, or why there is none and when to ask again. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::error::{CredentialFailure, NoToken};
use crate::http_client::HttpErrorKind;
use crate::system::Secret;

#[derive(Clone, Debug)]
pub(super) struct Minted {
    pub(super) token: Secret,
    pub(super) lifetime: Duration,
}

/// No token, and no use asking again before `wait` is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MintError {
    pub(super) why: CredentialFailure,
    pub(super) wait: Duration,
    pub(super) token: TokenFate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenFate {
    Unknown,
    Unsent,
    None,
}

/// Reads an answer of the token endpoint. `failures` is how often it has failed in a row.
///
/// `error_description` is never passed on: it is OAuth's, not Atlas's, and not meant for callers.
pub(super) fn read(
    status: StatusCode,
    body: &Bytes,
    retry_after: Option<Duration>,
    failures: u32,
) -> Result<Minted, MintError> {
    let refusal = |why, wait| {
        let token = TokenFate::None;
        MintError { why, wait, token }
    };
    match status.as_u16() {
        200 => minted(body).ok_or_else(|| unavailable(NoToken::Unusable, failures)),
        429 => {
            let wait = retry_after.unwrap_or(UNSAID_WAIT);
            let wait = wait.clamp(Duration::from_secs(1), LONGEST_WAIT);
            Err(refusal(CredentialFailure::MintLimited(status), wait))
        }
        403 if is_oauth_error(body, "access_denied") => Err(refusal(
            CredentialFailure::MintLimited(status),
            LONGEST_WAIT,
        )),
        400..=499 => Err(refusal(CredentialFailure::Refused(status), REFUSED_WAIT)),
        _ => Err(unavailable(NoToken::Answered(status), failures)),
    }
}

/// No answer. Where there was not even a connection, no token can have been made, and Atlas has counted
/// nothing; so it does not hurt to ask again as soon as Atlas may be back (G27).
pub(super) fn lost(lost: HttpErrorKind, failures: u32) -> MintError {
    match lost {
        HttpErrorKind::NoConnection | HttpErrorKind::Tls => MintError {
            wait: Duration::from_secs(1 << failures.min(2)),
            token: TokenFate::Unsent,
            ..unavailable(NoToken::Unanswered(lost), failures)
        },
        HttpErrorKind::Encoded
        | HttpErrorKind::Malformed
        | HttpErrorKind::Reset
        | HttpErrorKind::Timeout
        | HttpErrorKind::TooLarge
        | HttpErrorKind::Torn => unavailable(NoToken::Unanswered(lost), failures),
    }
}

/// Our own limit on tokens forbids one for as long.
pub(super) fn limited(wait: Duration) -> MintError {
    MintError {
        why: CredentialFailure::MintLimit,
        wait: wait.min(LONGEST_LIMITED_WAIT),
        token: TokenFate::Unsent,
    }
}

/// No answer that can be used; a token may have been made all the same.
fn unavailable(instead: NoToken, failures: u32) -> MintError {
    MintError {
        why: CredentialFailure::Unavailable(instead),
        wait: Duration::from_secs(1 << failures.min(5)),
        token: TokenFate::Unknown,
    }
}

/// `Authorization: Bearer`, kept out of every log.
pub(super) fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn minted(body: &Bytes) -> Option<Minted> {
    #[derive(Deserialize)]
    struct TokenResponse {
        access_token: Secret,
        expires_in: u64,
        token_type: String,
    }
    let response: TokenResponse = serde_json::from_slice(body).ok()?;
    let text = response.access_token.expose();
    // RFC 6750, section 2.1: visible ASCII. Anything else could end the header that carries it.
    let fit = !text.is_empty()
        && text.len() <= LONGEST_TOKEN
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    let bearer = response.token_type.eq_ignore_ascii_case("bearer");
    let lifetime = Duration::from_secs(response.expires_in);
    (fit && bearer && lifetime >= SHORTEST_LIFE).then(|| Minted {
        lifetime: lifetime.min(LONGEST_LIFE),
        token: response.access_token,
    })
}

/// Whether `error` has OAuth's form and is this; in Atlas's own form it is a number.
fn is_oauth_error(body: &Bytes, expected: &str) -> bool {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    document.is_some_and(|it| it.get("error").and_then(Value::as_str) == Some(expected))
}

/// Atlas's tokens live for an hour; one that claims more is believed for an hour.
const LONGEST_LIFE: Duration = Duration::from_hours(1);
/// A token that ends before it can be used would be minted again and again.
const SHORTEST_LIFE: Duration = Duration::from_secs(30);
const LONGEST_TOKEN: usize = 8 << 10;
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// The mint log may say an hour; an operator who clears it should not have to restart us.
const LONGEST_LIMITED_WAIT: Duration = Duration::from_mins(5);
const REFUSED_WAIT: Duration = Duration::from_mins(1);
const UNSAID_WAIT: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    const UNUSABLE: CredentialFailure = CredentialFailure::Unavailable(NoToken::Unusable);

    fn of(status: u16, body: &str) -> Result<Duration, (CredentialFailure, u64)> {
        let status = StatusCode::from_u16(status).unwrap();
        let body = Bytes::copy_from_slice(body.as_bytes());
        match read(status, &body, None, 0) {
            Ok(minted) => Ok(minted.lifetime),
            Err(failure) => Err((failure.why, failure.wait.as_secs())),
        }
    }

    #[test]
    fn a_token_is_believed_for_as_long_as_it_says_and_never_longer_than_an_hour() {
        let lifetime = |expires: &str| {
            of(
                200,
                &format!(
                    r#"{{"access_token":"abc","expires_in":{expires},"token_type":"Bearer"}}"#
                ),
            )
        };
        assert_eq!(lifetime("60"), Ok(Duration::from_mins(1)));
        assert_eq!(lifetime("1000000000000"), Ok(Duration::from_hours(1)));
        for odd in ["0", "-1", "29", "\"3600\"", "null", "1.5"] {
            assert_eq!(lifetime(odd), Err((UNUSABLE, 1)), "{odd}");
        }
    }

    #[test]
    fn odd_answers_are_no_tokens() {
        for body in [
            "<html>",
            "",
            r#"{"access_token":"abc","token_type":"Bearer"}"#,
            r#"{"access_token":"abc","expires_in":60,"token_type":"mac"}"#,
            r#"{"access_token":"","expires_in":60,"token_type":"Bearer"}"#,
            r#"{"access_token":"a\r\nb","expires_in":60,"token_type":"Bearer"}"#,
            r#"{"access_token":"a b","expires_in":60,"token_type":"Bearer"}"#,
        ] {
            assert_eq!(of(200, body), Err((UNUSABLE, 1)), "{body}");
        }
        let long = "x".repeat(8_193);
        let body = format!(r#"{{"access_token":"{long}","expires_in":60,"token_type":"Bearer"}}"#);
        assert!(of(200, &body).is_err());
    }

    #[test]
    fn both_forms_of_errors_are_understood() {
        let refused: fn(StatusCode) -> _ = CredentialFailure::Refused;
        let limited: fn(StatusCode) -> _ = CredentialFailure::MintLimited;
        let failed: fn(StatusCode) -> _ =
            |status| CredentialFailure::Unavailable(NoToken::Answered(status));
        for (status, body, (why, wait)) in [
            (401, r#"{"error":"invalid_client"}"#, (refused, 60)),
            (400, r#"{"error":"invalid_client"}"#, (refused, 60)),
            (403, r#"{"error":"access_denied"}"#, (limited, 300)),
            (403, r#"{"error":403,"errorCode":"X"}"#, (refused, 60)),
            (
                429,
                r#"{"error":429,"errorCode":"RATE_LIMITED"}"#,
                (limited, 60),
            ),
            (429, r#"{"error":"rate_limited"}"#, (limited, 60)),
            (500, r#"{"error":"server_error"}"#, (failed, 1)),
            (503, "<html>", (failed, 1)),
            (302, "", (failed, 1)),
        ] {
            let why = why(StatusCode::from_u16(status).unwrap());
            assert_eq!(of(status, body), Err((why, wait)), "{status} {body}");
        }
    }

    #[test]
    fn the_wait_doubles_while_the_endpoint_fails() {
        let waits: Vec<u64> = (0..7)
            .map(|n| unavailable(NoToken::Unusable, n).wait.as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 32]);
    }
}
