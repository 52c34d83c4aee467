//! What was verified once: a token's bytes go in, its [`Caller`] comes out as long as everything that
//! made it one still holds (G14).
//!
//! A hit costs one hash over the token's tail, one comparison of all its bytes and no lock, where
//! checking an RSA signature costs a hundred times that. The tail is a valid signature, so it is as
//! good as random; the seed is ours, so nobody can aim at a slot. Slots stand in rows of four: a token
//! may take any slot of its row, the emptiest first. What is refused is never remembered, so strangers
//! cannot push anybody out.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ahash::RandomState;
use arc_swap::ArcSwapOption;

use super::key_set::KeySet;
use super::{Caller, Thumbprint};
use crate::clock::Moment;

/// A bounded memory of verified tokens.
pub(super) struct Memory {
    seed: RandomState,
    slots: Box<[Slot]>,
    bytes: AtomicUsize,
    limit: usize,
    hand: AtomicUsize,
}

/// A verified token and what its verification rests on.
pub(super) struct Remembered {
    /// The token's full bytes.
    pub(super) token: Box<[u8]>,
    /// Who it makes the caller.
    pub(super) caller: Arc<Caller>,
    /// The certificate that whoever shows it must hold.
    pub(super) bound_to: Option<Thumbprint>,
    /// The keys that verified it.
    pub(super) keys: Arc<KeySet>,
    /// The settings that it was judged by.
    pub(super) generation: u64,
    /// Whether it was asked for since the hand last passed.
    pub(super) used: AtomicBool,
}

type Slot = ArcSwapOption<Remembered>;

impl Memory {
    /// A memory of `rows` times four tokens and at most about `limit` bytes.
    pub(super) fn new(rows: usize, limit: usize) -> Self {
        Self {
            seed: RandomState::new(),
            slots: (0..rows.next_power_of_two() * ROW)
                .map(|_| Slot::empty())
                .collect(),
            bytes: AtomicUsize::new(0),
            limit,
            hand: AtomicUsize::new(0),
        }
    }

    /// The caller of `token`, if it was verified under `generation`, is still good, and is shown with the
    /// certificate that it is bound to.
    pub(super) fn recall(
        &self,
        token: &[u8],
        holder: Option<&Thumbprint>,
        generation: u64,
        now: Moment,
    ) -> Option<Arc<Caller>> {
        for slot in self.row(token) {
            let slot = slot.load();
            if let Some(remembered) = &*slot
                && *remembered.token == *token
            {
                if !remembered.holds(generation, now) || !remembered.is_for(holder) {
                    return None;
                }
                if !remembered.used.load(Ordering::Relaxed) {
                    remembered.used.store(true, Ordering::Relaxed);
                }
                return Some(Arc::clone(&remembered.caller));
            }
        }
        None
    }

    /// Keeps a verified token.
    pub(super) fn remember(&self, remembered: Remembered, now: Moment) {
        let row = self.row(&remembered.token);
        let Some(slot) = choose(row, &remembered, now) else {
            return;
        };
        self.bytes.fetch_add(remembered.weight(), Ordering::Relaxed);
        self.forget(slot.swap(Some(Arc::new(remembered))).as_deref());
        while self.bytes.load(Ordering::Relaxed) > self.limit {
            let at = self.hand.fetch_add(1, Ordering::Relaxed) % self.slots.len();
            if let Some(slot) = self.slots.get(at) {
                self.forget(slot.swap(None).as_deref());
            }
        }
    }

    /// Lets go of everything that no longer holds.
    pub(super) fn sweep(&self, generation: u64, now: Moment) {
        for slot in &self.slots {
            let present = slot.load();
            if let Some(remembered) = &*present
                && !remembered.holds(generation, now)
            {
                let old = slot.compare_and_swap(&*present, None);
                if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, remembered)) {
                    self.forget(old.as_deref());
                }
            }
        }
    }

    fn forget(&self, old: Option<&Remembered>) {
        if let Some(old) = old {
            self.bytes.fetch_sub(old.weight(), Ordering::Relaxed);
        }
    }

    fn row(&self, token: &[u8]) -> &[Slot] {
        let tail = token.len().saturating_sub(TAIL);
        let mut hasher = self.seed.build_hasher();
        hasher.write(token.get(tail..).unwrap_or_default());
        let rows = self.slots.as_chunks::<ROW>().0;
        // The number of rows is a power of two, and a shorter word keeps the low bits.
        let hash = usize::try_from(hasher.finish() & u64::from(u32::MAX)).unwrap_or(0);
        rows.get(hash & (rows.len() - 1)).map_or(&[], |row| row)
    }
}

impl Remembered {
    fn holds(&self, generation: u64, now: Moment) -> bool {
        self.generation == generation && now.wall < self.caller.expires_at && self.keys.holds(now)
    }

