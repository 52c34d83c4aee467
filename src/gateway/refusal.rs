//! Why a lookup is refused; what its record, its log line and its caller's reply are made of.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tracing::{debug, error, info, warn};

use super::outage::Outage;
use super::{Gateway, OVERLOAD_PAUSE};
use crate::audit::{Entry, Outcome, RequestId, TooManyRefusals};
use crate::cache::{CacheStatus, FillId, NotAdmitted, NotFound};
use crate::identity::Unverified;
use crate::policy::Denied;
use crate::policy::allowance::{Limit, Spent};
use crate::telemetry::metrics::lookups::LimitedBy;
use crate::telemetry::{Chain, RateLimitedLog, Tally};
use crate::upstream::{FetchError, FetchErrorKind, HeldBack, Verdict};

/// Why a lookup is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No rule grants it.
    #[error("no rule grants it")]
    Denied(#[source] Denied),
    /// Atlas was asked, or had been, and this came of it.
    #[error("Atlas has no list")]
    Fetch {
        /// What Atlas said, or why it could not be asked.
        #[source]
        error: Arc<FetchError>,
        fill_id: FillId,
        /// Whose fetch it was.
        status: CacheStatus,
        upstream_calls: u32,
    },
    /// Every user was asked about, and there is no inventory of the project; after so long there may be the first.
    #[error("there is no inventory of the project")]
    NoInventory {
        /// `None` where none is made.
        retry_after: Option<Duration>,
    },
    /// The issuer's keys have never been read.
    #[error("the issuer's keys are not known")]
    NoKeys,
    #[error("no token")]
    NoToken,
    /// Too many lookups, or too many of one list, are under way, or memory is short.
    #[error("too many lookups are under way")]
    Overloaded { retry_after: Duration },
    #[error("the lookup panicked")]
    Panicked,
    /// The caller has had its share.
    #[error("the caller has had its share")]
    RateLimited(#[source] Spent),
    /// One request more that was refused than there may be, whatever it was refused for.
    #[error("too many requests were refused")]
    TooManyRefusals(TooManyRefusals),
    /// The time for a whole request is over.
    #[error("the lookup took too long")]
    TimedOut,
    #[error("the token was not accepted")]
    Unauthenticated(#[source] Unverified),
}

/// What many lookups, or an outage, can repeat, and the log says once for all of them.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    pub(super) outage: Outage,
    no_keys: RateLimitedLog,
    panicked: RateLimitedLog,
    timed_out: RateLimitedLog,
}

impl Refusal {
    /// A denial, of which the record names the rule, if it is one's.
    pub(super) fn denied(denied: Denied, entry: &mut Entry<'_>) -> Self {
        entry.set_rule(denied.rule());
        match &denied {
            Denied::Listed(listed) if listed.is_of_token() => {
                Self::Unauthenticated(Unverified::Revoked)
            }
            Denied::Listed(_) | Denied::ByRule(_) | Denied::InsufficientScope | Denied::NoRule => {
                Self::Denied(denied)
            }
        }
    }

    pub(crate) fn upstream_calls(&self) -> u32 {
        match self {
            Self::Fetch { upstream_calls, .. } => *upstream_calls,
            Self::Denied(_)
            | Self::NoInventory { .. }
            | Self::NoKeys
            | Self::NoToken
            | Self::Overloaded { .. }
            | Self::Panicked
            | Self::RateLimited(_)
            | Self::TimedOut
            | Self::TooManyRefusals(_)
            | Self::Unauthenticated(_) => 0,
        }
    }

    /// Where it came from, if the cache was asked.
    pub(crate) fn cache_status(&self) -> Option<CacheStatus> {
        if let Self::Fetch { status, .. } = self {
            Some(*status)
        } else {
            None
        }
    }

    /// As it is recorded and counted.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Denied(_) => Outcome::Denied,
            Self::NoToken | Self::Unauthenticated(_) => Outcome::Unauthenticated,
            Self::NoInventory { retry_after: None }
            | Self::RateLimited(_)
            | Self::TooManyRefusals(_) => Outcome::Rejected,
            // That there is no such user or project is Atlas's answer.
            Self::Fetch { error, .. } if error.verdict() == Verdict::Missing => Outcome::Answered,
            Self::Fetch { .. }
            | Self::NoInventory { .. }
            | Self::NoKeys
            | Self::Overloaded { .. }
            | Self::Panicked
            | Self::TimedOut => Outcome::Failed,
        }
    }

    /// The limit that was reached, if that is why.
    pub(super) fn limited_by(&self) -> Option<LimitedBy> {
        match self {
            Self::RateLimited(spent) => Some(match spent.limit {
                Limit::FairShare { .. } => LimitedBy::FairShare,
                Limit::Lookups { .. } => LimitedBy::LookupsPerMinute,
                Limit::Misses { .. } => LimitedBy::MissesPerMinute,
            }),
            Self::Fetch { error, .. } => of_upstream(&error.reason),
            Self::Denied(_)
            | Self::NoInventory { .. }
            | Self::NoKeys
            | Self::NoToken
            | Self::Overloaded { .. }
            | Self::Panicked
            | Self::TimedOut
            | Self::TooManyRefusals(_)
            | Self::Unauthenticated(_) => None,
        }
    }

    /// Tells the operator what the caller is not told. What Atlas or a rule says is in the record.
    pub(super) fn log(&self, request_id: RequestId, gateway: &Gateway) {
        let repeats = &gateway.repeats;
        match self {
            Self::Unauthenticated(why) => {
                let (reason, claim) = (why.reason(), why.claim());
                info!(%request_id, reason, claim, "a token was refused: {why}");
            }
            Self::Panicked => {
                if let Some(Tally { times, .. }) = gateway.repeated(&repeats.panicked) {
                    error!(%request_id, times, "a lookup panicked");
                }
            }
            Self::NoKeys => {
                if let Some(Tally { times, .. }) = gateway.repeated(&repeats.no_keys) {
                    warn!(%request_id, times, "a lookup was not answered: {self}");
                }
            }
            Self::TimedOut => {
                if let Some(Tally { times, .. }) = gateway.repeated(&repeats.timed_out) {
                    warn!(%request_id, times, "a lookup was not answered: {self}");
                }
            }
            Self::Fetch { error, .. } => {
                debug!(%request_id, "there is no list: {}", Chain(&**error));
            }
            // Not louder: under a storm there are very many of them, and they are counted.
            Self::Denied(_)
            | Self::NoInventory { .. }
            | Self::NoToken
            | Self::Overloaded { .. }
            | Self::RateLimited(_)
            | Self::TooManyRefusals(_) => {
                debug!(%request_id, "a lookup was refused: {}", Chain(self));
            }
        }
    }

    pub(super) fn unverified(why: Unverified) -> Self {
        if why == Unverified::NoKeys {
            Self::NoKeys
        } else if why == Unverified::TooManyWait {
            Self::overloaded()
        } else {
            Self::Unauthenticated(why)
        }
    }

    pub(super) fn overloaded() -> Self {
        Self::Overloaded {
            retry_after: OVERLOAD_PAUSE,
        }
    }
}

