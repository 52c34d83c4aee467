//! How we ask Atlas: a question goes in, the complete list of one moment comes out, or the reason why
//! not.
//!
//! # The way of a question
//!
//! [`credential`] finds who we are for the project. [`walk`] reads page after page ([`page`]) and proves
//! that they are of one moment ([`pages`]). Each page is one [`call`], which passes a token
//! ([`service_account`]) or a nonce ([`api_key`]), the breakers ([`breaker`]), the project's budget
//! ([`budget`]), a turn ([`limiter`]) and the wire ([`transport`]), and is tried again where that is right
//! ([`retry`]).
//!
//! # What is deliberately absent
//!
//! - No caller's header, token or query ever reaches Atlas: a [`CertQuery`] holds none.
//! - No link of Atlas's is ever followed; the path of every page is written here.
//! - Nothing is remembered but budgets, breakers and tokens: what Atlas answered is the cache's.

mod answer;
mod api_key;
mod breaker;
mod budget;
mod call;
mod jitter;
mod config;
mod credential;
mod demand;
mod exchange;
mod gauges;
mod mint_log;
mod meaning;
mod online_check;
mod page;
mod pages;
mod project;
mod reload;
mod reply;
mod retry;
mod retry_after;
mod sealed;
mod service_account;
mod state;
mod token;
mod transport;
mod limiter;
mod walk;
mod watched_secret;

pub use answer::{
    AtlasAnswer, CredentialFailure, FetchError, FetchErrorKind, FetchStats, Fetched, HeldBack,
    NoToken, Urgency, Verdict,
};
pub use budget::{BudgetView, CooldownCause};
pub use config::{
    Api, ApiKeyConfig, Config, CredentialConfig, Limits, Proof, ServiceAccountConfig,
};
pub use credential::CredentialUnavailable;
pub use jitter::Jitter;
pub use online_check::{OnlineCheck, Tried};
pub use page::LONGEST_PAGE;
pub use reload::Prepared;
pub use state::StateError;
pub use transport::HttpErrorKind;

use std::fmt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use http::header::DATE;
use reqwest::dns::Resolve;
use tokio_util::sync::CancellationToken;

use crate::atlas::{CertQuery, CertificateList, ProjectId, Timestamp};
use crate::clock::Clock;
use crate::settings::ConfigError;
use crate::telemetry::metrics::upstream::{CallCause, ReasonLabel, UpstreamMetrics};
use crate::telemetry::{Repeated, Tally, say};
use breaker::{Breaker, Ended};
use budget::Rates;
use call::Caller;
use credential::{Credential, Credentials, Successor, Tools};
use limiter::ConcurrencyLimiter;
use page::Page;
use project::Projects;
use reload::Retired;
use state::StateDirectory;
use transport::{Bounds, Transport};
use walk::Log;

/// Merges the bodies of all pages into one list, as a walk does; `None` if they are no list. For
/// benches: a walk reads each page as it arrives.
#[doc(hidden)]
pub fn merge(bodies: &[Bytes], project: &ProjectId) -> Option<CertificateList> {
    let pages = bodies.iter().map(|body| Page::read(body, project).ok());
    let pages: Vec<Page> = pages.collect::<Option<_>>()?;
    pages::are_distinct(&pages).then(|| pages::join(&pages))?
}

/// The way to Atlas. Cheap to clone.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

/// What is neither configured nor asked of a clock.
#[derive(Clone)]
pub struct Surroundings {
    /// Where randomness comes from.
    pub jitter: Jitter,
    /// Who says which address a name has; the system where it is `None`.
    pub names: Option<Arc<dyn Resolve>>,
}

/// A credential that cannot work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// Its configured name.
    pub credential: Arc<str>,
    /// Why.
    pub why: CredentialUnavailable,
}

/// What is wrong with Atlas. Projects are counted, not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AtlasFault {
    /// Calls for so many projects fail, or are not answered.
    #[error("calls for {0} of its projects fail")]
    Failing(usize),
    /// It has answered 429 for so many projects, and asked us to wait.
    #[error("it has answered 429 for {0} of its projects, which are left alone for a while")]
    RateLimited(usize),
    /// It has answered 503 for so many projects, and asked us to wait.
    #[error("it has answered 503 for {0} of its projects, which are left alone for a while")]
    Unavailable(usize),
    /// No connection comes about.
    #[error("it cannot be reached")]
    Unreachable,
}

