//! Reading back: a filter goes in, the records that pass it come out as they were written.
//!
//! There is no index, because a scan is fast enough: a record is written with one spelling for every
//! text, so the filter's own text is looked for in the raw bytes, and only a line that holds it is
//! read as JSON.

use std::borrow::Cow;
use std::io;
use std::ops::ControlFlow;
use std::ops::Range;
use std::path::Path;

use memchr::memmem::Finder;
use serde::Deserialize;
use uuid::Uuid;

use crate::atlas::Timestamp;

use super::directory;
use super::directory::Segment;
use super::reading;
use super::record::escaped;
use super::record::room;

/// Which records are wanted; what is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `subject`, whole.
    pub subject: Option<String>,
    /// `group_id`, whole.
    pub group: Option<String>,
    /// `username`, whole.
    pub username: Option<String>,
    /// `outcome`, one of its words.
    pub outcome: Option<String>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The line as it was written, without its end.
    pub line: &'a str,
    /// What most people want to see of it.
    pub summary: Summary<'a>,
}

/// The members of a record that a table shows. Absent where the record's kind has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Summary<'a> {
    /// `time`.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    /// `seq`.
    pub seq: u64,
    /// `kind`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// `request_id`.
    #[serde(borrow)]
    pub request_id: Option<Cow<'a, str>>,
    /// `action` of an operator's record.
    #[serde(borrow)]
    pub action: Option<Cow<'a, str>>,
    /// `outcome`.
    #[serde(borrow)]
    pub outcome: Option<Cow<'a, str>>,
    /// `status`.
    pub status: Option<u16>,
    /// `subject`.
    #[serde(borrow)]
    pub subject: Option<Cow<'a, str>>,
    /// Whether `subject` is only the beginning.
    pub subject_truncated: bool,
    /// `group_id`.
    #[serde(borrow)]
    pub group_id: Option<Cow<'a, str>>,
    /// `username`.
    #[serde(borrow)]
    pub username: Option<Cow<'a, str>>,
    /// `cache`.
    #[serde(borrow)]
    pub cache: Option<Cow<'a, str>>,
    /// `fill_id`.
    #[serde(borrow)]
    pub fill_id: Option<Cow<'a, str>>,
    /// `age_ms`.
    pub age_ms: Option<u64>,
    /// `certificates`.
    pub certificates: Option<u64>,
}

/// Shows every record in `directory` that passes `filter` to `see`, until it has seen enough.
///
/// Blocking: to be called off the runtime.
pub fn search(
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
    for segment in segments {
        let flow = match order {
            Order::OldestFirst => reading::forwards(&segment, |block| sieve.sift(block, &mut see)),
            Order::NewestFirst => reading::backwards(&segment, |block| {
                let mut passed = Vec::new();
                let _ = sieve.sift(block, &mut |found: &Found<'_>| {
                    passed.push(found.line.to_owned());
                    ControlFlow::Continue(())
                });
                passed
                    .iter()
                    .rev()
                    .filter_map(|line| sieve.read(line.as_bytes()))
                    .try_for_each(|found| see(&found))
            }),
        }?;
        if flow.is_break() {
            break;
        }
    }
    Ok(())
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

struct Sieve<'a> {
    filter: &'a Filter,
    /// What a line must hold as bytes; the rarest of the filter's texts.
    needle: Option<Finder<'static>>,
    /// As the records have them, so that times are compared as text.
    since: Option<String>,
    until: Option<String>,
}

impl<'a> Sieve<'a> {
    fn new(filter: &'a Filter) -> Self {
        let id = |name, id: &Option<Uuid>| id.map(|id| format!("\"{name}\":\"{id}\""));
        let text = |name, text: &Option<String>, room| {
            text.as_ref().map(|text| {
                let (inside, whole) = escaped(text, room);
                // A text that was cut has a flag behind it, but begins the same.
                format!("\"{name}\":\"{inside}{}", if whole { "\"" } else { "" })
            })
        };
        let needle = id("request_id", &filter.request_id)
            .or_else(|| id("fill_id", &filter.fill_id))
            .or_else(|| text("username", &filter.username, room::USERNAME))
            .or_else(|| text("subject", &filter.subject, room::SUBJECT))
            .or_else(|| text("group_id", &filter.group, room::SHORT))
            .or_else(|| text("outcome", &filter.outcome, room::SHORT))
            .or_else(|| text("kind", &filter.kind, room::SHORT));
        Self {
            filter,
            needle: needle.map(|needle| Finder::new(needle.as_bytes()).into_owned()),
            since: filter.since.map(|since| since.to_string()),
            until: filter.until.map(|until| until.to_string()),
        }
    }

    /// Shows what passes among the whole lines of `block`.
    fn sift(
        &self,
        block: &[u8],
        see: &mut impl FnMut(&Found<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut rest = block;
        while let Some(place) = self.next_candidate(rest) {
            let found = rest.get(place.clone()).and_then(|line| self.read(line));
            if let Some(found) = found {
                see(&found)?;
            }
            rest = rest.get(place.end + 1..).unwrap_or_default();
        }
        ControlFlow::Continue(())
    }

    /// Where the next line that may pass stands.
    fn next_candidate(&self, rest: &[u8]) -> Option<Range<usize>> {
        if rest.is_empty() {
            return None;
        }
        let start = match &self.needle {
            None => 0,
            Some(needle) => {
                let at = needle.find(rest)?;
                memchr::memrchr(b'\n', rest.get(..at)?).map_or(0, |end| end + 1)
            }
        };
        let length = memchr::memchr(b'\n', rest.get(start..)?);
        Some(start..length.map_or(rest.len(), |length| start + length))
    }

    fn read<'b>(&self, line: &'b [u8]) -> Option<Found<'b>> {
        // The time stands at the same place in every line: no need to read the rest.
        let time = line.get(TIME)?;
        if self
            .since
            .as_ref()
            .is_some_and(|since| time < since.as_bytes())
            || self
                .until
                .as_ref()
                .is_some_and(|until| time >= until.as_bytes())
        {
            return None;
        }
        let line = str::from_utf8(line).ok()?;
        let summary: Summary<'_> = serde_json::from_str(line).ok()?;
        self.passes(&summary).then_some(Found { line, summary })
    }

    fn passes(&self, summary: &Summary<'_>) -> bool {
        let Filter {
            subject,
            group,
            username,
            outcome,
            kind,
            since: _,
            until: _,
            request_id,
            fill_id,
            after,
            before,
        } = self.filter;
        let is = |wanted: &Option<String>, has: Option<&str>| {
            wanted.as_ref().is_none_or(|wanted| Some(&**wanted) == has)
        };
        let is_id = |wanted: &Option<Uuid>, has: Option<&str>| {
            wanted.is_none_or(|wanted| has.is_some_and(|has| Uuid::try_parse(has) == Ok(wanted)))
        };
        let subject = subject.as_ref().is_none_or(|wanted| {
            let has = summary.subject.as_deref();
            Some(&**wanted) == has
                || (summary.subject_truncated && has.is_some_and(|has| wanted.starts_with(has)))
        });
        subject
            && is(group, summary.group_id.as_deref())
            && is(username, summary.username.as_deref())
            && is(outcome, summary.outcome.as_deref())
            && is(kind, Some(&summary.kind))
            && is_id(request_id, summary.request_id.as_deref())
            && is_id(fill_id, summary.fill_id.as_deref())
            && after.is_none_or(|after| summary.seq > after)
            && before.is_none_or(|before| summary.seq < before)
    }
}

/// `2026-08-10T02:06:35.000000Z` in `{"time":"…"`.
const TIME: Range<usize> = 9..36;
