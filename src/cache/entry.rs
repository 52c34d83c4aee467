//! What is kept of one walk: a complete list and its circumstances go in; its age, its freshness and
//! the bytes of its answer come out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use uuid::NoContext;
use uuid::Uuid;

use super::Config;
use super::freshness::Freshness;
use super::freshness::Lifetime;
use super::rendered;
use super::rendered::Address;
use super::rendered::Encoding;
use super::rendered::Tag;
use super::rendered::Usual;
use super::rendered::Variant;
use crate::atlas::CertificateList;
use crate::atlas::Question;
use crate::atlas::Timestamp;
use crate::clock::Moment;
use crate::upstream::Fetched;
use crate::upstream::Walk;

/// Which walk brought something; in the audit trail it leads from an answer to the fetch behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FillId(Uuid);

/// One remembered list.
#[derive(Debug)]
pub struct Entry {
    /// Also holds the usual answer and its tag; see [`rendered::enclose`].
    list: CertificateList,
    /// How long the usual answer is.
    usual: u32,
    lifetime: Lifetime,
    answered_at: Moment,
    /// When the walk began, by [`Moment::elapsed`].
    began: Duration,
    fill_id: FillId,
    walk: Walk,
    /// The first `notAfter`; from then on the usual answer has to be made anew.
    first_expiry: Timestamp,
    /// Whether nobody waited for it.
    ahead: bool,
    /// Whether the memory keeps it.
    stored: AtomicBool,
    /// Whether it has been asked for since it came.
    in_use: AtomicBool,
    /// Whether its successor is being fetched while it is still fresh.
    succession: AtomicBool,
    /// Whether a purge has ended its fresh life.
    softened: AtomicBool,
    /// Milliseconds of [`Moment::elapsed`] at which Atlas last failed to replace it; 0 for never.
    failed_at: AtomicU64,
    variant: ArcSwapOption<Variant>,
}

/// The circumstances of a walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    pub(super) question: &'a Question,
    pub(super) address: Address<'a>,
    pub(super) fill_id: FillId,
    pub(super) began: Duration,
    pub(super) ahead: bool,
}

impl FillId {
    /// A new id, which sorts by time.
    pub(super) fn mint(now: Moment) -> Self {
        let micros = u64::try_from(now.wall.micros()).unwrap_or_default();
        let nanos = u32::try_from(micros % 1_000_000 * 1_000).unwrap_or_default();
        let seconds = micros / 1_000_000;
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(
            NoContext, seconds, nanos,
        )))
    }

    /// The id as the audit trail has it.
    pub fn uuid(self) -> Uuid {
        self.0
    }

    /// The part that is random.
    fn chance(self) -> u64 {
        self.0.as_u64_pair().1
    }
}

impl fmt::Display for FillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for FillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FillId({self})")
    }
}

impl Entry {
    /// What `fetched` is remembered as; what it cost, if its answer would pass 4 GiB.
    pub(super) fn new(
        config: &Config,
        of: Circumstances<'_>,
        fetched: Fetched,
    ) -> Result<Self, Walk> {
        let enclosed = rendered::enclose(&fetched.list, of.question, of.address);
        let Some((list, usual)) = enclosed else {
            return Err(fetched.walk);
        };
        let first_expiry = list.next_expiry(Timestamp::from_micros(i64::MIN));
        Ok(Self {
            list,
            usual,
            lifetime: Lifetime::pick(config, of.fill_id.chance()),
            answered_at: fetched.answered_at,
            began: of.began,
            fill_id: of.fill_id,
            walk: fetched.walk,
            first_expiry: first_expiry.unwrap_or(Timestamp::from_micros(i64::MAX)),
            ahead: of.ahead,
            stored: AtomicBool::new(false),
            in_use: AtomicBool::new(false),
            succession: AtomicBool::new(false),
            softened: AtomicBool::new(false),
            failed_at: AtomicU64::new(0),
            variant: ArcSwapOption::empty(),
        })
    }

    /// The certificates, those that have expired meanwhile included.
    pub fn list(&self) -> &CertificateList {
        &self.list
    }

    /// Which walk brought it.
    pub fn fill_id(&self) -> FillId {
        self.fill_id
    }

    /// What the walk cost.
    pub fn walk(&self) -> &Walk {
        &self.walk
    }

    /// When Atlas answered with its oldest page.
    pub fn answered_at(&self) -> Moment {
        self.answered_at
    }

    /// How long ago Atlas answered with its oldest page.
    pub fn age(&self, now: Moment) -> Duration {
        now.elapsed.saturating_sub(self.answered_at.elapsed)
    }

    /// Whole seconds for which this very answer stays what it is: until the list is asked for anew or
    /// a certificate in it expires. Negative once the list is stale: for how long it has been.
    pub fn ttl(&self, now: Moment) -> i64 {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let age = self.age(now);
        let fresh = self.fresh_for();
        if age >= fresh {
            // A list that has been stale for less than a second is not one that is good for none.
            return -seconds(age.saturating_sub(fresh).max(Duration::from_secs(1)));
        }
        let left = fresh.saturating_sub(age);
        seconds(
            self.list_expiry(now.wall)
                .map_or(left, |span| span.min(left)),
        )
    }