struct Inner {
    api: Api,
    limits: Limits,
    clock: Clock,
    jitter: Jitter,
    metrics: UpstreamMetrics,
    transport: Transport,
    state_directory: PathBuf,
    /// Its lock, while this process has it.
    state: Mutex<Option<StateDirectory>>,
    credentials: ArcSwap<Credentials>,
    /// Those that no configuration names any more, and since when.
    retired: Mutex<Vec<Retired>>,
    /// Ends every walk, because the process ends.
    given_up: CancellationToken,
    projects: Projects,
    limiter: ConcurrencyLimiter,
    host: Mutex<Breaker>,
    repeats: Repeats,
}

/// What is said once for all projects, however many it befalls.
#[derive(Debug, Default)]
struct Repeats {
    answers_refused: Repeated,
    breakers: Repeated,
    gates: Repeated,
    host: Repeated,
}

impl Upstream {
    /// Builds the client and reads the secrets; asks nothing of Atlas yet.
    ///
    /// The token that a former process has left in the state directory is taken up when one is needed.
    pub fn build(
        config: &Config,
        clock: Clock,
        metrics: UpstreamMetrics,
    ) -> Result<Self, Vec<ConfigError>> {
        Self::build_in(config, clock, metrics, &Surroundings::default())
    }

    /// The same in surroundings of the caller's: with waits that are not left to chance, and with names
    /// that lead elsewhere.
    pub fn build_in(
        config: &Config,
        clock: Clock,
        metrics: UpstreamMetrics,
        surroundings: &Surroundings,
    ) -> Result<Self, Vec<ConfigError>> {
        Self::build_keeping(config, clock, metrics, (surroundings, true))
    }

    /// The same for a check beside a gateway that may be running: it mints tokens of its own, goes by the
    /// ledger that is there, and writes nothing.
    pub fn build_for_check(
        config: &Config,
        clock: Clock,
        metrics: UpstreamMetrics,
    ) -> Result<Self, Vec<ConfigError>> {
        Self::build_keeping(config, clock, metrics, (&Surroundings::default(), false))
    }

    fn build_keeping(
        config: &Config,
        clock: Clock,
        metrics: UpstreamMetrics,
        (surroundings, keeps): (&Surroundings, bool),
    ) -> Result<Self, Vec<ConfigError>> {
        let config_errors = config.config_errors();
        if !config_errors.is_empty() {
            return Err(config_errors);
        }
        let secrets = credential::secrets(config);
        let jitter = surroundings.jitter;
        let transport = Transport::build(config, clock.clone(), surroundings.names.as_ref());
        let (transport, secrets) = match (transport, secrets) {
            (Ok(transport), Ok(secrets)) => (transport, secrets),
            (transport, secrets) => {
                let config_errors = [transport.err(), secrets.err()];
                return Err(config_errors.into_iter().flatten().flatten().collect());
            }
        };
        let tools = Tools {
            config,
            transport: &transport,
            clock: &clock,
            jitter,
            metrics: &metrics,
            keeps,
            present: &[],
        };
        let successors = tools.credentials(secrets)?;
        let credentials: Credentials = successors.into_iter().map(Successor::succeed).collect();
        Ok(Self(Arc::new(Inner {
            api: config.api,
            limits: config.limits.clone(),
            projects: Projects::new(Rates::new(&config.limits)),
            limiter: ConcurrencyLimiter::new(&config.limits, clock.clone()),
            host: Mutex::default(),
            repeats: Repeats::default(),
            clock,
            jitter,
            metrics,
            transport,
            state_directory: config.state_directory.clone(),
            state: Mutex::default(),
            credentials: ArcSwap::from_pointee(credentials),
            retired: Mutex::default(),
            given_up: CancellationToken::new(),
        })))
    }

    /// Makes the state directory this process's own, where a credential of `config` needs one: two
    /// processes would not know of each other's tokens.
    pub fn take_state(&self, config: &Config) -> Result<(), StateError> {
        let needs_it = |credential: &CredentialConfig| credential.service_account.is_some();
        let mut state = self.0.state();
        if state.is_none() && config.credentials.iter().any(needs_it) {
            *state = Some(StateDirectory::take(&self.0.state_directory)?);
        }
        Ok(())
    }

