//! A moment goes in; an id that nothing else has, and that sorts by time, comes out.

use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use uuid::{Builder, Uuid};

use crate::atlas::Timestamp;

/// Makes ids: UUIDs of version 7 (RFC 9562, section 5.7).
///
/// `Uuid::now_v7` asks the kernel for random bytes each time, and the clock once more: half as many
/// system calls again as a whole request needs. Here the moment is the caller's own, down to its
/// microsecond, and the last 64 bits are a keyed hash of a counter. The key is random, so that replicas
/// and restarts do not meet and nobody can tell from an id how many there were.
#[derive(Debug, Default)]
pub struct Ids {
    key: RandomState,
    made: AtomicU64,
}

impl Ids {
    /// The id of what happens at `time`.
    pub fn at(&self, time: Timestamp) -> Uuid {
        let micros = u64::try_from(time.micros()).unwrap_or(0);
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        // The twelve bits behind the milliseconds hold the microseconds below them.
        let fraction = u16::try_from(micros % 1_000).unwrap_or(0);
        let mut tail = [0; 10];
        let (sorting, differing) = tail.split_at_mut(2);
        sorting.copy_from_slice(&fraction.to_be_bytes());
        differing.copy_from_slice(&self.key.hash_one(made).to_be_bytes());
        Builder::from_unix_timestamp_millis(micros / 1_000, &tail).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_of_one_moment_differ_and_those_of_later_ones_sort_behind_them() {
        let ids = Ids::default();
        let moments = [
            1_790_000_000_000_000,
            1_790_000_000_000_999,
            1_790_000_000_001_000,
        ];
        let mut all = Vec::new();
        for moment in moments {
            let of_moment: BTreeSet<Uuid> = (0..10_000)
                .map(|_| ids.at(Timestamp::from_micros(moment)))
                .collect();
            assert_eq!(of_moment.len(), 10_000);
            all.extend(of_moment);
        }
        assert!(all.is_sorted());
        for id in all {
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        }
    }

    #[test]
    fn two_processes_do_not_make_the_same_ids() {
        let moment = Timestamp::from_micros(1_790_000_000_000_000);
        let one = Ids::default();
        let other = Ids::default();
        assert_ne!(one.at(moment), other.at(moment));
    }
}
