//! Refusals: beyond a number a minute they are folded, so that callers who are not let in do not decide how
//! fast the disk fills (G15; load shedding).
//!
//! Each source and each caller has a number of records of refusals of its own in each minute of the clock;
//! what is beyond costs a count in memory, and is one record once the minute is over, through the same journal
//! and chain as all others.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::atlas::Timestamp;
use crate::identity::Caller;
use crate::system::{Clock, Moment};
use crate::telemetry::metrics::audit::AuditMetrics;

use super::Unrecorded;
use super::disk::Disk;
use super::journal::Journal;
use super::record::{Kind, Record, limits};

/// The refusals of one trail.
#[derive(Debug)]
pub(super) struct Refusals {
    minute: Mutex<Minute>,
    pub(super) disk: Arc<Disk>,
    metrics: AuditMetrics,
    stop: CancellationToken,
    stopped: CancellationToken,
}

/// Whose refusals are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RefusedParty {
    /// An unknown caller, from this [`network`](crate::identity::network).
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
struct Fold {
    count: u64,
    /// The codes of their answers, a closed set.
    codes: BTreeMap<Arc<str>, u64>,
    first: Timestamp,
    last: Timestamp,
}

/// The refusals of the present minute, and the folds of minutes before that are not on record yet.
#[derive(Debug)]
struct Minute {
    per_minute: u32,
    number: u64,
    /// How many records of their own they have had within it.
    sources: HashMap<RefusedParty, u32>,
    callers: HashMap<RefusedParty, u32>,
    folds: HashMap<RefusedParty, Fold>,
    due: HashMap<RefusedParty, Fold>,
    /// The folds of a closed table would never be written.
    closed: bool,
}

impl Refusals {
    pub(super) fn new(per_minute: u32, disk: Arc<Disk>, metrics: AuditMetrics) -> Arc<Self> {
        Arc::new(Self {
            minute: Mutex::new(Minute::new(per_minute)),
            disk,
            metrics,
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
        })
    }

    /// Counts one refusal: `None` if it has a record of its own, else it is folded.
    pub(super) fn refuse(
        &self,
        party: RefusedParty,
        code: &str,
        now: Moment,
    ) -> Option<TooManyRefusals> {
        let is_short = self.disk.is_short();
        let folded = self.lock().refuse(party, code, now, is_short);
        if folded.is_some() {
            self.metrics.refusals_folded.inc();
        }
        folded
    }

    /// Waits until all that is folded is on record; from then on nothing more is folded.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }

    /// Records what was folded once a minute, until it is told to stop.
    pub(super) async fn run(self: Arc<Self>, journal: Arc<Journal>, clock: Clock) {
        // However it ends, `close` does not wait in vain.
        let _stopped = self.stopped.clone().drop_guard();
        loop {
            let now = clock.now();
            if self.stop.is_cancelled() {
                let due = self.lock().close();
                self.record(due, &journal, now).await;
                let lost = self.lock().close();
                let lost: u64 = lost.values().map(|fold| fold.count).sum();
                if lost > 0 {
                    tracing::error!(count = lost, "refused requests are not on record");
                }
                return;
            }
            // What cannot be written now stays due.
            if journal.health.is_writable() {
                let due = self.lock().take_due(now.elapsed);
                self.record(due, &journal, now).await;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = clock.sleep_until(begin_of(minute_of(now.elapsed) + 1)) => {}
            }
        }
    }

    async fn record(&self, due: HashMap<RefusedParty, Fold>, journal: &Journal, now: Moment) {
        let mut due = due.into_iter().peekable();
        // Few at a time, so that the requests that come meanwhile find the queue open.
        while due.peek().is_some() {
            let some = due.by_ref().take(AT_A_TIME);
            let records = some.map(|(party, fold)| self.record_one(party, fold, journal, now));
            if join_all(records).await.iter().any(Result::is_err) {
                break;
            }
        }
        for (party, fold) in due {
            self.lock().put_back(party, fold);
        }
    }

    async fn record_one(
        &self,
        party: RefusedParty,
        fold: Fold,
        journal: &Journal,
        now: Moment,
    ) -> Result<(), Unrecorded> {
        let write = |record: &mut Record<'_>| fold.write(record, &party);
        let recorded = match journal.submit(Kind::Refusals, now, write) {
            Ok(ticket) => ticket.await,
            Err(problem) => Err(problem),
        };
        match recorded {
            // One line a minute stands for those that were not written.
            Ok(()) => tracing::info!(
                peer = party.peer(),
                scope = party.scope(),
                count = fold.count,
                "refused requests are folded into one record"
            ),
            Err(Unrecorded::Unwritable) => self.lock().put_back(party, fold),
            // It is written when the disk comes back; a second record would count twice.
            Err(Unrecorded::TooLate) => {}
        }
        recorded
    }

