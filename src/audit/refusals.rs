//! Refusals go in, one by one; out comes which of them have a record of their own, and once a minute how
//! many of whom were folded into one record.
//!
//! Whoever is not let in must not decide how fast the disk fills (G15). So each source and each caller has a
//! number of records of refusals a minute, and what is beyond costs a count in memory. The minutes are
//! fixed ones of the clock, so that a refusal costs one look-up in a table and nobody needs a timer.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::atlas::Timestamp;
use crate::identity::Caller;
use crate::system::Moment;

/// Whose refusals are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// Nobody that is known, from this [`network`](crate::identity::network).
    Source(IpAddr),
    /// A caller whose token was verified.
    Caller { issuer: Arc<str>, subject: Box<str> },
    /// The sources beyond those that are tracked.
    OtherSources,
    /// The callers beyond those that are tracked.
    OtherCallers,
    /// All together, while the disk is short.
    Everybody,
}

/// A refusal that is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRefusals {
    /// When the minute is over.
    pub retry_after: Duration,
    /// How many of a source have a record of their own within a minute; `None` where it is not this
    /// source's number that was reached.
    pub limit: Option<u32>,
}

/// What is known of folded refusals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fold {
    pub(super) count: u64,
    /// The codes of their answers, a closed set.
    pub(super) codes: BTreeMap<Arc<str>, u64>,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

/// The refusals of the present minute, and the folds of minutes before that are not on record yet.
#[derive(Debug)]
pub(super) struct Refusals {
    per_minute: u32,
    /// The present minute's number.
    minute: u64,
    /// How many records of their own they have had within it.
    sources: HashMap<Who, u32>,
    callers: HashMap<Who, u32>,
    folds: HashMap<Who, Fold>,
    due: HashMap<Who, Fold>,
    /// The folds of a closed table would never be written.
    closed: bool,
}

impl Refusals {
    /// None yet; each source and caller may have `per_minute` records of their own.
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            minute: 0,
            sources: HashMap::new(),
            callers: HashMap::new(),
            folds: HashMap::new(),
            due: HashMap::new(),
            closed: false,
        }
    }

    /// Counts one refusal: `None` if it has a record of its own, else it is folded. While the disk is
    /// short, all are.
    pub(super) fn refuse(
        &mut self,
        who: Who,
        code: &str,
        now: Moment,
        disk_is_short: bool,
    ) -> Option<TooManyRefusals> {
        if self.closed {
            return None;
        }
        self.begin(minute_of(now.elapsed));
        let with = if disk_is_short {
            Who::Everybody
        } else {
            self.folded_with(who)?
        };
        let limit = matches!(with, Who::Source(_) | Who::Caller { .. }).then_some(self.per_minute);
        let fold = self.folds.entry(with);
        fold.or_insert_with(|| Fold::since(now.wall))
            .note(code, now.wall);
        Some(TooManyRefusals {
            retry_after: begin_of(self.minute + 1).saturating_sub(now.elapsed),
            limit,
        })
    }

    /// The folds of the minutes that are over; each is handed out once.
    pub(super) fn take_due(&mut self, now: Duration) -> HashMap<Who, Fold> {
        self.begin(minute_of(now));
        std::mem::take(&mut self.due)
    }

    /// All that is folded; from now on nothing more is.
    pub(super) fn close(&mut self) -> HashMap<Who, Fold> {
        self.closed = true;
        self.begin(self.minute + 1);
        std::mem::take(&mut self.due)
    }

    /// A fold that could not be written is due again.
    pub(super) fn put_back(&mut self, who: Who, fold: Fold) {
        let is_known = self.due.contains_key(&who);
        let who = if is_known || self.due.len() < MOST_DUE {
            who
        } else {
            who.others()
        };
        match self.due.entry(who) {
            Entry::Occupied(mut known) => known.get_mut().add(fold),
            Entry::Vacant(place) => {
                place.insert(fold);
            }
        }
    }

    /// With whom the next refusal of `who` is folded; `None` if it has a record of its own.
    fn folded_with(&mut self, who: Who) -> Option<Who> {
        let tracked = match who {
            Who::Caller { .. } | Who::OtherCallers => &mut self.callers,
            Who::Source(_) | Who::OtherSources | Who::Everybody => &mut self.sources,
        };
        let is_full = tracked.len() >= MOST_TRACKED;
        match tracked.entry(who) {
            Entry::Vacant(place) if is_full => Some(place.into_key().others()),
            Entry::Vacant(place) if self.per_minute > 0 => {
                place.insert(1);
                None
            }
            Entry::Vacant(place) => {
                let who = place.key().clone();
                place.insert(0);
                Some(who)
            }
            Entry::Occupied(mut own) if *own.get() < self.per_minute => {
                *own.get_mut() += 1;
                None
            }
            Entry::Occupied(own) => Some(own.key().clone()),
        }
    }

    /// Ends the minutes before `minute`.
    fn begin(&mut self, minute: u64) {
        // Whoever was overtaken on the way here belongs to the present minute.
        if minute <= self.minute {
            return;
        }
        self.minute = minute;
        self.sources.clear();
        self.callers.clear();
        for (who, fold) in std::mem::take(&mut self.folds) {
            self.put_back(who, fold);
        }
    }
}

