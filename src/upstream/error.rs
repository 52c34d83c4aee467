//! What comes of a fetch: a list of one moment, or why there is none and what that means for what is cached.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use uuid::Uuid;

use crate::atlas::CertificateList;
use crate::http_client::HttpErrorKind;
use crate::system::Moment;
use crate::telemetry::metrics::words;

/// How much a call to Atlas matters when there are not enough for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// No caller waits, and none may ever: a list is brought into memory after a start.
    Warm,
    /// No caller waits: it is asked when certificates end.
    Inventory,
    /// No caller waits: a hot entry is renewed before its time.
    RefreshAhead,
    /// A caller waits, but there is a stale answer to give.
    Revalidate,
    /// A caller waits and there is nothing else to give.
    Miss,
}

/// What a fetch cost and where it went; kept with its list, and written to the audit trail.
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
    /// Whose fetch it was, if another replica's.
    pub shared: Option<SharedFetch>,
}

/// A fetch of another replica, whose list was shared.
#[derive(Clone, Debug)]
pub struct SharedFetch {
    /// Its id in that replica's trail.
    pub(crate) fill_id: Uuid,
    /// The name of that replica.
    pub(crate) replica: Arc<str>,
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

/// What went wrong with a fetch.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant is")]
pub enum FetchErrorKind {
    #[error("Atlas answered {}", .0.status)]
    Atlas(AtlasAnswer),
    #[error("Atlas is not asked while it keeps failing")]
    BreakerOpen { retry_after: Duration },
    #[error("no credential for Atlas: {0}")]
    Credential(CredentialFailure),
    #[error("Atlas is not asked now: {why}")]
    HeldBack {
        why: HeldBack,
        calls_per_minute: u64,
        retry_after: Duration,
    },
    #[error("the list changed while it was read")]
    Inconsistent,
    #[error("Atlas's answer cannot be used: {0}")]
    InvalidResponse(&'static str),
    #[error("no credential is configured for the project")]
    NoCredential,
    #[error("Atlas, or something before it, answered {status}")]
    NoDocument {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    #[error("Atlas did not answer in time")]
    Timeout,
    #[error("Atlas's certificate was not accepted")]
    Tls,
    #[error("Atlas could not be reached")]
    Unreachable,
}

#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// It shows that the list changed while it was read.
    Changed,
    Http(HttpErrorKind),
    /// Not sent: by a limit of ours, or for want of a token.
    NotSent(FetchErrorKind),
    /// An error response: [`FetchErrorKind::Atlas`] or [`FetchErrorKind::NoDocument`].
    Response(FetchErrorKind),
    /// The response broke off, or its JSON does: worth reading the list again.
    Torn(&'static str),
    Unusable(&'static str),
}

words! {
    /// Why Atlas is not asked now although nothing says that it could not answer: a rule of ours holds the
    /// call back. That is no failure of Atlas.
    #[derive(thiserror::Error)]
    #[expect(missing_docs, reason = "each message says what its variant is")]
    pub enum HeldBack {
        #[error("too little is left in the project's bucket")]
        BucketLow = "bucket_low",
        #[error("too many calls are waiting")]
        Busy = "busy",
        #[error("no more tokens may be asked for")]
        MintLimit = "mint_limit",
        #[error("our share of the project's rate limit is spent")]
        OwnShare = "own_share",
        #[error("Atlas has answered 429 and asked us to wait")]
        RateLimited = "cooldown_429",
        #[error("Atlas has answered 503 and asked us to wait")]
        Unavailable = "cooldown_503",
    }
}

/// Why a service account has no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant is")]
pub enum CredentialFailure {
    #[error("too many tokens were minted")]
    MintLimit,
    #[error("the token endpoint gives no more tokens for now: it answered {0}")]
    MintLimited(StatusCode),
    #[error("the service account was refused: the token endpoint answered {0}")]
    Refused(StatusCode),
    #[error("the token endpoint failed: {0}")]
    Unavailable(NoToken),
}

/// What came from the token endpoint in place of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant is")]
pub enum NoToken {
    #[error("it answered {0}")]
    Answered(StatusCode),
    #[error("no answer: {0}")]
    Unanswered(HttpErrorKind),
    #[error("its answer is no token")]
    Unusable,
}

/// Atlas's error document, kept byte for byte.
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

/// What a failure means for what is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Atlas answered that this user or project is closed to us: the old list is no longer to be served.
    Denial,
    /// Atlas answered that the user or the project does not exist.
    Missing,
    /// We have not asked: an old list may be served, and nothing is said against Atlas.
    HeldBack(HeldBack),
    /// There is no answer now: an old list may be served. Atlas is ill or not to be reached, its rate
    /// limit is spent, or it refuses our credential, address, bill or version.
    Outage,
}

impl FetchError {
    /// What the failure means for what is cached.
    pub fn verdict(&self) -> Verdict {
        self.reason.verdict()
    }

    /// The word for why Atlas was not asked, for the audit trail and the metrics; `None` if it was.
    pub(crate) fn not_asked(&self) -> Option<&'static str> {
        match self.verdict() {
            Verdict::HeldBack(why) => Some(why.word()),
            Verdict::Denial | Verdict::Missing | Verdict::Outage => {
                let is_open = matches!(self.reason, FetchErrorKind::BreakerOpen { .. });
                is_open.then_some("breaker_open")
            }
        }
    }

    /// Whether Atlas's API was called at all.
    pub(crate) fn was_sent(&self) -> bool {
        self.stats.calls > 0
    }

    /// The word for why nothing was sent to Atlas, or no more, for the audit trail; `None` if Atlas has had
    /// its say.
    pub(crate) fn reason_unsent(&self) -> Option<&'static str> {
        if let Some(why) = self.not_asked() {
            Some(why)
        } else if matches!(self.reason, FetchErrorKind::Credential(_)) {
            Some("no_token")
        } else if matches!(self.reason, FetchErrorKind::NoCredential) {
            Some("no_credential")
        } else {
            (!self.was_sent()).then_some("not_sent")
        }
    }

