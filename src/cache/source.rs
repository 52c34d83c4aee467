//! Where an answer came from, in the words of `Cache-Status` (RFC 9211), of the audit trail and of the
//! metrics.

use std::fmt;

use crate::upstream::HeldBack;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A fetch that somebody else had already begun.
    Collapsed,
    /// Memory: the last fetch has failed, and it is too early for another.
    Failed,
    /// A fetch of its own, because the caller asked for one.
    Forced,
    /// Memory.
    Hit,
    /// A fetch of its own, because nothing was known.
    Miss,
    /// Memory: Atlas has lately said that there is no such user or project.
    Negative,
    /// Memory, which was renewed before its time, so that nobody had to wait.
    RefreshedAhead,
    /// A fetch of its own, because what was known was too old.
    Renewed,
    /// Memory, although it is too old.
    Stale(Staleness),
}

/// Why an answer was given that is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Staleness {
    /// The caller has had its share of Atlas, and so Atlas was not asked.
    Allowance,
    /// Atlas could not answer.
    Error,
    /// A rule of ours holds calls to Atlas back, which is no failure of Atlas.
    HeldBack(HeldBack),
    /// Too much is under way here to ask Atlas.
    Overload,
    /// Atlas is taking its time, and the fetch goes on without the caller.
    Slow,
}

impl Staleness {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Allowance,
        Self::Error,
        Self::HeldBack(HeldBack::BucketLow),
        Self::HeldBack(HeldBack::Busy),
        Self::HeldBack(HeldBack::MintLimit),
        Self::HeldBack(HeldBack::OwnShare),
        Self::HeldBack(HeldBack::RateLimited),
        Self::HeldBack(HeldBack::Unavailable),
        Self::Overload,
        Self::Slow,
    ];

    /// The word for the audit trail and the metrics, from a closed set.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allowance => "allowance",
            Self::Error => "error",
            Self::HeldBack(why) => why.word(),
            Self::Overload => "overload",
            Self::Slow => "slow",
        }
    }

    /// What `Cache-Status` says of it.
    const fn detail(self) -> &'static str {
        match self {
            Self::Allowance => "; detail=stale-rate-limited",
            Self::Error => "; detail=stale-if-error",
            Self::HeldBack(HeldBack::BucketLow) => "; detail=stale-bucket-low",
            Self::HeldBack(HeldBack::Busy) => "; detail=stale-busy",
            Self::HeldBack(HeldBack::MintLimit) => "; detail=stale-mint-limit",
            Self::HeldBack(HeldBack::OwnShare) => "; detail=stale-own-share",
            Self::HeldBack(HeldBack::RateLimited) => "; detail=stale-cooldown-429",
            Self::HeldBack(HeldBack::Unavailable) => "; detail=stale-cooldown-503",
            Self::Overload => "; detail=stale-overload",
            Self::Slow => "; detail=stale-while-revalidate",
        }
    }
}

impl Source {
    /// The word for the audit trail and the metrics, from a closed set.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Collapsed => "collapsed",
            Self::Hit | Self::RefreshedAhead => "hit",
            Self::Forced | Self::Miss | Self::Renewed => "miss",
            Self::Failed | Self::Negative => "negative",
            Self::Stale(_) => "stale",
        }
    }

    /// What `Cache-Status` says after the cache's name.
    ///
    /// `ttl` is that of the answer, where it has one; `stored`, whether it is remembered.
    pub const fn status(self, ttl: Option<i64>, stored: bool) -> CacheStatus {
        CacheStatus {
            source: self,
            ttl,
            stored,
        }
    }
}

/// The parameters of a `Cache-Status` member, ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatus {
    source: Source,
    ttl: Option<i64>,
    stored: bool,
}

impl CacheStatus {
    /// For how long the answer is good, where it says so.
    pub fn ttl(self) -> Option<i64> {
        self.ttl
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, detail) = match self.source {
            Source::Collapsed => ("fwd=miss; collapsed", ""),
            Source::Failed => ("hit", "; detail=failed"),
            Source::Forced => ("fwd=request", ""),
            Source::Hit => ("hit", ""),
            Source::Miss => ("fwd=miss", ""),
            Source::Negative => ("hit", "; detail=negative"),
            Source::RefreshedAhead => ("hit", "; detail=refreshed-ahead"),
            Source::Renewed => ("fwd=stale", ""),
            Source::Stale(why) => ("hit", why.detail()),
        };
        f.write_str(words)?;
        match (self.source, self.ttl) {
            (Source::Miss | Source::Renewed, _) if self.stored => {
                f.write_str("; stored")?;
            }
            (
                Source::Failed
                | Source::Hit
                | Source::Negative
                | Source::RefreshedAhead
                | Source::Stale(_),
                Some(ttl),
            ) => write!(f, "; ttl={ttl}")?,
            (_, _) => {}
        }
        f.write_str(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_status_speaks_the_words_of_rfc_9211() {
        for (source, ttl, stored, words) in [
            (Source::Hit, Some(231), true, "hit; ttl=231"),
            (Source::Miss, Some(300), true, "fwd=miss; stored"),
            (Source::Miss, None, false, "fwd=miss"),
            (Source::Collapsed, Some(300), true, "fwd=miss; collapsed"),
            (
                Source::Stale(Staleness::Error),
                Some(-12),
                true,
                "hit; ttl=-12; detail=stale-if-error",
            ),
            (
                Source::Stale(Staleness::Slow),
                Some(-1),
                true,
                "hit; ttl=-1; detail=stale-while-revalidate",
            ),
            (
                Source::Stale(Staleness::HeldBack(HeldBack::OwnShare)),
                Some(-3),
                true,
                "hit; ttl=-3; detail=stale-own-share",
            ),
            (Source::Forced, Some(300), true, "fwd=request"),
            (Source::Renewed, Some(300), true, "fwd=stale; stored"),
            (Source::Negative, None, false, "hit; detail=negative"),
            (Source::Failed, None, false, "hit; detail=failed"),
            (
                Source::RefreshedAhead,
                Some(300),
                true,
                "hit; ttl=300; detail=refreshed-ahead",
            ),
        ] {
            assert_eq!(source.status(ttl, stored).to_string(), words);
        }
    }
}