    fn is_for(&self, holder: Option<&Thumbprint>) -> bool {
        self.bound_to.is_none() || self.bound_to.as_ref() == holder
    }

    fn weight(&self) -> usize {
        let caller = &self.caller;
        let texts = [&caller.client_id, &caller.token_id, &caller.key_id]
            .into_iter()
            .flatten()
            .chain(&caller.scopes)
            .map(|text| text.len() + size_of::<Box<str>>());
        OVERHEAD + self.token.len() + caller.subject.len() + texts.sum::<usize>()
    }
}

/// The slot of a row that is worth least: the token's own, an empty one, one whose token no longer
/// holds, one that nobody asked for lately, or else the first.
fn choose<'a>(row: &'a [Slot], remembered: &Remembered, now: Moment) -> Option<&'a Slot> {
    let chosen = row.iter().min_by_key(|slot| match &*slot.load() {
        Some(other) if other.token == remembered.token => 0,
        None => 1,
        Some(other) if !other.holds(remembered.generation, now) => 2,
        Some(other) if !other.used.load(Ordering::Relaxed) => 3,
        Some(_) => 4,
    });
    for slot in row {
        if let Some(other) = &*slot.load() {
            other.used.store(false, Ordering::Relaxed);
        }
    }
    chosen
}

/// Slots that share a cache line of pointers.
const ROW: usize = 4;

/// Twelve bytes of a signature, as base64: more than a hash can hold.
const TAIL: usize = 16;

/// What an entry weighs besides its texts: two counted boxes and the allocator's own bytes.
const OVERHEAD: usize = size_of::<Remembered>() + size_of::<Caller>() + 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::RuleListNumber;
    use super::*;
    use crate::atlas::Timestamp;

    fn at(seconds: i64) -> Moment {
        Moment {
            elapsed: Duration::ZERO,
            wall: Timestamp::from_seconds(seconds),
        }
    }

    fn remembered(token: &str, ends: i64) -> Remembered {
        let caller = Caller {
            subject: Box::from(token),
            issuer: Arc::from("https://idp.test"),
            client_id: None,
            token_id: None,
            key_id: None,
            scopes: Box::default(),
            expires_at: Timestamp::from_seconds(ends),
            rule_list: RuleListNumber::default(),
        };
        Remembered {
            token: Box::from(token.as_bytes()),
            caller: Arc::new(caller),
            bound_to: None,
            keys: Arc::new(KeySet::for_tests(Vec::new())),
            generation: 1,
            used: AtomicBool::new(false),
        }
    }

    #[test]
    fn a_token_is_recalled_whole_by_its_generation_and_until_it_ends() {
        let memory = Memory::new(4, 1 << 20);
        let long = "t".repeat(200);
        memory.remember(remembered(&long, 10), at(0));
        assert!(memory.recall(long.as_bytes(), None, 1, at(9)).is_some());
        assert!(memory.recall(long.as_bytes(), None, 1, at(10)).is_none());
        assert!(memory.recall(long.as_bytes(), None, 2, at(9)).is_none());
        // Same tail, other head.
        assert!(
            memory
                .recall(format!("x{long}").as_bytes(), None, 1, at(9))
                .is_none()
        );
        assert!(
            memory
                .recall(long.trim_start_matches("tt").as_bytes(), None, 1, at(9))
                .is_none()
        );
        assert!(memory.recall(b"", None, 1, at(9)).is_none());
    }

    #[test]
    fn memory_stays_within_its_limit_and_counts_what_it_lets_go() {
        let memory = Memory::new(1_024, 100_000);
        for number in 0..10_000 {
            memory.remember(remembered(&format!("token-{number}"), 10), at(0));
            assert!(memory.bytes.load(Ordering::Relaxed) <= 100_000);
        }
        let kept = (0..10_000)
            .filter(|number| {
                memory
                    .recall(format!("token-{number}").as_bytes(), None, 1, at(0))
                    .is_some()
            })
            .count();
        assert!(kept > 200, "{kept}");
        memory.sweep(1, at(10));
        assert_eq!(memory.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_row_that_is_full_lets_go_of_what_nobody_asked_for() {
        let memory = Memory::new(1, 1 << 20);
        for token in ["a", "b", "c", "d"] {
            memory.remember(remembered(token, 10), at(0));
        }
        for token in ["a", "b", "d"] {
            assert!(memory.recall(token.as_bytes(), None, 1, at(0)).is_some());
        }
        memory.remember(remembered("e", 10), at(0));
        let known = ["a", "b", "c", "d", "e"]
            .map(|token| memory.recall(token.as_bytes(), None, 1, at(0)).is_some());
        assert_eq!(known, [true, true, false, true, true]);
        // What has ended goes first, even if it was asked for.
        memory.remember(remembered("f", 20), at(10));
        assert!(memory.recall(b"f", None, 1, at(10)).is_some());
    }
}
