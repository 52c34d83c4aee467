//! The store of the cache: lists and absences, each bounded in bytes, with admission and eviction by moka.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use equivalent::Equivalent;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::CacheStatus;
use super::entry::{CacheEntry, EntryMark};
use super::fetch_history::FetchHistory;
use super::fill_id::FillId;
use super::key::{CacheKey, IndexKey, KeyIndex, KeyRef, Stays};
use crate::atlas::{CertQuery, ProjectId};
use crate::system::Moment;
use crate::upstream::{AtlasAnswer, FetchError, FetchErrorKind};

/// A list and what it is of.
pub(crate) type KeyedEntry = (CertQuery, Arc<CacheEntry>);

/// Lists and absences, each bounded in bytes.
///
/// A list is in two segments. `main` admits by how often a key was asked for (`TinyLFU`), and once it is full,
/// only what has been fetched before (a doorkeeper, [`FetchHistory`]): a flood of names that are never asked for
/// twice cannot evict what is in use (N15). Frequency alone would not do: what is asked for once in five
/// thousand requests is counted like what is asked for once.
///
/// But a full `main` of lists in use admits a new list only after it was asked for more often than what it
/// would evict, and each of these times would cost a fetch. So every list also enters `probation`, a small
/// LRU segment that admits all; when the list is fetched anew it tries `main` again, better known than before.
///
/// Both segments hold the same `Arc`, and are filled and emptied together, never one from the other: nothing
/// that was purged can come back from the other one.
#[derive(Debug)]
pub(super) struct Store {
    main: Cache<CacheKey, Arc<CacheEntry>, RandomState>,
    probation: Cache<CacheKey, Arc<CacheEntry>, RandomState>,
    negative: Cache<CacheKey, Arc<Absence>, RandomState>,
    index: KeyIndex,
    history: FetchHistory,
    heaviest: usize,
}

/// There is no list: Atlas has said so, or has failed to give it.
#[derive(Debug)]
pub(super) struct Absence {
    pub(super) error: Arc<FetchError>,
    pub(super) fill_id: FillId,
    /// How often in a row the list could not be had; 0 where Atlas says that there is none.
    pub(super) failures: u8,
    /// When the fetch began, by `Moment::elapsed`, if a caller has forced it.
    pub(super) forced: Option<Duration>,
    /// When the fetch ended, and for how long its answer is remembered.
    pub(super) known_at: Moment,
    pub(super) ttl: Duration,
}