    /// Leaves the state directory to the next process.
    pub fn leave_state(&self) {
        *self.0.state() = None;
    }

    /// Asks for every certificate of a database user.
    pub async fn list_certificates(
        &self,
        query: &CertQuery,
        urgency: Urgency,
    ) -> Result<Fetched, FetchError> {
        self.fetch(query, (urgency, usual_cause(urgency)), true)
            .await
    }

    /// The same for a list that could not be had lately: a call that fails is not tried again.
    pub async fn try_once(
        &self,
        query: &CertQuery,
        urgency: Urgency,
    ) -> Result<Fetched, FetchError> {
        self.fetch(query, (urgency, usual_cause(urgency)), false)
            .await
    }

    /// The same because a caller insists on Atlas's word; a call that fails is tried again if `retries`.
    pub async fn list_anew(
        &self,
        query: &CertQuery,
        urgency: Urgency,
        retries: bool,
    ) -> Result<Fetched, FetchError> {
        self.fetch(query, (urgency, CallCause::Forced), retries)
            .await
    }

    async fn fetch(
        &self,
        query: &CertQuery,
        why: (Urgency, CallCause),
        retries: bool,
    ) -> Result<Fetched, FetchError> {
        let credential = self.0.credential(&query.project);
        let Some(credential) = credential else {
            return Err(FetchError {
                reason: FetchErrorKind::NoCredential,
                stats: Log::default().stats(Arc::from("")),
            });
        };
        self.0.list(query, why, retries, &credential).await
    }

    /// Does what has its time: renews tokens before their end, takes up changed secrets. Returns when
    /// `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            for credential in self.0.credentials.load().iter() {
                credential.tend();
            }
            self.0.let_go().await;
            self.0.count_gates();
            self.0.watch_demand();
            self.0.watch_buckets();
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.0.clock.sleep(BETWEEN_ROUNDS) => {}
            }
        }
    }

    /// Brings the metrics of the buckets up to now, for a scrape.
    pub fn show_buckets(&self) {
        self.0.watch_buckets();
    }

    /// Ends all walks at once; each says how far it has come.
    pub fn give_up(&self) {
        self.0.given_up.cancel();
    }

    /// Gives the tokens back to Atlas, as well as that goes within a second.
    pub async fn close(&self) {
        let credentials = self.0.credentials.load_full();
        let retired = self.0.take_retired(|_| true);
        let all = credentials.iter().chain(&retired);
        let revoked = all.map(|credential| credential.revoke());
        // What is not revoked in time ends by itself.
        let _ = self.0.clock.timeout(TIME_TO_CLOSE, join_all(revoked)).await;
    }

    /// The credentials that cannot work now. One that was never tried is not among them.
    pub fn readiness(&self) -> Vec<NotReady> {
        let credentials = self.0.credentials.load();
        credentials
            .iter()
            .filter_map(|credential| {
                Some(NotReady {
                    why: credential.trouble()?,
                    credential: Arc::clone(&credential.name),
                })
            })
            .collect()
    }

    /// What is wrong with Atlas, or with the way to it, as far as calls have shown.
    pub fn faults(&self) -> Vec<AtlasFault> {
        let now = self.0.clock.elapsed();
        let unreachable = self.0.host().is_failing(now);
        let (mut failing, mut rate_limited, mut unavailable) = (0, 0, 0);
        self.0.projects.for_each(|_, rules| {
            failing += usize::from(rules.breaker.is_failing(now));
            match rules.budget.gate_cause(now) {
                Some(CooldownCause::RateLimited) => rate_limited += 1,
                Some(CooldownCause::Unavailable) => unavailable += 1,
                None => {}
            }
        });
        [
            unreachable.then_some(AtlasFault::Unreachable),
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
        let now = self.0.clock.elapsed();
        match self.0.projects.known_project(project) {
            Some(project) => project.rules().budget.view(now),
            None => self.0.projects.untouched(now).view(now),
        }
    }

    /// Tries every credential on one page of a user that need not exist: in the projects that it names in
    /// full, and in those of `projects` for which it is used. Where there is none, in one that cannot exist.
    pub async fn check_online(&self, projects: &[ProjectId]) -> Vec<OnlineCheck> {
        let mut checks = Vec::new();
        for credential in self.0.credentials.load_full().iter() {
            let is_its_own = |project: &ProjectId| {
                let used = self.0.credential(project);
                used.is_some_and(|used| Arc::ptr_eq(&used, credential))
            };
            let of_rules = projects.iter().copied();
            let mut projects: Vec<ProjectId> =
                credential.named_projects().chain(of_rules).collect();
            projects.retain(is_its_own);
            projects.sort_unstable();
            projects.dedup();
            if projects.is_empty() {
                checks.extend(self.0.try_out(credential, None).await);
            }
            for project in projects {
                checks.extend(self.0.try_out(credential, Some(project)).await);
            }
        }
        checks
    }

    /// By how many seconds our clock is ahead of Atlas's, by the `Date` of an answer of whatever kind.
    pub async fn clock_ahead(&self) -> Option<i64> {
        let inner = &self.0;
        let request = inner.transport.request(Method::GET, "/")?;
        let bounds = Bounds {
            bytes: LARGEST_GREETING,
            time: inner.limits.page,
            from: inner.clock.elapsed(),
        };
        let answer = inner.transport.send(request, bounds).await.ok()?;
        let date = httpdate::parse_http_date(answer.headers.get(DATE)?.to_str().ok()?).ok()?;
        let theirs = Timestamp::from(date).seconds();
        Some(inner.clock.now().wall.seconds().saturating_sub(theirs))
    }
}

