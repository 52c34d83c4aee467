//! The keys of one issuer, kept up to date by one background task and read without a lock.
//!
//! Published keys are fetched every five minutes, files are read again when they change. A `kid` that is in no
//! set may be a key that was made a second ago, so it makes the task fetch at once, within the
//! [throttle](FetchThrottle) (G13). A failed attempt changes nothing: the last good keys are served on for a day
//! without word from their issuer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::config::IssuerConfig;
use super::fetch_throttle::{FetchThrottle, UnknownKeyFetch};
use super::jwk::{VerificationKey, read_set};
use super::key_set::KeySet;
use super::key_source::{KeyError, KeyLocation, KeyMaterial, KeySource, SourceError};
use super::key_waiters::{KeyWaiters, Requester};
use super::token::UnverifiedJwt;
use super::unverified::Unverified;
use crate::atlas::Timestamp;
use crate::system::{Clock, Moment};
use crate::telemetry::metrics::identity::IdentityMetrics;
use crate::telemetry::{Chain, RateLimitedLog, Tally};

pub(super) struct IssuerKeys {
    issuer: Arc<str>,
    source: KeySource,
    location: KeyLocation,
    shortest_secret: usize,
    present: ArcSwapOption<KeySet>,
    throttle: Mutex<FetchThrottle>,
    waiters: KeyWaiters,
    failures: RateLimitedLog,
    wake: Notify,
    attempts: watch::Sender<u64>,
}

/// An issuer whose keys are degraded. No caller is refused for it, except without any keys.
#[derive(Clone, Debug)]
pub(crate) struct IssuerFault {
    pub(crate) issuer: Arc<str>,
    pub(crate) fault: KeyFault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyFault {
    NoKeys,
    /// The last attempt to bring them up to date has failed.
    NotRenewed {
        since: Timestamp,
    },
    /// They are of the place that was configured before; the present one has delivered none.
    OldPlace {
        since: Timestamp,
    },
}

impl IssuerKeys {
    pub(super) fn build(
        issuer: Arc<str>,
        config: &IssuerConfig,
        clock: &Clock,
        metrics: &IdentityMetrics,
    ) -> Result<Self, SourceError> {
        let (key, source) = config.source(clock)?;
        let keys = Self {
            issuer,
            location: config.location(),
            shortest_secret: config.shortest_secret(),
            present: ArcSwapOption::empty(),
            throttle: Mutex::new(FetchThrottle::new(source.is_published())),
            source,
            waiters: KeyWaiters::default(),
            failures: RateLimitedLog::default(),
            wake: Notify::new(),
            attempts: watch::Sender::new(0),
        };
        let read = keys.source.read_files();
        let read = read.and_then(|material| match material {
            Some(material) => keys.take(&material, clock, metrics),
            None => Ok(()),
        });
        read.map_err(|error| (key, Box::from(error)))?;
        Ok(keys)
    }

    /// Goes on with the keys of `old`, the same issuer's under other settings, until there are newer ones.
    /// `asked_alike` says whether they would be fetched in the same way.
    ///
    /// What is read of a file or of the configuration is there already. A secret is not kept: it would
    /// stand for keys that can be fetched, and fits none of their algorithms.
    pub(super) fn inherit(&self, old: &Self, asked_alike: bool, now: Moment) {
        if !self.source.is_published() {
            return;
        }
        let set = old.present.load_full();
        if let Some(set) = set.filter(|set| !set.location().is_secret()) {
            if *set.location() != self.location {
                tracing::warn!(
                    issuer = &*self.issuer,
                    "the keys of {} stay as they are until their new place has delivered some",
                    self.issuer
                );
            }
            self.present.store(Some(Arc::new(set.inherited(now))));
        }
        if asked_alike {
            self.throttle().inherit(&old.throttle(), now.elapsed);
        }
    }

    pub(super) fn callers_waiting(&self) -> usize {
        self.waiters.callers()
    }