    /// Whether nothing says that it is this list's: Atlas could not be reached, or did not answer.
    pub(crate) fn is_of_atlas_as_a_whole(&self) -> bool {
        match &self.reason {
            FetchErrorKind::Atlas(answer) => matches!(answer.status.as_u16(), 502..=504),
            FetchErrorKind::Inconsistent
            | FetchErrorKind::InvalidResponse(_)
            | FetchErrorKind::NoCredential => false,
            FetchErrorKind::BreakerOpen { .. }
            | FetchErrorKind::Credential(_)
            | FetchErrorKind::HeldBack { .. }
            | FetchErrorKind::NoDocument { .. }
            | FetchErrorKind::Timeout
            | FetchErrorKind::Tls
            | FetchErrorKind::Unreachable => true,
        }
    }

    pub(crate) fn atlas_code(&self) -> Option<&str> {
        let FetchErrorKind::Atlas(answer) = &self.reason else {
            return None;
        };
        answer.error_code.as_deref()
    }
}

impl FetchErrorKind {
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Atlas(answer) => answer.verdict(),
            Self::NoCredential => Verdict::Denial,
            Self::Credential(CredentialFailure::MintLimit) => {
                Verdict::HeldBack(HeldBack::MintLimit)
            }
            Self::HeldBack { why, .. } => Verdict::HeldBack(*why),
            Self::BreakerOpen { .. }
            | Self::Credential(_)
            | Self::Inconsistent
            | Self::InvalidResponse(_)
            | Self::NoDocument { .. }
            | Self::Timeout
            | Self::Tls
            | Self::Unreachable => Verdict::Outage,
        }
    }

    /// Says when it is worth asking again, where the failure says so of itself.
    pub(super) fn set_retry_after(&mut self, wait: Duration) {
        if let Self::Atlas(AtlasAnswer { retry_after, .. }) | Self::NoDocument { retry_after, .. } =
            self
        {
            *retry_after = Some(wait);
        }
    }

    pub(super) fn is_held_back(&self) -> bool {
        matches!(self.verdict(), Verdict::HeldBack(_))
    }
}

