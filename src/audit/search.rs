//! Reading back: a filter goes in, the records that pass it come out as they were written.
//!
//! There is no index, because a scan is fast enough. A record is written with one spelling for every
//! member, and inside a text a quotation mark never stands without a backslash before it. So the bytes
//! `,"subject":"ci"` in a line are that member and nothing else: they are looked for as they are, and no
//! line is read as JSON.

use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::{fmt, io};

use memchr::memmem::Finder;
use uuid::Uuid;

use crate::atlas::Timestamp;

use super::record::{escaped, limits};
use super::{chain, reading};

use cursor::{Bounds, Cursor};
use shown::Shown;

mod cursor;
mod packed;
mod shown;
mod summary;
mod words;

pub use summary::Summary;
pub use words::{
    BadFilter, Peer, When, certificate, group, id, kind, number, order, outcome, peer, status, when,
};

/// Which records are wanted; what is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `subject`, whole.
    pub subject: Option<String>,
    /// `issuer`, whole.
    pub issuer: Option<String>,
    /// `client_id`, whole.
    pub client_id: Option<String>,
    /// `token_id`, whole.
    pub token_id: Option<String>,
    /// `rule`, whole.
    pub rule: Option<String>,
    /// `peer`.
    pub peer: Option<Peer>,
    /// `group_id`, whole.
    pub group: Option<String>,
    /// `username`, whole.
    pub username: Option<String>,
    /// `outcome`, one of its words.
    pub outcome: Option<String>,
    /// `status`.
    pub status: Option<u16>,
    /// `kind`, one of its words.
    pub kind: Option<String>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
    /// `request_id`.
    pub request_id: Option<Uuid>,
    /// `fill_id`: a fetch and every answer that it filled.
    pub fill_id: Option<Uuid>,
    /// A certificate by its serial number: the answers and the fetches whose lists had it.
    pub certificate: Option<i64>,
    /// Only records with a number above this: the next page, oldest first.
    pub after: Option<u64>,
    /// Only records with a number below this: the next page, newest first.
    pub before: Option<u64>,
}

/// Which record comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest.
    #[default]
    NewestFirst,
    /// The oldest.
    OldestFirst,
}

/// One record that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The line as it was written, without its end.
    pub line: &'a str,
    /// Its number.
    pub seq: u64,
}

/// What is searched, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Directories of journals; what is found in them is merged by time.
    pub directories: &'a [PathBuf],
    /// Which records are wanted.
    pub filter: &'a Filter,
    /// Which of them comes first.
    pub order: Order,
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of files that were read, as they lie on the disk.
    pub done: u64,
    /// Of all that are to be read.
    pub total: u64,
}

/// A file that could not be searched, or not as a whole: there may be records in it that were not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub problem: String,
}

/// Shows every record that passes the filter to `see`, until it has seen enough. Gives back what could
/// not be read; the rest was searched all the same.
///
/// Blocking: to be called off the runtime. Files are read in blocks, so what it holds does not depend on
/// how large they are, nor on how they are packed.
pub fn search(
    search: &Search<'_>,
    progress: &dyn Fn(Progress),
    see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<Vec<Incomplete>> {
    let bounds = Bounds {
        is_over: &|| false,
        window: reading::USUAL_WINDOW,
        kept: USUALLY_KEPT,
    };
    search_within(bounds, search, progress, see)
}

/// The same inside of a process that has other things to do: ends before the next block once it `is_over`,
/// and does not read a file that needs more than 8 MiB to be unpacked.
pub fn search_until(
    search: &Search<'_>,
    is_over: &dyn Fn() -> bool,
    see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<Vec<Incomplete>> {
    let bounds = Bounds {
        is_over,
        window: reading::SMALL_WINDOW,
        kept: FEW_KEPT,
    };
    search_within(bounds, search, &|_| (), see)
}

fn search_within(
    bounds: Bounds<'_>,
    search: &Search<'_>,
    progress: &dyn Fn(Progress),
    mut see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<Vec<Incomplete>> {
    let mut incomplete = Vec::new();
    let mut sieve = Sieve::new(search.filter);
    if let Some(certificate) = search.filter.certificate {
        let (directories, filter) = (search.directories, search.filter);
        let shown = Shown::read(directories, certificate, filter, bounds, &mut incomplete)?;
        sieve.shown = Some(shown);
    }
    let mut cursors = Vec::new();
    for directory in search.directories {
        cursors.push(Cursor::open(directory, &sieve, search.order, bounds)?);
    }
    let total = cursors.iter().map(Cursor::total).sum();
    loop {
        let mut has_read = false;
        for cursor in &mut cursors {
            has_read |= cursor.fill();
        }
        if has_read {
            let done = cursors.iter().map(Cursor::done).sum();
            progress(Progress { done, total });
        }
        let waiting = cursors.iter_mut().filter(|cursor| !cursor.is_at_end());
        let next = match search.order {
            Order::NewestFirst => waiting.max_by(|a, b| a.time().cmp(b.time())),
            Order::OldestFirst => waiting.min_by(|a, b| a.time().cmp(b.time())),
        };
        let Some(cursor) = next else { break };
        if cursor.show(&mut see).is_break() {
            break;
        }
    }
    for found in cursors.into_iter().flat_map(Cursor::into_incomplete) {
        if !incomplete.contains(&found) {
            incomplete.push(found);
        }
    }
    Ok(incomplete)
}

impl Incomplete {
    /// The file's name and what is wrong with it.
    pub fn of_name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        format!("{}: {}", name.display(), self.problem)
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

/// A filter, made ready for lines.
pub struct Sieve<'a> {
    filter: &'a Filter,
    /// The members that a line must hold, as they stand in it; the rarest first.
    members: Vec<Finder<'static>>,
    /// Of these a line must hold one.
    peers: Vec<Finder<'static>>,
    /// As the records have them, so that times are compared as text.
    since: Option<String>,
    until: Option<String>,
    /// What is known of the certificate that the filter names.
    shown: Option<Shown>,
}

impl<'a> Sieve<'a> {
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
            text("username", &filter.username, limits::USERNAME),
            text("subject", &filter.subject, limits::SUBJECT),
            text("client_id", &filter.client_id, limits::NAME),
            text("rule", &filter.rule, limits::NAME),
            text("group_id", &filter.group, limits::SHORT),
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
    fn sift(&self, block: &[u8], mut see: impl FnMut(Range<usize>, u64) -> ControlFlow<()>) {
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
        let is_shown = self.shown.as_ref().is_none_or(|shown| shown.passes(line));
        (is_peer && is_shown).then_some(seq)
    }
}

/// `2026-08-10T02:06:35.000000Z` in `{"time":"…"`.
const TIME: Range<usize> = 9..36;
/// All of a packed file of the usual size, so that none is unpacked twice.
const USUALLY_KEPT: usize = 64 << 20;
/// Beside callers who wait for answers.
const FEW_KEPT: usize = 4 << 20;
