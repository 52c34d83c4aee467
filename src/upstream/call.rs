//! One call to Atlas: the number of a page goes in, the page comes out, after as many tries as are
//! right.
//!
//! Each try passes in this order: a token, the breakers, the budget, a turn, the gate once more, the
//! wire. Whatever is not used on the way is given back.

mod ending;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::answer::{FetchErrorKind, Urgency, Verdict};
use super::budget::{CooldownCause, Spent};
use super::credential::{Credential, CredentialUnavailable, Login};
use super::limiter::{SlotRequest, WalkNumber};
use super::project::Project;
use super::retry::{Blame, Next, Outcome, Pause};
use super::service_account::Bearer;
use super::transport::Bounds;
use super::walk::{Log, Read};
use super::{Inner, exchange, retry};
use crate::atlas::CertQuery;
use crate::telemetry::{Tally, say};

/// Who calls, for what, and until when.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) upstream: &'a Inner,
    pub(crate) query: &'a CertQuery,
    pub(crate) urgency: Urgency,
    /// Whether a call that fails may be tried again.
    pub(crate) retries: bool,
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
    Failed(FetchErrorKind),
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
    failure: FetchErrorKind,
    outcome: Outcome,
    bearer: Option<Bearer>,
}

impl Caller<'_> {
    /// The first page.
    pub(crate) async fn page(&self, number: u64) -> Result<Read, Stop> {
        self.spend(1, true)?;
        let grant = self.grant();
        self.project.rules().retries.earn();
        self.read(number, grant, false).await
    }

    /// Leave for so many further pages, or for none of them.
    pub(crate) fn take_further(&self, count: u64) -> Result<Vec<Grant>, Stop> {
        self.spend(count, false)?;
        Ok((0..count).map(|_| self.grant()).collect())
    }

    /// A page behind the first one. If what was asked for is gone meanwhile, the list has changed.
    pub(crate) async fn further_page(&self, number: u64, grant: Grant) -> Result<Read, Stop> {
        let read = self.read(number, grant, true).await;
        read.map_err(|stop| match stop {
            Stop::Failed(FetchErrorKind::Atlas(answer))
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
        let span = self.upstream.jitter.between(pause.least, pause.most);
        self.upstream.clock.sleep(span).await;
    }

    async fn read(&self, number: u64, mut grant: Grant, further: bool) -> Result<Read, Stop> {
        let mut earlier = None;
        let mut resends = 0;
        loop {
            let attempt = self.attempt(number, grant, (further, resends)).await;
            let Missed {
                failure,
                outcome,
                bearer,
            } = match (attempt, earlier) {
                (Ok(Ok(read)), _) => return Ok(read),
                (Ok(Err(missed)), _) => missed,
                // That we may not try again is not why there is no page.
                (Err(stop), Some(earlier)) if stop.is_held_back() => return Err(earlier),
                (Err(stop), _) => return Err(stop),
            };
            let failed = Stop::Failed(failure);
            match retry::next(outcome, self.log.retries(), self.left()) {
                Next::Again(pause) if self.may_retry(pause) => self.pause(pause).await,
                Next::Restart(pause) if self.may_retry(pause) => return Err(Stop::Torn(pause)),
                Next::NewToken(blame) => match (self.renewed(bearer.as_ref(), blame).await?, blame)
                {
                    (true, _) => self.count_retry(),
                    // A second 401 is believed.
                    (false, Blame::Access) => return Err(failed),
                    (false, Blame::Token) => {
                        self.credential.refused(CredentialUnavailable::Key);
                        return Err(failed);
                    }
                },
                Next::CloseGate { cause, wait } => {
                    return Err(self.close_gate(cause, wait, failed));
                }
                Next::Again(_) | Next::Restart(_) | Next::Stop => return Err(failed),
            }
            if self.spend(1, false).is_err() {
                return Err(failed);
            }
            grant = self.grant();
            earlier = Some(failed);
            resends += 1;
        }
    }

    /// One try. The outer error is one of ours: nothing was sent, and another try would not help.
    async fn attempt(
        &self,
        number: u64,
        mut grant: Grant,
        (further, resends): (bool, u32),
    ) -> Result<Result<Read, Missed>, Stop> {
        let bearer = match &self.credential.login {
            Login::Account(account) => Some(
                account
                    .bearer()
                    .await
                    .map_err(|why| Stop::Failed(FetchErrorKind::Credential(why)))?,
            ),
            Login::Key(_) => None,
        };
        self.pass_breakers()?;
        let slot = self.upstream.limiter.take(SlotRequest {
            project: self.query.project,
            urgency: self.urgency,
            walk: self.walk,
            further,
        });
        let slot = slot.await.map_err(|_| {
            Stop::Failed(FetchErrorKind::Busy {
                retry_after: AFTER_BUSY,
            })
        })?;
        let now = self.now();
        let sent = self.project.rules().budget.send(self.urgency, now);
        let sent = sent.map_err(|spent| self.held_back(spent))?;
        grant.sent = true;
        let answer = exchange::page(self, number, bearer.as_ref(), resends).await?;
        slot.ended(self.learn(&answer, sent));
        drop(grant);
        Ok(self.judge(answer).map_err(|(failure, outcome)| Missed {
            failure,
            outcome,
            bearer,
        }))
    }

    /// Takes so many calls out of the budget, or none of them. What comes of it are as many grants.
    fn spend(&self, calls: u64, first: bool) -> Result<(), Stop> {
        let now = self.now();
        let mut rules = self.project.rules();
        let taken = rules.budget.take(calls, self.urgency, first, now);
        // A renewal that gives way comes back as a caller's question.
        if taken.is_ok() || self.urgency != Urgency::RefreshAhead {
            rules.demand.wanted(calls, now);
        }
        drop(rules);
        taken.map_err(|spent| self.held_back(spent))
    }

    /// One call of those that were taken out of the budget.
    fn grant(&self) -> Grant {
        Grant {
            project: Arc::clone(&self.project),
            sent: false,
        }
    }

    fn pass_breakers(&self) -> Result<(), Stop> {
        let now = self.now();
        // The one call that the host's breaker lets through now and then must not be used up where the
        // project's lets nothing through.
        let project = self.project.rules().breaker.wait(now);
        project
            .map_or(Ok(()), Err)
            .and_then(|()| self.upstream.host_admits(now))
            .and_then(|()| self.project.rules().breaker.admit(now))
            .map_err(|retry_after| Stop::Failed(FetchErrorKind::BreakerOpen { retry_after }))
    }

    fn held_back(&self, spent: Spent) -> Stop {
        Stop::Failed(FetchErrorKind::HeldBack {
            why: spent.why,
            calls_per_minute: self.project.rules().budget.own_refill(),
            retry_after: spent.retry_after,
        })
    }

    /// Whether another try fits into the time and the budget of retries; if so it is counted.
    fn may_retry(&self, pause: Pause) -> bool {
        let fits = self.retries && self.left() >= pause.most + SHORTEST_TRY;
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
    async fn renewed(&self, bearer: Option<&Bearer>, blame: Blame) -> Result<bool, Stop> {
        match (&self.credential.login, bearer, blame) {
            (Login::Account(account), Some(bearer), Blame::Token) => Ok(account.refused(bearer)),
            (Login::Account(account), Some(bearer), Blame::Access) => account
                .replaced(bearer)
                .await
                .map_err(|why| Stop::Failed(FetchErrorKind::Credential(why))),
            (Login::Account(_) | Login::Key(_), _, _) => Ok(false),
        }
    }

    fn close_gate(&self, cause: CooldownCause, wait: Option<Duration>, failed: Stop) -> Stop {
        let now = self.now();
        let jitter = self.upstream.jitter;
        let late = |tenth| jitter.up_to(tenth);
        let mut rules = self.project.rules();
        let wait = rules.budget.close_gate(cause, wait, late, now);
        drop(rules);
        self.upstream.count_gates();
        let (project, seconds) = (self.query.project, wait.as_secs());
        if let Some(Tally { times, .. }) = self.upstream.repeats.gates.happened(now) {
            say(|| {
                tracing::warn!(
                    %project,
                    seconds,
                    times,
                    "Atlas asked us to leave this project alone for {seconds} s: it answered {}",
                    cause.status(),
                );
            });
        }
        match failed {
            Stop::Failed(FetchErrorKind::Atlas(mut answer)) => {
                answer.retry_after = Some(wait);
                Stop::Failed(FetchErrorKind::Atlas(answer))
            }
            Stop::Failed(FetchErrorKind::NoDocument { status, .. }) => {
                let retry_after = Some(wait);
                Stop::Failed(FetchErrorKind::NoDocument {
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

    /// How much is taken of the answer to a call that begins at `from`, and for how long.
    pub(crate) fn bounds(&self, from: Duration) -> Bounds {
        let limits = &self.upstream.limits;
        Bounds {
            bytes: limits.page_bytes.0,
            time: limits.page.min(self.deadline.saturating_sub(from)),
            from,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.upstream.clock.elapsed()
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

impl Stop {
    fn is_held_back(&self) -> bool {
        match self {
            Self::Failed(failure) => matches!(failure.verdict(), Verdict::HeldBack(_)),
            Self::Changed | Self::Torn(_) => false,
        }
    }
}

const AFTER_BUSY: Duration = Duration::from_secs(1);
/// No try is begun that could not end in time.
const SHORTEST_TRY: Duration = Duration::from_secs(1);
