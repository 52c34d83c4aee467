//! Atlas: the complete list of one moment for a project and a user, or the reason why there is none.
//!
//! # The way of a fetch
//!
//! [`credential`] finds who we are for the project. [`fetch`] reads page after page ([`page`]) and proves that
//! they are of one moment ([`pages`]). Each page is one [`call`], which takes an access token
//! ([`service_account`]) or a nonce ([`api_key`]), passes the limits of its project ([`limiter`]: token bucket,
//! cooldown, circuit breaker, concurrency slots), goes over the wire ([`client`]), and is tried again where
//! that is right ([`retry`]: exponential backoff with jitter).
//!
//! # What is deliberately absent
//!
//! - No caller's header, token or query ever reaches Atlas: a [`CertQuery`] holds none.
//! - No link of Atlas's is ever followed; the path of every page is written here.
//! - Nothing is remembered but limits and tokens: what Atlas answered is the cache's.

mod api_key;
mod budgets;
mod call;
mod client;
mod config;
mod credential;
mod encrypted_token;
mod error;
mod fetch;
mod gauges;
mod jitter;
mod limiter;
mod list_seal;
mod mint_log;
mod online_check;
mod page;
mod pages;
mod progress;
mod reload;
mod response;
mod retry;
mod service_account;
mod state;
mod token_response;
mod user_list;
mod watched_secret;

pub use crate::http_client::HttpErrorKind;
pub(crate) use budgets::ProjectBudget;
pub use config::{
    Api, ApiKeyConfig, AtlasLimits, Config, CredentialConfig, Proof, ServiceAccountConfig,
};
pub use credential::CredentialUnavailable;
pub use error::{
    AtlasAnswer, CredentialFailure, FetchError, FetchErrorKind, FetchStats, Fetched, HeldBack,
    NoToken, SharedFetch, Urgency, Verdict,
};
pub use fetch::FetchOptions;
pub use jitter::Jitter;
pub use limiter::BudgetView;
pub(crate) use limiter::CooldownCause;
pub(crate) use list_seal::ListSeal;
pub use online_check::OnlineCheck;
pub(crate) use online_check::Tried;
pub(crate) use page::LONGEST_PAGE;
pub(crate) use reload::Prepared;
pub use state::StateError;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::join_all;
use http::HeaderMap;
use http::header::DATE;
use reqwest::dns::Resolve;
use tokio_util::sync::CancellationToken;

use crate::atlas::{CertQuery, CertificateList, ProjectId, Timestamp};
use crate::fleet::Fleet;
use crate::http_client::CallBounds;
use crate::settings::ConfigError;
use crate::system::Clock;
use crate::system::private_files::PrivateDirectory;
use crate::telemetry::RateLimitedLog;
use crate::telemetry::metrics::upstream::{Endpoint, UpstreamMetrics};
use client::AtlasClient;
use credential::{Credential, PreparedCredential, prepare, read_secrets};
use limiter::ProjectLimiter;
use page::AtlasPage;
use progress::FetchCounts;
use service_account::Environment;

/// Merges the bodies of all pages into one list, as a fetch does; `None` if they are no list. For
/// benches: a fetch reads each page as it arrives.
#[doc(hidden)]
pub fn merge(bodies: &[Bytes], project: &ProjectId) -> Option<CertificateList> {
    let pages = bodies
        .iter()
        .map(|body| AtlasPage::read(body, project).ok());
    let pages: Vec<AtlasPage> = pages.collect::<Option<_>>()?;
    pages::are_distinct(&pages).then(|| pages::join(&pages))?
}

/// The way to Atlas. Cheap to clone.
#[derive(Clone)]
pub struct Upstream(Arc<UpstreamShared>);

struct UpstreamShared {
    api: Api,
    limits: AtlasLimits,
    env: Environment,
    state: Mutex<Option<PrivateDirectory>>,
    credentials: ArcSwap<Vec<Arc<Credential>>>,
    retired: Mutex<Vec<RetiredCredential>>,
    limiter: ProjectLimiter,
    given_up: CancellationToken,
    answers_refused: RateLimitedLog,
}