    /// Whether later callers are answered from it, too.
    pub fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Relaxed)
    }

    /// What the `ETag`s of this list are made of at `now`.
    pub fn tag(&self, now: Timestamp) -> Tag {
        if now < self.first_expiry
            && let Some(tag) = rendered::enclosed_tag(&self.list, self.usual)
        {
            return tag;
        }
        Tag::of(self.list.unexpired(now))
    }

    /// The usual answer to `address` at `now`. Costs no allocation unless something has expired since
    /// the last time, or another address was asked.
    pub fn usual(&self, question: &Question, address: Address<'_>, now: Timestamp) -> Usual {
        if now < self.first_expiry
            && rendered::speaks_of(self.list.enclosure(), address)
            && let Some(usual) = rendered::enclosed(&self.list, self.usual)
        {
            return usual;
        }
        self.variant(question, address, now).usual().clone()
    }

    /// The usual answer, compressed: `None` for a small one, for one that does not shrink, and while
    /// it is being made, which the first call causes.
    pub fn compressed(
        &self,
        question: &Question,
        address: Address<'_>,
        now: Timestamp,
        encoding: Encoding,
    ) -> Option<Bytes> {
        if usize::try_from(self.usual).is_ok_and(|length| length <= WORTH_COMPRESSING) {
            return None;
        }
        self.variant(question, address, now).compressed(encoding)
    }

    /// Bytes of memory that the entry takes, its place in the memory included.
    pub fn weight(&self) -> usize {
        let large = usize::try_from(self.usual)
            .ok()
            .filter(|length| *length > WORTH_COMPRESSING)
            .unwrap_or_default();
        // What is large may be held at a second address, and compressed: the two weigh about as much
        // as the answer itself.
        size_of::<Self>() + self.list.weight() - size_of::<CertificateList>() + large
    }

    pub(super) fn freshness(&self, now: Moment, stale_if_error: Duration) -> Freshness {
        let freshness = self.lifetime.judge(self.age(now), stale_if_error);
        if self.softened.load(Ordering::Relaxed) {
            freshness.max(Freshness::Stale)
        } else {
            freshness
        }
    }

    pub(super) fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    pub(super) fn began(&self) -> Duration {
        self.began
    }

    pub(super) fn is_ahead(&self) -> bool {
        self.ahead
    }

    pub(super) fn is_softened(&self) -> bool {
        self.softened.load(Ordering::Relaxed)
    }

    pub(super) fn keep(&self) {
        self.stored.store(true, Ordering::Relaxed);
    }

    /// Ends the fresh life; the stale one ends when it would have.
    pub(super) fn soften(&self) {
        self.softened.store(true, Ordering::Relaxed);
    }

    /// Notes that it was asked for; says whether it had been before.
    pub(super) fn use_it(&self) -> bool {
        // Reading first keeps the cache line shared between cores.
        self.in_use.load(Ordering::Relaxed) || self.in_use.swap(true, Ordering::Relaxed)
    }

    /// Whether it was asked for before, and nobody is fetching its successor.
    pub(super) fn wants_successor(&self, now: Moment) -> bool {
        self.in_use.load(Ordering::Relaxed)
            && !self.succession.load(Ordering::Relaxed)
            && !self.failed_within(now, RETRY_PAUSE)
    }

    /// Takes the task of fetching the successor; `false` if somebody else has it.
    pub(super) fn begin_succession(&self) -> bool {
        !self.succession.swap(true, Ordering::Relaxed)
    }

    /// Notes that Atlas could not replace it.
    pub(super) fn note_failure(&self, now: Moment) {
        let millis = u64::try_from(now.elapsed.as_millis()).unwrap_or(u64::MAX);
        self.failed_at
            .store(millis.saturating_add(1), Ordering::Relaxed);
        self.succession.store(false, Ordering::Relaxed);
    }

    /// Whether Atlas has ever failed to replace it.
    pub(super) fn has_failed(&self) -> bool {
        self.failed_at.load(Ordering::Relaxed) > 0
    }

    /// How long ago Atlas last failed to replace it.
    pub(super) fn failed_since(&self, now: Moment) -> Option<Duration> {
        let millis = self.failed_at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.elapsed.saturating_sub(Duration::from_millis(millis)))
    }

    /// Whether Atlas failed to replace it less than `span` ago.
    pub(super) fn failed_within(&self, now: Moment, span: Duration) -> bool {
        self.failed_since(now).is_some_and(|since| since < span)
    }

    pub(super) fn list_expiry(&self, now: Timestamp) -> Option<Duration> {
        Some(self.list.next_expiry(now)?.since(now))
    }

    fn fresh_for(&self) -> Duration {
        if self.is_softened() {
            Duration::ZERO
        } else {
            self.lifetime.fresh()
        }
    }

    fn variant(&self, question: &Question, address: Address<'_>, now: Timestamp) -> Arc<Variant> {
        if let Some(kept) = &*self.variant.load()
            && kept.fits(address, now)
        {
            return Arc::clone(kept);
        }
        let shared = (now < self.first_expiry
            && rendered::speaks_of(self.list.enclosure(), address))
        .then(|| rendered::enclosed(&self.list, self.usual))
        .flatten();
        let variant = Arc::new(match shared {
            Some(usual) => Variant::new(usual, &self.list, now),
            None => Variant::render(&self.list, question, address, now),
        });
        self.variant.store(Some(Arc::clone(&variant)));
        variant
    }
}

/// Bodies up to this length leave as they are: 494 bytes shrink to 281, which fit into the same packet.
pub const WORTH_COMPRESSING: usize = 8 << 10;

/// After Atlas has failed to replace a list it is not asked for that list for this long.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(5);
