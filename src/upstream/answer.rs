//! What comes of asking: a list of one moment, or the reason why there is none and what that means for
//! what is remembered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::meaning;
use super::meaning::Meaning;
use super::transport::HttpErrorKind;
use crate::atlas::CertificateList;
use crate::clock::Moment;

/// How much a call to Atlas matters when there are not enough for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Nobody waits: a hot entry is renewed before its time.
    RefreshAhead,
    /// A caller waits, but there is a stale answer to give.
    Revalidate,
    /// A caller waits and there is nothing else to give.
    Miss,
}

/// What a walk cost and where it went; kept with its list, and written to the audit trail.
#[derive(Clone, Debug)]
pub struct FetchStats {
    /// The credential's configured name; empty if none matches the project.
    pub credential: Arc<str>,
    /// Calls to Atlas's API, retries and the proof of one moment included; mints not.
    pub calls: u32,
    /// Pages in the list.
    pub pages: u32,
    /// From the first call to the last answer.
    pub duration: Duration,
    /// Atlas's last status; `None` if it never answered.
    pub status: Option<StatusCode>,
}

/// A complete list of one moment.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The certificates.
    pub list: CertificateList,
    /// When Atlas answered with the oldest page: `Age` counts from here.
    pub answered_at: Moment,
    /// What it cost.
    pub stats: FetchStats,
}

/// Why there is no list.
#[derive(Clone, Debug, thiserror::Error)]
#[error("could not list certificates")]
pub struct FetchError {
    /// What went wrong.
    #[source]
    pub reason: FetchErrorKind,
    /// What it cost all the same.
    pub stats: FetchStats,
}

/// What went wrong with a walk.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchErrorKind {
    /// Atlas answered with an error document, which is passed on as it is.
    #[error("Atlas answered {}", .0.status)]
    Atlas(AtlasAnswer),
    /// The breaker is open: Atlas has failed too often to be asked now.
    #[error("Atlas is not asked while it keeps failing")]
    BreakerOpen {
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// Too many walks are under way or waiting.
    #[error("too many calls to Atlas are waiting")]
    Busy {
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// No token for Atlas: the service account could not get one.
    #[error("no credential for Atlas: {0}")]
    Credential(CredentialFailure),
    /// Atlas is not asked now, by a rule of ours.
    #[error("Atlas is not asked now: {why}")]
    HeldBack {
        /// Which rule.
        why: HeldBack,
        /// How many calls a minute of the project's rate limit are ours.
        calls_per_minute: u64,
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// Pages of different moments, however often the walk was begun again.
    #[error("the list changed while it was read")]
    Inconsistent,
    /// Not what Atlas's API answers: wrong type, malformed, oversized, another project's.
    #[error("Atlas's answer cannot be used: {0}")]
    InvalidResponse(&'static str),
    /// No configured credential covers the project.
    #[error("no credential is configured for the project")]
    NoCredential,
    /// An error without a document of Atlas's: an HTML page, or nothing at all.
    #[error("Atlas, or something before it, answered {status}")]
    NoDocument {
        /// Its status, an error.
        status: StatusCode,
        /// When it is worth asking again, if it said so.
        retry_after: Option<Duration>,
    },
    /// Atlas did not answer in time.
    #[error("Atlas did not answer in time")]
    Timeout,
    /// TLS failed: a wrong, expired or untrusted certificate.
    #[error("Atlas's certificate was not accepted")]
    Tls,
    /// No connection, or one that broke.
    #[error("Atlas could not be reached")]
    Unreachable,
}

/// Why Atlas is not asked now although nothing says that it could not answer: a rule of ours holds the
/// call back. That is no failure of Atlas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeldBack {
    /// What is left in Atlas's bucket is left to issuing, or to calls that matter more.
    #[error("too little is left in the project's bucket")]
    BucketLow,
    /// As many calls are under way or waiting as there may be.
    #[error("too many calls are waiting")]
    Busy,
    /// Another token could reach Atlas's limits on tokens.
    #[error("no more tokens may be asked for")]
    MintLimit,
    /// Our share of the project's bucket is spent.
    #[error("our share of the project's rate limit is spent")]
    OwnShare,
    /// The cooldown after a 429.
    #[error("Atlas has answered 429 and asked us to wait")]
    RateLimited,
    /// The cooldown after a 503 that says when to come back.
    #[error("Atlas has answered 503 and asked us to wait")]
    Unavailable,
}

/// Why a service account has no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialFailure {
    /// Minting now could reach Atlas's limits on tokens, as the ledger has it.
    #[error("too many tokens were minted")]
    MintLimit,
    /// Atlas's limits on tokens are reached, as it says itself.
    #[error("the token endpoint gives no more tokens for now: it answered {0}")]
    MintLimited(StatusCode),
    /// The token endpoint refused the client id or secret.
    #[error("the service account was refused: the token endpoint answered {0}")]
    Refused(StatusCode),
    /// The token endpoint failed, or answered something that is no token.
    #[error("the token endpoint failed: {0}")]
    Unavailable(NoToken),
}

/// What came from the token endpoint in place of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// An answer that says that it failed, or that it is another thing.
    #[error("it answered {0}")]
    Answered(StatusCode),
    /// No answer.
    #[error("no answer: {0}")]
    HttpErrorKind(HttpErrorKind),
    /// Something that is no token of Atlas's.
    #[error("its answer is no token")]
    Unusable,
}

