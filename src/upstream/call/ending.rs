//! How a call ended: an answer, or how it was lost, goes in; what the rules learn of it, and the page
//! or what may be done without it, come out.

use std::time::SystemTime;

use http::header::DATE;
use http::{HeaderMap, HeaderName, StatusCode};

use super::Caller;
use crate::atlas::Timestamp;
use crate::telemetry::metrics::upstream::CredentialLabels;
use crate::telemetry::{Tally, say};
use crate::upstream::answer::FetchErrorKind;
use crate::upstream::breaker::Ended;
use crate::upstream::budget::Sent;
use crate::upstream::credential::CredentialUnavailable;
use crate::upstream::limiter::TurnEnded;
use crate::upstream::page::{Page, Unusable};
use crate::upstream::reply;
use crate::upstream::reply::Reply;
use crate::upstream::retry::Outcome;
use crate::upstream::transport::{Answer, HttpErrorKind};
use crate::upstream::walk::Read;

impl Caller<'_> {
    /// Tells the rules how the call went.
    pub(super) fn learn(&self, answer: &Result<Answer, HttpErrorKind>, sent: Sent) -> TurnEnded {
        let now = self.now();
        let (host, project) = match answer {
            Ok(answer) if answer.status.is_server_error() => {
                (Some(Ended::Well), Some(Ended::Badly))
            }
            Ok(answer) if answer.status == StatusCode::REQUEST_TIMEOUT => {
                (Some(Ended::Well), Some(Ended::Badly))
            }
            Ok(_) => (Some(Ended::Well), Some(Ended::Well)),
            Err(HttpErrorKind::NoConnection | HttpErrorKind::Tls) => (Some(Ended::Nowhere), None),
            Err(HttpErrorKind::Timeout | HttpErrorKind::Reset) => (None, Some(Ended::Nowhere)),
            Err(
                HttpErrorKind::Encoded
                | HttpErrorKind::Malformed
                | HttpErrorKind::TooLarge
                | HttpErrorKind::Torn,
            ) => (Some(Ended::Well), Some(Ended::Badly)),
        };
        if let Some(how) = host {
            self.upstream.host_ended(how, now);
        }
        let mut rules = self.project.rules();
        if let Some(how) = project
            && rules.breaker.ended(how, now)
            && let Some(Tally { times, .. }) = self.upstream.repeats.breakers.happened(now)
        {
            let project = self.query.project;
            say(|| {
                tracing::warn!(%project, times, "Atlas keeps failing for this project; asking it rarely");
            });
        }
        if let Ok(answer) = answer {
            let limited = answer.status == StatusCode::TOO_MANY_REQUESTS;
            if !limited && !answer.status.is_server_error() {
                rules.budget.succeeded(now);
            }
            let limit = number(&answer.headers, &LIMIT);
            let remaining = number(&answer.headers, &REMAINING);
            let others = rules.budget.observe(sent, limit, remaining, now);
            if others > 0 {
                let credential = self.credential.name.as_ref().to_owned();
                let metrics = &self.upstream.metrics.others_calls;
                metrics
                    .get_or_create(&CredentialLabels { credential })
                    .inc_by(others);
            }
        }
        match project {
            Some(Ended::Well) => TurnEnded::Well,
            Some(Ended::Badly | Ended::Nowhere) | None => TurnEnded::Strained,
        }
    }

    pub(super) fn judge(
        &self,
        answer: Result<Answer, HttpErrorKind>,
    ) -> Result<Read, (FetchErrorKind, Outcome)> {
        let answer = answer.map_err(reply::lost)?;
        let at = answer.at;
        let body = match reply::read(&answer) {
            Reply::Page(body) => body,
            Reply::Error {
                failure,
                outcome,
                address_refused,
            } => {
                match (address_refused, answer.status) {
                    (true, _) => self.credential.refused(CredentialUnavailable::Address),
                    (false, StatusCode::NOT_FOUND) => self.credential.accepted(),
                    (false, _) => {}
                }
                return Err((failure, outcome));
            }
        };
        self.credential.accepted();
        match Page::read(body, &self.query.project) {
            Ok(page) => Ok(Read {
                page,
                at,
                date: date(&answer.headers),
            }),
            Err(Unusable::Torn) => Err((
                FetchErrorKind::InvalidResponse("it breaks off or is no JSON"),
                Outcome::Torn,
            )),
            Err(Unusable::Refused(why)) => {
                self.upstream.metrics.answers_refused.inc();
                let project = self.query.project;
                let answers = &self.upstream.repeats.answers_refused;
                if let Some(Tally { times, .. }) = answers.happened(self.now()) {
                    say(|| tracing::error!(%project, times, "refused an answer of Atlas: {why}"));
                }
                Err((FetchErrorKind::InvalidResponse(why), Outcome::Unusable))
            }
        }
    }
}

/// A whole number in a header; anything else is not there.
fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// When Atlas sent an answer, by its own clock.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let since = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp::default().plus(since))
}

static LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
