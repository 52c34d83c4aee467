//! What is kept of one fetch: a complete list and its circumstances go in; its age, its freshness and
//! the bytes of its answer come out.

mod marks;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use super::freshness::{Freshness, Lifetime};
use super::rendered::{Address, Encoding, Tag, Text, Unexpired, Usual};
use super::{Config, rendered};
use crate::atlas::{CertQuery, CertificateList, Timestamp};
use crate::system::{Ids, Moment};
use crate::upstream::{FetchStats, Fetched};
use marks::Mark;

/// Which fetch brought something; in the audit trail it leads from an answer to the fetch behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FillId(Uuid);

/// One remembered list.
///
/// Packed: of a list of two certificates, what is written here is a fifth of what it costs.
#[derive(Debug)]
pub struct Entry {
    /// Also holds the usual answer and its tag; see [`rendered::enclose`].
    list: CertificateList,
    /// How long the usual answer is.
    usual: u32,
    /// See [`Mark`].
    marks: AtomicU8,
    lifetime: Lifetime,
    /// When Atlas answered with the oldest page, by both times, and when the fetch began; microseconds.
    answered_at: u64,
    answered_on: Timestamp,
    began: u64,
    /// Milliseconds of [`Moment::elapsed`] at which Atlas last failed to replace it; 0 for never.
    failed_at: AtomicU64,
    /// How often Atlas has failed to replace it.
    failures: AtomicU8,
    /// Whether a rule of ours was why: 0 if not, else its place among `HeldBack::ALL` and one more.
    held_back: AtomicU8,
    fill_id: FillId,
    cost: Cost,
    /// The first `notAfter`, or [`NEVER`]; from then on the usual answer has to be made anew.
    first_expiry: Timestamp,
    unexpired: ArcSwapOption<Unexpired>,
}

/// What the fetch that brought a list has cost.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The credential's configured name.
    pub credential: Arc<str>,
    /// Calls to Atlas's API.
    pub calls: u32,
    /// Pages in the list.
    pub pages: u32,
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

impl FillId {
    /// A new id, which sorts by time.
    pub(super) fn mint(ids: &Ids, now: Moment) -> Self {
        Self(ids.at(now.wall))
    }

    /// The id as the audit trail has it.
    pub fn uuid(self) -> Uuid {
        self.0
    }

    /// The part that differs.
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
    ) -> Result<Self, FetchStats> {
        let enclosed = rendered::enclose(&fetched.list, of.query, of.address);
        let Some((list, usual)) = enclosed else {
            return Err(fetched.stats);
        };
        let first_expiry = list.next_expiry(Timestamp::from_micros(i64::MIN));
        Ok(Self {
            list,
            usual,
            marks: AtomicU8::new(if of.ahead { Mark::Ahead.bit() } else { 0 }),
            lifetime: Lifetime::pick(config, of.fill_id.chance()),
            answered_at: micros(fetched.answered_at.elapsed),
            answered_on: fetched.answered_at.wall,
            began: micros(of.began),
            failed_at: AtomicU64::new(0),
            failures: AtomicU8::new(0),
            held_back: AtomicU8::new(0),
            fill_id: of.fill_id,
            cost: Cost {
                credential: fetched.stats.credential,
                calls: fetched.stats.calls,
                pages: fetched.stats.pages,
            },
            first_expiry: first_expiry.unwrap_or(NEVER),
            unexpired: ArcSwapOption::empty(),
        })
    }

    /// The certificates, those that have expired meanwhile included.
    pub fn list(&self) -> &CertificateList {
        &self.list
    }

    /// Which fetch brought it.
    pub fn fill_id(&self) -> FillId {
        self.fill_id
    }

    /// What the fetch cost.
    pub fn cost(&self) -> &Cost {
        &self.cost
    }

    /// When Atlas answered with its oldest page.
    pub fn answered_at(&self) -> Moment {
        Moment {
            elapsed: Duration::from_micros(self.answered_at),
            wall: self.answered_on,
        }
    }

    /// How long ago Atlas answered with its oldest page.
    pub fn age(&self, now: Moment) -> Duration {
        now.since(self.answered_at())
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

    /// What the `ETag`s of this list are made of at `now`.
    pub fn tag(&self, now: Timestamp) -> Tag {
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

    /// Where the list is for those who ask at `address`, without a query, as a part of a JSON text.
    pub fn url(&self, query: &CertQuery, address: Address<'_>) -> Cow<'_, [u8]> {
        if let Some(url) = rendered::enclosed_url(&self.list, address) {
            return Cow::Borrowed(url);
        }
        let mut url = String::new();
        address.push_list(&mut url, query);
        Cow::Owned(url.into_bytes())
    }

    /// The usual answer, compressed: `None` for a small one, for one that does not shrink, and before
    /// [`Entry::compress`].
    pub fn compressed(
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

    /// Whether [`Entry::compress`] is still to be called for an answer that shows the whole list if it
    /// has at most `most` certificates.
    pub fn lacks(&self, most: usize, now: Timestamp, encoding: Encoding) -> bool {
        self.is_worth_compressing() && {
            let unexpired = self.unexpired(now);
            unexpired.len() <= most && unexpired.lacks(encoding)
        }
    }

    /// Compresses the list, once for all who ask for it: what they are to be answered besides, and where
    /// they ask, makes no difference. Says whether this call has done it.
    pub async fn compress(&self, now: Timestamp, encoding: Encoding) -> bool {
        self.unexpired(now).compress(encoding).await
    }

    /// Whether [`Entry::compressed`] is worth asking.
    pub fn is_worth_compressing(&self) -> bool {
        usize::try_from(self.usual).is_ok_and(|length| length > WORTH_COMPRESSING)
    }

    /// Bytes of memory that the entry takes, its place in the memory included.
    pub fn weight(&self) -> usize {
        let large = if self.is_worth_compressing() {
            usize::try_from(self.usual).unwrap_or_default()
        } else {
            0
        };
        // What is large may be held compressed, and without what has expired: the two weigh about as much
        // as the answer itself.
        size_of::<Self>() + self.list.weight() - size_of::<CertificateList>() + large
    }

    pub(super) fn freshness(&self, now: Moment, stale_if_error: Duration) -> Freshness {
        let freshness = self.lifetime.judge(self.age(now), stale_if_error);
        if freshness >= Freshness::Stale && now.ran_ahead(self.answered_at()) {
            // What has ended stays so, if the calendar is set back before the list is fetched anew.
            self.mark_stale();
        }
        if self.is_softly_purged() {
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
        if self.is_softly_purged() {
            Duration::ZERO
        } else {
            self.lifetime.fresh()
        }
    }

    /// What every form but the first answer is made of at `now`.
    pub fn unexpired(&self, now: Timestamp) -> Arc<Unexpired> {
        // Of a small list nothing is made that would be worth keeping.
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
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Bodies up to this length leave as they are: 494 bytes shrink to 281, which fit into the same packet.
pub const WORTH_COMPRESSING: usize = 8 << 10;

/// When a list without certificates expires.
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);
