//! The keys of the cache, and an index of them in the order of their projects, so that a purge costs what it
//! purges.
//!
//! The segments of the store are hash tables: to find the lists of one project in them is to look at all lists.
//! In the index those of a project stand side by side, and are taken in slices, so that the lock is held for
//! one slice only.
//!
//! **Every key in the store is in the index, not the reverse.** A segment may evict an entry at any time and
//! says nothing of it, so the index holds some keys that are gone; a purge counts what was there. Two rules keep
//! the first half true:
//!
//! - a key is entered, and its entry put into the store, under one lock ([`KeyIndex::enter`]);
//! - a key is taken out only under that lock, and only if the store does not know it.
//!
//! Each entering looks at the next two keys, round and round, and takes out those that are gone. So they are
//! never more than those that came within one round.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use equivalent::Equivalent;

use crate::atlas::{CertQuery, ProjectId};

/// Says of a project and a user whether a purge leaves theirs as it is.
pub(super) type Stays<'s> = dyn Fn(&str, &str) -> bool + 's;

/// A key as the segments hold it, in one piece: a small list does not cost three allocations for its name.
/// Equal keys are equal queries and the reverse (C13).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CacheKey {
    project: ProjectId,
    username: KeptName,
}

/// A username, in place where it is short, as nearly all are.
#[derive(Debug)]
enum KeptName {
    Long(Box<str>),
    Short { length: u8, bytes: [u8; SHORT] },
}

/// A key that is looked for; hashes like its [`CacheKey`].
#[derive(Clone, Copy)]
pub(super) struct KeyRef<'k> {
    project: ProjectId,
    name: &'k [u8],
}

/// A key as the index holds it: the digits of the project and the name behind them.
pub(super) type IndexKey = Box<[u8]>;

/// The keys in the store, and some that were.
#[derive(Debug, Default)]
pub(super) struct KeyIndex(Mutex<OrderedKeys>);

#[derive(Debug, Default)]
struct OrderedKeys {
    ordered: BTreeSet<IndexKey>,
    /// The last key that was looked at.
    hand: IndexKey,
}

impl CacheKey {
    pub(super) fn of(query: &CertQuery) -> Self {
        let name = query.username.as_str();
        let mut bytes = [0; SHORT];
        let username = match bytes.get_mut(..name.len()) {
            Some(place) => {
                place.copy_from_slice(name.as_bytes());
                let length =
                    u8::try_from(name.len()).expect("a short name has fewer than 256 bytes");
                KeptName::Short { length, bytes }
            }
            None => KeptName::Long(name.into()),
        };
        Self {
            project: query.project,
            username,
        }
    }

    pub(super) fn borrowed(&self) -> KeyRef<'_> {
        KeyRef {
            project: self.project,
            name: self.username.bytes(),
        }
    }

    /// What the key is of.
    pub(super) fn query(&self) -> CertQuery {
        let name = str::from_utf8(self.username.bytes()).expect("a username is UTF-8");
        CertQuery {
            project: self.project,
            username: name.parse().expect("a key was made of a username"),
        }
    }

    /// How many bytes stand elsewhere.
    pub(super) fn elsewhere(&self) -> usize {
        match &self.username {
            KeptName::Long(name) => name.len(),
            KeptName::Short { .. } => 0,
        }
    }
}

impl KeptName {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Long(name) => name.as_bytes(),
            Self::Short { length, bytes } => bytes
                .get(..usize::from(*length))
                .expect("a short name is within its bytes"),
        }
    }
}

impl PartialEq for KeptName {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for KeptName {}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl<'k> KeyRef<'k> {
    pub(super) fn of(query: &'k CertQuery) -> Self {
        Self {
            project: query.project,
            name: query.username.as_str().as_bytes(),
        }
    }

    /// Reads what [`KeyRef::index_key`] has written; `None` for anything else.
    pub(super) fn read(key: &'k [u8]) -> Option<Self> {
        let (digits, name) = key.split_at_checked(DIGITS)?;
        Some(Self {
            project: str::from_utf8(digits).ok()?.parse().ok()?,
            name,
        })
    }

    /// Whether the key is one of which `stays` says so.
    pub(super) fn is_of(&self, stays: &Stays<'_>) -> bool {
        let name = str::from_utf8(self.name).expect("a username is UTF-8");
        stays(self.project.as_str(), name)
    }

