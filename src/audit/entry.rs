//! One question: what becomes known of it goes in step by step, its record comes out when it is closed,
//! or dropped.

use std::borrow::Cow;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::atlas::CertQuery;
use crate::identity::{Asker, Caller, Thumbprint};

use super::arrival::{Arrival, RequestId};
use super::closing::{Closing, Outcome};
use super::record::{Body, Kind, name, room};
use super::refusals::{TooManyRefusals, Who};
use super::{Audit, Ticket, Unrecorded, callers};

/// One question that is being answered.
///
/// Unclosed when it is dropped, it was abandoned: the caller hung up, or the task that answered died.
///
/// It borrows what it can: a question that is answered at once needs no memory of its own.
#[derive(Debug)]
pub struct Entry<'a> {
    audit: Cow<'a, Audit>,
    arrival: Arrival<'a>,
    caller: Option<Arc<Caller>>,
    asked: Asked<'a>,
    rule: Option<Arc<str>>,
    closed: bool,
}

/// What becomes of a refusal's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has one of its own, which is still to be handed in.
    OnItsOwn,
    /// It is folded: its answer leaves as it is, without a record of its own.
    Folded,
    /// The same, and its answer is that there are too many of them.
    TooMany(TooManyRefusals),
}

#[derive(Debug)]
enum Asked<'a> {
    Nothing,
    Path(Box<[u8]>),
    CertQuery(Cow<'a, CertQuery>),
}

impl<'a> Entry<'a> {
    pub(super) fn open(audit: &'a Audit, arrival: Arrival<'a>) -> Self {
        Self {
            audit: Cow::Borrowed(audit),
            arrival,
            caller: None,
            asked: Asked::Nothing,
            rule: None,
            closed: false,
        }
    }

    /// The request's id.
    pub fn request_id(&self) -> RequestId {
        self.arrival.request_id
    }

    /// With whom the caller shares what is given out by source.
    pub fn asker(&self) -> Asker {
        self.arrival.origin.asker()
    }

    /// The certificate that the caller has shown, which its token may be bound to.
    pub fn holder(&self) -> Option<&Thumbprint> {
        self.arrival.origin.certificate()
    }

    /// The caller's token was verified.
    pub fn set_caller(&mut self, caller: &Arc<Caller>) {
        self.caller = Some(Arc::clone(caller));
    }

    /// What was asked.
    pub fn set_query(&mut self, query: &'a CertQuery) {
        self.asked = Asked::CertQuery(Cow::Borrowed(query));
    }

    /// What was asked, where it is no question: the path as it arrived.
    pub fn set_invalid_path(&mut self, path: &[u8]) {
        let kept = path.get(..LONGEST_PATH).unwrap_or(path);
        self.asked = Asked::Path(Box::from(kept));
    }

    /// Which rule granted or denied it, if one did.
    pub fn set_rule(&mut self, rule: Option<&Arc<str>>) {
        self.rule = rule.map(Arc::clone);
    }

