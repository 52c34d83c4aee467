//! A cache entry: one complete list, the circumstances of its fetch, and what has become of it since.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use super::encoding::{Encoding, Text};
use super::freshness::{Freshness, Lifetime, pause_after};
use super::rendered::{Address, Tag, Unexpired, Usual};
use super::{Config, rendered};
use crate::atlas::{CertQuery, CertificateList, Timestamp};
use crate::system::{Ids, Moment};
use crate::upstream::{FetchStats, Fetched, HeldBack, SharedFetch};

/// The id of a fetch; in the audit trail it leads from an answer to the fetch behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FillId(Uuid);

/// One list in the cache.
///
/// Packed: of a list of two certificates, what is written here is a fifth of what it costs.
#[derive(Debug)]
pub struct CacheEntry {
    /// With the usual answer and its tag around it; see [`rendered::enclose`].
    list: CertificateList,
    /// How long the usual answer is.
    usual: u32,
    /// Bits of [`EntryMark`].
    marks: AtomicU8,
    lifetime: Lifetime,
    /// When Atlas answered with the oldest page, by both times, and when the fetch began; microseconds.
    answered_at: u64,
    answered_on: Timestamp,
    began: u64,
    /// Milliseconds of [`Moment::elapsed`] at which Atlas last failed to replace it; 0 for never.
    failed_at: AtomicU64,
    failures: AtomicU8,
    /// Whether a rule of ours was why: 0 if not, else its place among `HeldBack::ALL` and one more.
    held_back: AtomicU8,
    fill_id: FillId,
    cost: Cost,
    /// The first `notAfter`, or [`NEVER`]; from then on the usual answer has to be made anew.
    first_expiry: Timestamp,
    unexpired: ArcSwapOption<Unexpired>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum EntryMark {
    /// It was refreshed ahead: no caller waited for it.
    Ahead = 1,
    /// It has been asked for since it came.
    InUse = 2,
    /// A soft purge, or a calendar that ran ahead, has ended its fresh life; the stale one ends when it would
    /// have.
    SoftlyPurged = 4,
    /// The store holds it: later callers are answered from it, too.
    Stored = 8,
    /// It is being refreshed ahead of its end.
    Refreshing = 16,
    /// A caller has forced the fetch.
    Forced = 32,
    /// An earlier process has fetched it.
    Restored = 64,
}

/// What the fetch that brought a list has cost.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// The credential's configured name.
    pub(crate) credential: Arc<str>,
    /// Calls to Atlas's API.
    pub(crate) calls: u32,
    /// Pages in the list.
    pub(crate) pages: u32,
    /// Which replica has fetched it, if another one has.
    pub(crate) replica: Option<Arc<str>>,
}

/// The circumstances of a fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    pub(super) query: &'a CertQuery,
    pub(super) address: Address<'a>,
    pub(super) fill_id: FillId,
    pub(super) began: Duration,
    pub(super) ahead: bool,
}

impl EntryMark {
    #[expect(clippy::as_conversions, reason = "the bits are the discriminants")]
    const fn bit(self) -> u8 {
        self as u8
    }
}

impl FillId {
    /// A new id, which sorts by time.
    pub(super) fn mint(ids: &Ids, now: Moment) -> Self {
        Self(ids.at(now.wall))
    }

    /// The id as the audit trail has it.
    pub(crate) fn uuid(self) -> Uuid {
        self.0
    }

    /// The lifetime of what the fetch brings; it is the same at every replica.
    pub(super) fn lifetime(self, config: &Config) -> Lifetime {
        Lifetime::pick(config, self.0.as_u64_pair().1)
    }
}

