//! A snapshot of one issuer's keys, and the check of a token's signature with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::Digest;

use super::jwk::{MOST_NAMESAKES, VerificationKey};
use super::key_source::KeyLocation;
use super::token::UnverifiedJwt;
use super::unverified::Unverified;
use crate::system::{Moment, SharedMoment};

/// The keys of one moment. What was verified with them holds as long as they do.
pub(super) struct KeySet {
    keys: Arc<[VerificationKey]>,
    location: KeyLocation,
    digest: Digest,
    confirmed: SharedMoment,
    replaced: AtomicBool,
    ages: bool,
}

impl KeySet {
    /// The keys that `location` has delivered at `now`. `digest` tells them from others; those that age are
    /// believed for a day.
    pub(super) fn new(
        keys: Vec<VerificationKey>,
        (location, digest): (KeyLocation, Digest),
        ages: bool,
        now: Moment,
    ) -> Self {
        Self {
            keys: keys.into(),
            location,
            digest,
            confirmed: SharedMoment::new(now),
            replaced: AtomicBool::new(false),
            ages,
        }
    }

    pub(super) fn is_from(&self, location: &KeyLocation, digest: &Digest) -> bool {
        self.location == *location && self.digest.as_ref() == digest.as_ref()
    }

    pub(super) fn location(&self) -> &KeyLocation {
        &self.location
    }

    pub(super) fn confirm(&self, now: Moment) {
        self.confirmed.set(now);
    }

    pub(super) fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    /// Whether what was verified with these keys may still be believed at `now`.
    pub(super) fn holds(&self, now: Moment) -> bool {
        !self.replaced.load(Ordering::Acquire)
            && (!self.ages || self.silence(now) <= LONGEST_SILENCE)
    }

    pub(super) fn silence(&self, now: Moment) -> Duration {
        now.since(self.confirmed.get())
    }

    /// The same keys under other settings. The old set may yet be replaced, by a fetch that was under
    /// way; that says nothing of these. Keys that did not age begin to.
    pub(super) fn inherited(&self, now: Moment) -> Self {
        let confirmed = if self.ages { self.confirmed.get() } else { now };
        Self {
            keys: Arc::clone(&self.keys),
            location: self.location.clone(),
            digest: self.digest,
            confirmed: SharedMoment::new(confirmed),
            replaced: AtomicBool::new(false),
            ages: true,
        }
    }

    pub(super) fn verify(&self, token: &UnverifiedJwt<'_>) -> Result<Option<Box<str>>, Unverified> {
        let mut fitting = self
            .meant(token.header.key_id.as_deref())
            .filter(|key| key.fits(token.header.algorithm))
            .take(MOST_NAMESAKES)
            .peekable();
        if fitting.peek().is_none() {
            return Err(Unverified::Algorithm);
        }
        let signer = fitting.find(|key| key.has_signed(token));
        let signer = signer.ok_or(Unverified::Signature)?;
        Ok(signer.id().map(Box::from))
    }

    #[cfg(test)]
    pub(super) fn for_tests(keys: Vec<VerificationKey>) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"");
        let now = Moment {
            elapsed: Duration::ZERO,
            wall: crate::atlas::Timestamp::from_seconds(0),
        };
        Self::new(keys, (KeyLocation::secret(), digest), false, now)
    }

    /// Whether a fetch could bring no better keys for a token that names `id`: a key has that
    /// name, or the issuer gives its keys no names.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        let is_named = id.is_some_and(|id| self.names(id));
        is_named || (self.may_mean(id) && (id.is_none() || self.are_unnamed()))
    }

    /// Whether a token that names `id` may mean one of them.
    pub(super) fn may_mean(&self, id: Option<&str>) -> bool {
        self.meant(id).next().is_some()
    }

    pub(super) fn are_unnamed(&self) -> bool {
        self.keys.iter().all(|key| key.id().is_none())
    }

    /// Those of the name `id`; where there is none of it, those without a name, which may be it.
    fn meant<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a VerificationKey> {
        let name = id.filter(|id| self.names(id));
        self.keys.iter().filter(move |key| key.id() == name)
    }

    fn names(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id() == Some(id))
    }
}

/// How long published keys are believed without word from their issuer.
const LONGEST_SILENCE: Duration = Duration::from_hours(24);
