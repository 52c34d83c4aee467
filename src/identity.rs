//! Authentication: which caller a bearer token (JWT) stands for.
//!
//! A token is believed if all of this holds, and the order is chosen so that what costs little comes
//! first: it is [read](token) strictly; its `iss` is one of ours, byte for byte; its algorithm and
//! type are among that issuer's; its [claims] are good now; and a [key](issuer_keys) of that same issuer
//! signed it. Nothing that a token says is used, not even for a record, before its signature holds.
//! Then it is [cached](token_cache), until it ends, its issuer's keys change or the settings do (G8,
//! G14). Without any key of its issuer a token is neither good nor bad: fail closed, [`Unverified::NoKeys`].
//!
//! Known callers never wait for unknown ones: a verified token waits for nothing; of the others few at a time
//! cost a signature check, and few [wait](key_waiters) for keys.

mod caller;
mod certificate;
mod check;
mod claims;
mod config;
mod fetch_throttle;
mod issuer;
mod issuer_keys;
mod jwk;
mod jwks_client;
mod key_set;
mod key_source;
mod key_waiters;
mod left_out;
mod roca;
mod token;
mod token_cache;
mod unverified;

#[cfg(test)]
#[path = "../tests/gateway/forgeries.rs"]
mod forgeries;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "../tests/harness/tokens.rs"]
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::settings::ConfigError;
use crate::system::{Clock, Moment};
use crate::telemetry::metrics::identity::IdentityMetrics;

pub use caller::{Caller, RuleListNumber};
pub use certificate::{PeerCertificate, Thumbprint};
pub(crate) use check::IssuerCheck;
pub use config::{
    ClaimPath, ClaimPlaces, Config, IssuerConfig, NoClaimPath, RequiredValue, Scalar,
};
pub(crate) use issuer_keys::IssuerFault;
pub use key_waiters::Requester;
pub use unverified::Unverified;

pub(crate) use caller::CallerDescription;
pub(crate) use check::{check_online, left_out_of_files};
pub(crate) use key_waiters::network;

use issuer::Issuers;
use key_set::KeySet;
use token::UnverifiedJwt;
use token_cache::{TokenCache, VerifiedToken};

/// The issuers whose tokens are believed, and the tokens that were verified.
pub struct Identity {
    current: ArcSwap<Issuers>,
    changed: Notify,
    token_cache: TokenCache,
    /// The queue for signature checks, which take up to 300 µs of a thread that answers others meanwhile: unknown
    /// callers get half of the threads, and known ones wait for one check at most.
    signature_checks: Semaphore,
    clock: Clock,
    metrics: IdentityMetrics,
}

/// Issuers whose settings and files are known to be good.
pub(crate) struct Prepared(Issuers);

impl Identity {
    /// Takes the issuers over and reads the keys that lie in files. Keys from a URL come later, when
    /// [`Identity::run`] runs: an issuer that is down keeps nothing from starting (G32).
    pub fn build(
        config: &Config,
        clock: Clock,
        metrics: IdentityMetrics,
    ) -> Result<Self, Vec<ConfigError>> {
        let issuers = Issuers::build(config, 0, &clock, &metrics)?;
        Ok(Self {
            current: ArcSwap::from_pointee(issuers),
            changed: Notify::new(),
            token_cache: TokenCache::new(config.token_cache_size),
            signature_checks: Semaphore::new(checks_at_once()),
            clock,
            metrics,
        })
    }

