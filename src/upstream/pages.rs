//! Pages of one list: which are still to be read, and whether all that were read are of one moment. Pure.
//!
//! # How a list is proven to be of one moment
//!
//! A list on a single page came in a single answer, and needs no proof. A longer one is read page after
//! page, and meanwhile certificates may be issued and revoked. Two things are known of Atlas: a revoked
//! certificate does not come back, and `createdAt` is one hour before a certificate was made.
//!
//! **One reading.** Let `t` be the `Date` of the answer with the first page, after which all others were
//! asked for. Suppose that
//!
//! - no certificate stands there twice,
//! - each one's `createdAt` is at or before `t` − 65 min, so it was made at or before `t` − 5 min, where
//!   the five minutes are for the clocks of Atlas's servers,
//! - and there are as many as the first page's `totalCount`.
//!
//! Each of them was there at `t`: it had been made by then, and it was seen at `t` or later, which it
//! could not have been had it been revoked before. And as Atlas counted no more than those at `t`, they
//! are the list at `t` (G2). This holds in whatever order Atlas pages. It costs one call a page.
//!
//! **Two readings.** A certificate that is younger, a count that differs (Atlas: "The total number is an
//! estimate and may not be exact"), a missing `createdAt` or `Date`: then nothing is proven, and all
//! pages are read once more. Suppose that both readings agree. Each certificate was seen before and after the
//! second reading's first page, so it was there at the moment of that page. If that page counts as many, they are
//! the list at that moment, in whatever order the pages were read.
//!
//! **Two readings, the first in order.** If it does not, because the count is an estimate, the next reading asks for
//! one page after the other, and the one behind it has to agree with it. Suppose that a certificate was there at the
//! moment between these two and is missing from both. The one in order did not see it, so it moved meanwhile from a
//! page that was still to be read to one that was read: to the front, because a certificate before it was revoked
//! that the reading shows, and the next cannot show. But they agree. (Pages that are read at once prove nothing by
//! this: a certificate that is issued may move another to the back, from a page still to be read to one that was
//! read, and be seen itself.)

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use ahash::RandomState;

use super::page::{AtlasPage, LONGEST_PAGE, PageItem};
use crate::atlas::{Certificate, CertificateList, Timestamp};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The pages contradict each other: the list changed while it was read.
    Changed,
    Complete(usize),
    Further(RangeInclusive<u64>),
    TooLong,
}

/// What the pages from the first one on say about those behind them; at most `most` pages may hold
/// certificates.
pub(crate) fn plan(pages: &[AtlasPage], most: u64) -> Plan {
    let Some((first, last)) = pages.first().zip(pages.last()) else {
        return Plan::Further(1..=1);
    };
    if first.items.is_empty() && first.has_next == Some(true) {
        return Plan::Changed;
    }
    if let Some(end) = end(pages) {
        let mut beyond = pages.iter().skip(end);
        return if beyond.all(|page| page.items.is_empty()) {
            Plan::Complete(end)
        } else {
            Plan::Changed
        };
    }
    let read = count(pages.len());
    let counted = first.total.div_ceil(length(first).max(1));
    let full = read == most && last.has_next == Some(true);
    if full || read > most || counted > most {
        return Plan::TooLong;
    }
    let next = read + 1;
    // One look before many: a short page with others behind it means that Atlas gives fewer items than
    // asked for, or that its count is wrong.
    let is_doubtful = read == 1 && first.items.len() < LONGEST_PAGE;
    let last = if is_doubtful { next } else { counted.max(next) };
    Plan::Further(next..=last)
}

/// With how many pages the list ends; `None` if it goes on behind them.
fn end(pages: &[AtlasPage]) -> Option<usize> {
    let first = pages.first()?;
    let mut held: u64 = 0;
    let end = pages.iter().position(|page| {
        let items = page.items.len();
        held += length(page);
        // An empty page ends every list, whatever its links say.
        items == 0
            || match page.has_next {
                Some(has_next) => !has_next,
                // Atlas always gives links. Should it not, a page ends the list that is shorter than
                // the first one, or short and with it the count is reached.
                None => items < first.items.len() || (items < LONGEST_PAGE && held >= first.total),
            }
    });
    end.map(|at| at + 1)
}