impl From<&Caller> for Who {
    fn from(caller: &Caller) -> Self {
        Self::Caller {
            issuer: Arc::clone(&caller.issuer),
            subject: caller.subject.clone(),
        }
    }
}

impl Who {
    /// Those with whom it is counted where there is no more room.
    fn others(self) -> Self {
        match self {
            Self::Source(_) | Self::OtherSources => Self::OtherSources,
            Self::Caller { .. } | Self::OtherCallers => Self::OtherCallers,
            Self::Everybody => Self::Everybody,
        }
    }
}

impl Fold {
    fn since(first: Timestamp) -> Self {
        Self {
            count: 0,
            codes: BTreeMap::new(),
            first,
            last: first,
        }
    }

    fn note(&mut self, code: &str, at: Timestamp) {
        self.count += 1;
        if let Some(count) = self.codes.get_mut(code) {
            *count += 1;
        } else {
            self.codes.insert(Arc::from(code), 1);
        }
        self.first = self.first.min(at);
        self.last = self.last.max(at);
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        for (code, count) in other.codes {
            *self.codes.entry(code).or_default() += count;
        }
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// When the minute after `now` begins.
pub(super) fn next_minute(now: Duration) -> Duration {
    begin_of(minute_of(now) + 1)
}

fn minute_of(elapsed: Duration) -> u64 {
    elapsed.as_secs() / MINUTE
}

fn begin_of(minute: u64) -> Duration {
    Duration::from_secs(minute.saturating_mul(MINUTE))
}

const MINUTE: u64 = 60;
/// Sources, and as many callers, that are told apart within a minute. Callers have room of their own, so
/// that strangers cannot take it from them.
const MOST_TRACKED: usize = 10_000;
/// All who can be told apart within a minute, and the three that stand for the rest.
const MOST_DUE: usize = 2 * MOST_TRACKED + 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::network;

    fn source(address: &str) -> Who {
        Who::Source(network(address.parse().unwrap()))
    }

    fn caller(subject: &str) -> Who {
        Who::Caller {
            issuer: Arc::from("https://idp.internal.example"),
            subject: Box::from(subject),
        }
    }

    fn at(millis: u64) -> Moment {
        let elapsed = Duration::from_millis(millis);
        Moment {
            elapsed,
            wall: Timestamp::from_seconds(1_000).plus(elapsed),
        }
    }

    fn is_folded(refusals: &mut Refusals, who: Who, millis: u64) -> bool {
        refusals.refuse(who, "CODE", at(millis), false).is_some()
    }

    #[test]
    fn each_source_and_caller_has_its_number_each_minute() {
        let mut refusals = Refusals::new(2);
        for (who, millis, folded) in [
            (source("192.0.2.1"), 0, false),
            (source("192.0.2.1"), 1, false),
            (source("192.0.2.1"), 2, true),
            (source("::ffff:192.0.2.1"), 3, true),
            (source("192.0.2.2"), 4, false),
            (source("2001:db8::1"), 5, false),
            (source("2001:db8::2"), 6, false),
            (source("2001:db8::3"), 7, true),
            (source("2001:db8:0:1::3"), 8, false),
            (caller("payments"), 9, false),
            (caller("payments"), 10, false),
            (caller("payments"), 11, true),
            (caller("billing"), 12, false),
            (source("192.0.2.1"), 59_999, true),
            (source("192.0.2.1"), 60_000, false),
            // Overtaken on its way here by one of the next minute.
            (source("192.0.2.1"), 59_998, false),
            (source("192.0.2.1"), 60_001, true),
        ] {
            assert_eq!(
                is_folded(&mut refusals, who.clone(), millis),
                folded,
                "{who:?} {millis}"
            );
        }
    }

    #[test]
    fn a_fold_counts_by_code_and_is_due_once_its_minute_is_over() {
        let mut refusals = Refusals::new(0);
        for (millis, code) in [(100, "A"), (30_000, "B"), (200, "A")] {
            let told = refusals.refuse(source("192.0.2.1"), code, at(millis), false);
            let told = told.unwrap();
            assert_eq!(told.retry_after, Duration::from_millis(60_000 - millis));
            assert_eq!(told.limit, Some(0));
        }
        assert!(refusals.take_due(Duration::from_secs(59)).is_empty());
        let due = refusals.take_due(Duration::from_mins(1));
        let fold = Fold {
            count: 3,
            codes: BTreeMap::from([(Arc::from("A"), 2), (Arc::from("B"), 1)]),
            first: at(100).wall,
            last: at(30_000).wall,
        };
        assert_eq!(due, HashMap::from([(source("192.0.2.1"), fold)]));
        assert!(refusals.take_due(Duration::from_mins(2)).is_empty());
    }

    #[test]
    fn beyond_ten_thousand_sources_the_rest_is_folded_as_one() {
        let mut refusals = Refusals::new(1);
        let number = |number: u32| Who::Source(IpAddr::V4(number.into()));
        for known in 0..10_000 {
            assert!(!is_folded(&mut refusals, number(known), 0));
        }
        for beyond in 10_000..10_010 {
            assert!(is_folded(&mut refusals, number(beyond), 0));
            let told = refusals.refuse(number(beyond), "CODE", at(0), false);
            assert_eq!(told.unwrap().limit, None);
        }
        // Those who are tracked still are, and callers have places of their own.
        assert!(is_folded(&mut refusals, number(7), 0));
        assert!(!is_folded(&mut refusals, caller("payments"), 0));
        let due = refusals.take_due(Duration::from_mins(1));
        assert_eq!(due[&Who::OtherSources].count, 20);
        assert_eq!(due[&number(7)].count, 1);
        assert_eq!(due.len(), 2);
        assert!(!is_folded(&mut refusals, number(20_000), 60_000));
    }

    #[test]
    fn while_the_disk_is_short_all_are_folded_into_one() {
        let mut refusals = Refusals::new(5);
        for who in [
            source("192.0.2.1"),
            source("2001:db8::1"),
            caller("payments"),
        ] {
            let told = refusals.refuse(who, "CODE", at(0), true).unwrap();
            assert_eq!(told.limit, None);
        }
        let due = refusals.take_due(Duration::from_mins(1));
        assert_eq!(due.len(), 1);
        assert_eq!(due[&Who::Everybody].count, 3);
    }

    #[test]
    fn what_could_not_be_written_is_due_again_and_added_to() {
        let mut refusals = Refusals::new(0);
        for minute in 1..=3 {
            assert!(is_folded(
                &mut refusals,
                source("192.0.2.1"),
                minute * 60_000 - 1
            ));
            for (who, fold) in refusals.take_due(Duration::from_mins(minute)) {
                assert_eq!(fold.count, minute);
                refusals.put_back(who, fold);
            }
        }
    }

    #[test]
    fn what_waits_to_be_written_is_bounded() {
        let mut refusals = Refusals::new(0);
        for minute in 0..5_u32 {
            for number in 0..10_000 {
                let who = Who::Source(IpAddr::V4((minute * 10_000 + number).into()));
                assert!(is_folded(&mut refusals, who, u64::from(minute) * 60_000));
            }
        }
        let due = refusals.close();
        assert!(due.len() <= MOST_DUE + 1, "{}", due.len());
        assert_eq!(due.values().map(|fold| fold.count).sum::<u64>(), 50_000);
    }

    #[test]
    fn a_closed_table_gives_all_it_has_and_takes_no_more() {
        let mut refusals = Refusals::new(0);
        assert!(is_folded(&mut refusals, source("192.0.2.1"), 0));
        assert_eq!(refusals.close().len(), 1);
        assert!(!is_folded(&mut refusals, source("192.0.2.1"), 0));
        assert!(refusals.close().is_empty());
    }
}
