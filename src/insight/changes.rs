//! What has appeared and vanished between two lists of one user.

use std::cmp::Ordering;

use uuid::Uuid;

use super::certificate::KnownCertificate;
use crate::atlas::Timestamp;
use crate::audit::ListTag;

/// What a fetch's record says of its list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The list's tag.
    pub(crate) list: Option<ListTag>,
    /// Which fetch it is compared with.
    pub(crate) before: Option<Uuid>,
    pub(crate) serials: SerialChanges,
}

/// Which serial numbers are in one of two lists only, each in ascending order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SerialChanges {
    /// In the second.
    pub(crate) appeared: Vec<i64>,
    /// They have left the first before they expired.
    pub(crate) vanished: Vec<i64>,
    /// They have expired since the first.
    pub(crate) expired: Vec<i64>,
}

impl Changes {
    /// Whether the list is another one than that of the fetch before. Without one before it is not known.
    pub(crate) fn is_any(&self) -> bool {
        let SerialChanges {
            appeared, vanished, ..
        } = &self.serials;
        self.before.is_some() && !(appeared.is_empty() && vanished.is_empty())
    }
}

/// Compares two lists' serial numbers, each in ascending order.
pub(super) fn compare(
    before: &[KnownCertificate],
    after: &[KnownCertificate],
    now: Timestamp,
) -> SerialChanges {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Certificates of these serial numbers, each with the second at which it expires.
    fn of(serials: &[(i64, i64)]) -> Vec<KnownCertificate> {
        let serial = |(id, seconds): &(i64, i64)| KnownCertificate {
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