/// The limit of a project at Atlas that kept a list from being fetched.
fn of_upstream(failure: &FetchErrorKind) -> Option<LimitedBy> {
    match failure {
        FetchErrorKind::Atlas(answer) => {
            (answer.status == StatusCode::TOO_MANY_REQUESTS).then_some(LimitedBy::Gate)
        }
        FetchErrorKind::HeldBack { why, .. } => match why {
            HeldBack::BucketLow | HeldBack::OwnShare => Some(LimitedBy::Bucket),
            HeldBack::RateLimited | HeldBack::Unavailable => Some(LimitedBy::Gate),
            HeldBack::Busy | HeldBack::MintLimit => None,
        },
        FetchErrorKind::NoDocument { status, .. } => {
            (*status == StatusCode::TOO_MANY_REQUESTS).then_some(LimitedBy::Gate)
        }
        FetchErrorKind::BreakerOpen { .. }
        | FetchErrorKind::Credential(_)
        | FetchErrorKind::Inconsistent
        | FetchErrorKind::InvalidResponse(_)
        | FetchErrorKind::NoCredential
        | FetchErrorKind::Timeout
        | FetchErrorKind::Tls
        | FetchErrorKind::Unreachable => None,
    }
}

impl Gateway {
    fn repeated(&self, what: &RateLimitedLog) -> Option<Tally> {
        what.happened(self.clock.elapsed())
    }
}

impl From<NotFound> for Refusal {
    fn from(not_found: NotFound) -> Self {
        match not_found {
            NotFound::Fetch {
                error,
                fill_id,
                status,
                upstream_calls,
            } => Self::Fetch {
                error,
                fill_id,
                status,
                upstream_calls,
            },
            NotFound::NotAdmitted(NotAdmitted::Overloaded) => Self::overloaded(),
            NotFound::NotAdmitted(NotAdmitted::Spent(spent)) => Self::RateLimited(spent),
            NotFound::TooManyWaiters { retry_after } => Self::Overloaded { retry_after },
            NotFound::FetchDied => Self::Panicked,
        }
    }
}
