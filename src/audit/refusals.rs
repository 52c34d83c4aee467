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

#[derive(Debug)]
pub(super) struct Refusals {
    minute: Mutex<Minute>,
    pub(super) disk: Arc<Disk>,
    metrics: AuditMetrics,
    stop: CancellationToken,
    stopped: CancellationToken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RefusedParty {
    /// An unknown caller, from this [`network`](crate::identity::network).
    Source(IpAddr),
    Caller {
        issuer: Arc<str>,
        subject: Box<str>,
    },
    OtherSources,
    OtherCallers,
    All,
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

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fold {
    count: u64,
    codes: BTreeMap<Arc<str>, u64>,
    first: Timestamp,
    last: Timestamp,
}

/// The refusals of the present minute, and the folds of minutes before that are not on record yet.
#[derive(Debug)]
struct Minute {
    /// How many records of their own each source and caller may have.
    own_records: u32,
    number: u64,
    /// How many they have had within it.
    sources: HashMap<RefusedParty, u32>,
    callers: HashMap<RefusedParty, u32>,
    folds: HashMap<RefusedParty, Fold>,
    due: HashMap<RefusedParty, Fold>,
    /// The folds of a closed table would never be written.
    closed: bool,
}

impl Refusals {
    pub(super) fn new(own_records: u32, disk: Arc<Disk>, metrics: AuditMetrics) -> Arc<Self> {
        Arc::new(Self {
            minute: Mutex::new(Minute::new(own_records)),
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
    fn new(own_records: u32) -> Self {
        Self {
            own_records,
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
            RefusedParty::All
        } else {
            self.folded_with(party)?
        };
        let limit = matches!(with, RefusedParty::Source(_) | RefusedParty::Caller { .. })
            .then_some(self.own_records);
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

    fn close(&mut self) -> HashMap<RefusedParty, Fold> {
        self.closed = true;
        self.begin(self.number + 1);
        mem::take(&mut self.due)
    }

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
            RefusedParty::Source(_) | RefusedParty::OtherSources | RefusedParty::All => {
                &mut self.sources
            }
        };
        let is_full = tracked.len() >= MOST_TRACKED;
        match tracked.entry(party) {
            Entry::Vacant(place) if is_full => Some(place.into_key().others()),
            Entry::Vacant(place) if self.own_records > 0 => {
                place.insert(1);
                None
            }
            Entry::Vacant(place) => {
                let party = place.key().clone();
                place.insert(0);
                Some(party)
            }
            Entry::Occupied(mut own) if *own.get() < self.own_records => {
                *own.get_mut() += 1;
                None
            }
            Entry::Occupied(own) => Some(own.key().clone()),
        }
    }

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
    /// The party with which it is counted beyond those that are tracked.
    fn others(self) -> Self {
        match self {
            Self::Source(_) | Self::OtherSources => Self::OtherSources,
            Self::Caller { .. } | Self::OtherCallers => Self::OtherCallers,
            Self::All => Self::All,
        }
    }

    fn scope(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Caller { .. } => "caller",
            Self::OtherSources => "other_sources",
            Self::OtherCallers => "other_callers",
            Self::All => "everybody",
        }
    }

    fn peer(&self) -> Option<String> {
        match self {
            Self::Source(IpAddr::V4(address)) => Some(address.to_string()),
            Self::Source(IpAddr::V6(prefix)) => Some(format!("{prefix}/64")),
            Self::Caller { .. } | Self::OtherSources | Self::OtherCallers | Self::All => None,
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
mod tests;
