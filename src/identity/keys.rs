//! The living keys of one issuer: kept, refreshed and looked up, never under a lock.
//!
//! A reader takes the present [`KeySet`] and needs nobody. One keeper per issuer replaces it: from a
//! URL every five minutes, from a file when the file changes. A `kid` that is in no set may be a key
//! that was made a second ago, so it makes the keeper ask at once; but anybody can write any `kid`,
//! so that happens at most once in thirty seconds, counted from the attempt and whatever came of it
//! (G13). A failed attempt changes nothing: keys stay for a day without word from their issuer.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Unverified;
use super::fetch::FetchError;
use super::fetch::LARGEST_KEY_SET;
use super::fetch::Publisher;
use super::gate::Gate;
use super::gate::Turn;
use super::jwk;
use super::jwk::BadKeySet;
use super::jwk::Key;
use super::token::Envelope;
use super::trouble::Trouble;
use super::waiting::Asker;
use super::waiting::Waiting;
use crate::blocking::may_wait;
use crate::clock::Clock;
use crate::clock::Moment;
use crate::clock::SharedMoment;
use crate::secret::Secret;
use crate::secret::SecretFileError;
use crate::telemetry::Chain;
use crate::telemetry::Repeated;
use crate::telemetry::Tally;
use crate::telemetry::metrics::identity::IdentityMetrics;
use crate::watched;

/// The keys of one issuer, from one place.
pub(super) struct Keys {
    issuer: Arc<str>,
    source: Source,
    place: Place,
    present: ArcSwapOption<KeySet>,
    gate: Mutex<Gate>,
    waiting: Waiting,
    failures: Repeated,
    wanted: Notify,
    attempts: watch::Sender<u64>,
}

/// Where keys come from.
pub(super) enum Source {
    /// A key set in a file.
    File(PathBuf),
    /// A secret that does not change.
    Fixed,
    /// A secret in a file.
    SecretFile {
        /// Which file.
        path: PathBuf,
        /// The least length that the issuer's algorithms allow.
        shortest: usize,
    },
    /// A key set that is fetched.
    Published(Box<Publisher>),
}

/// Which place keys come from, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `discovery_url`.
    Discovery(String),
    /// `jwks_file`.
    File(PathBuf),
    /// `hmac_secret` and `hmac_secret_file`.
    Secret,
    /// `jwks_url`.
    Url(String),
}

