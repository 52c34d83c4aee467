//! A service account of Atlas: whoever needs to call comes in, a token comes out; minted once for all,
//! renewed before its end, given back at the end.
//!
//! At most one mint is under way, in a task of its own, so that it does not end with the caller who
//! happened to need it. A token that Atlas refuses is replaced once for any number of callers, and at
//! most once a minute.

mod endpoint;
mod kept;
mod mint;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::sync::watch;
use tracing::warn;

use super::answer::{CredentialFailure, NoToken};
use super::jitter::Jitter;
use super::transport::Transport;
use super::watched_secret::WatchedSecret;
use crate::system::{Clock, Moment, Secret};
use crate::telemetry::metrics::upstream::{CredentialLabels, Endpoint, UpstreamMetrics};
use crate::telemetry::{Repeated, say};
use kept::Kept;

/// One service account. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ServiceAccount(Arc<Account>);

/// What an operator may change of an account while it is in use.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Its configured name.
    pub(crate) name: Arc<str>,
    pub(crate) secret: Arc<WatchedSecret>,
}

/// What an account is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) client_id: String,
    pub(crate) terms: Terms,
    /// Where the ledger is, and the token for the next process.
    pub(crate) ledger: PathBuf,
    pub(crate) sealed: PathBuf,
    /// Whether this process keeps anything for the next one; a check does not.
    pub(crate) keeps: bool,
    pub(crate) transport: Transport,
    pub(crate) clock: Clock,
    pub(crate) jitter: Jitter,
    pub(crate) metrics: UpstreamMetrics,
    /// How long one request to the token endpoint may take.
    pub(crate) time: Duration,
}

/// A token, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    pub(crate) header: HeaderValue,
    number: u64,
}

#[derive(Debug)]
struct Account {
    client_id: String,
    terms: ArcSwap<Terms>,
    kept: Kept,
    transport: Transport,
    clock: Clock,
    jitter: Jitter,
    metrics: UpstreamMetrics,
    time: Duration,
    state: Mutex<State>,
    /// Of mints that fail.
    without_token: Repeated,
    /// Of calls to the token endpoint without an answer.
    unanswered: Repeated,
    /// Changes whenever a mint has ended.
    settled: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    /// How many tokens there have been; the current one's number.
    number: u64,
    minting: bool,
    trouble: Option<CredentialFailure>,
    /// No mint before this moment.
    not_before: Duration,
    failures: u32,
    last_refusal: Option<Duration>,
    /// Whether the mint under way is for a token that may be dead, and when the last such one ended.
    replacing: bool,
    last_replaced: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Token {
    text: Secret,
    header: HeaderValue,
    minted_at: Moment,
    /// Whether the last process has left it, so that its age is not known.
    is_kept: bool,
    /// After how long it is renewed, and after how long it ends.
    renew_after: Duration,
    lifetime: Duration,
}

impl ServiceAccount {
    pub(crate) fn new(parts: Parts) -> Self {
        let account = Account {
            client_id: parts.client_id,
            terms: ArcSwap::from_pointee(parts.terms),
            kept: Kept::new(parts.ledger, parts.sealed, parts.keeps),
            transport: parts.transport,
            clock: parts.clock,
            jitter: parts.jitter,
            metrics: parts.metrics,
            time: parts.time,
            state: Mutex::default(),
            without_token: Repeated::default(),
            unanswered: Repeated::default(),
            settled: watch::Sender::default(),
        };
        Self(Arc::new(account))
    }

    /// The account's id at Atlas.
    pub(crate) fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// Its present secret.
    pub(crate) fn secret(&self) -> Arc<Secret> {
        self.0.secret()
    }

    /// Goes by other terms from now on, with the token that there is. If Atlas did not accept the former
    /// secret, another one is tried at once.
    pub(crate) fn adopt(&self, terms: Terms) {
        let former = self.0.terms.swap(Arc::new(terms));
        if former.secret.current().expose() != self.0.secret().expose() {
            self.0.secret_changed();
        }
    }

    /// The current token, or the one that is being minted.
    pub(crate) async fn bearer(&self) -> Result<Bearer, CredentialFailure> {
        let mut settled = self.0.settled.subscribe();
        loop {
            let now = self.0.clock.now();
            {
                let mut state = self.0.state();
                if let Some(token) = state.usable(now) {
                    let bearer = Bearer {
                        header: token.header.clone(),
                        number: state.number,
                    };
                    let due = state.is_due(now);
                    if due {
                        self.start_minting(&mut state);
                    }
                    return Ok(bearer);
                }
                if !state.minting {
                    if now.elapsed < state.not_before {
                        return Err(state.trouble.unwrap_or(UNTRIED));
                    }
                    self.start_minting(&mut state);
                }
                settled.mark_unchanged();
            }
            if settled.changed().await.is_err() {
                return Err(UNTRIED);
            }
        }
    }

    /// Atlas refused this token. True if asking again may help: there is another one already, or the
    /// next call mints one.
    pub(crate) fn refused(&self, bearer: &Bearer) -> bool {
        let now = self.0.clock.elapsed();
        let mut state = self.0.state();
        if state.number != bearer.number || state.token.is_none() {
            return true;
        }
        let again = state.last_refusal;
        if again.is_some_and(|last| now.saturating_sub(last) < BETWEEN_REFUSALS) {
            return false;
        }
        let name = Arc::clone(&self.0.terms.load().name);
        say(|| {
            warn!(credential = %name, "Atlas refused a token before its time; minting another");
        });
        state.last_refusal = Some(now);
        state.token = None;
        self.0.forget_token();
        true
    }