    pub(super) fn index_key(&self) -> IndexKey {
        [self.project.digits(), self.name].concat().into()
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.project.hash(state);
        self.name.hash(state);
    }
}

impl Equivalent<CacheKey> for KeyRef<'_> {
    fn equivalent(&self, key: &CacheKey) -> bool {
        self.project == key.project && self.name == key.username.bytes()
    }
}

impl KeyIndex {
    /// Enters a key and lets `put` put its entry into the store. `is_known` says whether the store knows
    /// a key.
    pub(super) fn enter(
        &self,
        query: &CertQuery,
        is_known: impl Fn(&KeyRef<'_>) -> bool,
        put: impl FnOnce(),
    ) {
        let mut keys = self.lock();
        keys.ordered.insert(KeyRef::of(query).index_key());
        put();
        for _ in 0..LOOKED_AT {
            keys.look_at_next(&is_known);
        }
    }

    /// Some keys of one project, or of all: the first ones after `last`, in order.
    pub(super) fn slice(
        &self,
        project: Option<ProjectId>,
        last: Option<&IndexKey>,
    ) -> Vec<IndexKey> {
        let keys = self.lock();
        let prefix: &[u8] = project.as_ref().map_or(&[], |project| project.digits());
        let from = last.map_or(Bound::Included(prefix), |last| Bound::Excluded(&**last));
        keys.ordered
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(|key| key.starts_with(prefix))
            .take(SLICE)
            .cloned()
            .collect()
    }

    /// Takes out those of `gone` that the store does not know.
    pub(super) fn clean(&self, gone: &[IndexKey], is_known: impl Fn(&KeyRef<'_>) -> bool) {
        let mut keys = self.lock();
        for key in gone {
            keys.drop_unless(key, &is_known);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().ordered.len()
    }

    fn lock(&self) -> MutexGuard<'_, OrderedKeys> {
        // A panic in `put` leaves a key too many at most, which is taken out like any other.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OrderedKeys {
    fn look_at_next(&mut self, is_known: &impl Fn(&KeyRef<'_>) -> bool) {
        let from = Bound::Excluded(&*self.hand);
        let mut later = self.ordered.range::<[u8], _>((from, Bound::Unbounded));
        // Behind the last one comes the first one again.
        let hand = later.next().cloned().unwrap_or_default();
        self.drop_unless(&hand, is_known);
        self.hand = hand;
    }

    fn drop_unless(&mut self, key: &IndexKey, is_known: &impl Fn(&KeyRef<'_>) -> bool) {
        if !KeyRef::read(key).is_some_and(|stored| is_known(&stored)) {
            self.ordered.remove(key);
        }
    }
}

/// Of a project.
const DIGITS: usize = 24;
/// So that a key is 72 bytes, and its place in a segment 88.
const SHORT: usize = 46;
/// How many keys a purge takes at a time.
const SLICE: usize = 256;
/// Two for one that comes: so the index shrinks while keys are gone, and a round ends.
const LOOKED_AT: usize = 2;

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_found_by_its_query_and_by_no_other(
            one in "[a-b]{1,3}[é]{0,30}", other in "[a-b]{1,3}[é]{0,30}", same_project: bool,
        ) {
            let query = |name: &str, project: &str| CertQuery {
                project: project.parse().unwrap(),
                username: name.parse().unwrap(),
            };
            let first = "32b6e34b3d91647abb20e7b8";
            let second = if same_project { first } else { "32b6e34b3d91647abb20e7b9" };
            let (one, other) = (query(&one, first), query(&other, second));
            let (key, hasher) = (CacheKey::of(&one), RandomState::new());
            let index_key = key.borrowed().index_key();
            let stored = KeyRef::read(&index_key).unwrap();
            prop_assert!(stored.equivalent(&key));
            prop_assert_eq!(hasher.hash_one(&key), hasher.hash_one(stored));
            prop_assert_eq!(stored.equivalent(&CacheKey::of(&other)), one == other);
            prop_assert_eq!(&key.query(), &one);
            prop_assert_eq!(KeyRef::of(&one).index_key(), index_key.clone());
            prop_assert_eq!(hasher.hash_one(&key), hasher.hash_one(KeyRef::of(&one)));
            prop_assert_eq!(KeyRef::of(&other).equivalent(&key), one == other);
            prop_assert_eq!(CacheKey::of(&other) == key, one == other);
        }
    }

    #[test]
    fn a_key_is_no_larger_than_it_says() {
        assert_eq!(size_of::<CacheKey>(), 72);
    }
}