/// The keys of one moment. What was verified with them holds as long as they do.
pub(super) struct KeySet {
    keys: Arc<[Key]>,
    place: Place,
    digest: digest::Digest,
    confirmed: SharedMoment,
    replaced: AtomicBool,
    ages: bool,
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("could not fetch the keys")]
    Fetch(#[from] FetchError),
    #[error("the key set cannot be used: {0}")]
    Set(#[from] BadKeySet),
    #[error("the secret cannot be used")]
    Secret(#[from] SecretFileError),
    #[error(
        "the secret is too short: the algorithms need at least {0} bytes (RFC 7518, section 3.2)"
    )]
    ShortSecret(usize),
    #[error("cannot read the file")]
    Unreadable(#[source] std::io::Error),
}

impl Keys {
    pub(super) fn new(issuer: Arc<str>, source: Source, place: Place) -> Self {
        let published = matches!(source, Source::Published(_));
        Self {
            issuer,
            source,
            place,
            present: ArcSwapOption::empty(),
            gate: Mutex::new(Gate::new(published)),
            waiting: Waiting::default(),
            failures: Repeated::default(),
            wanted: Notify::new(),
            attempts: watch::Sender::new(0),
        }
    }

    /// Goes on with the keys of `old`, the same issuer's under other settings, until there are newer ones.
    /// `asked_alike` says whether they would be fetched in the same way.
    ///
    /// What is read of a file or of the configuration is there already. A secret is not kept: it would
    /// stand for keys that can be fetched, and fits none of their algorithms.
    pub(super) fn inherit(&self, old: &Self, asked_alike: bool, now: Moment) {
        if !matches!(self.source, Source::Published(_)) {
            return;
        }
        if let Some(set) = old.present.load_full()
            && set.place != Place::Secret
        {
            if set.place != self.place {
                tracing::warn!(
                    issuer = &*self.issuer,
                    "the keys of {} stay as they are until their new place has delivered some",
                    self.issuer
                );
            }
            self.present.store(Some(Arc::new(set.successor(now))));
        }
        if asked_alike {
            self.gate().inherit(&old.gate(), now.elapsed);
        }
    }

    /// How many callers wait until they have been fetched.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.callers()
    }

    /// What is wrong with them at `now`.
    pub(super) fn trouble(&self, now: Moment) -> Option<Trouble> {
        let Some(set) = self.present(now) else {
            return Some(Trouble::NoKeys);
        };
        let since = now.wall.minus(set.silence(now));
        if set.place != self.place {
            Some(Trouble::OldPlace { since })
        } else if self.gate().was_good() {
            None
        } else {
            Some(Trouble::NotRenewed { since })
        }
    }

    /// The set that counts at `now`.
    pub(super) fn present(&self, now: Moment) -> Option<Arc<KeySet>> {
        self.present.load_full().filter(|set| set.holds(now))
    }

    /// A set that can answer for `token`, after a fetch if it takes one and one is allowed.
    pub(super) async fn find(
        &self,
        asker: Asker,
        token: &Envelope<'_>,
        clock: &Clock,
        now: Moment,
    ) -> Result<Arc<KeySet>, Unverified> {
        let knows = |set: &Arc<KeySet>| set.knows(token.header.key_id.as_deref());
        match self.present(now) {
            Some(set) if knows(&set) => return Ok(set),
            _ => self.wait_for_news(asker, clock, now.elapsed).await?,
        }
        let set = self.present(now).ok_or(Unverified::NoKeys)?;
        if knows(&set) {
            Ok(set)
        } else {
            Err(Unverified::UnknownKey)
        }
    }

    /// Tells how many attempts there were to bring the keys up to date.
    pub(super) fn attempts(&self) -> watch::Receiver<u64> {
        self.attempts.subscribe()
    }

    async fn wait_for_news(
        &self,
        asker: Asker,
        clock: &Clock,
        now: Duration,
    ) -> Result<(), Unverified> {
        if !matches!(self.source, Source::Published(_)) {
            return Ok(());
        }
        // Subscribed before the keeper is woken, or its news could come before anybody listens.
        let mut attempts = self.attempts();
        match self.gate().turn(now) {
            Turn::NotNow => return Ok(()),
            Turn::Wake => self.wanted.notify_one(),
            Turn::Wait => {}
        }
        let _place = self.waiting.enter(asker).ok_or(Unverified::TooManyWait)?;
        // In vain or not: what is known afterwards decides.
        let _ = clock.timeout(LONGEST_WAIT, attempts.changed()).await;
        Ok(())
    }

    /// Brings the keys up to date until `stop`.
    pub(super) async fn keep(
        self: Arc<Self>,
        clock: Clock,
        metrics: IdentityMetrics,
        stop: CancellationToken,
    ) {
        if matches!(self.source, Source::Fixed) {
            return;
        }
        loop {
            let due = self.gate().due();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.wanted.notified() => {}
                () = clock.sleep_until_or_ahead(due) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.refresh(&clock, &metrics) => {}
            }
        }
    }

    /// One attempt to bring the keys up to date. A failure is logged here and changes nothing else.
    pub(super) async fn refresh(&self, clock: &Clock, metrics: &IdentityMetrics) {
        let attempt = Attempt::begin(self);
        let result = self.read(clock, metrics).await;
        let published = if let Source::Published(publisher) = &self.source {
            metrics.fetched(result.is_ok());
            if result.is_err() {
                publisher.leave_connections();
            }
            true
        } else {
            false
        };
        // A file is read every two seconds: one line says as much as many.
        let now = clock.elapsed();
        if let Err(error) = &result
            && (published || self.gate().was_good())
            && let Some(Tally { times, .. }) = self.failures.happened(now)
        {
            // As text: as JSON an error is logged without its causes, which say what is to be mended.
            tracing::warn!(
                issuer = &*self.issuer,
                error = %Chain(error),
                times,
                "could not bring the keys of {} up to date; those that are known stay",
                self.issuer
            );
        }
        if result.is_ok()
            && let Some(Tally { times, span }) = self.failures.is_over(now)
        {
            tracing::info!(
                issuer = &*self.issuer,
                "the keys of {} are up to date again, after {times} failures in {} s",
                self.issuer,
                span.as_secs()
            );
        }
        attempt.end(clock.now().elapsed, result.is_ok());
    }

    async fn read(&self, clock: &Clock, metrics: &IdentityMetrics) -> Result<(), KeyError> {
        match &self.source {
            Source::Published(publisher) => {
                let json = publisher.fetch().await?;
                self.take(&json, clock, metrics)
            }
            Source::File(path) => {
                let path = path.clone();
                let json = may_wait(move || read_key_set(&path)).await?;
                self.take(&json, clock, metrics)
            }
            Source::SecretFile { path, shortest } => {
                let path = path.clone();
                let secret = may_wait(move || Secret::read(&path)).await?;
                self.share(&secret, *shortest, clock)
            }
            Source::Fixed => Ok(()),
        }
    }

    /// Reads the keys, if they are in a file; `Ok` if they are good, new or not. Waits for the disk.
    pub(super) fn read_file(
        &self,
        clock: &Clock,
        metrics: &IdentityMetrics,
    ) -> Result<(), KeyError> {
        match &self.source {
            Source::File(path) => self.take(&read_key_set(path)?, clock, metrics),
            Source::SecretFile { path, shortest } => {
                self.share(&Secret::read(path)?, *shortest, clock)
            }
            Source::Fixed | Source::Published(_) => Ok(()),
        }
    }

    /// Takes a shared secret over.
    pub(super) fn share(
        &self,
        secret: &Secret,
        shortest: usize,
        clock: &Clock,
    ) -> Result<(), KeyError> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < shortest {
            return Err(KeyError::ShortSecret(shortest));
        }
        self.replace(bytes, clock.now(), || Ok(vec![Key::shared_secret(bytes)]))
    }

    /// Takes a key set over.
    fn take(&self, json: &[u8], clock: &Clock, metrics: &IdentityMetrics) -> Result<(), KeyError> {
        self.replace(json, clock.now(), || {
            let (keys, unusable) = jwk::read_set(json)?;
            for reason in unusable {
                metrics.ignored();
                tracing::warn!(
                    issuer = &*self.issuer,
                    reason = ?reason,
                    "a published key of {} is left out",
                    self.issuer
                );
            }
            Ok(keys)
        })
    }

    /// The same bytes confirm the set that is there, so that nothing verified with it is forgotten.
    fn replace(
        &self,
        content: &[u8],
        now: Moment,
        read: impl FnOnce() -> Result<Vec<Key>, KeyError>,
    ) -> Result<(), KeyError> {
        let digest = digest::digest(&digest::SHA256, content);
        let present = self.present.load_full();
        let is_same =
            |set: &Arc<KeySet>| set.digest.as_ref() == digest.as_ref() && set.place == self.place;
        if let Some(present) = present.filter(is_same) {
            present.confirmed.set(now);
            return Ok(());
        }
        let set = KeySet {
            keys: read()?.into(),
            place: self.place.clone(),
            digest,
            confirmed: SharedMoment::new(now),
            replaced: AtomicBool::new(false),
            ages: matches!(self.source, Source::Published(_)),
        };
        if let Some(old) = self.present.swap(Some(Arc::new(set))) {
            old.replaced.store(true, Ordering::Release);
            let news = if old.place == self.place {
                "have changed"
            } else {
                "come from their new place now"
            };
            tracing::info!(issuer = &*self.issuer, "the keys of {} {news}", self.issuer);
        }
        Ok(())
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing that holds it can panic half-way.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySet {
    /// Whether what was verified with these keys may still be believed at `now`.
    pub(super) fn holds(&self, now: Moment) -> bool {
        !self.replaced.load(Ordering::Acquire)
            && (!self.ages || self.silence(now) <= LONGEST_SILENCE)
    }

    /// How long ago they were last delivered.
    fn silence(&self, now: Moment) -> Duration {
        now.since(self.confirmed.get())
    }

    /// The same keys under other settings. The old set may yet be replaced, by a fetch that was under
    /// way; that says nothing of these. Keys that did not age begin to.
    fn successor(&self, now: Moment) -> Self {
        let confirmed = if self.ages { self.confirmed.get() } else { now };
        Self {
            keys: Arc::clone(&self.keys),
            place: self.place.clone(),
            digest: self.digest,
            confirmed: SharedMoment::new(confirmed),
            replaced: AtomicBool::new(false),
            ages: true,
        }
    }

    /// Checks the signature of `token`. Returns the name of the key that made it, if it has one.
    pub(super) fn verify(&self, token: &Envelope<'_>) -> Result<Option<Box<str>>, Unverified> {
        let mut fitting = self
            .meant(token.header.key_id.as_deref())
            .filter_map(|key| Some((key, key.check(token.header.algorithm)?)))
            .take(MOST_NAMESAKES)
            .peekable();
        if fitting.peek().is_none() {
            return Err(Unverified::Algorithm);
        }
        let signature = token.signature()?;
        let signed = token.signed.as_bytes();
        let (key, _) = fitting
            .find(|(_, check)| check.holds(signed, &signature))
            .ok_or(Unverified::Signature)?;
        Ok(key.id().map(Box::from))
    }

    /// A set which holds for ever.
    #[cfg(test)]
    pub(super) fn for_tests(keys: Vec<Key>) -> Self {
        Self {
            keys: keys.into(),
            place: Place::Secret,
            digest: digest::digest(&digest::SHA256, b""),
            confirmed: SharedMoment::new(Moment {
                elapsed: Duration::ZERO,
                wall: crate::atlas::Timestamp::from_seconds(0),
            }),
            replaced: AtomicBool::new(false),
            ages: false,
        }
    }

    fn knows(&self, id: Option<&str>) -> bool {
        self.meant(id).next().is_some()
    }

    fn meant<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a Key> {
        self.keys.iter().filter(move |key| key.is_meant_by(id))
    }
}

/// An attempt under way. If it is dropped before its end, those who wait are let go all the same.
struct Attempt<'a>(&'a Keys);

impl<'a> Attempt<'a> {
    fn begin(keys: &'a Keys) -> Self {
        keys.gate().begin();
        Self(keys)
    }

    fn end(self, now: Duration, good: bool) {
        self.0.gate().end(now, good);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.gate().abandon();
        self.0
            .attempts
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn read_key_set(path: &Path) -> Result<Vec<u8>, KeyError> {
    watched::read_limited(path, LARGEST_KEY_SET).map_err(KeyError::Unreadable)
}

/// How long published keys are believed without word from their issuer.
const LONGEST_SILENCE: Duration = Duration::from_hours(24);

/// How long a caller waits for a fetch: as long as a fetch may take.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Two keys of one name happen while an issuer rotates; more would let one token cost many checks.
const MOST_NAMESAKES: usize = 2;
