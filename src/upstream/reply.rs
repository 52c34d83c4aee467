//! What an answer means: an answer goes in, the body of a page or a failure comes out. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;

use super::answer::{AtlasAnswer, FetchErrorKind};
use super::retry::Outcome;
use super::transport::{Answer, HttpErrorKind};
use super::{meaning, retry_after};

/// What an answer is.
pub(crate) enum Reply<'a> {
    /// No page.
    Error {
        failure: FetchErrorKind,
        outcome: Outcome,
        /// Whether Atlas refuses the credential because of where we call from.
        address_refused: bool,
    },
    /// The body of a page.
    Page(&'a Bytes),
}

pub(crate) fn read(answer: &Answer) -> Reply<'_> {
    let status = answer.status;
    if status == StatusCode::OK {
        if is_json(answer) {
            return Reply::Page(&answer.body);
        }
        return unusable("not of the type that this API answers with");
    }
    if !status.is_client_error() && !status.is_server_error() {
        return unusable("a status that this API does not answer with");
    }
    let header = retry_after::of(&answer.headers, answer.at.wall);
    let Some(document) = Document::read(&answer.body) else {
        return Reply::Error {
            failure: FetchErrorKind::NoDocument {
                status,
                retry_after: header,
            },
            outcome: Outcome::Answered {
                status,
                retry_after: header,
                no_access: false,
            },
            address_refused: false,
        };
    };
    let retry_after = header.or_else(|| document.seconds());
    let code = document.error_code.as_deref();
    let address_refused =
        status == StatusCode::FORBIDDEN && code.is_some_and(meaning::names_address);
    let answer = AtlasAnswer {
        status,
        body: answer.body.clone(),
        error_code: code.map(Into::into),
        retry_after,
    };
    Reply::Error {
        outcome: Outcome::Answered {
            status,
            retry_after,
            no_access: answer.says_no_access(),
        },
        address_refused,
        failure: FetchErrorKind::Atlas(answer),
    }
}

/// What a lost answer means.
pub(crate) fn lost(lost: HttpErrorKind) -> (FetchErrorKind, Outcome) {
    let invalid = FetchErrorKind::InvalidResponse;
    match lost {
        HttpErrorKind::Encoded => (
            invalid("compressed, though we ask for it not to be"),
            Outcome::Unusable,
        ),
        HttpErrorKind::Malformed => (invalid("not HTTP"), Outcome::Unusable),
        HttpErrorKind::NoConnection => (FetchErrorKind::Unreachable, Outcome::NoConnection),
        HttpErrorKind::Reset => (FetchErrorKind::Unreachable, Outcome::Reset),
        HttpErrorKind::Timeout => (FetchErrorKind::Timeout, Outcome::Timeout),
        HttpErrorKind::Tls => (FetchErrorKind::Tls, Outcome::Tls),
        HttpErrorKind::TooLarge => (invalid("larger than allowed"), Outcome::Unusable),
        HttpErrorKind::Torn => (invalid("it breaks off"), Outcome::Torn),
    }
}

fn unusable(why: &'static str) -> Reply<'static> {
    Reply::Error {
        failure: FetchErrorKind::InvalidResponse(why),
        outcome: Outcome::Unusable,
        address_refused: false,
    }
}

/// `application/json` or a version of Atlas's own type, in UTF-8.
fn is_json(answer: &Answer) -> bool {
    let mut values = answer.headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    if value == USUAL_TYPE {
        return true;
    }
    let Ok(text) = value.to_str() else {
        return false;
    };
    let text = text.to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let atlas = kind.starts_with("application/vnd.atlas.") && kind.ends_with("+json");
    (atlas || kind == "application/json")
        && parts.all(|part| {
            part.strip_prefix("charset=")
                .is_none_or(|charset| charset.trim_matches('"') == "utf-8")
        })
}

/// Atlas's error document, as far as we judge it: by the number in it, which every one has. Some that
/// refuse a credential have no code.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(rename = "error")]
    _status: u16,
    #[serde(rename = "errorCode", default)]
    error_code: Option<String>,
    #[serde(default)]
    parameters: Value,
}

