//! A service account of Atlas: whoever needs to call comes in, a token comes out; minted once for all,
//! renewed before its end, given back at the end.
//!
//! At most one mint is under way, in a task of its own, so that it does not end with the caller who
//! happened to need it. A token that Atlas refuses is replaced once for any number of callers, and at
//! most once a minute.

mod endpoint;
mod kept;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::sync::watch;
use tracing::Instrument;
use tracing::debug_span;
use tracing::error;
use tracing::info;
use tracing::warn;

use super::answer::CredentialFailure;
use super::chance::Chance;
use super::ledger::Ledger;
use super::retry_after;
use super::sealed;
use super::token;
use super::token::Minted;
use super::token::NotMinted;
use super::transport::Transport;
use super::watched_secret::WatchedSecret;
use crate::clock::Clock;
use crate::secret::Secret;
use crate::telemetry::metrics::upstream::CredentialLabels;
use crate::telemetry::metrics::upstream::Endpoint;
use crate::telemetry::metrics::upstream::MintLabels;
use crate::telemetry::metrics::upstream::MintResult;
use crate::telemetry::metrics::upstream::UpstreamMetrics;

/// One service account. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ServiceAccount(Arc<Account>);

/// What an operator may change of an account while it is in use.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Its configured name.
    pub(crate) name: Arc<str>,
    pub(crate) secret: WatchedSecret,
}

/// What an account is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) client_id: String,
    pub(crate) terms: Terms,
    pub(crate) ledger: Ledger,
    /// Where the token is kept for the next process.
    pub(crate) sealed: PathBuf,
    pub(crate) transport: Transport,
    pub(crate) clock: Clock,
    pub(crate) chance: Chance,
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
    ledger: Mutex<Ledger>,
    sealed: PathBuf,
    transport: Transport,
    clock: Clock,
    chance: Chance,
    metrics: UpstreamMetrics,
    time: Duration,
    state: Mutex<State>,
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
}

#[derive(Clone, Debug)]
struct Token {
    text: Secret,
    header: HeaderValue,
    renew_at: Duration,
    expires_at: Duration,
}

impl ServiceAccount {
    pub(crate) fn new(parts: Parts) -> Self {
        let account = Account {
            client_id: parts.client_id,
            terms: ArcSwap::from_pointee(parts.terms),
            ledger: Mutex::new(parts.ledger),
            sealed: parts.sealed,
            transport: parts.transport,
            clock: parts.clock,
            chance: parts.chance,
            metrics: parts.metrics,
            time: parts.time,
            state: Mutex::default(),
            settled: watch::Sender::default(),
        };
        account.take_up();
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
            let now = self.0.clock.now().elapsed;
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
                    if now < state.not_before {
                        return Err(state.trouble.unwrap_or(CredentialFailure::Unavailable));
                    }
                    self.start_minting(&mut state);
                }
                settled.mark_unchanged();
            }
            if settled.changed().await.is_err() {
                return Err(CredentialFailure::Unavailable);
            }
        }
    }

    /// Atlas refused this token. True if asking again may help: there is another one already, or the
    /// next call mints one.
    pub(crate) fn refused(&self, bearer: &Bearer) -> bool {
        let now = self.0.clock.now().elapsed;
        let mut state = self.0.state();
        if state.number != bearer.number || state.token.is_none() {
            return true;
        }
        let again = state.last_refusal;
        if again.is_some_and(|last| now.saturating_sub(last) < BETWEEN_REFUSALS) {
            return false;
        }
        warn!(credential = %self.0.terms.load().name, "Atlas refused a token before its time; minting another");
        state.last_refusal = Some(now);
        state.token = None;
        sealed::remove(&self.0.sealed);
        true
    }

    /// Does what is due: takes up a changed secret, renews the token. Called every few seconds.
    pub(crate) fn tend(&self) {
        let now = self.0.clock.now().elapsed;
        if self.0.terms.load().secret.look() {
            self.0.secret_changed();
        }
        let mut state = self.0.state();
        let wanted = state.token.is_none() || state.is_due(now);
        if wanted && !state.minting && now >= state.not_before {
            self.start_minting(&mut state);
        }
        let expires = state.token.as_ref().map(|token| token.expires_at);
        let left = expires.unwrap_or(now).saturating_sub(now);
        self.0.token_expires_in(left);
    }

    /// Why there is no token; `None` while there is one, or none was needed yet.
    pub(crate) fn trouble(&self) -> Option<CredentialFailure> {
        let now = self.0.clock.now().elapsed;
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

    fn start_minting(&self, state: &mut State) {
        state.minting = true;
        let account = Arc::clone(&self.0);
        let under_way = UnderWay(Arc::clone(&self.0));
        tokio::spawn(async move {
            let under_way = under_way;
            account.mint().instrument(debug_span!("mint")).await;
            drop(under_way);
        });
    }
}

