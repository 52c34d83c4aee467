//! Retries: what is worth another try, after which backoff (exponential, with full jitter). Pure.
//!
//! There is one layer of retries, this one; the HTTP client's own are switched off.

use std::time::Duration;

use super::error::CallError;
use super::limiter::{CooldownCause, CooldownRequest};
use crate::http_client::HttpErrorKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Try again after a pause: for the same page, or after [`CallError::Torn`] for the whole list.
    Retry(Backoff),
    NewToken,
    Stop,
}

/// How long to wait before another try, and what the try costs the budget of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    pub(super) least: Duration,
    pub(super) most: Duration,
    pub(super) cost: u32,
}

pub(super) fn next(error: &CallError, retries: u32, left: Duration) -> Next {
    let is_first = retries == 0;
    if retries >= MOST_RETRIES || cooldown(error).is_some() {
        return Next::Stop;
    }
    match error {
        CallError::Http(HttpErrorKind::NoConnection | HttpErrorKind::Reset) => {
            Next::Retry(backoff(retries, 1))
        }
        CallError::Http(HttpErrorKind::Timeout) if is_first && left >= LEAST_AFTER_TIMEOUT => {
            Next::Retry(backoff(retries, 2))
        }
        CallError::Torn(_) if is_first => Next::Retry(backoff(retries, 1)),
        CallError::Response(_) => {
            let cost = if is_first { 1 } else { SECOND_AFTER_RESPONSE };
            let mut backoff = backoff(retries, cost);
            match error.response() {
                Some((401, _)) => Next::NewToken,
                Some((503, least)) => {
                    backoff.least = least.unwrap_or(Duration::ZERO);
                    backoff.most = backoff.most.max(backoff.least);
                    Next::Retry(backoff)
                }
                Some((408 | 425 | 500 | 502 | 504, _)) => Next::Retry(backoff),
                Some(_) | None => Next::Stop,
            }
        }
        CallError::Changed
        | CallError::Http(_)
        | CallError::NotSent(_)
        | CallError::Torn(_)
        | CallError::Unusable(_) => Next::Stop,
    }
}

pub(super) fn cooldown(error: &CallError) -> Option<CooldownRequest> {
    let (status, wait) = error.response()?;
    let cause = match status {
        429 => CooldownCause::RateLimited,
        503 if wait > Some(LONGEST_INLINE_WAIT) => CooldownCause::Unavailable,
        _ => return None,
    };
    Some(CooldownRequest { cause, wait })
}

/// Full jitter under a doubling ceiling.
fn backoff(retries: u32, cost: u32) -> Backoff {
    Backoff {
        least: Duration::ZERO,
        most: (FIRST_PAUSE * 2_u32.pow(retries.min(8))).min(LONGEST_PAUSE),
        cost,
    }
}

/// A fetch makes at most three attempts at anything (G24).
const MOST_RETRIES: u32 = 2;
/// What has answered badly twice is asked a third time only out of what many good calls have saved: with one
/// call in twenty failing by chance, one list in four hundred needs it (U52), while a project that fails for
/// good has nothing saved after the first few.
const SECOND_AFTER_RESPONSE: u32 = 3;
const LEAST_AFTER_TIMEOUT: Duration = Duration::from_secs(3);
const LONGEST_INLINE_WAIT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::upstream::error::FetchErrorKind;

    fn answered(status: u16, retry_after: Option<u64>) -> CallError {
        CallError::Response(FetchErrorKind::NoDocument {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    fn row(error: &CallError) -> String {
        if let Some(CooldownRequest { cause, wait }) = cooldown(error) {
            assert_eq!(next(error, 0, Duration::MAX), Next::Stop);
            let wait = wait.map_or_else(String::new, |wait| format!(" {}s", wait.as_secs()));
            return format!("{cause:?}{wait}");
        }
        let long = Duration::from_secs(9);
        [0, 1, 2]
            .map(|retries| shown(next(error, retries, long)))
            .join(" | ")
    }

    fn shown(next: Next) -> String {
        match next {
            Next::Retry(Backoff { least, most, cost }) => {
                let (least, most) = (least.as_millis(), most.as_millis());
                format!("again {least}..{most}ms -{cost}")
            }
            Next::NewToken => "new token".to_owned(),
            Next::Stop => "stop".to_owned(),
        }
    }

    #[test]
    fn the_whole_matrix() {
        let again = "again 0..100ms -1 | again 0..200ms -3 | stop";
        let twice = "again 0..100ms -1 | again 0..200ms -1 | stop";
        let never = "stop | stop | stop";
        for (error, expected) in [
            (CallError::Http(HttpErrorKind::NoConnection), twice),
            (CallError::Http(HttpErrorKind::Reset), twice),
            (
                CallError::Http(HttpErrorKind::Timeout),
                "again 0..100ms -2 | stop | stop",
            ),
            (CallError::Http(HttpErrorKind::Tls), never),
            (CallError::Torn(""), "again 0..100ms -1 | stop | stop"),
            (CallError::Unusable(""), never),
            (answered(401, None), "new token | new token | stop"),
            (answered(408, None), again),
            (answered(425, None), again),
            (answered(429, Some(55)), "RateLimited 55s"),
            (answered(429, None), "RateLimited"),
            (answered(500, None), again),
            (answered(502, None), again),
            (answered(503, None), again),
            (
                answered(503, Some(1)),
                "again 1000..1000ms -1 | again 1000..1000ms -3 | stop",
            ),
            (answered(503, Some(7)), "Unavailable 7s"),
            (answered(504, None), again),
        ] {
            assert_eq!(row(&error), expected, "{error:?}");
        }
        for status in
            (100..=599).filter(|status| ![401, 408, 425, 429, 500, 502, 503, 504].contains(status))
        {
            assert_eq!(row(&answered(status, Some(1))), never, "{status}");
        }
    }

    #[test]
    fn a_timeout_is_retried_only_while_three_seconds_are_left() {
        let timeout = CallError::Http(HttpErrorKind::Timeout);
        let short = Duration::from_millis(2_999);
        assert_eq!(next(&timeout, 0, short), Next::Stop);
        assert_ne!(next(&timeout, 0, Duration::from_secs(3)), Next::Stop);
    }
}
