//! One call to Atlas: the number of a page goes in, the page comes out, after as many tries as are
//! right.
//!
//! Each try passes in this order: a token, the breakers, the budget, a turn, the gate once more, the
//! wire. Whatever is not used on the way is given back.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::StatusCode;
use tracing::Instrument;
use tracing::debug_span;

use super::Inner;
use super::answer::FetchFailure;
use super::answer::Urgency;
use super::breaker::Ended;
use super::budget::Sent;
use super::budget::Spent;
use super::credential::Credential;
use super::credential::Login;
use super::credential::Refusal;
use super::exchange;
use super::page::Page;
use super::page::Unusable;
use super::project::Project;
use super::reply;
use super::reply::Reply;
use super::retry;
use super::retry::Next;
use super::retry::Outcome;
use super::retry::Pause;
use super::service_account::Bearer;
use super::transport::Answer;
use super::transport::Bounds;
use super::transport::Lost;
use super::turns::TurnEnded;
use super::turns::WalkNumber;
use super::turns::Wish;
use super::walk::Log;
use super::walk::Read;
use crate::atlas::Question;
use crate::telemetry::metrics::upstream::CredentialLabels;

/// Who calls, for what, and until when.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) upstream: &'a Inner,
    pub(crate) question: &'a Question,
    pub(crate) urgency: Urgency,
    pub(crate) credential: &'a Credential,
    pub(crate) project: Arc<Project>,
    pub(crate) log: &'a Log,
    pub(crate) walk: WalkNumber,
    /// On the clock's [`Moment::elapsed`](crate::clock::Moment::elapsed).
    pub(crate) deadline: Duration,
}

/// Why a walk does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The list changed while it was read.
    Changed,
    /// There is no list.
    Failed(FetchFailure),
    /// An answer was torn: begin again after a pause.
    Torn(Pause),
}

/// Leave of the budget for one call. Dropping it unused gives it back.
#[derive(Debug)]
pub(crate) struct Grant {
    project: Arc<Project>,
    sent: bool,
}

/// A try that came to nothing.
struct Missed {
    failure: FetchFailure,
    outcome: Outcome,
    bearer: Option<Bearer>,
}

