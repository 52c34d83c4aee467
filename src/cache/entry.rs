//! A cache entry: one complete list, the circumstances of its fetch, and what has become of it since.

mod failures;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::encoding::{Encoding, Text};
use super::fill_id::FillId;
use super::freshness::{Freshness, Lifetime};
use super::rendered::{Address, Unexpired, Usual};
use super::tag::Tag;
use super::{Config, rendered};
use crate::atlas::{CertQuery, CertificateList, Timestamp};
use crate::system::Moment;
use crate::upstream::{FetchStats, Fetched, SharedFetch};

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
    Forced = 32,
    /// An earlier process has fetched it.
    Restored = 64,
}

/// What the fetch that brought a list has cost.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// The credential's configured name.
    pub(crate) credential: Arc<str>,
    pub(crate) calls: u32,
    pub(crate) pages: u32,
    /// Which replica has fetched it, if another one has.
    pub(crate) replica: Option<Arc<str>>,
}

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

    pub(crate) fn fill_id(&self) -> FillId {
        self.fill_id
    }

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
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("no process runs for 584,000 years")
}

/// Bodies up to this length leave as they are: 494 bytes shrink to 281, which fit into the same packet.
pub(crate) const WORTH_COMPRESSING: usize = 8 << 10;

/// When a list without certificates expires.
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);
