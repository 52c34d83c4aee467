//! Many pages, one list: the first page goes in, the pages still to read come out; all of them go in,
//! and a list of one moment comes out, or none. Pure.
//!
//! # How a list is proven to be of one moment
//!
//! A list on a single page came in a single answer, and needs no proof. For a longer one all pages are
//! read, and then, after the last answer of this first reading, read once more. Suppose that both
//! readings agree, that no certificate stands there twice, and that there are as many as `totalCount`
//! said in the last answer of the first reading. A revoked certificate does not come back, so each
//! certificate that both readings saw was there at the moment of that answer; and as there were no more
//! than those, the list is exactly what Atlas held at that moment (G2).
//!
//! Reading only the first page again, which costs one call instead of one per page, would miss a
//! revocation and an issue that both fall behind the first page.

use std::collections::HashSet;

use ahash::RandomState;

use super::page::LONGEST_PAGE;
use super::page::Page;
use crate::atlas::Certificate;
use crate::atlas::CertificateList;

/// What is left to read after the first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The page contradicts itself.
    Changed,
    /// Nothing.
    Complete,
    /// The pages from 2 to `last`.
    Rest {
        /// The last of them. If all others are full this one is short or empty, and proves the end.
        last: u64,
        /// Whether to look at the second page before asking for the others: the first one was short,
        /// so Atlas either gives fewer items than asked for, or its count is wrong.
        doubtful: bool,
    },
    /// More pages than we ever read.
    TooLong,
}

/// What the first page says about the others; at most `most` pages may hold certificates.
pub(crate) fn plan(first: &Page, most: u64) -> Plan {
    let count = length(first);
    let Some(full) = first.total.checked_div(count) else {
        return if first.total == 0 {
            Plan::Complete
        } else {
            Plan::Changed
        };
    };
    let doubtful = first.items.len() < LONGEST_PAGE;
    if first.total < count {
        Plan::Changed
    } else if first.total == count && doubtful {
        Plan::Complete
    } else if first.total.div_ceil(count) > most {
        Plan::TooLong
    } else {
        // Atlas: "The total number is an estimate and may not be exact." So we read up to a page that
        // is short, or up to an empty one if the count says that the last one is full.
        Plan::Rest {
            last: full + 1,
            doubtful,
        }
    }
}

/// Whether these pages can be one list: all counts agree with each other and with what is there, and
/// no certificate stands there twice.
pub(crate) fn fit_together(pages: &[Page]) -> bool {
    let Some(first) = pages.first() else {
        return false;
    };
    let count: u64 = pages.iter().map(length).sum();
    if count != first.total || pages.iter().any(|page| page.total != first.total) {
        return false;
    }
    let mut items = pages.iter().flat_map(|page| &page.items);
    let count = usize::try_from(count).unwrap_or_default();
    if count <= FEW {
        // Most lists hold a certificate or two, for which a set costs more than it spares.
        return items.clone().enumerate().all(|(at, item)| {
            let mut others = items.clone().skip(at + 1);
            others.all(|other| other.id != item.id)
        });
    }
    let mut seen = HashSet::with_capacity_and_hasher(count, RandomState::new());
    items.all(|item| seen.insert(item.id))
}

/// All pages as one list; `None` if it is larger than a list can be.
pub(crate) fn join(pages: &[Page]) -> Option<CertificateList> {
    let items = pages.iter().flat_map(|page| &page.items);
    CertificateList::join(items.map(|item| Certificate {
        // The body was checked to be UTF-8 before it was cut.
        json: str::from_utf8(&item.text).unwrap_or_default(),
        not_after: item.not_after,
    }))
}

fn length(page: &Page) -> u64 {
    u64::try_from(page.items.len()).unwrap_or(u64::MAX)
}

/// So many are compared with each other.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::page::Item;
    use super::*;
    use crate::atlas::Timestamp;

    fn page(ids: std::ops::Range<i128>, total: u64) -> Page {
        let items = ids.map(|id| Item {
            id,
            not_after: Timestamp::from_seconds(1),
            text: Bytes::from(format!("{{\"_id\":{id}}}")),
        });
        Page {
            items: items.collect(),
            total,
        }
    }

    #[test]
    fn the_first_page_says_what_is_left_to_read() {
        let rest = |last, doubtful| Plan::Rest { last, doubtful };
        for (items, total, expected) in [
            (0, 0, Plan::Complete),
            (0, 1, Plan::Changed),
            (3, 2, Plan::Changed),
            (3, 3, Plan::Complete),
            (500, 500, rest(2, false)),
            (500, 501, rest(2, false)),
            (500, 1_203, rest(3, false)),
            (500, 9_999, rest(20, false)),
            (500, 10_000, rest(21, false)),
            (500, 10_001, Plan::TooLong),
            (100, 203, rest(3, true)),
            (100, 300, rest(4, true)),
            (2, 3, rest(2, true)),
            (2, 1_000_000_000, Plan::TooLong),
            (500, u64::MAX, Plan::TooLong),
        ] {
            assert_eq!(
                plan(&page(0..items, total), 20),
                expected,
                "{items} of {total}"
            );
        }
    }

    #[test]
    fn pages_fit_together_only_if_every_count_agrees_and_nothing_stands_there_twice() {
        assert!(fit_together(&[page(0..500, 503), page(500..503, 503)]));
        assert!(fit_together(&[page(0..500, 500), page(0..0, 500)]));
        assert!(fit_together(&[page(0..0, 0)]));
        assert!(!fit_together(&[]));
        assert!(!fit_together(&[page(0..500, 503), page(500..502, 503)]));
        assert!(!fit_together(&[page(0..500, 503), page(499..502, 503)]));
        assert!(!fit_together(&[page(0..2, 4), page(1..3, 4)]));
        assert!(fit_together(&[page(0..2, 4), page(2..4, 4)]));
        assert!(!fit_together(&[page(0..500, 503), page(500..503, 504)]));
    }

    #[test]
    fn the_list_holds_every_page_in_order() {
        let list = join(&[page(0..2, 3), page(2..3, 3)]).unwrap();
        assert_eq!(&list.joined()[..], br#"{"_id":0},{"_id":1},{"_id":2}"#);
    }
}
