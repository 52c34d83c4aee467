//! The record of one lookup, filled in as the lookup goes on, and written when it is closed or dropped.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::atlas::{CertQuery, ProjectId};
use crate::identity::{Caller, Requester, Thumbprint};
use crate::system::Moment;
pub use crate::telemetry::metrics::lookups::{CacheUse, Outcome};

use super::arrival::{Arrival, RequestId};
use super::record::{Kind, Record, limits};
use super::refusals::{RefusedParty, TooManyRefusals};
use super::{Audit, Ticket, Unrecorded};

/// One lookup that is being answered. Dropped before it is closed, it was abandoned: the caller hung up, or
/// the task that answered has panicked.
///
/// It borrows what it can, so that a lookup which is answered at once needs no memory of its own.
#[derive(Debug)]
pub struct Entry<'a> {
    audit: &'a Audit,
    arrival: Arrival<'a>,
    caller: Option<Arc<Caller>>,
    target: Target<'a>,
    rule: Option<Arc<str>>,
    trace_id: Option<Box<str>>,
    closed: bool,
}

#[derive(Debug)]
enum Target<'a> {
    Unknown,
    /// A path that names no list.
    Path(Box<[u8]>),
    CertQuery(&'a CertQuery),
    /// All users of a project that the caller may look up.
    Inventory(&'a InventoryQuery<'a>),
}

/// What is asked about the certificates of a project that end soon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InventoryQuery<'a> {
    pub(crate) project: ProjectId,
    /// As it was asked: `30d`.
    pub(crate) within: &'a str,
    pub(crate) which: &'static str,
    pub(crate) scope: &'static str,
}

/// What becomes of a refusal's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has one of its own, which is still to be submitted.
    OnItsOwn,
    /// It is folded: its answer leaves as it is, without a record of its own.
    Folded,
    /// The same, and its answer is that there are too many of them.
    TooMany(TooManyRefusals),
}

/// How a lookup ended.
#[derive(Clone, Debug)]
pub struct Closing<'a> {
    /// What became of it.
    pub outcome: Outcome,
    /// The answer's HTTP status; 0 if there was no answer.
    pub status: u16,
    /// The code in the answer's error document.
    pub error_code: Option<&'a str>,
    /// What was wrong with the token or which rule was missing, which the caller does not learn.
    pub reason: Option<&'static str>,
    /// The claim of the token that it was refused for, as the configuration names its place.
    pub claim: Option<&'a str>,
    /// Where the bytes came from.
    pub cache: CacheUse,
    /// The fetch that brought them from Atlas.
    pub fill_id: Option<Uuid>,
    /// Which replica that was, if another one.
    pub fill_replica: Option<&'a str>,
    /// How long ago Atlas answered with them.
    pub age: Option<Duration>,
    /// How many certificates are in the answer.
    pub certificates: Option<u64>,
    /// Which certificates the whole list has: the value of its `ETag`.
    pub list: Option<ListTag>,
    /// How many calls to Atlas this lookup cost.
    pub upstream_calls: u32,
    /// When the answer was ready.
    pub now: Moment,
}

/// The value of a list's `ETag`, in its plain form and without the quotation marks.
pub type ListTag = [u8; 16];

impl<'a> Entry<'a> {
    pub(super) fn open(audit: &'a Audit, arrival: Arrival<'a>) -> Self {
        Self {
            audit,
            arrival,
            caller: None,
            target: Target::Unknown,
            rule: None,
            trace_id: None,
            closed: false,
        }
    }

    /// The request's id.
    pub fn request_id(&self) -> RequestId {
        self.arrival.request_id
    }

    /// With whom the caller shares what is given out by source.
    pub fn asker(&self) -> Requester {
        self.arrival.origin.asker()
    }

    /// The certificate that the caller has shown, which its token may be bound to.
    pub fn holder(&self) -> Option<&Thumbprint> {
        self.arrival.origin.holder()
    }

    /// The caller's token was verified.
    pub fn set_caller(&mut self, caller: &Arc<Caller>) {
        self.caller = Some(Arc::clone(caller));
    }