    /// Atlas says that our account lacks a right. It says the same of tokens that have died, so a token
    /// that is not fresh is replaced once; the old one stays in use until the new one is there, because
    /// it may well be good for other projects. True if there is another token now; an error if there
    /// should be, and could not be got.
    pub(crate) async fn replaced(&self, bearer: &Bearer) -> Result<bool, CredentialFailure> {
        let mut settled = self.0.settled.subscribe();
        {
            let now = self.0.clock.now();
            let mut state = self.0.state();
            if state.number != bearer.number {
                return Ok(true);
            }
            if !state.minting {
                if !state.may_be_dead(now) {
                    return Ok(false);
                }
                if now.elapsed < state.not_before {
                    return unreplaced(state.trouble);
                }
                // The next process need not try it.
                self.0.forget_token();
                state.replacing = true;
                self.start_minting(&mut state);
            }
            settled.mark_unchanged();
        }
        while self.0.state().minting && settled.changed().await.is_ok() {}
        let state = self.0.state();
        if state.number == bearer.number {
            unreplaced(state.trouble)
        } else {
            Ok(true)
        }
    }

    /// Does what is due: takes up a changed secret, renews the token. Called every few seconds.
    pub(crate) fn tend(&self) {
        let account = self.clone();
        self.0.terms.load().secret.look(move || {
            account.0.secret_changed();
            account.renew();
        });
        self.renew();
    }

    fn renew(&self) {
        let now = self.0.clock.now();
        let mut state = self.0.state();
        let wanted = state.token.is_none() || state.is_due(now);
        if wanted && !state.minting && now.elapsed >= state.not_before {
            self.start_minting(&mut state);
        }
        let left = state.token.as_ref().map(|token| token.left(now));
        let left = left.unwrap_or_default();
        self.0.token_expires_in(left);
    }

    /// Why there is no token; `None` while there is one, or none was needed yet.
    pub(crate) fn trouble(&self) -> Option<CredentialFailure> {
        let now = self.0.clock.now();
        let state = self.0.state();
        match state.usable(now) {
            Some(_) => None,
            None => state.trouble,
        }
    }

    /// Gives the token back to Atlas, as well as that goes; one that is being minted, once it is there.
    pub(crate) async fn revoke(&self) {
        let mut settled = self.0.settled.subscribe();
        while self.0.state().minting && settled.changed().await.is_ok() {}
        let token = self.0.state().token.take();
        if let Some(token) = token {
            self.0.revoke(&token.text).await;
        }
    }
}

impl Account {
    /// What Atlas has said of the former secret says nothing of this one.
    fn secret_changed(&self) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        if matches!(state.trouble, Some(CredentialFailure::Refused(_))) {
            state.not_before = now;
        }
    }

    fn secret(&self) -> Arc<Secret> {
        self.terms.load().secret.current()
    }

    async fn revoke(self: &Arc<Self>, token: &Secret) {
        let secret = self.secret();
        let body = format!("token={}&token_type_hint=access_token", token.expose());
        let answer = self
            .post(Endpoint::Revoke, endpoint::REVOKE, &secret, body)
            .await;
        if answer.is_ok_and(|answer| answer.status.is_success()) {
            self.revoked().await;
        }
    }

    fn token_expires_in(&self, left: Duration) {
        let credential = self.terms.load().name.as_ref().to_owned();
        self.metrics
            .token_expires
            .get_or_create(&CredentialLabels { credential })
            .set(left.as_secs_f64());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The token, while it lives long enough for a call.
    fn usable(&self, now: Moment) -> Option<&Token> {
        let token = self.token.as_ref()?;
        (token.left(now) > MARGIN).then_some(token)
    }

    /// Whether the token is old enough to have died, and none was replaced for that lately.
    fn may_be_dead(&self, now: Moment) -> bool {
        let replaced = self.last_replaced;
        let lately =
            replaced.is_some_and(|last| now.elapsed.saturating_sub(last) < BETWEEN_REPLACEMENTS);
        let token = self.token.as_ref();
        let is_fresh =
            token.is_some_and(|token| !token.is_kept && now.since(token.minted_at) < FRESH);
        !lately && !is_fresh
    }

    fn is_due(&self, now: Moment) -> bool {
        let due = self
            .token
            .as_ref()
            .is_some_and(|token| now.since(token.minted_at) >= token.renew_after);
        due && !self.minting && now.elapsed >= self.not_before
    }
}

impl Token {
    /// For how long Atlas takes it from `now` on.
    fn left(&self, now: Moment) -> Duration {
        self.lifetime.saturating_sub(now.since(self.minted_at))
    }
}

/// Why a token that may be dead was not replaced. Where only our own limit on tokens forbids it, what Atlas
/// has said stands.
fn unreplaced(trouble: Option<CredentialFailure>) -> Result<bool, CredentialFailure> {
    match trouble {
        None | Some(CredentialFailure::MintLimit) => Ok(false),
        Some(
            why @ (CredentialFailure::MintLimited(_)
            | CredentialFailure::Refused(_)
            | CredentialFailure::Unavailable(_)),
        ) => Err(why),
    }
}

/// Of a mint that is put off without a reason, which none is.
const UNTRIED: CredentialFailure = CredentialFailure::Unavailable(NoToken::Unusable);
/// A token is not used in its last seconds: it could end on its way.
const MARGIN: Duration = Duration::from_secs(10);
/// At most one mint a minute because of a refused token.
const BETWEEN_REFUSALS: Duration = Duration::from_mins(1);
/// A token of less than this has not died.
const FRESH: Duration = Duration::from_mins(1);
/// At most one mint in this time because an account may not lack a right after all.
const BETWEEN_REPLACEMENTS: Duration = Duration::from_mins(10);
