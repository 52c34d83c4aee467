//! Which keys are remembered, in the order of their projects: a purge costs what it purges.
//!
//! The rooms of the store are hash tables, and to find the lists of one project in them is to walk
//! through everybody's. Here the keys stand in order, project before name, so those of a project stand
//! side by side, and any walk can be done in slices: the lock is held for one slice only.
//!
//! **Every key in the store is in the index, not the reverse.** A room may displace an entry at any time
//! and says nothing of it, so the index holds some keys that are gone. Whoever asks the store for such a
//! key finds nothing; a purge counts what was there. Two rules keep the first half true:
//!
//! - a key is entered, and its entry put into the store, under one lock ([`Index::enter`]);
//! - a key is taken out only under that lock, and only if the store does not know it.
//!
//! What is gone is taken out by whoever enters a key: each looks at the next two, round and round. So the
//! keys that are gone are never more than those that came within one round.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::key::IndexedKey;
use crate::atlas::{CertQuery, ProjectId};

/// The keys in the store, and some that were.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    /// In one piece each: the digits of the project and the name behind them.
    ordered: BTreeSet<IndexKey>,
    /// The last key that was looked at.
    hand: IndexKey,
}

/// The digits of a project, and a name.
pub(super) type IndexKey = Box<[u8]>;

impl Index {
    /// Enters a key and lets `put` put its entry into the store. `is_known` says whether the store knows
    /// a key.
    pub(super) fn enter(
        &self,
        query: &CertQuery,
        is_known: impl Fn(&IndexedKey<'_>) -> bool,
        put: impl FnOnce(),
    ) {
        let mut keys = self.lock();
        keys.ordered.insert(IndexedKey::of(query).index_key());
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
    pub(super) fn clean(&self, gone: &[IndexKey], is_known: impl Fn(&IndexedKey<'_>) -> bool) {
        let mut keys = self.lock();
        for key in gone {
            keys.drop_unless(key, &is_known);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().ordered.len()
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // A panic in `put` leaves a key too many at most, which is taken out like any other.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    fn look_at_next(&mut self, is_known: &impl Fn(&IndexedKey<'_>) -> bool) {
        let from = Bound::Excluded(&*self.hand);
        let mut later = self.ordered.range::<[u8], _>((from, Bound::Unbounded));
        // Behind the last one comes the first one again.
        self.hand = later.next().cloned().unwrap_or_default();
        let hand = std::mem::take(&mut self.hand);
        self.drop_unless(&hand, is_known);
        self.hand = hand;
    }

    fn drop_unless(&mut self, key: &IndexKey, is_known: &impl Fn(&IndexedKey<'_>) -> bool) {
        if !IndexedKey::read(key).is_some_and(|stored| is_known(&stored)) {
            self.ordered.remove(key);
        }
    }
}

/// How many keys a walk takes at a time.
const SLICE: usize = 256;
/// Two for one that comes: so the index shrinks while keys are gone, and a round ends.
const LOOKED_AT: usize = 2;
