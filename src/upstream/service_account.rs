//! A service account of Atlas: an access token for calls, minted once for all, renewed before its end, and given
//! back at the end.
//!
//! At most one mint is under way, in a task of its own, so that it does not end with the caller who happened
//! to need it. A token that Atlas refuses is replaced once for any number of callers, and at most once a
//! minute. Replicas of a fleet share one token, and one of them mints it ([`shared`]).

mod files;
mod mint;
mod shared;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::sync::watch;
use tracing::warn;

use super::client::AtlasClient;
use super::error::{CredentialFailure, NoToken};
use super::jitter::Jitter;
use super::mint_log::LogOptions;
use super::watched_secret::WatchedSecret;
use crate::fleet::Fleet;
use crate::system::{Clock, Moment, Secret};
use crate::telemetry::RateLimitedLog;
use crate::telemetry::metrics::upstream::{CredentialLabels, UpstreamMetrics};
use files::AccountFiles;

pub(super) struct ServiceAccount {
    client_id: String,
    settings: ArcSwap<AccountSettings>,
    files: AccountFiles,
    environment: Environment,
    state: Mutex<AccountState>,
    without_token: RateLimitedLog,
    unanswered: RateLimitedLog,
    /// Changes whenever a mint has ended.
    settled: watch::Sender<u64>,
}

pub(super) struct AccountSettings {
    pub(super) name: Arc<str>,
    pub(super) secret: Arc<WatchedSecret>,
}

#[derive(Clone)]
pub(super) struct Environment {
    pub(super) client: AtlasClient,
    pub(super) clock: Clock,
    pub(super) jitter: Jitter,
    pub(super) metrics: UpstreamMetrics,
    pub(super) state_directory: PathBuf,
    /// Whether this process keeps anything for the next one; a check does not.
    pub(super) persists: bool,
    pub(super) timeout: Duration,
    /// What the replicas share, if there are others.
    pub(super) fleet: Option<Fleet>,
}

#[derive(Clone)]
pub(super) struct Bearer {
    pub(super) header: HeaderValue,
    number: u64,
}

#[derive(Default)]
struct AccountState {
    token: Option<Token>,
    number: u64,
    is_minting: bool,
    failure: Option<CredentialFailure>,
    not_before: Duration,
    failures: u32,
    last_refusal: Option<Duration>,
    /// The hash of the token that Atlas has refused, until there is another.
    refused: Option<String>,
    /// Whether the mint under way is for a token that may be dead, and when the last such one ended.
    is_replacing: bool,
    last_replaced: Option<Duration>,
}

#[derive(Clone)]
struct Token {
    text: Secret,
    hash: String,
    header: HeaderValue,
    minted_at: Moment,
    /// Whether the last process has left it, so that its age is not known.
    is_inherited: bool,
    /// Whether other replicas may use it, too.
    is_shared: bool,
    /// After how long it is renewed, and after how long it ends.
    renew_after: Duration,
    lifetime: Duration,
}

/// Where a token has come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Atlas has just made it.
    Minted { is_shared: bool },
    /// The process before.
    Inherited,
    /// Another replica, this long after Atlas had made it.
    Fleet { age: Duration },
}

impl ServiceAccount {
    pub(super) fn new(
        client_id: &str,
        settings: AccountSettings,
        environment: Environment,
    ) -> Arc<Self> {
        let Environment {
            state_directory,
            persists,
            clock,
            fleet,
            ..
        } = &environment;
        let is_shared = fleet.as_ref().is_some_and(Fleet::shares_tokens);
        let log_options = LogOptions {
            writes: *persists,
            is_shared,
            // One may be minted, so that callers are served.
            assumed: shared::part_of(fleet.as_ref()).a_minute - 1,
        };
        let files = AccountFiles::new(state_directory, client_id, log_options, clock.clone());
        Arc::new(Self {
            client_id: client_id.to_owned(),
            settings: ArcSwap::from_pointee(settings),
            files,
            environment,
            state: Mutex::default(),
            without_token: RateLimitedLog::default(),
            unanswered: RateLimitedLog::default(),
            settled: watch::Sender::default(),
        })
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) fn secret(&self) -> Arc<Secret> {
        self.settings.load().secret.current()
    }

    /// Goes by other settings from now on, with the token that there is. If Atlas did not accept the former
    /// secret, another one is tried at once.
    pub(super) fn replace_settings(&self, settings: AccountSettings) {
        let former = self.settings.swap(Arc::new(settings));
        if former.secret.current().expose() != self.secret().expose() {
            self.secret_changed();
        }
    }

    pub(super) async fn bearer(self: &Arc<Self>) -> Result<Bearer, CredentialFailure> {
        let mut settled = self.settled.subscribe();
        loop {
            let now = self.now();
            {
                let mut state = self.state();
                if let Some(token) = state.usable(now) {
                    let bearer = Bearer {
                        header: token.header.clone(),
                        number: state.number,
                    };
                    if state.is_renewal_due(now) {
                        self.start_minting(&mut state);
                    }
                    return Ok(bearer);
                }
                if !state.is_minting {
                    if now.elapsed < state.not_before {
                        return Err(state.failure.unwrap_or(NEVER_TRIED));
                    }
                    self.start_minting(&mut state);
                }
                settled.mark_unchanged();
            }
            let ended = settled.changed().await;
            ended.expect("the sender is this account's");
        }
    }

    /// Atlas refused this token. True if asking again may help: there is another one already, or the next
    /// call mints one.
    pub(super) fn refused(self: &Arc<Self>, bearer: &Bearer) -> bool {
        let now = self.now().elapsed;
        let mut state = self.state();
        if state.number != bearer.number || state.token.is_none() {
            return true;
        }
        if is_within(state.last_refusal, BETWEEN_REFUSALS, now) {
            return false;
        }
        let credential = Arc::clone(&self.settings.load().name);
        warn!(%credential, "Atlas refused a token before its time; minting another");
        state.last_refusal = Some(now);
        state.refused = state.token.take().map(|token| token.hash);
        drop(self.files.forget_token());
        true
    }