struct RetiredCredential {
    credential: Arc<Credential>,
    at: Duration,
}

/// What is neither configured nor asked of a clock.
#[derive(Clone)]
pub struct BuildOptions {
    /// Where randomness comes from.
    pub jitter: Jitter,
    /// Which addresses a name has; as the system says where it is `None`.
    pub resolver: Option<Arc<dyn Resolve>>,
    /// Whether anything is written for the next process. A check beside a gateway that may be running mints
    /// tokens of its own, goes by the mint log that is there, and writes nothing.
    pub persists: bool,
}

/// A credential that cannot work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// Its configured name.
    pub credential: Arc<str>,
    /// Why.
    pub why: CredentialUnavailable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AtlasFault {
    #[error("calls for {0} of its projects fail")]
    Failing(usize),
    #[error("it has answered 429 for {0} of its projects, which are left alone for a while")]
    RateLimited(usize),
    #[error("it has answered 503 for {0} of its projects, which are left alone for a while")]
    Unavailable(usize),
    #[error("it cannot be reached")]
    Unreachable,
}

impl Upstream {
    /// Builds the client and reads the secrets; asks nothing of Atlas yet.
    ///
    /// The token that a former process has left in the state directory is taken up when one is needed.
    pub fn build(
        config: &Config,
        clock: Clock,
        metrics: UpstreamMetrics,
        options: BuildOptions,
    ) -> Result<Self, Vec<ConfigError>> {
        Self::build_in_fleet(config, clock, metrics, options, None)
    }

    /// The same, as one replica of a fleet, which shares limits and tokens.
    pub(crate) fn build_in_fleet(
        config: &Config,
        clock: Clock,
        metrics: UpstreamMetrics,
        options: BuildOptions,
        fleet: Option<Fleet>,
    ) -> Result<Self, Vec<ConfigError>> {
        let config_errors = config.config_errors();
        if !config_errors.is_empty() {
            return Err(config_errors);
        }
        let client = AtlasClient::build(config, &clock, &metrics, options.resolver);
        let (client, secrets) = match (client, read_secrets(config)) {
            (Ok(client), Ok(secrets)) => (client, secrets),
            (client, secrets) => {
                let config_errors = [client.err(), secrets.err()];
                return Err(config_errors.into_iter().flatten().flatten().collect());
            }
        };
        let shared = fleet.clone();
        let env = Environment {
            client,
            clock: clock.clone(),
            jitter: options.jitter,
            metrics,
            state_directory: config.state_directory.clone(),
            persists: options.persists,
            timeout: config.limits.page,
            fleet,
        };
        let credentials = prepare(config, secrets, &env, &[])?.into_iter();
        let credentials = credentials.map(PreparedCredential::adopt).collect();
        Ok(Self(Arc::new(UpstreamShared {
            api: config.api,
            limits: config.limits.clone(),
            env,
            state: Mutex::default(),
            credentials: ArcSwap::from_pointee(credentials),
            retired: Mutex::default(),
            limiter: ProjectLimiter::new(&config.limits, clock, options.jitter, shared),
            given_up: CancellationToken::new(),
            answers_refused: RateLimitedLog::default(),
        })))
    }

    /// Makes the state directory this process's own, where a credential of `config` needs one: two
    /// processes would not know of each other's tokens.
    pub(crate) fn take_state(&self, config: &Config) -> Result<(), StateError> {
        let needs_it = |credential: &CredentialConfig| credential.service_account.is_some();
        let mut state = self.0.state();
        if state.is_none() && config.credentials.iter().any(needs_it) {
            *state = Some(state::take(&self.0.env.state_directory)?);
        }
        Ok(())
    }

    pub(crate) fn leave_state(&self) {
        *self.0.state() = None;
    }

    /// Fetches every certificate of a database user.
    pub async fn fetch(
        &self,
        query: &CertQuery,
        options: FetchOptions,
    ) -> Result<Fetched, FetchError> {
        match self.0.credential(&query.project) {
            Some(credential) => self.fetch_by(query, options, &credential).await,
            None => Err(FetchError {
                reason: FetchErrorKind::NoCredential,
                stats: FetchCounts::default().stats(Arc::from("")),
            }),
        }
    }

