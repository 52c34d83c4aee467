//! What a response of Atlas is: the body of a page, or an error. Pure.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::error::{AtlasAnswer, CallError, FetchErrorKind};
use crate::atlas::Timestamp;
use crate::http_client::HttpReply;

pub(super) fn page_body(reply: &HttpReply) -> Result<&Bytes, CallError> {
    let status = reply.status;
    if status == StatusCode::OK {
        return is_json(&reply.headers)
            .then_some(&reply.body)
            .ok_or(CallError::Unusable(
                "not of the type that this API answers with",
            ));
    }
    if !status.is_client_error() && !status.is_server_error() {
        let why = "a status that this API does not answer with";
        return Err(CallError::Unusable(why));
    }
    let retry_after = retry_after(&reply.headers, reply.at.wall);
    let answer = AtlasAnswer::read(status, reply.body.clone(), retry_after);
    let reason = answer.map_or(
        FetchErrorKind::NoDocument {
            status,
            retry_after,
        },
        FetchErrorKind::Atlas,
    );
    Err(CallError::Response(reason))
}

impl AtlasAnswer {
    /// What Atlas says in an error document; `None` if it is none.
    pub(crate) fn read(
        status: StatusCode,
        body: Bytes,
        retry_after: Option<Duration>,
    ) -> Option<Self> {
        let document: ErrorDocument = serde_json::from_slice(&body).ok()?;
        Some(Self {
            status,
            body,
            retry_after: retry_after.or_else(|| document.seconds()),
            error_code: document.error_code.map(Into::into),
        })
    }
}

/// The longest wait that any `Retry-After` header asks for, in seconds or as a date (RFC 9110, section
/// 10.2.3). Values that are neither are ignored; a date in the past asks for no wait.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let seconds_or_date = |text: &str| {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // More digits than fit ask for longer than we would ever wait.
            return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
        }
        let date = httpdate::parse_http_date(text).ok()?;
        let wait = date.duration_since(SystemTime::from(now));
        Some(wait.unwrap_or(Duration::ZERO))
    };
    let values = headers.get_all(RETRY_AFTER).iter();
    values
        .filter_map(|value| seconds_or_date(value.to_str().ok()?.trim()))
        .max()
}

/// `application/json` or a version of Atlas's own type, in UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(Ok(text)), None) = (values.next().map(|value| value.to_str()), values.next()) else {
        return false;
    };
    let text = text.to_ascii_lowercase();
    let (kind, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let kind = kind.trim();
    let is_atlas = kind.starts_with("application/vnd.atlas.") && kind.ends_with("+json");
    let is_utf8 = |parameter: &str| {
        let charset = parameter.trim().strip_prefix("charset=");
        charset.is_none_or(|charset| charset.trim_matches('"') == "utf-8")
    };
    (is_atlas || kind == "application/json") && parameters.split(';').all(is_utf8)
}

/// Atlas's error document, told by the number in it, which every one has. Some that refuse a credential have
/// no code.
#[derive(Debug, Deserialize)]
struct ErrorDocument {
    #[serde(rename = "error")]
    _status: u16,
    #[serde(rename = "errorCode", default)]
    error_code: Option<String>,
    #[serde(default)]
    parameters: Value,
}

impl ErrorDocument {
    /// The seconds in `["api/atlas/v2/...", 55, 10, 5, 60]`.
    fn seconds(&self) -> Option<Duration> {
        if self.error_code.as_deref() != Some("RATE_LIMITED_TOKEN_BUCKET") {
            return None;
        }
        Some(Duration::from_secs(self.parameters.get(1)?.as_u64()?))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::system::Clock;

    fn answer(status: u16, kind: &[&str], body: &str) -> HttpReply {
        let mut headers = HeaderMap::new();
        for kind in kind {
            headers.append(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        }
        HttpReply {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            at: Clock::system().now(),
        }
    }

    #[test]
    fn a_page_is_json_in_utf8_and_nothing_else() {
        let page = |kind: &[&str]| page_body(&answer(200, kind, "{}")).is_ok();
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
            let error = page_body(&answer).unwrap_err();
            assert!(matches!(error, CallError::Unusable(_)), "{status}");
        }
    }

    #[test]
    fn atlass_document_is_kept_byte_for_byte_and_anything_else_is_not_relayed() {
        let body = r#"{ "error" : 404, "errorCode":"GROUP_NOT_FOUND", "parameters":null }"#;
        let refused = answer(404, &["application/json"], body);
        let reason = FetchErrorKind::from(page_body(&refused).unwrap_err());
        let FetchErrorKind::Atlas(kept) = reason else {
            panic!();
        };
        assert_eq!(&kept.body[..], body.as_bytes());
        assert_eq!(kept.error_code.as_deref(), Some("GROUP_NOT_FOUND"));
        for body in ["<html>", "", "{}", "null", r#"{"error":"invalid_client"}"#] {
            let answer = answer(502, &["text/html"], body);
            let reason = FetchErrorKind::from(page_body(&answer).unwrap_err());
            assert!(
                matches!(reason, FetchErrorKind::NoDocument { .. }),
                "{body}"
            );
        }
    }

    #[test]
    fn the_seconds_of_a_429_are_found_in_the_document_where_the_header_is_missing() {
        let body = r#"{"error":429,"errorCode":"RATE_LIMITED_TOKEN_BUCKET","parameters":["api/atlas/v2/orgs",55,10,5,60]}"#;
        let wait = |answer: &HttpReply| match page_body(answer) {
            Err(error) => error.response().unwrap().1.map(|wait| wait.as_secs()),
            Ok(_) => panic!(),
        };
        let mut limited = answer(429, &["application/json"], body);
        assert_eq!(wait(&limited), Some(55));
        let seven = HeaderValue::from_static("7");
        limited.headers.insert(RETRY_AFTER, seven);
        assert_eq!(wait(&limited), Some(7));
        let older = r#"{"error":429,"errorCode":"RATE_LIMITED","parameters":["/x",50,1]}"#;
        assert_eq!(wait(&answer(429, &["application/json"], older)), None);
    }

    fn seconds(values: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        }
        let now = Timestamp::parse("2026-08-10T02:06:35Z").unwrap();
        retry_after(&headers, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_understood_and_anything_else_is_not_there() {
        for (values, expected) in [
            (&["55"][..], Some(55)),
            (&["0"], Some(0)),
            (&["1000000000"], Some(1_000_000_000)),
            (&["99999999999999999999999"], Some(u64::MAX)),
            (&["Mon, 10 Aug 2026 02:07:05 GMT"], Some(30)),
            (&["Mon, 10 Aug 2020 02:07:05 GMT"], Some(0)),
            (&["3", "7"], Some(7)),
            (&["abc", "7"], Some(7)),
            (&["-1"], None),
            (&["1e9"], None),
            (&["abc"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(seconds(values), expected, "{values:?}");
        }
    }
}
