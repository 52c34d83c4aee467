//! Reading back: a filter goes in, the records that pass it come out as they were written.
//!
//! There is no index, because a scan is fast enough. A record is written with one spelling for every
//! member, and inside a text a quotation mark never stands without a backslash before it. So the bytes
//! `,"subject":"ci"` in a line are that member and nothing else: they are looked for as they are, and no
//! line is read as JSON.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::ops::Range;
use std::path::Path;

use memchr::memmem::Finder;
use uuid::Uuid;

use crate::atlas::Timestamp;

use super::chain;
use super::directory;
use super::directory::Segment;
use super::reading;
use super::reading::Bounds;
use super::record::room;
use super::record::text::escaped;

mod summary;
mod words;

pub use summary::Summary;
pub use words::BadFilter;
pub use words::Peer;
pub use words::When;
pub use words::group;
pub use words::id;
pub use words::kind;
pub use words::number;
pub use words::order;
pub use words::outcome;
pub use words::peer;
pub use words::status;
pub use words::when;

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

/// How far a search has come, in bytes of the files that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is read.
    pub done: u64,
    /// What there is to read.
    pub total: u64,
}

/// Shows every record in `directory` that passes `filter` to `see`, until it has seen enough.
///
/// Blocking: to be called off the runtime. Files are read in blocks, so what it holds does not depend on
/// how large they are, nor on how they are packed.
pub fn search(
    directory: &Path,
    filter: &Filter,
    order: Order,
    see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    let bounds = Bounds {
        is_over: &|| false,
        window: reading::USUAL_WINDOW,
    };
    search_within(bounds, directory, filter, order, see)
}

/// The same inside of a process that has other things to do: ends before the next block once it `is_over`,
/// and refuses a file that needs more than 8 MiB to be unpacked.
pub fn search_until(
    directory: &Path,
    filter: &Filter,
    order: Order,
    is_over: &dyn Fn() -> bool,
    see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    let bounds = Bounds {
        is_over,
        window: reading::SMALL_WINDOW,
    };
    search_within(bounds, directory, filter, order, see)
}

fn search_within(
    bounds: Bounds<'_>,
    directory: &Path,
    filter: &Filter,
    order: Order,
    mut see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    let sieve = Sieve::new(filter);
    let mut segments = wanted(directory::segments(directory)?, filter);
    if order == Order::NewestFirst {
        segments.reverse();
    }
    let mut passed = Vec::new();
    for segment in segments {
        let flow = match order {
            Order::OldestFirst => {
                reading::forwards(&segment, bounds, |block| sieve.show(block, &mut see))
            }
            Order::NewestFirst if !reading::has_an_end(&segment) => {
                newest_first(&segment, &sieve, bounds, &mut see)
            }
            Order::NewestFirst => reading::backwards(&segment, bounds, |block| {
                passed.clear();
                let _ = sieve.sift(block, |line| {
                    passed.push(line);
                    GO_ON
                });
                let mut lines = passed.drain(..).rev();
                lines.try_for_each(|line| sieve.found(block, line).map_or(GO_ON, |it| see(&it)))
            }),
        }?;
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

/// Shows the records of a packed file, newest first.
///
/// It is unpacked from its beginning, and only the last of what passes is kept. Whoever wants more than
/// fits has it unpacked once more, as far as the oldest that was shown; most have seen enough by then.
fn newest_first(
    segment: &Segment,
    sieve: &Sieve<'_>,
    bounds: Bounds<'_>,
    see: &mut impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    // How many of those that pass are still to be shown.
    let mut left = usize::MAX;
    loop {
        let mut last = VecDeque::new();
        let (mut held, mut count) = (0, 0);
        let flow = reading::forwards(segment, bounds, |block| {
            sieve.show(block, |found| {
                if count == left {
                    return ControlFlow::Break(());
                }
                count += 1;
                held += found.line.len();
                last.push_back((found.seq, Box::<str>::from(found.line)));
                while held > KEPT && last.len() > 1 {
                    held -= last.pop_front().map_or(0, |(_, line)| line.len());
                }
                GO_ON
            })
        })?;
        if flow.is_break() && count != left {
            return Ok(flow);
        }
        for (seq, line) in last.iter().rev() {
            if see(&Found { line, seq: *seq }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        left = count - last.len();
        if left == 0 {
            return Ok(GO_ON);
        }
    }
}

/// The files that may hold records with the numbers that are wanted; their names say with which they
/// begin.
fn wanted(mut segments: Vec<Segment>, filter: &Filter) -> Vec<Segment> {
    if let Some(before) = filter.before {
        segments.retain(|segment| segment.first < before);
    }
    if let Some(after) = filter.after {
        let older = segments.partition_point(|segment| segment.first <= after.saturating_add(1));
        // The last of them may go on beyond it; so may others that begin alike.
        let first = segments.get(older.saturating_sub(1)).map(|it| it.first);
        segments.retain(|segment| first.is_none_or(|first| segment.first >= first));
    }
    segments
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
}

impl<'a> Sieve<'a> {
    /// Of this filter.
    pub fn new(filter: &'a Filter) -> Self {
        let id = |name, id: Option<Uuid>| id.map(|id| format!(",\"{name}\":\"{id}\""));
        let text = |name, text: &Option<String>, room| {
            let (inside, whole) = escaped(text.as_deref()?, room);
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
            text("token_id", &filter.token_id, room::NAME),
            text("username", &filter.username, room::USERNAME),
            text("subject", &filter.subject, room::SUBJECT),
            text("client_id", &filter.client_id, room::NAME),
            text("rule", &filter.rule, room::NAME),
            text("group_id", &filter.group, room::SHORT),
            // In every kind of record something follows it.
            filter.status.map(|status| format!(",\"status\":{status},")),
            text("outcome", &filter.outcome, room::SHORT),
            text("issuer", &filter.issuer, room::ISSUER),
            text("kind", &filter.kind, room::SHORT),
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
        }
    }

    /// Whether one line passes.
    pub fn passes(&self, line: &str) -> bool {
        self.first_passes(line.as_bytes()) && self.found(line.as_bytes(), 0..line.len()).is_some()
    }

    /// [`found`](Self::found) has only been shown lines that hold the first member.
    fn first_passes(&self, line: &[u8]) -> bool {
        let first = self.members.first();
        first.is_none_or(|member| member.find(line).is_some())
    }

    /// Shows the records in `block` that pass.
    fn show(
        &self,
        block: &[u8],
        mut see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.sift(block, |line| {
            self.found(block, line).map_or(GO_ON, |it| see(&it))
        })
    }

    /// Shows what may pass among the whole lines of `block`: where it stands.
    fn sift(
        &self,
        block: &[u8],
        mut see: impl FnMut(Range<usize>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut start = 0;
        while let Some(line) = self.next_candidate(block, start) {
            start = line.end + 1;
            see(line)?;
        }
        GO_ON
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

    /// The record that stands at `line` in `block`, if it passes.
    fn found<'b>(&self, block: &'b [u8], line: Range<usize>) -> Option<Found<'b>> {
        let line = block.get(line)?;
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
        is_peer.then_some(())?;
        let line = str::from_utf8(line).ok()?;
        Some(Found { line, seq })
    }
}

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());
/// Bytes of lines that are kept of a packed file at a time.
const KEPT: usize = 4 << 20;
/// `2026-08-10T02:06:35.000000Z` in `{"time":"…"`.
const TIME: Range<usize> = 9..36;