    fn lock(&self) -> MutexGuard<'_, Minute> {
        self.minute.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Minute {
    /// None yet; each source and caller may have `per_minute` records of their own.
    fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            number: 0,
            sources: HashMap::new(),
            callers: HashMap::new(),
            folds: HashMap::new(),
            due: HashMap::new(),
            closed: false,
        }
    }

    /// Counts one refusal: `None` if it has a record of its own, else it is folded. While the disk is
    /// short, all are.
    fn refuse(
        &mut self,
        party: RefusedParty,
        code: &str,
        now: Moment,
        disk_is_short: bool,
    ) -> Option<TooManyRefusals> {
        if self.closed {
            return None;
        }
        self.begin(minute_of(now.elapsed));
        let with = if disk_is_short {
            RefusedParty::Everybody
        } else {
            self.folded_with(party)?
        };
        let limit = matches!(with, RefusedParty::Source(_) | RefusedParty::Caller { .. })
            .then_some(self.per_minute);
        let fold = self.folds.entry(with);
        fold.or_insert_with(|| Fold::since(now.wall))
            .note(code, now.wall);
        Some(TooManyRefusals {
            retry_after: begin_of(self.number + 1).saturating_sub(now.elapsed),
            limit,
        })
    }

    /// The folds of the minutes that are over; each is handed out once.
    fn take_due(&mut self, now: Duration) -> HashMap<RefusedParty, Fold> {
        self.begin(minute_of(now));
        mem::take(&mut self.due)
    }

    /// All that is folded; from now on nothing more is.
    fn close(&mut self) -> HashMap<RefusedParty, Fold> {
        self.closed = true;
        self.begin(self.number + 1);
        mem::take(&mut self.due)
    }

    /// A fold that could not be written is due again.
    fn put_back(&mut self, party: RefusedParty, fold: Fold) {
        let is_known = self.due.contains_key(&party);
        let party = if is_known || self.due.len() < MOST_DUE {
            party
        } else {
            party.others()
        };
        match self.due.entry(party) {
            Entry::Occupied(mut known) => known.get_mut().add(fold),
            Entry::Vacant(place) => {
                place.insert(fold);
            }
        }
    }

    /// With whom the next refusal of `party` is folded; `None` if it has a record of its own.
    fn folded_with(&mut self, party: RefusedParty) -> Option<RefusedParty> {
        let tracked = match party {
            RefusedParty::Caller { .. } | RefusedParty::OtherCallers => &mut self.callers,
            RefusedParty::Source(_) | RefusedParty::OtherSources | RefusedParty::Everybody => {
                &mut self.sources
            }
        };
        let is_full = tracked.len() >= MOST_TRACKED;
        match tracked.entry(party) {
            Entry::Vacant(place) if is_full => Some(place.into_key().others()),
            Entry::Vacant(place) if self.per_minute > 0 => {
                place.insert(1);
                None
            }
            Entry::Vacant(place) => {
                let party = place.key().clone();
                place.insert(0);
                Some(party)
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
        // One that was overtaken on the way here belongs to the present minute.
        if minute <= self.number {
            return;
        }
        self.number = minute;
        self.sources.clear();
        self.callers.clear();
        for (party, fold) in mem::take(&mut self.folds) {
            self.put_back(party, fold);
        }
    }
}

impl From<&Caller> for RefusedParty {
    fn from(caller: &Caller) -> Self {
        Self::Caller {
            issuer: Arc::clone(&caller.issuer),
            subject: caller.subject.clone(),
        }
    }
}

impl RefusedParty {
    /// Those with whom it is counted where there is no more room.
    fn others(self) -> Self {
        match self {
            Self::Source(_) | Self::OtherSources => Self::OtherSources,
            Self::Caller { .. } | Self::OtherCallers => Self::OtherCallers,
            Self::Everybody => Self::Everybody,
        }
    }

    fn scope(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Caller { .. } => "caller",
            Self::OtherSources => "other_sources",
            Self::OtherCallers => "other_callers",
            Self::Everybody => "everybody",
        }
    }

    /// The address, or network of IPv6, of a source.
    fn peer(&self) -> Option<String> {
        match self {
            Self::Source(IpAddr::V4(address)) => Some(address.to_string()),
            Self::Source(IpAddr::V6(prefix)) => Some(format!("{prefix}/64")),
            Self::Caller { .. } | Self::OtherSources | Self::OtherCallers | Self::Everybody => None,
        }
    }
}