impl From<Uuid> for FillId {
    fn from(id: Uuid) -> Self {
        Self(id)
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

impl CacheEntry {
    /// What `fetched` is remembered as; what it cost, if its answer would pass 4 GiB.
    pub(super) fn new(
        config: &Config,
        of: Circumstances<'_>,
        fetched: Fetched,
    ) -> Result<Self, FetchStats> {
        let enclosed = rendered::enclose(&fetched.list, of.query, of.address);
        let Some((list, usual)) = enclosed else {
            return Err(fetched.stats);
        };
        let (fill_id, replica) = match fetched.shared {
            Some(SharedFetch { fill_id, replica }) => (FillId::from(fill_id), Some(replica)),
            None => (of.fill_id, None),
        };
        let first_expiry = list.next_expiry(Timestamp::from_micros(i64::MIN));
        Ok(Self {
            list,
            usual,
            marks: AtomicU8::new(if of.ahead { EntryMark::Ahead.bit() } else { 0 }),
            lifetime: fill_id.lifetime(config),
            answered_at: micros(fetched.answered_at.elapsed),
            answered_on: fetched.answered_at.wall,
            began: micros(of.began),
            failed_at: AtomicU64::new(0),
            failures: AtomicU8::new(0),
            held_back: AtomicU8::new(0),
            fill_id,
            cost: Cost {
                credential: fetched.stats.credential,
                calls: fetched.stats.calls,
                pages: fetched.stats.pages,
                replica,
            },
            first_expiry: first_expiry.unwrap_or(NEVER),
            unexpired: ArcSwapOption::empty(),
        })
    }

    /// The certificates, those that have expired meanwhile included.
    pub(crate) fn list(&self) -> &CertificateList {
        &self.list
    }

    /// The fetch that brought it.
    pub(crate) fn fill_id(&self) -> FillId {
        self.fill_id
    }

    /// What the fetch cost.
    pub(crate) fn cost(&self) -> &Cost {
        &self.cost
    }

    /// When Atlas answered with its oldest page.
    pub(crate) fn answered_at(&self) -> Moment {
        Moment {
            elapsed: Duration::from_micros(self.answered_at),
            wall: self.answered_on,
        }
    }

    /// How long ago Atlas answered with its oldest page.
    pub(crate) fn age(&self, now: Moment) -> Duration {
        now.since(self.answered_at())
    }

    /// Whole seconds for which this very answer stays what it is: until the list is asked for anew or
    /// a certificate in it expires. Negative once the list is stale: for how long it has been.
    pub(crate) fn ttl(&self, now: Moment) -> i64 {
        let seconds = |span: Duration| {
            i64::try_from(span.as_secs()).expect("an age or a lifetime is within 292 years")
        };
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

    /// What the `ETag`s of this list are made of at `now`.
    pub(crate) fn tag(&self, now: Timestamp) -> Tag {
        if now < self.first_expiry
            && let Some(tag) = rendered::enclosed_tag(&self.list, self.usual)
        {
            return tag;
        }
        self.unexpired(now).tag()
    }

    /// The usual answer to `address` at `now`. Costs no allocation unless something has expired since
    /// the last time, or another address was asked; it never copies a large list.
    pub fn usual(&self, query: &CertQuery, address: Address<'_>, now: Timestamp) -> Usual {
        if now < self.first_expiry
            && rendered::speaks_of(self.list.enclosure(), address)
            && let Some(usual) = rendered::enclosed(&self.list, self.usual)
        {
            return usual;
        }
        self.unexpired_kept(now, true).usual(query, address)
    }

    /// The list's URL at `address`, without a query, as a part of a JSON text.
    pub(crate) fn url(&self, query: &CertQuery, address: Address<'_>) -> Cow<'_, [u8]> {
        if let Some(url) = rendered::enclosed_url(&self.list, address) {
            return Cow::Borrowed(url);
        }
        let mut url = String::new();
        address.push_list(&mut url, query);
        Cow::Owned(url.into_bytes())
    }

    /// The usual answer, compressed: `None` for a small one, for one that does not shrink, and before
    /// [`CacheEntry::compress`].
    pub(crate) fn compressed(
        &self,
        query: &CertQuery,
        address: Address<'_>,
        now: Timestamp,
        encoding: Encoding,
    ) -> Option<Text> {
        if !self.is_worth_compressing() {
            return None;
        }
        let unexpired = self.unexpired(now);
        unexpired.compressed(query, address, encoding)
    }

    /// Whether [`CacheEntry::compress`] is still to be called for an answer that shows the whole list if it
    /// has at most `most` certificates.
    pub(crate) fn lacks(&self, most: usize, now: Timestamp, encoding: Encoding) -> bool {
        self.is_worth_compressing() && {
            let unexpired = self.unexpired(now);
            unexpired.len() <= most && unexpired.lacks(encoding)
        }
    }

    /// Compresses the list, once for all callers, wherever they ask. Says whether this call has done it.
    pub(crate) async fn compress(&self, now: Timestamp, encoding: Encoding) -> bool {
        self.unexpired(now).compress(encoding).await
    }

    /// Whether [`CacheEntry::compressed`] is worth asking.
    pub(crate) fn is_worth_compressing(&self) -> bool {
        self.usual_length() > WORTH_COMPRESSING
    }

    fn usual_length(&self) -> usize {
        usize::try_from(self.usual).expect("a pointer has at least 32 bits")
    }

    /// Bytes of memory that the entry takes, its place in the memory included.
    pub(crate) fn weight(&self) -> usize {
        let large = if self.is_worth_compressing() {
            self.usual_length()
        } else {
            0
        };
        // Of a large list compressed forms may be held, and what is unexpired: together about its own size.
        size_of::<Self>() + self.list.weight() - size_of::<CertificateList>() + large
    }

    pub(super) fn freshness(&self, now: Moment, stale_if_error: Duration) -> Freshness {
        let freshness = self.lifetime.judge(self.age(now), stale_if_error);
        if freshness >= Freshness::Stale && now.ran_ahead(self.answered_at()) {
            // What has ended stays so, if the calendar is set back before the list is fetched anew.
            self.mark(EntryMark::SoftlyPurged);
        }
        if self.has(EntryMark::SoftlyPurged) {
            freshness.max(Freshness::Stale)
        } else {
            freshness
        }
    }

    pub(super) fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    pub(super) fn began(&self) -> Duration {
        Duration::from_micros(self.began)
    }

    pub(super) fn list_expiry(&self, now: Timestamp) -> Option<Duration> {
        // Most lists hold nothing that has expired, and then the first to go is known.
        let next = if now < self.first_expiry {
            (self.first_expiry < NEVER).then_some(self.first_expiry)
        } else {
            self.list.next_expiry(now)
        };
        Some(next?.since(now))
    }

    fn fresh_for(&self) -> Duration {
        if self.has(EntryMark::SoftlyPurged) {
            Duration::ZERO
        } else {
            self.lifetime.fresh()
        }
    }

    /// What every form but the first answer is made of at `now`.
    pub(crate) fn unexpired(&self, now: Timestamp) -> Arc<Unexpired> {
        self.unexpired_kept(now, self.is_worth_compressing())
    }

    fn unexpired_kept(&self, now: Timestamp, is_kept: bool) -> Arc<Unexpired> {
        if let Some(kept) = &*self.unexpired.load()
            && kept.fits(now)
        {
            return Arc::clone(kept);
        }
        let is_whole = now < self.first_expiry;
        let tag = is_whole
            .then(|| rendered::enclosed_tag(&self.list, self.usual))
            .flatten();
        let unexpired = Arc::new(match tag {
            Some(tag) => Unexpired::whole(&self.list, tag, self.first_expiry),
            None => Unexpired::rest(&self.list, now),
        });
        if is_kept || !is_whole {
            self.unexpired.store(Some(Arc::clone(&unexpired)));
        }
        unexpired
    }

    /// Whether later callers are answered from it, too.
    pub(crate) fn is_stored(&self) -> bool {
        self.has(EntryMark::Stored)
    }

    /// Whether an earlier process has fetched it.
    pub(crate) fn is_restored(&self) -> bool {
        self.has(EntryMark::Restored)
    }

    pub(super) fn has(&self, mark: EntryMark) -> bool {
        self.marks.load(Ordering::Relaxed) & mark.bit() != 0
    }

    /// Sets a mark; says whether it was not there before.
    pub(super) fn mark(&self, mark: EntryMark) -> bool {
        // Reading first keeps the cache line shared between cores.
        let bit = mark.bit();
        !self.has(mark) && self.marks.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Whether a caller that asks now is to cause a refresh ahead: the list is in use, and no refresh is under way.
    pub(super) fn is_due_for_refresh(&self, now: Moment) -> bool {
        self.has(EntryMark::InUse)
            && !self.has(EntryMark::Refreshing)
            && !self.waits_after_failure(now)
    }

    /// Notes that it could not be replaced: because Atlas failed, or because a rule of ours has held the
    /// call back.
    pub(super) fn note_failure(&self, now: Moment, held_back: Option<HeldBack>) {
        let number = held_back.map_or(0, |held_back| {
            let place = HeldBack::ALL.iter().position(|why| *why == held_back);
            let place = place.expect("all reasons to hold a call back are listed");
            u8::try_from(place + 1).expect("there are fewer than 255 of them")
        });
        self.held_back.store(number, Ordering::Relaxed);
        // That we did not ask says nothing new of Atlas.
        if held_back.is_none() {
            let failures = self.failures.load(Ordering::Relaxed);
            self.failures
                .store(failures.saturating_add(1), Ordering::Relaxed);
        }
        let millis = u64::try_from(now.elapsed.as_millis()).expect("no process runs for so long");
        self.failed_at.store(millis + 1, Ordering::Relaxed);
        self.marks
            .fetch_and(!EntryMark::Refreshing.bit(), Ordering::Relaxed);
    }

    /// Whether the last attempt to replace it failed, and it was Atlas that failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed_at.load(Ordering::Relaxed) > 0 && self.held_back().is_none()
    }

    /// The rule that has held back the last call to refresh it.
    pub(super) fn held_back(&self) -> Option<HeldBack> {
        let place = usize::from(self.held_back.load(Ordering::Relaxed)).checked_sub(1)?;
        HeldBack::ALL.get(place).copied()
    }

    /// How long ago the last attempt to replace it failed.
    pub(super) fn failed_since(&self, now: Moment) -> Option<Duration> {
        let millis = self.failed_at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.elapsed.saturating_sub(Duration::from_millis(millis)))
    }

    /// Whether it is too early for another attempt (backoff): ever longer while Atlas fails, and a moment after
    /// we have held a call back, which has cost nothing.
    pub(super) fn waits_after_failure(&self, now: Moment) -> bool {
        let pause = if self.held_back().is_some() {
            AFTER_HOLDING_BACK
        } else {
            pause_after(self.failures.load(Ordering::Relaxed))
        };
        self.failed_within(now, pause)
    }

    pub(super) fn failed_within(&self, now: Moment, span: Duration) -> bool {
        self.failed_since(now).is_some_and(|since| since < span)
    }
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("no process runs for 584,000 years")
}

const AFTER_HOLDING_BACK: Duration = Duration::from_secs(1);

/// Bodies up to this length leave as they are: 494 bytes shrink to 281, which fit into the same packet.
pub(crate) const WORTH_COMPRESSING: usize = 8 << 10;

/// When a list without certificates expires.
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);