pub(crate) fn are_distinct(pages: &[AtlasPage]) -> bool {
    let mut items = items(pages);
    let count = items.clone().count();
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

pub(crate) fn are_as_counted(pages: &[AtlasPage]) -> bool {
    let held: u64 = pages.iter().map(length).sum();
    pages.first().is_some_and(|first| first.total == held)
}

/// Whether distinct certificates that were read once are the list at `date`, which the first answer
/// bears.
pub(crate) fn are_proven_by_creation(pages: &[AtlasPage], date: Option<Timestamp>) -> bool {
    let Some(latest) = date.map(|date| date.minus(BACKDATED + CLOCKS)) else {
        return false;
    };
    let is_old = |item: &PageItem| item.created_at.is_some_and(|created| created <= latest);
    are_as_counted(pages) && items(pages).all(is_old)
}

pub(crate) fn agree(one: &[AtlasPage], other: &[AtlasPage]) -> bool {
    items(one).eq(items(other))
}

pub(crate) fn items(pages: &[AtlasPage]) -> impl Iterator<Item = &PageItem> + Clone {
    pages.iter().flat_map(|page| &page.items)
}

/// All pages as one list; `None` if it is larger than a list can be.
pub(crate) fn join(pages: &[AtlasPage]) -> Option<CertificateList> {
    CertificateList::join(items(pages).map(|item| Certificate {
        json: str::from_utf8(&item.text).expect("cut from UTF-8 at its braces"),
        not_after: item.not_after.unwrap_or(Timestamp::MAX),
    }))
}

fn length(page: &AtlasPage) -> u64 {
    count(page.items.len())
}

fn count(length: usize) -> u64 {
    u64::try_from(length).expect("as many as fit into memory")
}

const FEW: usize = 8;
/// Atlas dates a certificate so long before it was made.
const BACKDATED: Duration = Duration::from_hours(1);
/// By so much the clocks of Atlas's servers may differ.
const CLOCKS: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn page(ids: std::ops::Range<i128>, total: u64, has_next: Option<bool>) -> AtlasPage {
        let items = ids.map(|id| PageItem {
            id,
            created_at: Some(Timestamp::from_seconds(0)),
            not_after: Some(Timestamp::from_seconds(1)),
            text: Bytes::from(format!("{{\"_id\":{id}}}")),
        });
        AtlasPage {
            items: items.collect(),
            total,
            has_next,
        }
    }

    #[test]
    fn links_say_where_a_list_ends_whatever_is_counted() {
        let further = |pages| Plan::Further(pages);
        for (sizes, total, has_next, expected) in [
            (&[0][..], 0, false, Plan::Complete(1)),
            (&[0], 4, false, Plan::Complete(1)),
            (&[2], 0, false, Plan::Complete(1)),
            (&[2], 3, false, Plan::Complete(1)),
            (&[2], 1_000_000_000, false, Plan::Complete(1)),
            (&[500], 500, false, Plan::Complete(1)),
            (&[500], 500, true, further(2..=2)),
            (&[500], 1_203, true, further(2..=3)),
            (&[500], 10_000, true, further(2..=20)),
            (&[500], 10_001, true, Plan::TooLong),
            (&[500], u64::MAX, true, Plan::TooLong),
            (&[100], 203, true, further(2..=2)),
            (&[100, 100], 203, true, further(3..=3)),
            (&[0], 3, true, Plan::Changed),
            (&[500, 0], 700, true, Plan::Complete(2)),
            (&[500; 20], 500, true, Plan::TooLong),
            (&[500, 500, 1], 3, true, further(4..=4)),
        ] {
            let last = sizes.len() - 1;
            let sizes = sizes.iter().enumerate();
            let pages: Vec<AtlasPage> = sizes
                .map(|(at, size)| page(0..*size, total, Some(at < last || has_next)))
                .collect();
            assert_eq!(plan(&pages, 20), expected, "{:?} of {total}", pages.len());
        }
        let ended = [page(0..500, 900, Some(false)), page(0..0, 900, Some(false))];
        assert_eq!(plan(&ended, 20), Plan::Complete(1));
        let contradicting = [page(0..500, 900, Some(false)), page(0..1, 900, Some(false))];
        assert_eq!(plan(&contradicting, 20), Plan::Changed);
    }

    #[test]
    fn without_links_a_list_ends_with_a_short_page_or_an_empty_one() {
        for (sizes, total, expected) in [
            (&[0][..], 7, Plan::Complete(1)),
            (&[3], 3, Plan::Complete(1)),
            (&[3], 2, Plan::Complete(1)),
            (&[3], 4, Plan::Further(2..=2)),
            (&[500], 500, Plan::Further(2..=2)),
            (&[500, 0], 500, Plan::Complete(2)),
            (&[500, 3], 9_000, Plan::Complete(2)),
            (&[100, 100, 3], 203, Plan::Complete(3)),
            (&[500; 21], 10_000, Plan::TooLong),
        ] {
            let pages: Vec<AtlasPage> = sizes
                .iter()
                .map(|size| page(0..*size, total, None))
                .collect();
            assert_eq!(plan(&pages, 20), expected, "{} of {total}", pages.len());
        }
    }

    #[test]
    fn one_reading_proves_only_what_is_old_and_counted() {
        let date = Timestamp::from_seconds(65 * 60);
        let pages = [
            page(0..500, 503, Some(true)),
            page(500..503, 503, Some(false)),
        ];
        assert!(are_proven_by_creation(&pages, Some(date)));
        assert!(!are_proven_by_creation(&pages, None));
        let earlier = Timestamp::from_micros(date.micros() - 1);
        assert!(!are_proven_by_creation(&pages, Some(earlier)));
        let [first, second] = &pages;
        let miscounted = [page(0..500, 504, Some(true)), second.clone()];
        assert!(!are_proven_by_creation(&miscounted, Some(date)));
        let mut undated = second.clone();
        undated.items[0].created_at = None;
        assert!(!are_proven_by_creation(
            &[first.clone(), undated],
            Some(date)
        ));
    }

    #[test]
    fn a_certificate_that_stands_there_twice_is_found() {
        let of = |one, other| [page(one, 0, None), page(other, 0, None)];
        assert!(are_distinct(&of(0..500, 500..503)));
        assert!(!are_distinct(&of(0..500, 499..502)));
        assert!(are_distinct(&of(0..2, 2..4)));
        assert!(!are_distinct(&of(0..2, 1..3)));
        assert!(are_distinct(&[]));
    }

    #[test]
    fn readings_agree_however_they_are_cut_into_pages() {
        let whole = [page(0..4, 4, None)];
        assert!(agree(&whole, &[page(0..2, 9, None), page(2..4, 9, None)]));
        assert!(!agree(&whole, &[page(0..3, 4, None)]));
        assert!(!agree(&whole, &[page(1..4, 4, None), page(0..1, 4, None)]));
    }

    #[test]
    fn the_list_holds_every_page_in_order() {
        let list = join(&[page(0..2, 3, None), page(2..3, 3, None)]).unwrap();
        assert_eq!(&list.joined()[..], br#"{"_id":0},{"_id":1},{"_id":2}"#);
    }
}