impl Caller<'_> {
    /// The first page.
    pub(crate) async fn page(&self, number: u64) -> Result<Read, Stop> {
        let grant = self.take(1, true)?;
        self.project.rules().retries.earn();
        let page = self.read(number, grant.into_iter().next(), false);
        page.instrument(debug_span!("page", number)).await
    }

    /// Leave for so many further pages, or for none of them.
    pub(crate) fn take_further(&self, count: u64) -> Result<Vec<Grant>, Stop> {
        self.take(count, false)
    }

    /// A page behind the first one. If what was asked for is gone meanwhile, the list has changed.
    pub(crate) async fn further_page(&self, number: u64, grant: Grant) -> Result<Read, Stop> {
        let page = self.read(number, Some(grant), true);
        let read = page.instrument(debug_span!("page", number)).await;
        read.map_err(|stop| match stop {
            Stop::Failed(FetchFailure::Atlas(answer))
                if matches!(
                    answer.status,
                    StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST
                ) =>
            {
                Stop::Changed
            }
            Stop::Changed | Stop::Failed(_) | Stop::Torn(_) => stop,
        })
    }

    /// Waits, between the least and the most of a pause.
    pub(crate) async fn pause(&self, pause: Pause) {
        let span = self.upstream.chance.between(pause.least, pause.most);
        self.upstream.clock.sleep(span).await;
    }

    async fn read(&self, number: u64, grant: Option<Grant>, further: bool) -> Result<Read, Stop> {
        let mut grant = grant;
        loop {
            let granted = match grant.take() {
                Some(granted) => granted,
                None => self.take_one()?,
            };
            let Missed {
                failure,
                outcome,
                bearer,
            } = match self.attempt(number, granted, further).await? {
                Ok(read) => return Ok(read),
                Err(missed) => missed,
            };
            let failed = Stop::Failed(failure);
            match retry::next(outcome, self.log.retries(), self.left()) {
                Next::Again(pause) if self.may_retry(pause) => self.pause(pause).await,
                Next::Restart(pause) if self.may_retry(pause) => return Err(Stop::Torn(pause)),
                Next::NewToken if self.renewed(bearer.as_ref()) => self.count_retry(),
                Next::NewToken => {
                    self.credential.refused(Refusal::Key);
                    return Err(failed);
                }
                Next::CloseGate { wait } => return Err(self.close_gate(wait, failed)),
                Next::Again(_) | Next::Restart(_) | Next::Stop => return Err(failed),
            }
        }
    }

    /// One try. The outer error is one of ours: nothing was sent, and another try would not help.
    async fn attempt(
        &self,
        number: u64,
        mut grant: Grant,
        further: bool,
    ) -> Result<Result<Read, Missed>, Stop> {
        let bearer = match &self.credential.login {
            Login::Account(account) => Some(
                account
                    .bearer()
                    .await
                    .map_err(|why| Stop::Failed(FetchFailure::Credential(why)))?,
            ),
            Login::Key(_) => None,
        };
        self.pass_breakers()?;
        let turn = self.upstream.turns.take(Wish {
            project: self.question.project,
            urgency: self.urgency,
            walk: self.walk,
            further,
        });
        let turn = turn.await.map_err(|_| {
            Stop::Failed(FetchFailure::Busy {
                retry_after: AFTER_BUSY,
            })
        })?;
        let now = self.now();
        let sent = self.project.rules().budget.send(self.urgency, now);
        let sent = sent.map_err(rate_limited)?;
        grant.sent = true;
        let answer = exchange::page(self, number, bearer.as_ref()).await?;
        turn.ended(self.learn(&answer, sent));
        drop(grant);
        Ok(self.judge(answer).map_err(|(failure, outcome)| Missed {
            failure,
            outcome,
            bearer,
        }))
    }

    /// Tells the rules how the call went.
    fn learn(&self, answer: &Result<Answer, Lost>, sent: Sent) -> TurnEnded {
        let now = self.now();
        let (host, project) = match answer {
            Ok(answer) if answer.status.is_server_error() => {
                (Some(Ended::Well), Some(Ended::Badly))
            }
            Ok(answer) if answer.status == StatusCode::REQUEST_TIMEOUT => {
                (Some(Ended::Well), Some(Ended::Badly))
            }
            Ok(_) => (Some(Ended::Well), Some(Ended::Well)),
            Err(Lost::NoConnection | Lost::Tls) => (Some(Ended::Nowhere), None),
            Err(Lost::Timeout | Lost::Reset) => (None, Some(Ended::Nowhere)),
            Err(Lost::Encoded | Lost::Malformed | Lost::TooLarge | Lost::Torn) => {
                (Some(Ended::Well), Some(Ended::Badly))
            }
        };
        if let Some(how) = host {
            self.upstream.host_ended(how, now);
        }
        let mut rules = self.project.rules();
        if let Some(how) = project
            && rules.breaker.ended(how, now)
        {
            tracing::warn!(
                project = %self.question.project,
                "Atlas keeps failing for this project; asking it rarely"
            );
        }
        if let Ok(answer) = answer {
            let limited = answer.status == StatusCode::TOO_MANY_REQUESTS;
            if !limited && !answer.status.is_server_error() {
                rules.budget.succeeded(now);
            }
            let limit = number(&answer.headers, "ratelimit-limit");
            let remaining = number(&answer.headers, "ratelimit-remaining");
            rules.budget.observe(sent, limit, remaining, now);
            if let Some(remaining) = remaining.and_then(|remaining| i64::try_from(remaining).ok()) {
                let credential = self.credential.name.as_ref().to_owned();
                let metrics = &self.upstream.metrics.rate_limit_remaining;
                metrics
                    .get_or_create(&CredentialLabels { credential })
                    .set(remaining);
            }
        }
        match project {
            Some(Ended::Well) => TurnEnded::Well,
            Some(Ended::Badly | Ended::Nowhere) | None => TurnEnded::Strained,
        }
    }

    fn judge(&self, answer: Result<Answer, Lost>) -> Result<Read, (FetchFailure, Outcome)> {
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
                    (true, _) => self.credential.refused(Refusal::Address),
                    (false, StatusCode::NOT_FOUND) => self.credential.accepted(),
                    (false, _) => {}
                }
                return Err((failure, outcome));
            }
        };
        self.credential.accepted();
        match Page::read(body, &self.question.project) {
            Ok(page) => Ok(Read { page, at }),
            Err(Unusable::Torn) => Err((
                FetchFailure::InvalidResponse("it breaks off or is no JSON"),
                Outcome::Torn,
            )),
            Err(Unusable::Refused(why)) => {
                self.upstream.metrics.answers_refused.inc();
                tracing::error!(project = %self.question.project, "refused an answer of Atlas: {why}");
                Err((FetchFailure::InvalidResponse(why), Outcome::Unusable))
            }
        }
    }

    fn take(&self, calls: u64, first: bool) -> Result<Vec<Grant>, Stop> {
        let now = self.now();
        let mut rules = self.project.rules();
        let taken = rules.budget.take(calls, self.urgency, first, now);
        // A renewal that gives way comes back as a caller's question.
        if taken.is_ok() || self.urgency != Urgency::RefreshAhead {
            rules.demand.wanted(calls, now);
        }
        drop(rules);
        taken.map_err(rate_limited)?;
        let grant = |_| Grant {
            project: Arc::clone(&self.project),
            sent: false,
        };
        Ok((0..calls).map(grant).collect())
    }

    fn take_one(&self) -> Result<Grant, Stop> {
        let grant = self.take(1, false)?.into_iter().next();
        grant.ok_or(Stop::Changed)
    }

    fn pass_breakers(&self) -> Result<(), Stop> {
        let now = self.now();
        self.upstream
            .host_admits(now)
            .and_then(|()| self.project.rules().breaker.admit(now))
            .map_err(|retry_after| Stop::Failed(FetchFailure::BreakerOpen { retry_after }))
    }

    /// Whether another try fits into the time and the budget of retries; if so it is counted.
    fn may_retry(&self, pause: Pause) -> bool {
        let fits = self.left() >= pause.most + SHORTEST_TRY;
        let may = fits && self.project.rules().retries.spend(pause.cost);
        if may {
            self.count_retry();
        }
        may
    }

    fn count_retry(&self) {
        self.upstream.metrics.retries.inc();
        self.log.retried();
    }

    /// Whether there is, or will be, another token than the one that was refused.
    fn renewed(&self, bearer: Option<&Bearer>) -> bool {
        match (&self.credential.login, bearer) {
            (Login::Account(account), Some(bearer)) => account.refused(bearer),
            (Login::Account(_) | Login::Key(_), _) => false,
        }
    }

    fn close_gate(&self, wait: Option<Duration>, failed: Stop) -> Stop {
        let now = self.now();
        let chance = self.upstream.chance;
        let late = |tenth| chance.up_to(tenth);
        let wait = self.project.rules().budget.close_gate(wait, late, now);
        self.upstream.count_gates();
        tracing::warn!(
            project = %self.question.project,
            seconds = wait.as_secs(),
            "Atlas asked us to leave this project alone for {} s", wait.as_secs(),
        );
        match failed {
            Stop::Failed(FetchFailure::Atlas(mut answer)) => {
                answer.retry_after = Some(wait);
                Stop::Failed(FetchFailure::Atlas(answer))
            }
            Stop::Failed(FetchFailure::NoDocument { status, .. }) => {
                let retry_after = Some(wait);
                Stop::Failed(FetchFailure::NoDocument {
                    status,
                    retry_after,
                })
            }
            Stop::Failed(_) | Stop::Changed | Stop::Torn(_) => failed,
        }
    }

    /// Counts a call that was made in any case.
    pub(crate) fn count_challenge(&self) {
        self.project.rules().budget.challenged(self.now());
    }

    /// How much of an answer is taken, and for how long.
    pub(crate) fn bounds(&self) -> Bounds {
        let limits = &self.upstream.limits;
        Bounds {
            bytes: limits.page_bytes.0,
            time: limits.page.min(self.left()),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.upstream.clock.now().elapsed
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.now())
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut rules = self.project.rules();
        if self.sent {
            rules.budget.ended();
        } else {
            rules.budget.give_back(1);
        }
    }
}

fn rate_limited(spent: Spent) -> Stop {
    Stop::Failed(FetchFailure::RateLimited {
        retry_after: spent.retry_after,
    })
}

/// A whole number in a header; anything else is not there.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

const AFTER_BUSY: Duration = Duration::from_secs(1);
/// No try is begun that could not end in time.
const SHORTEST_TRY: Duration = Duration::from_secs(1);