/// A mint is under way until this is dropped, even if its task panics.
struct UnderWay(Arc<Account>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state().minting = false;
        self.0
            .settled
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Account {
    /// What Atlas has said of the former secret says nothing of this one.
    fn secret_changed(&self) {
        let now = self.clock.now().elapsed;
        let mut state = self.state();
        if state.trouble == Some(CredentialFailure::Refused) {
            state.not_before = now;
        }
    }

    fn secret(&self) -> Arc<Secret> {
        self.terms.load().secret.current()
    }

    async fn mint(self: &Arc<Self>) {
        let (why, wait) = match self.try_mint().await {
            Ok(minted) => {
                self.count(MintResult::Minted);
                self.adopt(minted);
                return;
            }
            Err(NotMinted { why, wait, .. }) => (why, wait),
        };
        self.count(match why {
            CredentialFailure::MintLimit => MintResult::Limited,
            CredentialFailure::Refused => MintResult::Refused,
            CredentialFailure::Unavailable => MintResult::Unavailable,
        });
        error!(
            credential = %self.terms.load().name,
            wait_seconds = wait.as_secs(),
            "no token for Atlas: {why}; not asking again before {} s", wait.as_secs(),
        );
        let now = self.clock.now().elapsed;
        let mut state = self.state();
        state.trouble = Some(why);
        state.failures = state.failures.saturating_add(1);
        state.not_before = now + wait + self.chance.up_to(wait / 10);
    }

    async fn try_mint(self: &Arc<Self>) -> Result<Minted, NotMinted> {
        let failures = self.state().failures;
        let now = self.clock.now().wall;
        let unavailable = token::unavailable(failures);
        let secret = self.secret();
        {
            let mut ledger = self.ledger();
            ledger.may_ask(now).map_err(|wait| NotMinted {
                why: CredentialFailure::MintLimit,
                wait: wait.min(LONGEST_LEDGER_WAIT),
                in_vain: true,
            })?;
            match ledger.ask(now).and_then(|()| ledger.file()) {
                Ok(file) => self.bring_to_disk(file),
                Err(error) => self.cannot_write(&error),
            }
        }
        let body = "grant_type=client_credentials".to_owned();
        let answer = self
            .post(Endpoint::Token, endpoint::TOKEN, &secret, body)
            .await;
        let answer = answer.ok_or(unavailable)?;
        let wait = retry_after::of(&answer.headers, answer.at.wall);
        let read = token::read(answer.status, &answer.body, wait, failures);
        if read.as_ref().is_err_and(|failure| failure.in_vain) {
            // A line that is missing here only makes us more careful than we need be.
            let _ = self.ledger().in_vain();
        }
        let minted = read?;
        let expires = answer.at.wall.plus(minted.lifetime);
        self.keep(&minted.token, expires, &secret);
        Ok(minted)
    }

    fn adopt(&self, minted: Minted) {
        let Some(header) = token::bearer(&minted.token) else {
            return;
        };
        let now = self.clock.now().elapsed;
        let life = minted.lifetime;
        let renew_in = self.chance.between(life * 75 / 100, life * 85 / 100);
        info!(credential = %self.terms.load().name, seconds = life.as_secs(), "minted a token for Atlas");
        let mut state = self.state();
        state.number += 1;
        state.trouble = None;
        state.failures = 0;
        state.not_before = now;
        state.token = Some(Token {
            text: minted.token,
            header,
            renew_at: now + renew_in,
            expires_at: now + life,
        });
        self.token_expires_in(life);
    }

    async fn revoke(&self, token: &Secret) {
        let secret = self.secret();
        let body = format!("token={}&token_type_hint=access_token", token.expose());
        let answer = self
            .post(Endpoint::Revoke, endpoint::REVOKE, &secret, body)
            .await;
        if answer.is_some_and(|answer| answer.status.is_success()) {
            sealed::remove(&self.sealed);
            let _ = self.ledger().in_vain();
        }
    }

    fn count(&self, result: MintResult) {
        self.metrics
            .token_mints
            .get_or_create(&MintLabels { result })
            .inc();
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

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The token, while it lives long enough for a call.
    fn usable(&self, now: Duration) -> Option<&Token> {
        let token = self.token.as_ref()?;
        (now + MARGIN < token.expires_at).then_some(token)
    }

    fn is_due(&self, now: Duration) -> bool {
        let due = self
            .token
            .as_ref()
            .is_some_and(|token| now >= token.renew_at);
        due && !self.minting && now >= self.not_before
    }
}

/// A token is not used in its last seconds: it could end on its way.
const MARGIN: Duration = Duration::from_secs(10);
/// At most one mint a minute because of a refused token.
const BETWEEN_REFUSALS: Duration = Duration::from_mins(1);
/// The ledger may say an hour; an operator who clears it should not have to restart us.
const LONGEST_LEDGER_WAIT: Duration = Duration::from_mins(5);
