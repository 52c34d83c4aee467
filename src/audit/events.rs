//! What is recorded beside lookups: fetches from Atlas, and what operators do.

use std::net::SocketAddr;
use std::time::Duration;

use uuid::Uuid;

use crate::atlas::CertQuery;
use crate::identity::Caller;
use crate::system::Moment;

use super::arrival::RequestId;
use super::entry::{ListTag, Outcome, write_caller};
use super::record::{MOST_EXPIRED, MOST_SERIALS, Record, limits};

/// One fetch from Atlas.
#[derive(Clone, Debug)]
pub struct FetchRecord<'a> {
    /// Named by the answers that it filled.
    pub fill_id: Uuid,
    /// What was asked for.
    pub query: &'a CertQuery,
    /// `answered` if there is a list, else `failed`.
    pub outcome: Outcome,
    /// The credential's configured name.
    pub credential: &'a str,
    /// Atlas's last status.
    pub status: Option<u16>,
    /// Atlas's error code, or ours.
    pub error_code: Option<&'a str>,
    /// Pages in the list.
    pub pages: u32,
    /// Calls to Atlas, retries included.
    pub upstream_calls: u32,
    /// How many certificates are in the list.
    pub certificates: Option<u64>,
    /// Which certificates: the value of the list's `ETag`.
    pub list: Option<ListTag>,
    /// The fetch before of the same project and user, where one is known.
    pub before: Option<Uuid>,
    /// The serial numbers that the fetch before did not find.
    pub appeared: &'a [i64],
    /// Those that it found and that are gone, although they have not expired.
    pub vanished: &'a [i64],
    /// Those that it found and that have expired since.
    pub expired: &'a [i64],
    /// From the first call to the last answer.
    pub duration: Duration,
    /// When it ended.
    pub now: Moment,
}

/// Something that an operator did.
#[derive(Clone, Debug)]
pub struct AdminRecord<'a> {
    /// What was done.
    pub action: AdminAction,
    /// What became of it.
    pub outcome: Outcome,
    /// Who did it, where a token says so.
    pub caller: Option<&'a Caller>,
    /// From where.
    pub peer: Option<SocketAddr>,
    /// The request's id.
    pub request_id: Option<RequestId>,
    /// The answer's status.
    pub status: Option<u16>,
    /// The rule that granted it.
    pub rule: Option<&'a str>,
    /// The project that it was about.
    pub group_id: Option<&'a str>,
    /// The database user that it was about.
    pub username: Option<&'a str>,
    /// How many entries it touched, or records it gave.
    pub entries: Option<u64>,
    /// What a search looked for: the query as it was sent.
    pub filters: Option<&'a str>,
    /// Which replica of the fleet has told this one to do it.
    pub told_by: Option<&'a str>,
    /// When.
    pub now: Moment,
}

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminAction {
    /// Asked what is left of Atlas's rate limits.
    Budgets,
    /// Asked what is known of a key.
    Explain,
    /// Asked what a caller may, and why.
    ExplainAccess,
    /// The gateway asked about every user of a project.
    Inventory,
    /// Removed entries from the cache, or marked them stale.
    Purge,
    /// Had configuration, rules, keys or certificates read again.
    Reload,
    /// No operator: the lists that an earlier process has left were taken over.
    Restored,
    /// Read the audit trail.
    Search,
    /// Signed in to the status page.
    Session,
    /// Signed out again.
    SessionEnd,
    /// Looked at the status page, with names.
    Status,
    /// Asked who has asked how often.
    Usage,
}

impl FetchRecord<'_> {
    pub(super) fn write(&self, record: &mut Record<'_>) {
        record.word("outcome", self.outcome.word());
        record.put_some("status", self.status);
        record.text_some("error_code", self.error_code, limits::SHORT);
        record.text("credential", self.credential, limits::NAME);
        record.query(self.query);
        record.put("fill_id", self.fill_id);
        record.put_some("certificates", self.certificates);
        if let Some(list) = &self.list {
            record.word("list", list);
        }
        record.put_some("before", self.before);
        record.serials("appeared", self.appeared, MOST_SERIALS);
        record.serials("vanished", self.vanished, MOST_SERIALS);
        record.serials("expired", self.expired, MOST_EXPIRED);
        record.put("pages", self.pages);
        record.put("upstream_calls", self.upstream_calls);
        record.put("duration_us", self.duration.as_micros());
    }
}

impl AdminRecord<'_> {
    /// That something was done; the rest is to be added.
    pub fn bare(action: AdminAction, outcome: Outcome, now: Moment) -> Self {
        Self {
            action,
            outcome,
            caller: None,
            peer: None,
            request_id: None,
            status: None,
            rule: None,
            group_id: None,
            username: None,
            entries: None,
            filters: None,
            told_by: None,
            now,
        }
    }

    pub(super) fn write(&self, record: &mut Record<'_>) {
        if let Some(id) = &self.request_id {
            record.word("request_id", id.as_bytes());
        }
        record.word("action", self.action.word());
        record.word("outcome", self.outcome.word());
        record.put_some("status", self.status);
        write_caller(record, self.caller, self.rule);
        record.put_some("peer", self.peer);
        record.text_some("group_id", self.group_id, limits::SHORT);
        record.text_some("username", self.username, limits::USERNAME);
        record.put_some("entries", self.entries);
        record.text_some("filters", self.filters, limits::PATH);
        record.text_some("told_by", self.told_by, limits::NAME);
    }
}

impl AdminAction {
    /// As the record has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Budgets => "budgets",
            Self::Explain => "explain",
            Self::ExplainAccess => "explain_access",
            Self::Inventory => "inventory",
            Self::Purge => "purge",
            Self::Reload => "reload",
            Self::Restored => "restored",
            Self::Search => "search",
            Self::Session => "session",
            Self::SessionEnd => "session_end",
            Self::Status => "status",
            Self::Usage => "usage",
        }
    }
}