impl Fold {
    fn write(&self, record: &mut Record<'_>, party: &RefusedParty) {
        record.word("scope", party.scope());
        record.put("count", self.count);
        record.put("codes", &self.codes);
        record.word("first", self.first.to_string());
        record.word("last", self.last.to_string());
        record.put_some("peer", party.peer());
        if let RefusedParty::Caller { issuer, subject } = party {
            record.text("subject", subject, limits::SUBJECT);
            record.text("issuer", issuer, limits::ISSUER);
        }
    }

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

fn minute_of(elapsed: Duration) -> u64 {
    elapsed.as_secs() / MINUTE
}

fn begin_of(minute: u64) -> Duration {
    Duration::from_secs(minute.saturating_mul(MINUTE))
}

const MINUTE: u64 = 60;
const AT_A_TIME: usize = 64;
/// Sources, and as many callers, that are told apart within a minute. Callers are counted apart, so that
/// strangers cannot displace them.
const MOST_TRACKED: usize = 10_000;
/// All that can be told apart within a minute, and the three that stand for the rest.
const MOST_DUE: usize = 2 * MOST_TRACKED + 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::network;

    fn source(address: &str) -> RefusedParty {
        RefusedParty::Source(network(address.parse().unwrap()))
    }

    fn caller(subject: &str) -> RefusedParty {
        RefusedParty::Caller {
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

    fn is_folded(refusals: &mut Minute, party: RefusedParty, millis: u64) -> bool {
        refusals.refuse(party, "CODE", at(millis), false).is_some()
    }

    #[test]
    fn each_source_and_caller_has_its_number_each_minute() {
        let mut refusals = Minute::new(2);
        for (party, millis, folded) in [
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
                is_folded(&mut refusals, party.clone(), millis),
                folded,
                "{party:?} {millis}"
            );
        }
    }

    #[test]
    fn a_fold_counts_by_code_and_is_due_once_its_minute_is_over() {
        let mut refusals = Minute::new(0);
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
        let mut refusals = Minute::new(1);
        let number = |number: u32| RefusedParty::Source(IpAddr::V4(number.into()));
        for known in 0..10_000 {
            assert!(!is_folded(&mut refusals, number(known), 0));
        }
        for beyond in 10_000..10_010 {
            assert!(is_folded(&mut refusals, number(beyond), 0));
            let told = refusals.refuse(number(beyond), "CODE", at(0), false);
            assert_eq!(told.unwrap().limit, None);
        }
        // Those party are tracked still are, and callers have places of their own.
        assert!(is_folded(&mut refusals, number(7), 0));
        assert!(!is_folded(&mut refusals, caller("payments"), 0));
        let due = refusals.take_due(Duration::from_mins(1));
        assert_eq!(due[&RefusedParty::OtherSources].count, 20);
        assert_eq!(due[&number(7)].count, 1);
        assert_eq!(due.len(), 2);
        assert!(!is_folded(&mut refusals, number(20_000), 60_000));
    }

    #[test]
    fn while_the_disk_is_short_all_are_folded_into_one() {
        let mut refusals = Minute::new(5);
        for party in [
            source("192.0.2.1"),
            source("2001:db8::1"),
            caller("payments"),
        ] {
            let told = refusals.refuse(party, "CODE", at(0), true).unwrap();
            assert_eq!(told.limit, None);
        }
        let due = refusals.take_due(Duration::from_mins(1));
        assert_eq!(due.len(), 1);
        assert_eq!(due[&RefusedParty::Everybody].count, 3);
    }

    #[test]
    fn what_could_not_be_written_is_due_again_and_added_to() {
        let mut refusals = Minute::new(0);
        for minute in 1..=3 {
            assert!(is_folded(
                &mut refusals,
                source("192.0.2.1"),
                minute * 60_000 - 1
            ));
            for (party, fold) in refusals.take_due(Duration::from_mins(minute)) {
                assert_eq!(fold.count, minute);
                refusals.put_back(party, fold);
            }
        }
    }

    #[test]
    fn what_waits_to_be_written_is_bounded() {
        let mut refusals = Minute::new(0);
        for minute in 0..5_u32 {
            for number in 0..10_000 {
                let party = RefusedParty::Source(IpAddr::V4((minute * 10_000 + number).into()));
                assert!(is_folded(&mut refusals, party, u64::from(minute) * 60_000));
            }
        }
        let due = refusals.close();
        assert!(due.len() <= MOST_DUE + 1, "{}", due.len());
        assert_eq!(due.values().map(|fold| fold.count).sum::<u64>(), 50_000);
    }

    #[test]
    fn a_closed_table_gives_all_it_has_and_takes_no_more() {
        let mut refusals = Minute::new(0);
        assert!(is_folded(&mut refusals, source("192.0.2.1"), 0));
        assert_eq!(refusals.close().len(), 1);
        assert!(!is_folded(&mut refusals, source("192.0.2.1"), 0));
        assert!(refusals.close().is_empty());
    }
}
