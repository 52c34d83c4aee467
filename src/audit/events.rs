//! What is recorded beside questions: fetches from Atlas, and what operators do.

use std::net::SocketAddr;
use std::time::Duration;

use uuid::Uuid;

use crate::atlas::CertQuery;
use crate::identity::Caller;
use crate::system::Moment;

use super::arrival::RequestId;
use super::closing::ListTag;
use super::entry::{micros, write_query};
use super::record::digits::hyphenated;
use super::record::{Body, MOST_EXPIRED, MOST_SERIALS, name, room};
use super::{Outcome, callers};

/// One fetch from Atlas, whoever waited for it.
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
    /// When.
    pub now: Moment,
}

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminAction {
    /// Asked what is known of a key.
    Explain,
    /// Asked what somebody may, and why.
    ExplainAccess,
    /// Removed entries from the cache, or marked them stale.
    Purge,
    /// Had configuration, rules, keys or certificates read again.
    Reload,
    /// Read the audit trail.
    Search,
}

impl FetchRecord<'_> {
    pub(super) fn write(&self, body: &mut Body<'_>) {
        body.word(name!("outcome"), self.outcome.word());
        body.number_or_null(name!("status"), self.status.map(u64::from));
        body.text_or_null(name!("error_code"), self.error_code, room::SHORT);
        body.text(name!("credential"), self.credential, room::NAME);
        write_query(body, self.query);
        body.id_or_null(name!("fill_id"), Some(&self.fill_id));
        body.number_or_null(name!("certificates"), self.certificates);
        if let Some(list) = &self.list {
            body.digits(name!("list"), list);
        }
        if let Some(before) = &self.before {
            body.digits(name!("before"), &hyphenated(*before));
        }
        body.serials(name!("appeared"), self.appeared, MOST_SERIALS);
        body.serials(name!("vanished"), self.vanished, MOST_SERIALS);
        body.serials(name!("expired"), self.expired, MOST_EXPIRED);
        body.number(name!("pages"), self.pages.into());
        body.number(name!("upstream_calls"), self.upstream_calls.into());
        body.number(name!("duration_us"), micros(self.duration));
    }
}

impl AdminRecord<'_> {
    pub(super) fn write(&self, body: &mut Body<'_>) {
        match &self.request_id {
            Some(id) => body.digits(name!("request_id"), id.as_bytes()),
            None => body.null(name!("request_id")),
        }
        body.word(name!("action"), self.action.word());
        body.word(name!("outcome"), self.outcome.word());
        body.number_or_null(name!("status"), self.status.map(u64::from));
        callers::write_anew(body, self.caller, self.rule);
        match &self.peer {
            Some(peer) => body.peer(name!("peer"), peer),
            None => body.null(name!("peer")),
        }
        body.text_or_null(name!("group_id"), self.group_id, room::SHORT);
        body.text_or_null(name!("username"), self.username, room::USERNAME);
        body.number_or_null(name!("entries"), self.entries);
        if let Some(filters) = self.filters {
            body.text(name!("filters"), filters, room::PATH);
        }
    }
}

impl AdminAction {
    /// As the record has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Explain => "explain",
            Self::ExplainAccess => "explain_access",
            Self::Purge => "purge",
            Self::Reload => "reload",
            Self::Search => "search",
        }
    }
}