impl Inner {
    fn credential(&self, project: &ProjectId) -> Option<Arc<Credential>> {
        let credentials = self.credentials.load();
        credentials
            .iter()
            .find(|credential| credential.covers(project))
            .map(Arc::clone)
    }

    async fn list(
        &self,
        query: &CertQuery,
        (urgency, cause): (Urgency, CallCause),
        retries: bool,
        credential: &Credential,
    ) -> Result<Fetched, FetchError> {
        let now = self.clock.elapsed();
        let log = Log::new(cause);
        let caller = Caller {
            upstream: self,
            query,
            urgency,
            retries,
            credential,
            project: self.projects.get(&query.project, now),
            log: &log,
            walk: self.limiter.walk(),
            deadline: now + self.limits.fetch,
        };
        // Pinned here, and so never moved: a walk is some kilobytes.
        let whole = pin!(walk::whole(&caller));
        let whole = self.clock.timeout(self.limits.fetch, whole);
        let whole = tokio::select! {
            biased;
            whole = whole => whole.unwrap_or(Err(FetchErrorKind::Timeout)),
            () = self.given_up.cancelled() => Err(FetchErrorKind::Timeout),
        };
        let stats = log.stats(Arc::clone(&credential.name));
        match whole {
            Ok(whole) => Ok(Fetched {
                list: whole.list,
                answered_at: whole.at,
                stats,
            }),
            Err(reason) => {
                let error = FetchError { reason, stats };
                if let Some(reason) = error.not_asked() {
                    let withheld = &self.metrics.fetches_withheld;
                    withheld.get_or_create(&ReasonLabel { reason }).inc();
                }
                Err(error)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<StateDirectory>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host_admits(&self, now: Duration) -> Result<(), Duration> {
        self.host().admit(now)
    }

    fn host_ended(&self, how: Ended, now: Duration) {
        if self.host().ended(how, now)
            && let Some(Tally { times, .. }) = self.repeats.host.happened(now)
        {
            say(|| tracing::error!(times, "Atlas cannot be reached; trying rarely"));
        }
    }

    fn host(&self) -> MutexGuard<'_, Breaker> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What calls of this urgency are made for, unless a caller insists on them.
fn usual_cause(urgency: Urgency) -> CallCause {
    match urgency {
        Urgency::RefreshAhead => CallCause::Ahead,
        Urgency::Revalidate | Urgency::Miss => CallCause::Miss,
    }
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            jitter: Jitter::System,
            names: None,
        }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("chance", &self.jitter)
            .field("own_names", &self.names.is_some())
            .finish()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("credentials", &self.credentials.load().len())
            .finish_non_exhaustive()
    }
}

const BETWEEN_ROUNDS: Duration = Duration::from_secs(5);
const TIME_TO_CLOSE: Duration = Duration::from_secs(1);

/// Of an answer of which the head alone matters, in bytes.
const LARGEST_GREETING: u64 = 1 << 20;