    pub(super) fn fault(&self, now: Moment) -> Option<KeyFault> {
        let Some(set) = self.present(now) else {
            return Some(KeyFault::NoKeys);
        };
        let since = now.wall.minus(set.silence(now));
        if *set.location() != self.location {
            Some(KeyFault::OldPlace { since })
        } else if self.throttle().was_good() {
            None
        } else {
            Some(KeyFault::NotRenewed { since })
        }
    }

    pub(super) fn present(&self, now: Moment) -> Option<Arc<KeySet>> {
        self.present.load_full().filter(|set| set.holds(now))
    }

    /// A set that can answer for `token`, after a fetch if it takes one and one is allowed.
    pub(super) async fn find(
        &self,
        requester: Requester,
        token: &UnverifiedJwt<'_>,
        clock: &Clock,
        now: Moment,
    ) -> Result<Arc<KeySet>, Unverified> {
        let id = token.header.key_id.as_deref();
        match self.present(now) {
            Some(set) if set.knows(id) => return Ok(set),
            _ => self.wait_for_fetch(requester, clock, now.elapsed).await?,
        }
        let set = self.present(now).ok_or(Unverified::NoKeys)?;
        if set.may_mean(id) {
            Ok(set)
        } else {
            Err(Unverified::UnknownKey)
        }
    }

    pub(super) fn request_fetch(&self, now: Duration) {
        self.throttle().request(now);
        self.wake.notify_one();
    }

    /// A signature was none of theirs, and by their names it cannot be told whether there are new ones:
    /// that is worth as much as an unknown name. The caller does not wait for it.
    pub(super) fn suspect_rotation(&self, now: Duration) {
        if self.source.is_published() && self.throttle().unknown_key(now) == UnknownKeyFetch::Due {
            self.wake.notify_one();
        }
    }

    pub(super) fn attempts(&self) -> watch::Receiver<u64> {
        self.attempts.subscribe()
    }

    async fn wait_for_fetch(
        &self,
        requester: Requester,
        clock: &Clock,
        now: Duration,
    ) -> Result<(), Unverified> {
        if !self.source.is_published() {
            return Ok(());
        }
        // Subscribed before the task is woken, or its news could come too early.
        let mut attempts = self.attempts();
        match self.throttle().unknown_key(now) {
            UnknownKeyFetch::Throttled => return Ok(()),
            UnknownKeyFetch::Due => self.wake.notify_one(),
            UnknownKeyFetch::UnderWay => {}
        }
        let _waiter = self
            .waiters
            .enter(requester)
            .ok_or(Unverified::TooManyWait)?;
        let _ = clock.timeout(LONGEST_WAIT, attempts.changed()).await;
        Ok(())
    }

    pub(super) async fn maintain(
        self: Arc<Self>,
        clock: Clock,
        metrics: IdentityMetrics,
        stop: CancellationToken,
    ) {
        if matches!(self.source, KeySource::Fixed(_)) {
            return;
        }
        let maintain = async {
            loop {
                let due = self.throttle().due();
                tokio::select! {
                    biased;
                    () = self.wake.notified() => {}
                    () = clock.sleep_until_or_ahead(due) => self.refresh(&clock, &metrics).await,
                }
            }
        };
        stop.run_until_cancelled(maintain).await;
    }

    /// One attempt to bring the keys up to date. A failure is logged here and changes nothing else.
    pub(super) async fn refresh(&self, clock: &Clock, metrics: &IdentityMetrics) {
        let attempt = Attempt::begin(self);
        let result = self.source.read().await;
        let result = result.and_then(|material| self.take(&material, clock, metrics));
        if let KeySource::Published(client) = &self.source {
            metrics.fetched(result.is_ok());
            if result.is_err() {
                client.leave_connections();
            }
        }
        self.log(&result, clock.elapsed());
        attempt.end(clock.now().elapsed, result.is_ok());
    }

