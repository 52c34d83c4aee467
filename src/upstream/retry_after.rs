//! When to ask again: an answer's `Retry-After` goes in, a span comes out. Pure.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

use crate::atlas::Timestamp;

/// The longest wait that any `Retry-After` header asks for, in seconds or as a date (RFC 9110, section
/// 10.2.3). Values that are neither are ignored; a date in the past asks for no wait.
pub(crate) fn of(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let values = headers.get_all(RETRY_AFTER).iter();
    values
        .filter_map(|value| read(value.to_str().ok()?.trim(), now))
        .max()
}

fn read(text: &str, now: Timestamp) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit ask for longer than we would ever wait.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(
        date.duration_since(SystemTime::from(now))
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn seconds(values: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        }
        let now = Timestamp::parse("2026-08-10T02:06:35Z").unwrap();
        of(&headers, now).map(|wait| wait.as_secs())
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
