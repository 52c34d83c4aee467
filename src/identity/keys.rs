//! The living keys of one issuer: kept, refreshed and looked up, never under a lock.
//!
//! A reader takes the present [`KeySet`] and needs nobody. One background task per issuer replaces it: from a
//! URL every five minutes, from a file when the file changes. A `kid` that is in no set may be a key
//! that was made a second ago, so it makes the background task ask at once; but anybody can write any `kid`,
//! so that happens at most once in thirty seconds, counted from the attempt and whatever came of it
//! (G13). A failed attempt changes nothing: keys stay for a day without word from their issuer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::gate::{Gate, Turn};
use super::jwk::Key;
use super::key_set::{KeySet, Place};
use super::source::{KeyError, Source, read_key_set, read_secrets};
use super::token::Envelope;
use super::trouble::Trouble;
use super::waiting::{Asker, Waiting};
use super::{Unverified, jwk};
use crate::system::{Clock, Moment, Secret, may_wait};
use crate::telemetry::metrics::identity::IdentityMetrics;
use crate::telemetry::{Chain, RateLimitedLog, Tally};

/// The keys of one issuer, from one place.
pub(super) struct Keys {
    issuer: Arc<str>,
    source: Source,
    place: Place,
    present: ArcSwapOption<KeySet>,
    gate: Mutex<Gate>,
    waiting: Waiting,
    failures: RateLimitedLog,
    wanted: Notify,
    attempts: watch::Sender<u64>,
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
            failures: RateLimitedLog::default(),
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
            && *set.place() != Place::Secret
        {
            if *set.place() != self.place {
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
        if *set.place() != self.place {
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
        let id = token.header.key_id.as_deref();
        match self.present(now) {
            Some(set) if set.knows(id) => return Ok(set),
            _ => self.wait_for_news(asker, clock, now.elapsed).await?,
        }
        let set = self.present(now).ok_or(Unverified::NoKeys)?;
        if set.may_mean(id) {
            Ok(set)
        } else {
            Err(Unverified::UnknownKey)
        }
    }

    /// Somebody with the right to wants them brought up to date: at once, whatever was asked for lately.
    pub(super) fn want(&self, now: Duration) {
        self.gate().want(now);
        self.wanted.notify_one();
    }

    /// A signature was none of theirs, and it could not be told by their names whether there are new ones:
    /// that is worth as much as an unknown name. Nobody waits for it.
    pub(super) fn doubt(&self, now: Duration) {
        if matches!(self.source, Source::Published(_)) && self.gate().turn(now) == Turn::Wake {
            self.wanted.notify_one();
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
        // Subscribed before the background task is woken, or its news could come before anybody listens.
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
                // The gate says when.
                () = self.wanted.notified() => continue,
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
            Source::SecretFiles { paths, shortest } => {
                let paths = paths.clone();
                let secrets = may_wait(move || read_secrets(&paths)).await?;
                self.share(&secrets, *shortest, clock)
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
            Source::SecretFiles { paths, shortest } => {
                self.share(&read_secrets(paths)?, *shortest, clock)
            }
            Source::Fixed | Source::Published(_) => Ok(()),
        }
    }

    /// Takes shared secrets over.
    pub(super) fn share(
        &self,
        secrets: &[Secret],
        shortest: usize,
        clock: &Clock,
    ) -> Result<(), KeyError> {
        let secrets = secrets.iter().map(|secret| secret.expose().as_bytes());
        if secrets.clone().any(|secret| secret.len() < shortest) {
            return Err(KeyError::ShortSecret(shortest));
        }
        let mut content = Context::new(&SHA256);
        for secret in secrets.clone() {
            content.update(digest(&SHA256, secret).as_ref());
        }
        self.replace(content.finish(), clock.now(), || {
            Ok(secrets.map(Key::shared_secret).collect())
        })
    }

    /// Takes a key set over.
    fn take(&self, json: &[u8], clock: &Clock, metrics: &IdentityMetrics) -> Result<(), KeyError> {
        self.replace(digest(&SHA256, json), clock.now(), || {
            let sorted = jwk::read_set(json)?;
            for key in &sorted.left_out {
                metrics.ignored();
                tracing::warn!(
                    issuer = &*self.issuer,
                    kid = key.id(),
                    kty = key.kind(),
                    reason = %key.reason(),
                    "a published key of {} is left out: {key}",
                    self.issuer
                );
            }
            Ok(sorted.keys)
        })
    }

    /// The same bytes confirm the set that is there, so that nothing verified with it is forgotten.
    fn replace(
        &self,
        content: Digest,
        now: Moment,
        read: impl FnOnce() -> Result<Vec<Key>, KeyError>,
    ) -> Result<(), KeyError> {
        let present = self.present.load_full();
        if let Some(present) = present.filter(|set| set.is_from(&self.place, &content)) {
            present.confirm(now);
            return Ok(());
        }
        let ages = matches!(self.source, Source::Published(_));
        let set = KeySet::new(read()?, (self.place.clone(), content), ages, now);
        if let Some(old) = self.present.swap(Some(Arc::new(set))) {
            old.replace();
            let news = if *old.place() == self.place {
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

/// How long a caller waits for a fetch: as long as a fetch may take.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