/// Status and wait of an error response.
type ErrorResponse = (u16, Option<Duration>);

impl CallError {
    pub(super) fn response(&self) -> Option<ErrorResponse> {
        if let Self::Response(FetchErrorKind::NoDocument {
            status,
            retry_after,
        }) = self
        {
            return Some((status.as_u16(), *retry_after));
        }
        let answer = self.atlas()?;
        Some((answer.status.as_u16(), answer.retry_after))
    }

    pub(super) fn atlas(&self) -> Option<&AtlasAnswer> {
        if let Self::Response(FetchErrorKind::Atlas(answer)) = self {
            Some(answer)
        } else {
            None
        }
    }
}

impl From<CallError> for FetchErrorKind {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Changed => Self::Inconsistent,
            CallError::Http(HttpErrorKind::Timeout) => Self::Timeout,
            CallError::Http(HttpErrorKind::Tls) => Self::Tls,
            CallError::Http(_) => Self::Unreachable,
            CallError::NotSent(reason) | CallError::Response(reason) => reason,
            CallError::Torn(why) | CallError::Unusable(why) => Self::InvalidResponse(why),
        }
    }
}

impl From<HttpErrorKind> for CallError {
    fn from(kind: HttpErrorKind) -> Self {
        match kind {
            HttpErrorKind::Encoded => Self::Unusable("compressed, though we ask for it not to be"),
            HttpErrorKind::Malformed => Self::Unusable("not HTTP"),
            HttpErrorKind::TooLarge => Self::Unusable("larger than allowed"),
            HttpErrorKind::Torn => Self::Torn("it breaks off"),
            HttpErrorKind::NoConnection
            | HttpErrorKind::Reset
            | HttpErrorKind::Timeout
            | HttpErrorKind::Tls => Self::Http(kind),
        }
    }
}

impl AtlasAnswer {
    /// Whether a good token lacks a permission. Atlas answers 401 for that too, and of some dead tokens.
    pub(super) fn says_no_access(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED && self.names_what_was_asked()
    }

    /// Whether our credential may not be used from our address.
    pub(super) fn says_address_refused(&self) -> bool {
        self.status == StatusCode::FORBIDDEN && names_address(self.code())
    }

    /// Whom the error speaks of. Codes are known by what they name, not one by one: Atlas has more of them
    /// than its documents list, and new ones come. Where nothing says that the user or the project is
    /// meant, the trouble is ours or Atlas's, and an old list is better than none.
    fn verdict(&self) -> Verdict {
        match self.status.as_u16() {
            // A rate limit, under whatever status.
            _ if self.code().starts_with("RATE_LIMITED") => Verdict::Outage,
            // This one speaks of our path, not of what was asked.
            404 if self.code() == "RESOURCE_NOT_FOUND" => Verdict::Outage,
            404 => Verdict::Missing,
            400 | 401 | 403 | 409 | 422 if self.names_what_was_asked() => Verdict::Denial,
            _ => Verdict::Outage,
        }
    }

    /// Whether the code names the user or the project that was asked about, or our rights there.
    fn names_what_was_asked(&self) -> bool {
        let code = self.code();
        names(code, &["GROUP", "PROJECT", "USER", "USERNAME", "X509"])
            && !names_address(code)
            // This is our own account's.
            && code != "NO_CURRENT_USER"
    }

    fn code(&self) -> &str {
        self.error_code.as_deref().unwrap_or("")
    }
}

fn names_address(code: &str) -> bool {
    code.contains("ACCESS_LIST") || code.contains("WHITELIST") || names(code, &["IP", "SUBNET"])
}

fn names(code: &str, words: &[&str]) -> bool {
    code.split('_').any(|word| words.contains(&word))
}

#[cfg(test)]
mod tests;
