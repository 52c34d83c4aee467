//! Which keys were fetched lately: a key goes in, whether it was here before comes out.
//!
//! A table of fixed size. Each key has one place in it and leaves its mark there, over that of whoever
//! had the place before; so nothing is ever cleared, and of a flood of keys each overwrites another.
//! Two keys of one place and one mark would be taken for each other, which one in four thousand million
//! pairs of a place is; it costs nothing but a try to be kept.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use super::key::Key;

/// The marks of keys.
#[derive(Debug)]
pub(super) struct FetchHistory {
    // Zeros, which take no memory before they are written to. The lock is held for one exchange, and
    // only after a fetch.
    marks: Mutex<Vec<u32>>,
    // Keyed anew in each process, so that nobody can choose names for one place.
    hasher: RandomState,
}

impl FetchHistory {
    pub(super) fn new(places: usize) -> Self {
        Self {
            marks: Mutex::new(vec![EMPTY; places]),
            hasher: RandomState::new(),
        }
    }

    /// Whether `key` was the last one in its place; from now on it is.
    pub(super) fn note(&self, key: &Key) -> bool {
        let hash = self.hasher.hash_one(key);
        // The upper half is the mark, the lower one the place.
        let mark = u32::try_from(hash >> 32).unwrap_or_default().max(1);
        let place = usize::try_from(hash & u64::from(u32::MAX)).unwrap_or_default();
        // Nothing that holds it can panic half-way.
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place.checked_rem(marks.len());
        let place = place.and_then(|place| marks.get_mut(place));
        place.is_some_and(|place| std::mem::replace(place, mark) == mark)
    }
}

/// The mark of a place that nobody has had.
const EMPTY: u32 = 0;
