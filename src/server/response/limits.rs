//! Rate limits that are spent (429): whose, how large, and when to ask again.
//!
//! Atlas's own numbers are not told: they are the whole project's, and tell of other callers.

use std::time::Duration;

use http::StatusCode;

use super::error_reply::ErrorReply;
use super::whole_seconds;
use crate::atlas::error::Parameter;
use crate::audit::TooManyRefusals;
use crate::policy::allowance::{Limit, Spent};

pub(super) fn of_caller(spent: &Spent) -> ErrorReply {
    let (name, most, limit) = match &spent.limit {
        Limit::FairShare { calls } => (
            "fair_share",
            *calls,
            format!(
                "Little is left of Atlas's rate limit for this project, and this caller has had its fair \
                 share of {} a minute",
                counted(u64::from(*calls), "call")
            ),
        ),
        Limit::Lookups { most, rule } => (
            "lookups_per_minute",
            *most,
            format!(
                "This caller may look up {} a minute by the rule \"{rule}\"",
                counted(u64::from(*most), "time")
            ),
        ),
        Limit::Misses { most, rule } => (
            "misses_per_minute",
            *most,
            format!(
                "This caller may look up {} a minute what is not in memory by the rule \"{rule}\"",
                counted(u64::from(*most), "time")
            ),
        ),
    };
    let size = Parameter::Number(u64::from(most));
    let parameters = vec![Parameter::Text(name.to_owned()), size];
    rate_limited(&limit, parameters, spent.retry_after)
}

/// Our share of the project's token bucket at Atlas is spent.
pub(super) fn own_share(calls_per_minute: u64, wait: Duration) -> ErrorReply {
    let limit = format!(
        "This gateway's share of Atlas's rate limit for this project, {} a minute, is spent",
        counted(calls_per_minute, "call")
    );
    rate_limited(&limit, project(), wait)
}

/// What is left in the project's token bucket is kept for others.
pub(super) fn reserve(calls_per_minute: u64, wait: Duration) -> ErrorReply {
    let limit = format!(
        "Atlas's rate limit for this project, of which {} a minute are this gateway's, is spent but for \
         what is kept for others",
        counted(calls_per_minute, "call")
    );
    rate_limited(&limit, project(), wait)
}

/// Atlas has answered 429.
pub(super) fn cooldown(wait: Duration) -> ErrorReply {
    let limit = "Atlas's rate limit for this project is spent: it has answered 429, and is not asked before \
                 the time that it gave";
    rate_limited(limit, project(), wait)
}

/// Atlas has answered 503 and said when to come back, which is no spent limit.
pub(super) fn project_unavailable(wait: Duration) -> ErrorReply {
    let cause = "Atlas is not available for this project: it has answered 503, and is not asked before the \
                 time that it gave";
    let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE");
    ask_again(status, code, cause, project(), wait)
}

/// Says nothing of why the request was refused, and closes the connection: the next one costs the caller a
/// new one.
pub(super) fn too_many_refusals(refusals: TooManyRefusals) -> ErrorReply {
    let seconds = whole_seconds(refusals.retry_after);
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
    let (status, parameters) = (
        StatusCode::TOO_MANY_REQUESTS,
        vec![Parameter::Number(seconds)],
    );
    let reply = ErrorReply::new(status, "RATE_LIMITED", &detail, parameters);
    reply.after(refusals.retry_after).closing()
}

fn project() -> Vec<Parameter> {
    vec![Parameter::Text("project".to_owned())]
}

fn rate_limited(limit: &str, parameters: Vec<Parameter>, wait: Duration) -> ErrorReply {
    let status = StatusCode::TOO_MANY_REQUESTS;
    ask_again(status, "RATE_LIMITED", limit, parameters, wait)
}

/// The last parameter is the seconds to wait.
fn ask_again(
    status: StatusCode,
    code: &'static str,
    cause: &str,
    mut parameters: Vec<Parameter>,
    wait: Duration,
) -> ErrorReply {
    let seconds = whole_seconds(wait);
    parameters.push(Parameter::Number(seconds));
    let detail = format!("{cause}; ask again in {}.", counted(seconds, "second"));
    ErrorReply::new(status, code, &detail, parameters).after(wait)
}

fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