/// Atlas's own words, kept byte for byte.
#[derive(Clone, Debug)]
pub struct AtlasAnswer {
    /// The status.
    pub status: StatusCode,
    /// The JSON document.
    pub body: Bytes,
    /// `errorCode` of the document.
    pub error_code: Option<Arc<str>>,
    /// `Retry-After`, or the seconds named in the document.
    pub retry_after: Option<Duration>,
}

/// What a failure means for what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Atlas answered that this user or project is closed to us: the old list is no longer to be served.
    Denial,
    /// Atlas answered that the user or the project does not exist.
    Missing,
    /// We have not asked: an old list may be served, and nothing is said against Atlas.
    HeldBack(HeldBack),
    /// There is no answer now: an old list may be served. Atlas is ill or not to be reached, its rate
    /// limit is spent, or it refuses our credential, address, bill or version, whoever is asked about.
    Outage,
}

impl HeldBack {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::BucketLow,
        Self::Busy,
        Self::MintLimit,
        Self::OwnShare,
        Self::RateLimited,
        Self::Unavailable,
    ];

    /// The word for the audit trail and the metrics, from a closed set.
    pub const fn word(self) -> &'static str {
        match self {
            Self::BucketLow => "bucket_low",
            Self::Busy => "busy",
            Self::MintLimit => "mint_limit",
            Self::OwnShare => "own_share",
            Self::RateLimited => "cooldown_429",
            Self::Unavailable => "cooldown_503",
        }
    }
}

impl FetchError {
    /// What the failure means for what is remembered.
    pub fn verdict(&self) -> Verdict {
        self.reason.verdict()
    }

    /// The word for why Atlas was not asked, for the audit trail and the metrics; `None` if it was.
    pub fn not_asked(&self) -> Option<&'static str> {
        match (&self.reason, self.verdict()) {
            (FetchErrorKind::BreakerOpen { .. }, _) => Some(BREAKER_OPEN),
            (_, Verdict::HeldBack(why)) => Some(why.word()),
            (_, Verdict::Denial | Verdict::Missing | Verdict::Outage) => None,
        }
    }

    /// Whether Atlas's API was called at all.
    pub fn was_sent(&self) -> bool {
        self.stats.calls > 0
    }

    /// The word for why nothing was sent to Atlas, or no more, for the audit trail; `None` if Atlas has had
    /// its say.
    pub fn reason_unsent(&self) -> Option<&'static str> {
        self.not_asked().or_else(|| match &self.reason {
            FetchErrorKind::Credential(_) => Some("no_token"),
            FetchErrorKind::NoCredential => Some("no_credential"),
            FetchErrorKind::Atlas(_)
            | FetchErrorKind::BreakerOpen { .. }
            | FetchErrorKind::Busy { .. }
            | FetchErrorKind::HeldBack { .. }
            | FetchErrorKind::Inconsistent
            | FetchErrorKind::InvalidResponse(_)
            | FetchErrorKind::NoDocument { .. }
            | FetchErrorKind::Timeout
            | FetchErrorKind::Tls
            | FetchErrorKind::Unreachable => (!self.was_sent()).then_some("not_sent"),
        })
    }
}