    /// What was asked for.
    pub fn set_query(&mut self, query: &'a CertQuery) {
        self.target = Target::CertQuery(query);
    }

    /// What was asked for, of a whole project.
    pub(crate) fn set_inventory(&mut self, query: &'a InventoryQuery<'a>) {
        self.target = Target::Inventory(query);
    }

    /// In which trace it is, if in one.
    pub(crate) fn set_trace(&mut self, trace_id: Option<String>) {
        self.trace_id = trace_id.map(String::into_boxed_str);
    }

    /// The path as it arrived, where it names no list.
    pub fn set_invalid_path(&mut self, path: &[u8]) {
        let kept = path.get(..LONGEST_PATH).unwrap_or(path);
        self.target = Target::Path(Box::from(kept));
    }

    /// Which rule granted or denied it, if one did.
    pub fn set_rule(&mut self, rule: Option<&Arc<str>>) {
        self.rule = rule.map(Arc::clone);
    }

    /// The rule that granted or denied it.
    pub fn rule(&self) -> Option<&Arc<str>> {
        self.rule.as_ref()
    }

    /// Writes the record; the answer may leave when this returns. After an error nothing may leave but a
    /// refusal. Dropped while it waits, the record is written all the same.
    pub async fn close(self, closing: Closing<'_>) -> Result<(), Unrecorded> {
        self.submit(&closing)?.await
    }

    /// Submits the record; the answer may leave when the ticket says that it is written.
    pub fn submit(mut self, closing: &Closing<'_>) -> Result<Ticket, Unrecorded> {
        self.closed = true;
        self.submit_unclosed(closing)
    }

    /// Submits an answer that names these users, `known` being how many it was made from: as many records as the
    /// names need, of the same request.
    pub(crate) fn submit_inventory(
        mut self,
        closing: &Closing<'_>,
        known: usize,
        mut usernames: &[&str],
    ) -> Result<Vec<Ticket>, Unrecorded> {
        self.closed = true;
        let mut tickets = Vec::new();
        loop {
            let mut named = 0;
            let write = |record: &mut Record<'_>| {
                self.write(record, closing);
                record.put("users", known);
                named = record.usernames(usernames);
            };
            tickets.push(self.submit_as(Kind::Inventory, closing, write)?);
            usernames = usernames.split_at(named).1;
            if usernames.is_empty() || named == 0 {
                return Ok(tickets);
            }
        }
    }

    /// Counts a refusal, so that callers who are not let in cannot fill the disk. What is said of certificates
    /// always has a record of its own.
    pub fn refuse(&mut self, closing: &Closing<'_>) -> Refused {
        let Some(party) = self.refused_party(closing.outcome) else {
            return Refused::OnItsOwn;
        };
        let code = closing.error_code.unwrap_or(ABANDONED);
        let refusals = &self.audit.0.refusals;
        let Some(too_many) = refusals.refuse(party, code, closing.now) else {
            return Refused::OnItsOwn;
        };
        self.closed = true;
        match closing.outcome {
            Outcome::Rejected | Outcome::Unauthenticated if self.caller.is_none() => {
                Refused::TooMany(too_many)
            }
            // What is wrong with us, or with a caller's rights, is said all the same.
            Outcome::Abandoned
            | Outcome::Answered
            | Outcome::Denied
            | Outcome::Failed
            | Outcome::Rejected
            | Outcome::Unauthenticated => Refused::Folded,
        }
    }

    /// With whom it is counted, if it is a refusal.
    fn refused_party(&self, outcome: Outcome) -> Option<RefusedParty> {
        match (&self.caller, outcome) {
            (_, Outcome::Answered) | (Some(_), Outcome::Failed | Outcome::Abandoned) => None,
            (Some(caller), Outcome::Denied | Outcome::Rejected | Outcome::Unauthenticated) => {
                Some(RefusedParty::from(&**caller))
            }
            (
                None,
                Outcome::Abandoned
                | Outcome::Denied
                | Outcome::Failed
                | Outcome::Rejected
                | Outcome::Unauthenticated,
            ) => Some(RefusedParty::Source(self.arrival.origin.source())),
        }
    }

    fn submit_unclosed(&self, closing: &Closing<'_>) -> Result<Ticket, Unrecorded> {
        let kind = match self.target {
            Target::Inventory(_) => Kind::Inventory,
            Target::Unknown | Target::Path(_) | Target::CertQuery(_) => Kind::Lookup,
        };
        self.submit_as(kind, closing, |record| self.write(record, closing))
    }

    fn submit_as(
        &self,
        kind: Kind,
        closing: &Closing<'_>,
        write: impl FnOnce(&mut Record<'_>),
    ) -> Result<Ticket, Unrecorded> {
        self.audit.0.journal.submit(kind, closing.now, write)
    }

    fn write(&self, record: &mut Record<'_>, closing: &Closing<'_>) {
        record.word("request_id", self.arrival.request_id.as_bytes());
        if let Some(id) = &self.arrival.caller_request_id {
            record.bytes("caller_request_id", id, limits::SHORT);
        }
        if let Some(id) = &self.trace_id {
            record.word("trace_id", id.as_bytes());
        }
        record.word("outcome", closing.outcome.word());
        record.put_some("status", (closing.status > 0).then_some(closing.status));
        record.text_some("error_code", closing.error_code, limits::SHORT);
        record.text_some("reason", closing.reason, limits::SHORT);
        record.text_some("claim", closing.claim, limits::SHORT);
        write_caller(record, self.caller.as_deref(), self.rule.as_deref());
        self.arrival.origin.write(record);
        match &self.target {
            Target::Unknown => {}
            Target::Path(path) => record.bytes("path", path, limits::PATH),
            Target::CertQuery(query) => record.query(query),
            Target::Inventory(query) => query.write(record),
        }
        if !matches!(self.target, Target::Inventory(_)) {
            record.word("cache", closing.cache.word());
        }
        if closing.cache == CacheUse::Stale {
            record.put("stale", true);
        }
        record.put_some("fill_id", closing.fill_id);
        record.text_some("fill_replica", closing.fill_replica, limits::NAME);
        record.put_some("age_ms", closing.age.map(|age| age.as_millis()));
        record.put_some("certificates", closing.certificates);
        if let Some(list) = &closing.list {
            record.word("list", list);
        }
        record.put("upstream_calls", closing.upstream_calls);
        let duration = closing.now.elapsed.saturating_sub(self.arrival.at.elapsed);
        record.put("duration_us", duration.as_micros());
    }
}

