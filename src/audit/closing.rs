//! How a question ended, and what its record says of that.

use std::time::Duration;

use uuid::Uuid;

use crate::system::Moment;

use super::record::{Body, name, room};

/// How a question ended.
#[derive(Clone, Debug)]
pub struct Closing<'a> {
    /// What became of it.
    pub outcome: Outcome,
    /// The answer's HTTP status.
    pub status: u16,
    /// The code in the answer's error document.
    pub error_code: Option<&'a str>,
    /// What was wrong with the token or which rule was missing, which the caller does not learn.
    pub reason: Option<&'static str>,
    /// The claim of the token that it was refused for, as the configuration names its place.
    pub claim: Option<&'a str>,
    /// Where the bytes came from.
    pub cache: CacheUse,
    /// The fetch that brought them from Atlas.
    pub fill_id: Option<Uuid>,
    /// How long ago Atlas answered with them.
    pub age: Option<Duration>,
    /// How many certificates are in the answer.
    pub certificates: Option<u64>,
    /// Which certificates the whole list has: the value of its `ETag`.
    pub list: Option<ListTag>,
    /// How many calls to Atlas this question cost.
    pub upstream_calls: u32,
    /// When the answer was ready.
    pub now: Moment,
}

/// The value of a list's `ETag`, in its plain form and without the quotation marks.
pub type ListTag = [u8; 16];

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller left, or the task that answered died.
    Abandoned,
    /// With certificates, or with Atlas's word that there is nothing.
    Answered,
    /// No rule grants it.
    Denied,
    /// We or Atlas could not answer.
    Failed,
    /// The question itself was wrong, or one too many.
    Rejected,
    /// No token, or none that is accepted.
    Unauthenticated,
}

/// What the cache had to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// Waited for a fetch that another question had begun.
    Collapsed,
    /// From memory, within its time.
    Hit,
    /// Fetched for this question.
    Miss,
    /// From memory: Atlas had said that there is nothing.
    Negative,
    /// The cache was not asked.
    None,
    /// From memory, past its time, because Atlas fails.
    Stale,
}

impl Closing<'_> {
    /// The end of a question that nobody answered; also what other ends are made from.
    pub fn abandoned(now: Moment) -> Self {
        Self {
            outcome: Outcome::Abandoned,
            status: 0,
            error_code: None,
            reason: None,
            claim: None,
            cache: CacheUse::None,
            fill_id: None,
            age: None,
            certificates: None,
            list: None,
            upstream_calls: 0,
            now,
        }
    }

    /// Writes the members from `outcome` to `claim`.
    #[inline]
    pub(super) fn write_end(&self, body: &mut Body<'_>) {
        if self.is_usual() {
            body.put(USUAL_END);
        } else {
            self.write_any_end(body);
        }
    }

    /// Writes the members from `cache` to `upstream_calls`.
    #[inline]
    pub(super) fn write_source(&self, body: &mut Body<'_>) {
        body.word(name!("cache"), self.cache.word());
        if self.cache == CacheUse::Stale {
            body.truth(name!("stale"));
        }
        body.id_or_null(name!("fill_id"), self.fill_id.as_ref());
        body.number_or_null(name!("age_ms"), self.age.map(millis));
        body.number_or_null(name!("certificates"), self.certificates);
        if let Some(list) = &self.list {
            body.digits(name!("list"), list);
        }
        body.number(name!("upstream_calls"), self.upstream_calls.into());
    }

    /// Whether it ended as nearly every question does.
    fn is_usual(&self) -> bool {
        self.outcome == Outcome::Answered
            && self.status == 200
            && self.error_code.is_none()
            && self.reason.is_none()
            && self.claim.is_none()
    }

    fn write_any_end(&self, body: &mut Body<'_>) {
        body.word(name!("outcome"), self.outcome.word());
        body.number_or_null(
            name!("status"),
            (self.status > 0).then(|| self.status.into()),
        );
        body.text_or_null(name!("error_code"), self.error_code, room::SHORT);
        if let Some(reason) = self.reason {
            body.text(name!("reason"), reason, room::SHORT);
        }
        if let Some(claim) = self.claim {
            body.text(name!("claim"), claim, room::SHORT);
        }
    }
}

impl Outcome {
    /// As the record has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Answered => "answered",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

impl CacheUse {
    /// As the record has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Collapsed => "collapsed",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Negative => "negative",
            Self::None => "none",
            Self::Stale => "stale",
        }
    }
}

fn millis(span: Duration) -> u64 {
    let seconds = span.as_secs().saturating_mul(1_000);
    seconds.saturating_add(span.subsec_millis().into())
}

/// What [`Closing::write_any_end`] writes of a usual end, in one move instead of six.
const USUAL_END: &[u8] = br#","outcome":"answered","status":200,"error_code":null"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atlas::Timestamp;

    #[test]
    fn the_usual_end_is_what_would_be_written_of_it() {
        let now = Moment {
            elapsed: Duration::ZERO,
            wall: Timestamp::from_seconds(0),
        };
        let usual = Closing {
            outcome: Outcome::Answered,
            status: 200,
            ..Closing::abandoned(now)
        };
        assert!(usual.is_usual());
        assert_eq!(&*Body::members(|body| usual.write_any_end(body)), USUAL_END);
        let but = || usual.clone();
        for unusual in [
            Closing {
                outcome: Outcome::Failed,
                ..but()
            },
            Closing {
                status: 304,
                ..but()
            },
            Closing {
                error_code: Some("NOT_FOUND"),
                ..but()
            },
            Closing {
                reason: Some("shed"),
                ..but()
            },
        ] {
            assert!(!unusual.is_usual(), "{unusual:?}");
        }
    }
}