impl FetchErrorKind {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Atlas(answer) => answer.verdict(),
            Self::NoCredential => Verdict::Denial,
            Self::Busy { .. } => Verdict::HeldBack(HeldBack::Busy),
            Self::Credential(CredentialFailure::MintLimit) => {
                Verdict::HeldBack(HeldBack::MintLimit)
            }
            Self::HeldBack { why, .. } => Verdict::HeldBack(*why),
            Self::BreakerOpen { .. }
            | Self::Credential(
                CredentialFailure::MintLimited(_)
                | CredentialFailure::Refused(_)
                | CredentialFailure::Unavailable(_),
            )
            | Self::Inconsistent
            | Self::InvalidResponse(_)
            | Self::NoDocument { .. }
            | Self::Timeout
            | Self::Tls
            | Self::Unreachable => Verdict::Outage,
        }
    }
}

impl FetchError {
    /// Whether nothing says that it is this list's: Atlas could not be reached, or did not answer.
    pub fn is_of_atlas_as_a_whole(&self) -> bool {
        match &self.reason {
            FetchErrorKind::Atlas(answer) => matches!(answer.status.as_u16(), 502..=504),
            FetchErrorKind::BreakerOpen { .. }
            | FetchErrorKind::Busy { .. }
            | FetchErrorKind::Credential(_)
            | FetchErrorKind::HeldBack { .. }
            | FetchErrorKind::NoDocument { .. }
            | FetchErrorKind::Timeout
            | FetchErrorKind::Tls
            | FetchErrorKind::Unreachable => true,
            FetchErrorKind::Inconsistent
            | FetchErrorKind::InvalidResponse(_)
            | FetchErrorKind::NoCredential => false,
        }
    }

    /// The code of Atlas's error document, where Atlas sent one.
    pub fn atlas_code(&self) -> Option<&str> {
        match &self.reason {
            FetchErrorKind::Atlas(answer) => answer.error_code.as_deref(),
            FetchErrorKind::BreakerOpen { .. }
            | FetchErrorKind::Busy { .. }
            | FetchErrorKind::Credential(_)
            | FetchErrorKind::HeldBack { .. }
            | FetchErrorKind::Inconsistent
            | FetchErrorKind::InvalidResponse(_)
            | FetchErrorKind::NoCredential
            | FetchErrorKind::NoDocument { .. }
            | FetchErrorKind::Timeout
            | FetchErrorKind::Tls
            | FetchErrorKind::Unreachable => None,
        }
    }
}

impl AtlasAnswer {
    /// Whether a good token lacks a permission. Atlas answers 401 for that too.
    pub(crate) fn says_no_access(&self) -> bool {
        let code = self.error_code.as_deref().unwrap_or_default();
        self.status == StatusCode::UNAUTHORIZED && meaning::names_access(code)
    }

    fn verdict(&self) -> Verdict {
        let code = self.error_code.as_deref().unwrap_or_default();
        match meaning::of(self.status, code) {
            Meaning::Closed => Verdict::Denial,
            Meaning::Gone => Verdict::Missing,
            Meaning::Ill | Meaning::Limited | Meaning::Ours => Verdict::Outage,
        }
    }
}

/// The word for a breaker that is open.
const BREAKER_OPEN: &str = "breaker_open";