impl Store {
    pub(super) fn new(max_size: u64) -> Self {
        let segment = |bytes: u64, policy: EvictionPolicy| {
            Cache::builder()
                .max_capacity(bytes)
                .eviction_policy(policy)
                .weigher(|key: &CacheKey, entry: &Arc<CacheEntry>| weight(key, entry.weight()))
                .build_with_hasher(RandomState::new())
        };
        let probation = max_size / 16;
        let places = (max_size / PER_PLACE).min(MOST_PLACES);
        let marks = places * PLACE;
        Self {
            main: segment(max_size - probation - marks, EvictionPolicy::tiny_lfu()),
            probation: segment(probation, EvictionPolicy::lru()),
            negative: Cache::builder()
                .max_capacity(ABSENCES.min(max_size))
                // A name that is always asked for stays, however many others come once.
                .eviction_policy(EvictionPolicy::lru())
                .weigher(|key: &CacheKey, absence: &Arc<Absence>| weight(key, absence.weight()))
                .build_with_hasher(RandomState::new()),
            index: KeyIndex::default(),
            history: FetchHistory::new(
                usize::try_from(places).expect("there are at most 2^25 places"),
            ),
            // One giant must not evict all the others.
            heaviest: usize::try_from(max_size / 8).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn get(&self, query: &CertQuery) -> Option<Arc<CacheEntry>> {
        self.main
            .get(&KeyRef::of(query))
            .or_else(|| self.probation.get(&KeyRef::of(query)))
    }

    pub(super) fn absence(&self, query: &CertQuery) -> Option<Arc<Absence>> {
        self.negative.get(&KeyRef::of(query))
    }

    /// Whether anything is known. Unlike [`Store::get`] this is no sign of use: what is asked for once must not
    /// be counted three times.
    pub(super) fn knows(&self, query: &CertQuery) -> bool {
        self.has(&KeyRef::of(query))
    }

    fn has(&self, key: &(impl Hash + Equivalent<CacheKey>)) -> bool {
        self.main.contains_key(key)
            || self.probation.contains_key(key)
            || self.negative.contains_key(key)
    }

    /// Stores `entry` unless it is too heavy.
    pub(super) fn put(&self, query: &CertQuery, entry: &Arc<CacheEntry>) {
        self.negative.invalidate(&KeyRef::of(query));
        if entry.weight() > self.heaviest {
            self.forget(query);
            return;
        }
        entry.mark(EntryMark::Stored);
        self.enter(query, |key| {
            // Asked in this order, because the first also leaves the key's mark.
            if self.history.note(&key)
                || self.has_space(&key, entry)
                || self.main.contains_key(&key)
            {
                self.main.insert(key, Arc::clone(entry));
            }
            self.probation
                .insert(CacheKey::of(query), Arc::clone(entry));
        });
    }

    /// Lets `put` put something into a segment; nothing gets there in another way.
    fn enter(&self, query: &CertQuery, put: impl FnOnce(CacheKey)) {
        let is_known = |key: &KeyRef<'_>| self.has(key);
        self.index
            .enter(query, is_known, || put(CacheKey::of(query)));
    }

    /// Whether nothing is evicted for `entry`.
    fn has_space(&self, key: &CacheKey, entry: &CacheEntry) -> bool {
        let segment = self.main.policy().max_capacity();
        let segment = segment.expect("the segment was built with a capacity");
        let weight = u64::from(weight(key, entry.weight()));
        self.main.weighted_size().saturating_add(weight) <= segment
    }

    pub(super) fn put_absence(&self, query: &CertQuery, absence: Absence) {
        self.forget(query);
        self.enter(query, |key| self.negative.insert(key, Arc::new(absence)));
    }

    /// Forgets a list or an absence; says whether there was one.
    pub(super) fn forget(&self, query: &CertQuery) -> bool {
        self.remove(&KeyRef::of(query))
    }

    fn remove(&self, key: &(impl Hash + Equivalent<CacheKey>)) -> bool {
        // From each segment, whatever the others held.
        let main = self.main.remove(key).is_some();
        let probation = self.probation.remove(key).is_some();
        let negative = self.negative.remove(key).is_some();
        main || probation || negative
    }

    /// Ends the fresh life of a list and forgets an absence; says whether there was one.
    pub(super) fn mark_stale(&self, query: &CertQuery) -> bool {
        self.make_stale(&KeyRef::of(query))
    }

    fn make_stale(&self, key: &(impl Hash + Equivalent<CacheKey>)) -> bool {
        let negative = self.negative.remove(key).is_some();
        let entry = self.main.get(key).or_else(|| self.probation.get(key));
        if let Some(entry) = &entry {
            entry.mark(EntryMark::SoftlyPurged);
        }
        negative || entry.is_some()
    }

    /// Forgets, or marks stale, what is known of one project or of all; says of how many keys something was.
    pub(super) fn purge(&self, project: Option<ProjectId>, soft: bool, stays: &Stays<'_>) -> u64 {
        let mut concerned = 0;
        let mut last = None;
        loop {
            let mut keys = self.index.slice(project, last.as_ref());
            let of_purge = keys.iter().filter_map(|key| KeyRef::read(key));
            for key in of_purge.filter(|key| !key.is_of(stays)) {
                let was_known = if soft {
                    self.make_stale(&key)
                } else {
                    self.remove(&key)
                };
                concerned += u64::from(was_known);
            }
            self.clean(&keys);
            last = keys.pop();
            if last.is_none() {
                return concerned;
            }
        }
    }

    /// Takes out of the index what no segment holds any more.
    fn clean(&self, keys: &[IndexKey]) {
        self.index.clean(keys, |key| self.has(key));
    }

    /// Forgets the lists and absences that are past their time.
    pub(super) fn sweep(
        &self,
        is_dead: impl Fn(&CacheEntry) -> bool,
        is_over: impl Fn(&Absence) -> bool,
    ) {
        let mut gone = Vec::new();
        for segment in [&self.main, &self.probation] {
            for (key, entry) in segment {
                if is_dead(&entry) {
                    segment.invalidate(&*key);
                    self.is_gone(&key, &mut gone);
                }
            }
        }
        for (key, absence) in &self.negative {
            if is_over(&absence) {
                self.negative.invalidate(&*key);
                self.is_gone(&key, &mut gone);
            }
        }
        self.clean(&gone);
    }

    /// All lists.
    pub(super) fn lists(&self) -> Vec<KeyedEntry> {
        let main = self.main.iter();
        let probation = self.probation.iter();
        let only_there = probation.filter(|(key, _)| !self.main.contains_key(&**key));
        let lists = main.chain(only_there);
        lists.map(|(key, entry)| (key.query(), entry)).collect()
    }

    /// Forgets lists of so many bytes, first those that have not been asked for again.
    pub(super) fn shrink(&self, bytes: u64) {
        let mut excess = bytes;
        let mut gone = Vec::new();
        for in_use in [false, true] {
            for segment in [&self.main, &self.probation] {
                for (key, entry) in segment {
                    if excess == 0 {
                        break;
                    }
                    if entry.has(EntryMark::InUse) == in_use {
                        let weight = u64::from(weight(&key, entry.weight()));
                        for segment in [&self.main, &self.probation] {
                            if segment.remove(&*key).is_some() {
                                excess = excess.saturating_sub(weight);
                            }
                        }
                        self.is_gone(&key, &mut gone);
                    }
                }
            }
        }
        for (key, absence) in &self.negative {
            if excess == 0 {
                break;
            }
            self.negative.invalidate(&*key);
            excess = excess.saturating_sub(weight(&key, absence.weight()).into());
            self.is_gone(&key, &mut gone);
        }
        self.clean(&gone);
    }

    /// Notes a key that a segment has let go of, to take many of them out of the index at a time.
    fn is_gone(&self, key: &CacheKey, gone: &mut Vec<IndexKey>) {
        gone.push(key.borrowed().index_key());
        if gone.len() >= GONE_AT_A_TIME {
            self.clean(gone);
            gone.clear();
        }
    }

    #[cfg(test)]
    pub(super) fn indexed(&self) -> usize {
        self.index.len()
    }

    pub(super) fn segments(&self, query: &CertQuery) -> Vec<&'static str> {
        [("main", &self.main), ("probation", &self.probation)]
            .into_iter()
            .filter(|(_, segment)| segment.contains_key(&KeyRef::of(query)))
            .map(|(name, _)| name)
            .collect()
    }

    /// How many lists and absences there are, and what they weigh.
    pub(super) fn size(&self) -> StoreSize {
        self.main.run_pending_tasks();
        self.probation.run_pending_tasks();
        self.negative.run_pending_tasks();
        StoreSize {
            lists: self.main.entry_count().max(self.probation.entry_count()),
            absences: self.negative.entry_count(),
            bytes: self.main.weighted_size()
                + self.probation.weighted_size()
                + self.negative.weighted_size(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreSize {
    pub(super) lists: u64,
    pub(super) absences: u64,
    pub(super) bytes: u64,
}

impl Absence {
    pub(super) fn status(&self) -> CacheStatus {
        if self.failures == 0 {
            CacheStatus::Negative
        } else {
            CacheStatus::Failed
        }
    }

    pub(super) fn error_code(&self) -> Option<&str> {
        self.answer()?.error_code.as_deref()
    }

    fn weight(&self) -> usize {
        let body = self.answer().map_or(0, |answer| answer.body.len());
        size_of::<Self>() + size_of::<FetchError>() + body
    }

    fn answer(&self) -> Option<&AtlasAnswer> {
        if let FetchErrorKind::Atlas(answer) = &self.error.reason {
            Some(answer)
        } else {
            None
        }
    }
}

pub(super) fn weight(key: &CacheKey, entry: usize) -> u32 {
    let weight = OVERHEAD + size_of::<CacheKey>() + key.elsewhere() + entry;
    u32::try_from(weight).unwrap_or(u32::MAX)
}

/// What a place in a segment costs besides key and entry, with its place in the index; measured by
/// `benches/memory.rs`.
const OVERHEAD: usize = 480;

/// How many keys are taken out of the index under one lock.
const GONE_AT_A_TIME: usize = 256;

/// For how many bytes of lists the fetch history has one place: some four times as many places as lists, so
/// that a key is still there when as many others as fit came after it.
const PER_PLACE: u64 = 256;

/// Of 8 GiB; a larger cache is not worth more of them, which are taken at the start.
const MOST_PLACES: u64 = 1 << 25;

const PLACE: u64 = 4;

const ABSENCES: u64 = 16 << 20;