impl InventoryQuery<'_> {
    fn write(&self, record: &mut Record<'_>) {
        record.word("group_id", self.project.digits());
        record.word("within", self.within);
        record.word("which", self.which);
        record.word("scope", self.scope);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let closing = Closing::abandoned(self.audit.0.clock.now());
        if self.refuse(&closing) == Refused::OnItsOwn {
            // The caller who would wait for it has left.
            drop(self.submit_unclosed(&closing));
        }
    }
}

impl Closing<'_> {
    /// The end of a lookup that was abandoned; also what other ends are made from.
    pub fn abandoned(now: Moment) -> Self {
        Self {
            outcome: Outcome::Abandoned,
            status: 0,
            error_code: None,
            reason: None,
            claim: None,
            cache: CacheUse::None,
            fill_id: None,
            fill_replica: None,
            age: None,
            certificates: None,
            list: None,
            upstream_calls: 0,
            now,
        }
    }
}

/// Writes the members from `subject` to `rule`.
pub(super) fn write_caller(record: &mut Record<'_>, caller: Option<&Caller>, rule: Option<&str>) {
    if let Some(caller) = caller {
        record.text("subject", &caller.subject, limits::SUBJECT);
        record.text("issuer", &caller.issuer, limits::ISSUER);
        record.text_some("client_id", caller.client_id.as_deref(), limits::NAME);
        record.text_some("token_id", caller.token_id.as_deref(), limits::NAME);
    }
    record.text_some("rule", rule, limits::NAME);
}

/// Stands for the code that an abandoned answer would have had.
const ABANDONED: &str = "ABANDONED";
/// More of a path than its record can show is not kept.
const LONGEST_PATH: usize = 1_100;