impl Document {
    fn read(body: &Bytes) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// The seconds in `["api/atlas/v2/...", 55, 10, 5, 60]`.
    fn seconds(&self) -> Option<Duration> {
        if self.error_code.as_deref() != Some("RATE_LIMITED_TOKEN_BUCKET") {
            return None;
        }
        let seconds = self.parameters.get(1)?.as_u64()?;
        Some(Duration::from_secs(seconds))
    }
}

/// The content type of a list, as Atlas spells it; the general way takes others, and costs more.
const USUAL_TYPE: &str = "application/vnd.atlas.2023-01-01+json;charset=utf-8";

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::clock::Clock;

    fn answer(status: u16, kind: &[&str], body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        for kind in kind {
            headers.append(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            at: Clock::system().now(),
        }
    }

    #[test]
    fn a_page_is_json_in_utf8_and_nothing_else() {
        let page = |kind: &[&str]| matches!(read(&answer(200, kind, "{}")), Reply::Page(_));
        for good in [
            "application/vnd.atlas.2023-01-01+json;charset=utf-8",
            "application/json",
            "Application/JSON; Charset=\"UTF-8\"",
        ] {
            assert!(page(&[good]), "{good}");
        }
        for bad in [
            &[][..],
            &["text/html"],
            &["application/json; charset=utf-16"],
            &["application/json", "text/html"],
            &["application/jsonx"],
        ] {
            assert!(!page(bad), "{bad:?}");
        }
    }

    #[test]
    fn statuses_that_the_api_does_not_have_are_unusable() {
        for status in [201, 202, 204, 206, 300, 301, 302, 304, 307, 308] {
            let answer = answer(status, &["application/json"], "{}");
            let Reply::Error {
                failure, outcome, ..
            } = read(&answer)
            else {
                panic!("{status}");
            };
            assert!(matches!(failure, FetchErrorKind::InvalidResponse(_)));
            assert_eq!(outcome, Outcome::Unusable);
        }
    }

    #[test]
    fn atlass_document_is_kept_byte_for_byte_and_anything_else_is_not_relayed() {
        let body = r#"{ "error" : 404, "errorCode":"GROUP_NOT_FOUND", "parameters":null }"#;
        let refused = answer(404, &["application/json"], body);
        let Reply::Error { failure, .. } = read(&refused) else {
            panic!();
        };
        let FetchErrorKind::Atlas(kept) = failure else {
            panic!();
        };
        assert_eq!(&kept.body[..], body.as_bytes());
        assert_eq!(kept.error_code.as_deref(), Some("GROUP_NOT_FOUND"));
        for body in ["<html>", "", "{}", "null", r#"{"error":"invalid_client"}"#] {
            let answer = answer(502, &["text/html"], body);
            let Reply::Error { failure, .. } = read(&answer) else {
                panic!();
            };
            assert!(
                matches!(failure, FetchErrorKind::NoDocument { .. }),
                "{body}"
            );
        }
    }

    #[test]
    fn the_seconds_of_a_429_are_found_in_the_document_where_the_header_is_missing() {
        let body = r#"{"error":429,"errorCode":"RATE_LIMITED_TOKEN_BUCKET","parameters":["api/atlas/v2/orgs",55,10,5,60]}"#;
        let wait = |answer: &Answer| match read(answer) {
            Reply::Error {
                outcome: Outcome::Answered { retry_after, .. },
                ..
            } => retry_after.map(|wait| wait.as_secs()),
            Reply::Error { .. } | Reply::Page(_) => panic!(),
        };
        let mut limited = answer(429, &["application/json"], body);
        assert_eq!(wait(&limited), Some(55));
        let seven = HeaderValue::from_static("7");
        limited.headers.insert(http::header::RETRY_AFTER, seven);
        assert_eq!(wait(&limited), Some(7));
        let older = r#"{"error":429,"errorCode":"RATE_LIMITED","parameters":["/x",50,1]}"#;
        assert_eq!(wait(&answer(429, &["application/json"], older)), None);
    }
}