    /// The same, for when what it was read from is gone.
    #[must_use]
    pub fn into_owned(mut self) -> Entry<'static> {
        // This one has nothing more to say when it is dropped.
        self.closed = true;
        Entry {
            audit: Cow::Owned(Audit::clone(&self.audit)),
            arrival: self.arrival.into_owned(),
            caller: self.caller.take(),
            asked: mem::replace(&mut self.asked, Asked::Nothing).into_owned(),
            rule: self.rule.take(),
            closed: false,
        }
    }

    /// Writes the record; the answer may leave when this returns.
    ///
    /// Dropped while it waits, the record is written all the same. After an error nothing may leave but
    /// a refusal.
    pub async fn close(self, closing: Closing<'_>) -> Result<(), Unrecorded> {
        self.submit(&closing)?.await
    }

    /// Hands the record in; the answer may leave when the ticket says that it is written. All that has
    /// to be kept meanwhile is the ticket.
    pub fn submit(mut self, closing: &Closing<'_>) -> Result<Ticket, Unrecorded> {
        self.closed = true;
        let journal = &self.audit.0.journal;
        Body::compose(
            closing.now.wall,
            Kind::Lookup,
            |body| self.write(body, closing),
            |body| journal.submit(body, closing.now),
        )
    }

    /// Counts what nobody was let in for: whoever is not must not be able to fill the disk. What is said of
    /// certificates always has a record of its own.
    pub fn refuse(&mut self, closing: &Closing<'_>) -> Refused {
        let Some(who) = self.refused_to(closing.outcome) else {
            return Refused::OnItsOwn;
        };
        let is_known = self.caller.is_some();
        let code = closing.error_code.unwrap_or(ABANDONED);
        let Some(too_many) = self.audit.0.folding.refuse(who, code, closing.now) else {
            return Refused::OnItsOwn;
        };
        self.closed = true;
        match closing.outcome {
            Outcome::Rejected | Outcome::Unauthenticated if !is_known => Refused::TooMany(too_many),
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
    fn refused_to(&self, outcome: Outcome) -> Option<Who> {
        match (&self.caller, outcome) {
            (_, Outcome::Answered) | (Some(_), Outcome::Failed | Outcome::Abandoned) => None,
            (Some(caller), Outcome::Denied | Outcome::Rejected | Outcome::Unauthenticated) => {
                Some(Who::from(&**caller))
            }
            (
                None,
                Outcome::Abandoned
                | Outcome::Denied
                | Outcome::Failed
                | Outcome::Rejected
                | Outcome::Unauthenticated,
            ) => Some(Who::Source(self.arrival.origin.source())),
        }
    }

    fn write(&self, body: &mut Body<'_>, closing: &Closing<'_>) {
        body.put(&self.audit.0.identity);
        body.digits(name!("request_id"), self.arrival.request_id.as_bytes());
        if let Some(id) = &self.arrival.caller_request_id {
            body.bytes(name!("caller_request_id"), id, room::SHORT);
        }
        closing.write_end(body);
        match &self.caller {
            Some(caller) => callers::write(body, caller, self.rule.as_ref()),
            None => callers::write_anew(body, None, self.rule.as_deref()),
        }
        body.put(self.arrival.origin.members());
        match &self.asked {
            Asked::CertQuery(query) => write_query(body, query),
            Asked::Nothing | Asked::Path(_) => {
                body.null(name!("group_id"));
                body.null(name!("username"));
            }
        }
        if let Asked::Path(path) = &self.asked {
            body.bytes(name!("path"), path, room::PATH);
        }
        closing.write_source(body);
        let duration = closing.now.elapsed.saturating_sub(self.arrival.at.elapsed);
        body.number(name!("duration_us"), micros(duration));
    }
}

impl Asked<'_> {
    fn into_owned(self) -> Asked<'static> {
        match self {
            Self::Nothing => Asked::Nothing,
            Self::Path(path) => Asked::Path(path),
            Self::CertQuery(query) => Asked::CertQuery(Cow::Owned(query.into_owned())),
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let closing = Closing::abandoned(self.audit.0.clock.now());
        if self.refuse(&closing) != Refused::OnItsOwn {
            return;
        }
        Body::compose(
            closing.now.wall,
            Kind::Lookup,
            |body| self.write(body, &closing),
            |body| self.audit.0.journal.leave(body, closing.now),
        );
    }
}

pub(super) fn write_query(body: &mut Body<'_>, query: &CertQuery) {
    body.digits(name!("group_id"), query.project.digits());
    body.text(name!("username"), query.username.as_str(), room::USERNAME);
}

pub(super) fn micros(span: Duration) -> u64 {
    let seconds = span.as_secs().saturating_mul(1_000_000);
    seconds.saturating_add(span.subsec_micros().into())
}

/// Stands for the code that an answer which nobody waited for would have had.
const ABANDONED: &str = "ABANDONED";
/// More of a path than its room in the record can show is not kept.
const LONGEST_PATH: usize = 1_100;