    /// Takes over other issuers and reads the keys that lie in files. Changes nothing yet.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Prepared, Vec<ConfigError>> {
        let generation = self.current.load().generation.wrapping_add(1);
        Issuers::build(config, generation, &self.clock, &self.metrics).map(Prepared)
    }

    /// Puts in place what was prepared. The next token is judged by it; keys of issuers that stay are
    /// kept until the place that is configured now has delivered some.
    pub(crate) fn adopt(&self, Prepared(issuers): Prepared) {
        let old = self.current.load_full();
        issuers.inherit(&old, self.clock.now());
        self.current.store(Arc::new(issuers));
        self.changed.notify_one();
    }

    /// Fetches the keys of all issuers, as soon as they answer: for an operator who knows that there are
    /// others than five minutes ago.
    pub(crate) fn fetch_keys(&self) {
        let now = self.clock.elapsed();
        for issuer in &self.current.load().list {
            issuer.keys.request_fetch(now);
        }
    }

    /// Puts another configuration in place of the present one, whole or not at all.
    pub fn reload(&self, config: &Config) -> Result<(), Vec<ConfigError>> {
        self.adopt(self.prepare(config)?);
        Ok(())
    }

    /// Keeps the keys up to date until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let issuers = self.current.load_full();
            // Dropped at the end of each round, and its tasks with it.
            let mut background = JoinSet::new();
            for issuer in &issuers.list {
                let keys = Arc::clone(&issuer.keys);
                let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
                background.spawn(keys.maintain(clock, metrics, stop.child_token()));
            }
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.changed.notified() => break,
                    () = self.clock.sleep(SWEEP_PERIOD) => {
                        let (cache, now) = (self.token_cache.clone(), self.clock.now());
                        let generation = issuers.generation;
                        // A panic in it has been logged.
                        let _ = spawn_blocking(move || cache.sweep(generation, now)).await;
                    }
                }
            }
        }
    }

    /// The caller of `token` at `now`, if it was verified before: that costs no signature check and no
    /// wait. `holder` is the certificate that it is shown with, if any is.
    pub(crate) fn get_cached(
        &self,
        token: &[u8],
        holder: Option<&Thumbprint>,
        now: Moment,
    ) -> Option<Arc<Caller>> {
        let generation = self.current.load().generation;
        self.token_cache.get(token, holder, generation, now)
    }

    /// Counts a caller that [`Identity::get_cached`] has found.
    pub(crate) fn count_cached(&self) {
        self.metrics.cached();
    }

    /// The caller of `token` at `now`, shown at the admin listener without a certificate.
    pub async fn verify(&self, token: &[u8], now: Moment) -> Result<Arc<Caller>, Unverified> {
        self.verify_for(Requester::Operator, token, None, now).await
    }

    /// The caller of `token` at `now`, which `requester` shows with the certificate `holder`.
    pub(crate) async fn verify_for(
        &self,
        requester: Requester,
        token: &[u8],
        holder: Option<&Thumbprint>,
        now: Moment,
    ) -> Result<Arc<Caller>, Unverified> {
        if let Some(caller) = self.get_cached(token, holder, now) {
            self.count_cached();
            return Ok(caller);
        }
        // Boxed, because the usual future is much smaller without it.
        let verdict = Box::pin(self.verify_uncached(requester, token, holder, now)).await;
        self.metrics.checked(verdict.is_ok());
        verdict
    }

    /// The verified tokens, to be given up when memory is short.
    pub(crate) fn token_cache(&self) -> TokenCache {
        self.token_cache.clone()
    }

    /// How many callers wait until an issuer's keys have been fetched.
    pub(crate) fn callers_waiting_for_keys(&self) -> usize {
        let issuers = self.current.load();
        let waiting = issuers
            .list
            .iter()
            .map(|issuer| issuer.keys.callers_waiting());
        waiting.sum()
    }

    /// The issuers whose keys are degraded at `now`: missing, from a place that is no
    /// longer the configured one, or not up to date.
    pub(crate) fn issuer_faults(&self, now: Moment) -> Vec<IssuerFault> {
        let issuers = self.current.load();
        let faults = issuers.list.iter().filter_map(|issuer| {
            Some(IssuerFault {
                issuer: Arc::clone(&issuer.name),
                fault: issuer.keys.fault(now)?,
            })
        });
        faults.collect()
    }

    /// The names of the issuers whose tokens are believed, each once.
    pub(crate) fn issuer_names(&self) -> Vec<Arc<str>> {
        let issuers = self.current.load();
        let mut names: Vec<Arc<str>> = Vec::new();
        for issuer in &issuers.list {
            if !names.contains(&issuer.name) {
                names.push(Arc::clone(&issuer.name));
            }
        }
        names
    }

    /// Whether any issuer has keys at `now`. Without, no caller can be answered.
    pub(crate) fn has_keys(&self, now: Moment) -> bool {
        let issuers = self.current.load();
        let mut issuers = issuers.list.iter();
        issuers.any(|issuer| issuer.keys.present(now).is_some())
    }

    async fn verify_uncached(
        &self,
        requester: Requester,
        bytes: &[u8],
        holder: Option<&Thumbprint>,
        now: Moment,
    ) -> Result<Arc<Caller>, Unverified> {
        let text = str::from_utf8(bytes).map_err(|_| Unverified::Malformed)?;
        let token = &UnverifiedJwt::read(text)?;
        let issuers = self.current.load_full();
        let (issuer, claims) = issuers.judge(&token.header, &token.claims()?, now.wall)?;
        if claims.bound_to.is_some() && claims.bound_to.as_ref() != holder {
            return Err(Unverified::Certificate);
        }
        let keys = issuer.keys.find(requester, token, &self.clock, now).await?;
        let checked = self.check_signature(requester, &keys, token).await;
        if checked == Err(Unverified::Signature) && keys.are_unnamed() {
            issuer.keys.suspect_rotation(now.elapsed);
        }
        let caller = Arc::new(Caller {
            subject: claims.subject,
            issuer: Arc::clone(&issuer.name),
            client_id: claims.client_id,
            token_id: claims.token_id,
            key_id: checked?,
            scopes: claims.scopes,
            expires_at: claims.expires_at,
            rule_list: RuleListNumber::default(),
        });
        let verified = VerifiedToken {
            caller: Arc::clone(&caller),
            bound_to: claims.bound_to,
            keys,
            generation: issuers.generation,
        };
        self.token_cache.insert(bytes, verified);
        Ok(caller)
    }

    /// Checks a signature, in turn. Returns the name of the key that made it, if it has one.
    async fn check_signature(
        &self,
        requester: Requester,
        keys: &KeySet,
        token: &UnverifiedJwt<'_>,
    ) -> Result<Option<Box<str>>, Unverified> {
        let permit = self.signature_checks.try_acquire().ok();
        let _permit = match requester {
            Requester::Caller(_) if permit.is_none() => {
                let permit = self.signature_checks.acquire().await;
                // A task that gets its permit is woken ahead of all that are ready; so it goes behind them.
                tokio::task::yield_now().await;
                Some(permit.expect("the semaphore is never closed"))
            }
            // Operators do not queue behind callers.
            Requester::Caller(_) | Requester::Operator => permit,
        };
        keys.verify(token)
    }
}

/// Half of the threads that answer, which are as many as there are processors.
fn checks_at_once() -> usize {
    let threads = std::thread::available_parallelism();
    threads.map_or(1, |threads| threads.get().div_ceil(2))
}

/// How often what no longer holds is removed from the cache of tokens.
const SWEEP_PERIOD: Duration = Duration::from_mins(1);
