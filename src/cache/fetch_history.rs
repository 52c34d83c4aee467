//! Which keys were fetched lately: the doorkeeper of the store's `main` segment.
//!
//! A table of fixed size. A key has one place in it and leaves its mark there, over that of another, so nothing
//! is ever cleared. Two keys of one place and one mark would be taken for each other, which one in four
//! thousand million pairs of a place is; that costs nothing but a try to be admitted.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use super::key::CacheKey;

#[derive(Debug)]
pub(super) struct FetchHistory {
    // Zeros, which take no memory before they are written to. The lock is held for one exchange, and
    // only after a fetch.
    marks: Mutex<Vec<u32>>,
    // Keyed anew in each process, so that no caller can choose names for one place.
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
    pub(super) fn note(&self, key: &CacheKey) -> bool {
        let hash = self.hasher.hash_one(key);
        // The upper half is the mark, the lower one the place.
        let [low, high] = [hash, hash >> 32].map(|half| half & u64::from(u32::MAX));
        let mark = u32::try_from(high).expect("half of 64 bits are 32").max(1);
        let place = usize::try_from(low).expect("a pointer has at least 32 bits");
        // Nothing that holds it can panic half-way.
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place.checked_rem(marks.len());
        let place = place.and_then(|place| marks.get_mut(place));
        place.is_some_and(|place| std::mem::replace(place, mark) == mark)
    }
}

/// The mark of a place that no key has had.
const EMPTY: u32 = 0;