    /// Atlas says that our account lacks a right. It says the same of tokens that have died, so a token that
    /// is not fresh is replaced once; the old one stays in use until the new one is there, because it may
    /// well be good for other projects. True if there is another token now; an error if there should be, and
    /// could not be got.
    pub(super) async fn replaced(
        self: &Arc<Self>,
        bearer: &Bearer,
    ) -> Result<bool, CredentialFailure> {
        {
            let now = self.now();
            let mut state = self.state();
            if state.number != bearer.number {
                return Ok(true);
            }
            if !state.is_minting {
                if !state.may_be_dead(now) {
                    return Ok(false);
                }
                if now.elapsed < state.not_before {
                    return state.not_replaced();
                }
                // The next process need not try it.
                drop(self.files.forget_token());
                state.is_replacing = true;
                self.start_minting(&mut state);
            }
        }
        self.mint_ended().await;
        let state = self.state();
        if state.number == bearer.number {
            state.not_replaced()
        } else {
            Ok(true)
        }
    }

    /// Takes up a changed secret and renews the token. Called every few seconds.
    pub(super) fn maintain(self: &Arc<Self>) {
        let account = Arc::clone(self);
        self.settings.load().secret.look(move || {
            account.secret_changed();
            account.renew();
        });
        self.renew();
        self.share();
    }

    fn renew(self: &Arc<Self>) {
        let now = self.now();
        let mut state = self.state();
        let is_wanted = state.token.is_none() || state.is_renewal_due(now);
        if is_wanted && !state.is_minting && now.elapsed >= state.not_before {
            self.start_minting(&mut state);
        }
        let token = state.token.as_ref();
        self.show_expiry(token.map_or(Duration::ZERO, |token| token.left(now)));
    }

    /// Why there is no token; `None` while there is one, or none was needed yet.
    pub(super) fn failure(&self) -> Option<CredentialFailure> {
        let state = self.state();
        let has_token = state.usable(self.now()).is_some();
        state.failure.filter(|_| !has_token)
    }

    /// Gives the token back to Atlas, as well as that goes; one that is being minted, once it is there. One that
    /// other replicas may use is left to them, and to the next process.
    pub(super) async fn revoke(self: &Arc<Self>) {
        self.mint_ended().await;
        let token = self.state().token.take();
        if let Some(token) = token.filter(|token| !token.is_shared) {
            self.revoke_token(&token.text).await;
        }
    }

    async fn mint_ended(&self) {
        let mut settled = self.settled.subscribe();
        while self.state().is_minting && settled.changed().await.is_ok() {}
    }

    /// What Atlas has said of the former secret says nothing of this one.
    fn secret_changed(&self) {
        let now = self.now().elapsed;
        let mut state = self.state();
        if matches!(state.failure, Some(CredentialFailure::Refused(_))) {
            state.not_before = now;
        }
    }

    fn show_expiry(&self, left: Duration) {
        let credential = self.settings.load().name.as_ref().to_owned();
        self.environment
            .metrics
            .token_expires
            .get_or_create(&CredentialLabels { credential })
            .set(left.as_secs_f64());
    }

    fn now(&self) -> Moment {
        self.environment.clock.now()
    }

    fn state(&self) -> MutexGuard<'_, AccountState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountState {
    fn usable(&self, now: Moment) -> Option<&Token> {
        let token = self.token.as_ref()?;
        (token.left(now) > MARGIN).then_some(token)
    }

    /// Whether the token is old enough to have died, and none was replaced for that lately.
    fn may_be_dead(&self, now: Moment) -> bool {
        let is_fresh = |token: &Token| !token.is_inherited && now.since(token.minted_at) < FRESH;
        !is_within(self.last_replaced, BETWEEN_REPLACEMENTS, now.elapsed)
            && !self.token.as_ref().is_some_and(is_fresh)
    }

    fn is_renewal_due(&self, now: Moment) -> bool {
        let is_old = |token: &Token| now.since(token.minted_at) >= token.renew_after;
        self.token.as_ref().is_some_and(is_old)
            && !self.is_minting
            && now.elapsed >= self.not_before
    }

    /// Why a token that may be dead was not replaced. Where only our own limit on tokens forbids it, what
    /// Atlas has said stands.
    fn not_replaced(&self) -> Result<bool, CredentialFailure> {
        let limited = CredentialFailure::MintLimit;
        self.failure
            .filter(|why| *why != limited)
            .map_or(Ok(false), Err)
    }
}

impl Token {
    fn left(&self, now: Moment) -> Duration {
        self.lifetime.saturating_sub(now.since(self.minted_at))
    }
}

fn is_within(last: Option<Duration>, span: Duration, now: Duration) -> bool {
    last.is_some_and(|last| now.saturating_sub(last) < span)
}

/// Of a mint that is put off without a reason, which none is.
const NEVER_TRIED: CredentialFailure = CredentialFailure::Unavailable(NoToken::Unusable);
/// A token is not used in its last seconds: it could end on its way.
const MARGIN: Duration = Duration::from_secs(10);
/// At most one mint a minute because of a refused token.
const BETWEEN_REFUSALS: Duration = Duration::from_mins(1);
/// A token of less than this has not died.
const FRESH: Duration = Duration::from_mins(1);
/// At most one mint in this time because an account may not lack a right after all.
const BETWEEN_REPLACEMENTS: Duration = Duration::from_mins(10);
