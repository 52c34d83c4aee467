//! A filter made ready for lines.
//!
//! There is no index, because a scan is fast enough. A record is written with one spelling for every member, and
//! inside a text a quotation mark never stands without a backslash before it. So the bytes `,"subject":"ci"` in
//! a line are that member and nothing else: they are looked for as they are, and no line is read as JSON.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};
use std::time::Duration;

use memchr::memmem;
use memchr::memmem::Finder;
use uuid::Uuid;

use super::filter::{Filter, Peer};
use super::{Order, TIME};
use crate::atlas::Timestamp;
use crate::audit::chain;
use crate::audit::record::{escaped, limits};

/// The fetches whose records say something of a certificate.
#[derive(Debug, Default)]
pub(super) struct CertificateFetches {
    /// Its list had it.
    pub(super) had: HashSet<Uuid>,
    /// It had vanished or expired with this one.
    pub(super) gone: HashSet<Uuid>,
}

/// A filter, made ready for lines.
pub struct LineFilter<'a> {
    pub(super) filter: &'a Filter,
    /// The members that a line must hold, as they stand in it; the rarest first.
    members: Vec<Finder<'static>>,
    username: Option<UsernameFilter>,
    peers: Vec<Finder<'static>>,
    /// As the records have them, so that times are compared as text.
    since: Option<String>,
    until: Option<String>,
    pub(super) shown: Option<CertificateFetches>,
}

impl<'a> LineFilter<'a> {
    /// Of this filter.
    pub fn new(filter: &'a Filter) -> Self {
        let id = |name, id: Option<Uuid>| id.map(|id| format!(",\"{name}\":\"{id}\""));
        let text = |name, text: &Option<String>, limit| {
            let (inside, whole) = escaped(text.as_deref()?, limit);
            // A text that was cut has a flag behind it.
            let flag = if whole {
                String::new()
            } else {
                format!(",\"{name}_truncated\":true")
            };
            Some(format!(",\"{name}\":\"{inside}\"{flag}"))
        };
        let members = [
            id("request_id", filter.request_id),
            id("fill_id", filter.fill_id),
            text("token_id", &filter.token_id, limits::NAME),
            // Wherever it stands; which member that is, the username's own filter looks at.
            filter.username.as_deref().map(quoted_username),
            text("subject", &filter.subject, limits::SUBJECT),
            text("client_id", &filter.client_id, limits::NAME),
            text("rule", &filter.rule, limits::NAME),
            text("group_id", &filter.group, limits::SHORT),
            // Of a fetch that is compared with the one before.
            filter.wants_changes().then(|| ",\"before\":\"".to_owned()),
            // In every kind of record something follows it.
            filter.status.map(|status| format!(",\"status\":{status},")),
            text("outcome", &filter.outcome, limits::SHORT),
            text("issuer", &filter.issuer, limits::ISSUER),
            text("kind", &filter.kind, limits::SHORT),
        ];
        let finder = |member: String| Finder::new(member.as_bytes()).into_owned();
        Self {
            filter,
            members: members.into_iter().flatten().map(finder).collect(),
            username: filter.username.as_deref().map(UsernameFilter::new),
            peers: filter
                .peer
                .map(Peer::spellings)
                .into_iter()
                .flatten()
                .map(finder)
                .collect(),
            since: filter.since.map(|since| since.to_string()),
            until: filter.until.map(|until| until.to_string()),
            shown: None,
        }
    }

    /// Whether one line passes.
    pub fn passes(&self, line: &str) -> bool {
        let line = line.as_bytes();
        // [`pass`](Self::pass) is only shown lines that hold the first member.
        let first = self.members.first();
        first.is_none_or(|member| member.find(line).is_some()) && self.pass(line).is_some()
    }

    /// Where the records in `block` stand that pass, and their numbers.
    pub(super) fn matches(
        &self,
        block: &[u8],
        mut see: impl FnMut(Range<usize>, u64) -> ControlFlow<()>,
    ) {
        let mut start = 0;
        while let Some(line) = self.next_candidate(block, start) {
            start = line.end + 1;
            let seq = block.get(line.clone()).and_then(|line| self.pass(line));
            if seq.is_some_and(|seq| see(line, seq).is_break()) {
                return;
            }
        }
    }

    /// Where the next line that may pass stands, at `start` or after it.
    fn next_candidate(&self, block: &[u8], start: usize) -> Option<Range<usize>> {
        let rest = block.get(start..).filter(|rest| !rest.is_empty())?;
        let (begin, from) = match self.members.first() {
            None => (start, start),
            Some(member) => {
                let at = member.find(rest)?;
                let begin = memchr::memrchr(b'\n', rest.get(..at)?).map_or(0, |end| end + 1);
                (start + begin, start + at)
            }
        };
        let end = memchr::memchr(b'\n', block.get(from..)?).map_or(block.len(), |end| from + end);
        Some(begin..end)
    }