    /// Renews tokens before their end, takes up changed secrets, and brings the gauges up to date, until
    /// `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            for credential in self.0.credentials.load().iter() {
                credential.maintain();
            }
            self.let_go().await;
            self.update_gauges();
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.0.env.clock.sleep(BETWEEN_ROUNDS) => {}
            }
        }
    }

    pub(crate) fn give_up(&self) {
        self.0.given_up.cancel();
    }

    /// Gives the tokens back to Atlas, as well as that goes within a second; those that other replicas may use are
    /// left to them.
    pub async fn close(&self) {
        let credentials = self.0.credentials.load_full();
        let retired = self.take_retired(|_| true);
        let all = credentials.iter().chain(&retired);
        let revoked = join_all(all.map(|credential| credential.revoke()));
        // What is not revoked in time ends by itself.
        let _ = self.0.env.clock.timeout(TIME_TO_CLOSE, revoked).await;
    }

    /// The credentials that cannot work now. One that was never tried is not among them.
    pub fn readiness(&self) -> Vec<NotReady> {
        let credentials = self.0.credentials.load();
        let not_ready = credentials.iter().filter_map(|credential| {
            Some(NotReady {
                why: credential.fault()?,
                credential: Arc::clone(&credential.name),
            })
        });
        not_ready.collect()
    }

    pub(crate) fn faults(&self) -> Vec<AtlasFault> {
        let now = self.0.env.clock.elapsed();
        let (is_unreachable, _) = self.0.limiter.host();
        let (mut failing, mut rate_limited, mut unavailable) = (0, 0, 0);
        self.0.limiter.for_each(|_, project| {
            failing += usize::from(project.breaker.is_failing(now));
            match project.cooldown.cause_now(now) {
                Some(CooldownCause::RateLimited) => rate_limited += 1,
                Some(CooldownCause::Unavailable) => unavailable += 1,
                None => {}
            }
        });
        [
            is_unreachable.then_some(AtlasFault::Unreachable),
            (failing > 0).then_some(AtlasFault::Failing(failing)),
            (rate_limited > 0).then_some(AtlasFault::RateLimited(rate_limited)),
            (unavailable > 0).then_some(AtlasFault::Unavailable(unavailable)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What is left of a project's budget.
    pub fn budget_view(&self, project: &ProjectId) -> BudgetView {
        self.0.limiter.view(project)
    }

    /// By how many seconds our clock is ahead of Atlas's, by the `Date` of an answer of whatever kind.
    pub(crate) async fn clock_ahead(&self) -> Option<i64> {
        let Environment { client, clock, .. } = &self.0.env;
        let bounds = CallBounds {
            bytes: LARGEST_GREETING,
            time: self.0.limits.page,
            from: clock.elapsed(),
        };
        let request = (client.url("/")?, HeaderMap::new(), None);
        let reply = client.send(Endpoint::Certificates, request, bounds, 0);
        let reply = reply.await.ok()?;
        let date = httpdate::parse_http_date(reply.headers.get(DATE)?.to_str().ok()?).ok()?;
        let theirs = Timestamp::from(date).seconds();
        Some(clock.now().wall.seconds().saturating_sub(theirs))
    }
}

impl UpstreamShared {
    fn credential(&self, project: &ProjectId) -> Option<Arc<Credential>> {
        let credentials = self.credentials.load();
        let mut credentials = credentials.iter();
        credentials.find(|it| it.covers(project)).map(Arc::clone)
    }

    fn state(&self) -> MutexGuard<'_, Option<PrivateDirectory>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retired(&self) -> MutexGuard<'_, Vec<RetiredCredential>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            jitter: Jitter::System,
            resolver: None,
            persists: true,
        }
    }
}

const BETWEEN_ROUNDS: Duration = Duration::from_secs(5);
const TIME_TO_CLOSE: Duration = Duration::from_secs(1);
/// Of an answer of which the head alone matters, in bytes.
const LARGEST_GREETING: u64 = 1 << 20;