    fn log(&self, result: &Result<(), KeyError>, now: Duration) {
        let Err(error) = result else {
            if let Some(Tally { times, span }) = self.failures.is_over(now) {
                tracing::info!(
                    issuer = &*self.issuer,
                    "the keys of {} are up to date again, after {times} failures in {} s",
                    self.issuer,
                    span.as_secs()
                );
            }
            return;
        };
        // A file is read every two seconds: one line says as much as many.
        let is_new = self.source.is_published() || self.throttle().was_good();
        if is_new && let Some(Tally { times, .. }) = self.failures.happened(now) {
            // As text: as JSON an error is logged without its causes, which say what to do.
            tracing::warn!(
                issuer = &*self.issuer,
                error = %Chain(error),
                times,
                "could not bring the keys of {} up to date; those that are known stay",
                self.issuer
            );
        }
    }

    fn take(
        &self,
        material: &KeyMaterial,
        clock: &Clock,
        metrics: &IdentityMetrics,
    ) -> Result<(), KeyError> {
        let now = clock.now();
        match material {
            KeyMaterial::Jwks(json) => self.replace(digest(&SHA256, json), now, || {
                let selection = read_set(json)?;
                for key in &selection.left_out {
                    metrics.ignored();
                    tracing::warn!(
                        issuer = &*self.issuer,
                        kid = key.id.as_deref(),
                        kty = key.kind.as_deref(),
                        reason = %key.reason,
                        "a published key of {} is left out: {key}",
                        self.issuer
                    );
                }
                Ok(selection.keys)
            }),
            KeyMaterial::Secrets(secrets) => {
                let secrets = secrets.iter().map(|secret| secret.expose().as_bytes());
                if secrets
                    .clone()
                    .any(|secret| secret.len() < self.shortest_secret)
                {
                    return Err(KeyError::ShortSecret(self.shortest_secret));
                }
                let mut content = Context::new(&SHA256);
                for secret in secrets.clone() {
                    content.update(digest(&SHA256, secret).as_ref());
                }
                self.replace(content.finish(), now, || {
                    Ok(secrets.map(VerificationKey::shared_secret).collect())
                })
            }
        }
    }

    /// The same bytes confirm the set that is there, so that nothing verified with it is forgotten.
    fn replace(
        &self,
        content: Digest,
        now: Moment,
        read: impl FnOnce() -> Result<Vec<VerificationKey>, KeyError>,
    ) -> Result<(), KeyError> {
        let present = self.present.load_full();
        if let Some(present) = present.filter(|set| set.is_from(&self.location, &content)) {
            present.confirm(now);
            return Ok(());
        }
        let origin = (self.location.clone(), content);
        let set = KeySet::new(read()?, origin, self.source.is_published(), now);
        if let Some(old) = self.present.swap(Some(Arc::new(set))) {
            old.replace();
            let news = if *old.location() == self.location {
                "have changed"
            } else {
                "come from their new place now"
            };
            tracing::info!(issuer = &*self.issuer, "the keys of {} {news}", self.issuer);
        }
        Ok(())
    }

    fn throttle(&self) -> MutexGuard<'_, FetchThrottle> {
        // Nothing that holds it can panic half-way.
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt under way. If it is dropped before its end, callers that wait go on all the same.
struct Attempt<'a>(&'a IssuerKeys);

impl<'a> Attempt<'a> {
    fn begin(keys: &'a IssuerKeys) -> Self {
        keys.throttle().begin();
        Self(keys)
    }

    fn end(self, now: Duration, good: bool) {
        self.0.throttle().end(now, good);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.throttle().abandon();
        self.0
            .attempts
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl fmt::Display for IssuerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuer = &self.issuer;
        match self.fault {
            KeyFault::NoKeys => write!(f, "no keys of the issuer {issuer}"),
            KeyFault::NotRenewed { since } => write!(
                f,
                "the keys of the issuer {issuer} could not be brought up to date since {since}; the log \
                 says why"
            ),
            KeyFault::OldPlace { since } => write!(
                f,
                "the keys of the issuer {issuer} are those that the place configured before delivered \
                 at {since}; the present one has delivered none, and the log says why"
            ),
        }
    }
}

/// How long a caller waits for a fetch: as long as a fetch may take.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