    /// Whether what follows `block` in the order of reading is too old, or too new, to pass.
    pub(super) fn is_beyond(&self, order: Order, block: &[u8]) -> bool {
        let lines = block.split(|byte| *byte == b'\n');
        let mut lines = lines.filter(|line| !line.is_empty());
        let edge = match order {
            Order::NewestFirst => lines.next(),
            Order::OldestFirst => lines.next_back(),
        };
        let Some(edge) = edge else { return false };
        let time = edge.get(TIME).and_then(|time| str::from_utf8(time).ok());
        let (time, seq) = (time.and_then(Timestamp::parse), chain::seq(edge));
        let Filter {
            since,
            until,
            after,
            before,
            ..
        } = self.filter;
        match order {
            Order::NewestFirst => {
                let is_old = |(time, since): (Timestamp, Timestamp)| time < since.minus(SLACK);
                time.zip(*since).is_some_and(is_old)
                    || seq.zip(*after).is_some_and(|(seq, after)| seq <= after)
            }
            Order::OldestFirst => {
                let is_new = |(time, until): (Timestamp, Timestamp)| time > until.plus(SLACK);
                time.zip(*until).is_some_and(is_new)
                    || seq.zip(*before).is_some_and(|(seq, before)| seq >= before)
            }
        }
    }

    /// The number of a line, if it passes.
    fn pass(&self, line: &[u8]) -> Option<u64> {
        // The time stands at the same place in every line.
        let time = line.get(TIME)?;
        let (since, until) = (self.since.as_deref(), self.until.as_deref());
        if since.is_some_and(|since| time < since.as_bytes())
            || until.is_some_and(|until| time >= until.as_bytes())
        {
            return None;
        }
        let seq = chain::seq(line)?;
        let (after, before) = (self.filter.after, self.filter.before);
        if after.is_some_and(|after| seq <= after) || before.is_some_and(|before| seq >= before) {
            return None;
        }
        // The first is why the line is looked at.
        let mut others = self.members.iter().skip(1);
        others
            .all(|member| member.find(line).is_some())
            .then_some(())?;
        let mut peers = self.peers.iter();
        let is_peer = peers.len() == 0 || peers.any(|peer| peer.find(line).is_some());
        let is_named = |filter: &UsernameFilter| filter.pass(line);
        self.username.as_ref().is_none_or(is_named).then_some(())?;
        let is_shown = self.shown.as_ref().is_none_or(|shown| shown.pass(line));
        let is_changed = !self.filter.wants_changes() || is_changed(line);
        (is_peer && is_shown && is_changed).then_some(seq)
    }
}

/// The record names what appeared or vanished; these members are written only where something did.
fn is_changed(line: &[u8]) -> bool {
    [APPEARED, VANISHED]
        .iter()
        .any(|member| memmem::find(line, member).is_some())
}

/// A name, as the member of a lookup, or among those that an inventory names.
struct UsernameFilter {
    member: Finder<'static>,
    quoted: Finder<'static>,
}

impl UsernameFilter {
    fn new(name: &str) -> Self {
        let (inside, whole) = escaped(name, limits::USERNAME);
        // A text that was cut has a flag behind it.
        let flag = if whole {
            ""
        } else {
            ",\"username_truncated\":true"
        };
        let member = format!(",\"username\":\"{inside}\"{flag}");
        Self {
            member: Finder::new(member.as_bytes()).into_owned(),
            quoted: Finder::new(quoted_username(name).as_bytes()).into_owned(),
        }
    }

    fn pass(&self, line: &[u8]) -> bool {
        self.member.find(line).is_some() || self.is_among(line)
    }

    /// A text of the array has a bracket or a comma on either side, and within a text no quotation mark stands
    /// alone.
    fn is_among(&self, line: &[u8]) -> bool {
        let names = memmem::find(line, USERNAMES).and_then(|at| line.get(at + USERNAMES.len()..));
        let Some(names) = names else { return false };
        let end = memmem::find(names, b"\"]").map_or(names.len(), |end| end + 2);
        let names = names.get(..end).unwrap_or(names);
        let mut places = self.quoted.find_iter(names);
        places.any(|at| at == 0 || names.get(at - 1) == Some(&b','))
    }
}

fn quoted_username(name: &str) -> String {
    let (inside, _) = escaped(name, limits::USERNAME);
    format!("\"{inside}\"")
}

impl CertificateFetches {
    /// Whether the record at `line` is an answer from a list that had the certificate, or a fetch with which
    /// it came, was there, or went.
    fn pass(&self, line: &[u8]) -> bool {
        let id =
            memmem::find(line, FILL_ID).and_then(|at| line.get(at + FILL_ID.len()..)?.get(..36));
        let Some(id) = id.and_then(|id| Uuid::try_parse_ascii(id).ok()) else {
            return false;
        };
        let is_fetch = || memmem::find(line, FETCH).is_some();
        self.had.contains(&id) || (self.gone.contains(&id) && is_fetch())
    }
}

const FILL_ID: &[u8] = b",\"fill_id\":\"";
/// With the bracket that opens the array.
const USERNAMES: &[u8] = b",\"usernames\":[";
const APPEARED: &[u8] = b",\"appeared\":[";
const VANISHED: &[u8] = b",\"vanished\":[";
const FETCH: &[u8] = b",\"kind\":\"fetch\"";
/// How far the times of records may be from those in the names of files: a record waits for a second at
/// most, and clocks are set.
pub(super) const SLACK: Duration = Duration::from_mins(1);
