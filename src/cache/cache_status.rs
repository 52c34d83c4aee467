//! Where an answer came from, from the header `Cache-Status` (RFC 9211) to the audit trail and the metrics.

use std::fmt;

use crate::telemetry::metrics::lookups::CacheUse;
use crate::upstream::HeldBack;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheStatus {
    /// A fetch that another caller leads (request coalescing).
    Collapsed,
    /// Memory: the last fetch has failed, and it is too early for another.
    Failed,
    /// A fetch of another replica.
    Fleet,
    /// A fetch of its own, because the caller asked for one.
    Forced,
    /// Memory.
    Hit,
    /// A fetch of its own, because nothing was known.
    Miss,
    /// Memory: Atlas has lately said that there is no such user or project (negative caching).
    Negative,
    /// Memory, refreshed ahead of its end, so that no caller had to wait.
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
    /// Atlas is taking its time, and the fetch goes on without the caller (stale-while-revalidate).
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

impl CacheStatus {
    /// As it is recorded and counted.
    pub(crate) const fn cache_use(self) -> CacheUse {
        match self {
            Self::Collapsed => CacheUse::Collapsed,
            Self::Fleet | Self::Hit | Self::RefreshedAhead => CacheUse::Hit,
            Self::Forced | Self::Miss | Self::Renewed => CacheUse::Miss,
            Self::Failed | Self::Negative => CacheUse::Negative,
            Self::Stale(_) => CacheUse::Stale,
        }
    }

    /// What `Cache-Status` says after the cache's name.
    ///
    /// `ttl` is that of the answer, where it has one; `stored`, whether it is remembered.
    pub(crate) const fn header(self, ttl: Option<i64>, stored: bool) -> CacheStatusHeader {
        CacheStatusHeader {
            status: self,
            ttl,
            stored,
            restored: false,
        }
    }
}

/// The parameters of a `Cache-Status` member, ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatusHeader {
    status: CacheStatus,
    ttl: Option<i64>,
    stored: bool,
    restored: bool,
}

impl CacheStatusHeader {
    /// The same for a list that an earlier process has fetched, if `restored`.
    pub(super) const fn of_restored(mut self, restored: bool) -> Self {
        self.restored = restored;
        self
    }
}

impl fmt::Display for CacheStatusHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, detail) = match self.status {
            CacheStatus::Collapsed => ("fwd=miss; collapsed", ""),
            CacheStatus::Failed => ("hit", "; detail=failed"),
            CacheStatus::Fleet => ("hit", "; detail=fleet"),
            CacheStatus::Forced => ("fwd=request", ""),
            CacheStatus::Hit => ("hit", ""),
            CacheStatus::Miss => ("fwd=miss", ""),
            CacheStatus::Negative => ("hit", "; detail=negative"),
            CacheStatus::RefreshedAhead => ("hit", "; detail=refreshed-ahead"),
            CacheStatus::Renewed => ("fwd=stale", ""),
            CacheStatus::Stale(why) => ("hit", why.detail()),
        };
        f.write_str(words)?;
        match (self.status, self.ttl) {
            (CacheStatus::Miss | CacheStatus::Renewed, _) if self.stored => {
                f.write_str("; stored")?;
            }
            (
                CacheStatus::Failed
                | CacheStatus::Fleet
                | CacheStatus::Hit
                | CacheStatus::Negative
                | CacheStatus::RefreshedAhead
                | CacheStatus::Stale(_),
                Some(ttl),
            ) => write!(f, "; ttl={ttl}")?,
            (_, _) => {}
        }
        f.write_str(detail)?;
        match (self.status, self.restored) {
            (CacheStatus::Hit, true) => f.write_str("; detail=restored"),
            (CacheStatus::Stale(_), true) => f.write_str("-restored"),
            (_, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_status_speaks_the_words_of_rfc_9211() {
        for (status, ttl, stored, words) in [
            (CacheStatus::Hit, Some(231), true, "hit; ttl=231"),
            (CacheStatus::Miss, Some(300), true, "fwd=miss; stored"),
            (CacheStatus::Miss, None, false, "fwd=miss"),
            (
                CacheStatus::Collapsed,
                Some(300),
                true,
                "fwd=miss; collapsed",
            ),
            (
                CacheStatus::Stale(Staleness::Error),
                Some(-12),
                true,
                "hit; ttl=-12; detail=stale-if-error",
            ),
            (
                CacheStatus::Stale(Staleness::Slow),
                Some(-1),
                true,
                "hit; ttl=-1; detail=stale-while-revalidate",
            ),
            (
                CacheStatus::Stale(Staleness::HeldBack(HeldBack::OwnShare)),
                Some(-3),
                true,
                "hit; ttl=-3; detail=stale-own-share",
            ),
            (CacheStatus::Forced, Some(300), true, "fwd=request"),
            (CacheStatus::Renewed, Some(300), true, "fwd=stale; stored"),
            (CacheStatus::Negative, None, false, "hit; detail=negative"),
            (CacheStatus::Failed, None, false, "hit; detail=failed"),
            (
                CacheStatus::RefreshedAhead,
                Some(300),
                true,
                "hit; ttl=300; detail=refreshed-ahead",
            ),
        ] {
            assert_eq!(status.header(ttl, stored).to_string(), words);
        }
        for (status, words) in [
            (CacheStatus::Hit, "hit; ttl=9; detail=restored"),
            (
                CacheStatus::Stale(Staleness::Error),
                "hit; ttl=9; detail=stale-if-error-restored",
            ),
            (CacheStatus::Miss, "fwd=miss; stored"),
        ] {
            let header = status.header(Some(9), true).of_restored(true);
            assert_eq!(header.to_string(), words);
        }
    }
}
