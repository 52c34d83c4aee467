//! Which keys were fetched lately: a key goes in, whether it was here before comes out.
//!
//! A table of fixed size. Each key has one place in it and leaves its mark there, over that of whoever
//! had the place before; so nothing is ever cleared, and of a flood of keys each overwrites another.
//! Two keys of one place and one mark would be taken for each other, which one in four thousand million
//! pairs of a place is; it costs nothing but a try to be kept.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use super::key::Key;

/// The marks of keys.
#[derive(Debug)]
pub(super) struct Seen {
    marks: Box<[AtomicU32]>,
    // Keyed anew in each process, so that nobody can choose names for one place.
    hasher: RandomState,
}

impl Seen {
    pub(super) fn new(places: usize) -> Self {
        Self {
            marks: (0..places).map(|_| AtomicU32::new(NOBODY)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Whether `key` was the last one in its place; from now on it is.
    pub(super) fn again(&self, key: &Key) -> bool {
        let hash = self.hasher.hash_one(key);
        // The upper half is the mark, the lower one the place.
        let mark = u32::try_from(hash >> 32).unwrap_or_default().max(1);
        let place = usize::try_from(hash & u64::from(u32::MAX)).unwrap_or_default();
        let place = place.checked_rem(self.marks.len());
        let place = place.and_then(|place| self.marks.get(place));
        place.is_some_and(|place| place.swap(mark, Ordering::Relaxed) == mark)
    }
}

/// The mark of a place that nobody has had.
const NOBODY: u32 = 0;
