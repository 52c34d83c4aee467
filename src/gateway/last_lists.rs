//! The last list of each user, as far as it is compared: the record of a fetch says which serial numbers have
//! appeared and vanished since the fetch before.
//!
//! Apart from the cache, which forgets a list after minutes and when it is purged. Bounded in bytes; of a list
//! that was evicted, or that an earlier process has fetched, every serial number has appeared.

use std::cmp::Ordering;
use std::sync::Arc;

use ahash::RandomState;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde::Deserialize;
use uuid::Uuid;

use crate::atlas::{CertQuery, CertificateList, Timestamp};
use crate::audit::ListTag;
use crate::cache::{FetchRequest, Tag};
use crate::upstream::{FetchError, Fetched, Verdict};

/// The last list of each user of each project.
#[derive(Debug)]
pub(crate) struct LastLists(Cache<CertQuery, Arc<LastList>, RandomState>);

/// What a fetch has found.
#[derive(Debug)]
struct LastList {
    fill_id: Uuid,
    tag: Tag,
    /// In ascending order.
    serials: Arc<[Serial]>,
}

/// A certificate, as far as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Serial {
    /// Atlas's have 63 bits.
    id: i64,
    not_after: Timestamp,
}

/// What a fetch's record says of its list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The list's tag.
    pub(super) list: Option<ListTag>,
    /// Which fetch it is compared with.
    pub(super) before: Option<Uuid>,
    pub(super) serials: SerialChanges,
}

/// Which serial numbers are in one of two lists only, each in ascending order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SerialChanges {
    /// In the second.
    pub(super) appeared: Vec<i64>,
    /// They have left the first before they expired.
    pub(super) vanished: Vec<i64>,
    /// They have expired since the first.
    pub(super) expired: Vec<i64>,
}

impl Changes {
    /// Whether the list is another one than that of the fetch before. Without one before it is not known.
    pub(super) fn is_any(&self) -> bool {
        let SerialChanges {
            appeared, vanished, ..
        } = &self.serials;
        self.before.is_some() && !(appeared.is_empty() && vanished.is_empty())
    }
}

impl Default for LastLists {
    fn default() -> Self {
        let weigher = |query: &CertQuery, last: &Arc<LastList>| {
            let name = query.username.as_str().len();
            let weight = OVERHEAD + name + size_of_val(&*last.serials);
            u32::try_from(weight).expect("a list is smaller than 4 GiB")
        };
        let lists = Cache::builder()
            .max_capacity(MOST_BYTES)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(weigher)
            .build_with_hasher(RandomState::new());
        Self(lists)
    }
}

impl LastLists {
    /// Compares what was `fetched` until `now` with the fetch before, and remembers it for the next one.
    pub(super) fn compare(
        &self,
        request: &FetchRequest,
        fetched: &Result<Fetched, FetchError>,
        now: Timestamp,
    ) -> Changes {
        let nothing = CertificateList::default();
        let list = match fetched {
            Ok(fetched) => &fetched.list,
            // There is no such user any more.
            Err(error) if error.verdict() == Verdict::Missing => &nothing,
            // Nothing was learnt.
            Err(_) => return Changes::default(),
        };
        let before = self.0.get(&request.query);
        if fetched.is_err() && before.is_none() {
            // Names of no user must not evict those of users.
            return Changes::default();
        }
        let tag = Tag::of(list.unexpired(now));
        let mut changes = Changes {
            list: fetched.is_ok().then(|| *tag.as_bytes()),
            before: before.as_ref().map(|before| before.fill_id),
            ..Changes::default()
        };
        let serials = match &before {
            // The very same certificates need not be read.
            Some(before) if before.tag == tag => Arc::clone(&before.serials),
            _ => {
                let serials = serials(list, now);
                let known = before.as_ref().map(|before| &*before.serials);
                let known = known.unwrap_or(&[]);
                changes.serials = compare(known, &serials, now);
                serials
            }
        };
        let fill_id = request.fill_id.uuid();
        let this = LastList {
            fill_id,
            tag,
            serials,
        };
        self.0.insert(request.query.clone(), Arc::new(this));
        changes
    }
}

/// The serial numbers of what has not expired `now`, in ascending order.
fn serials(list: &CertificateList, now: Timestamp) -> Arc<[Serial]> {
    #[derive(Deserialize)]
    struct SerialNumber {
        #[serde(rename = "_id")]
        id: i64,
    }
    let mut serials: Vec<Serial> = list
        .unexpired(now)
        .filter_map(|certificate| {
            // One with another number is in the list, and not among these.
            let read: SerialNumber = serde_json::from_str(certificate.json).ok()?;
            Some(Serial {
                id: read.id,
                not_after: certificate.not_after,
            })
        })
        .collect();
    serials.sort_unstable();
    serials.into()
}

/// Compares two lists' serial numbers, each in ascending order.
fn compare(before: &[Serial], after: &[Serial], now: Timestamp) -> SerialChanges {
    let mut changes = SerialChanges::default();
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (Some(old), Some(new)) => old.id.cmp(&new.id),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return changes,
        };
        // What is in both is taken out of both.
        let old = before.next_if(|_| order.is_le());
        let new = after.next_if(|_| order.is_ge());
        match (old, new) {
            (Some(old), None) if old.not_after > now => changes.vanished.push(old.id),
            (Some(old), None) => changes.expired.push(old.id),
            (None, Some(new)) => changes.appeared.push(new.id),
            _ => {}
        }
    }
}

const MOST_BYTES: u64 = 4 << 20;
/// What a list takes besides its name and its serial numbers.
const OVERHEAD: usize = 480;

#[cfg(test)]
mod tests {
    use super::*;

    /// Certificates of these serial numbers, each with the second at which it expires.
    fn of(serials: &[(i64, i64)]) -> Vec<Serial> {
        let serial = |(id, seconds): &(i64, i64)| Serial {
            id: *id,
            not_after: Timestamp::from_seconds(*seconds),
        };
        serials.iter().map(serial).collect()
    }

    #[test]
    fn what_is_in_one_list_only_has_appeared_or_vanished() {
        let big = 1 << 62;
        for (before, after, appeared, vanished, expired) in [
            (&[][..], &[][..], &[][..], &[][..], &[][..]),
            (&[], &[(1, 99), (big, 99)], &[1, big], &[], &[]),
            (&[(1, 99), (big, 99)], &[], &[], &[1, big], &[]),
            (&[(1, 99), (3, 99)], &[(1, 99), (3, 99)], &[], &[], &[]),
            (&[(1, 99), (3, 99)], &[(2, 99), (3, 99)], &[2], &[1], &[]),
            (&[(2, 99)], &[(1, 99), (2, 99), (3, 99)], &[1, 3], &[], &[]),
            // Renewed under its old number.
            (&[(1, 20)], &[(1, 99)], &[], &[], &[]),
            // Expired before it was looked for again, or in that very second.
            (&[(1, 9), (2, 10), (3, 11)], &[], &[], &[3], &[1, 2]),
        ] {
            let found = compare(&of(before), &of(after), Timestamp::from_seconds(10));
            let expected = SerialChanges {
                appeared: appeared.to_vec(),
                vanished: vanished.to_vec(),
                expired: expired.to_vec(),
            };
            assert_eq!(found, expected);
        }
    }
}
